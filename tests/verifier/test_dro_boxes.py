"""Worst expected losses on boxes: against brute force, primal against dual, saturation, moved labels, export, the command line."""

from math import inf
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from problems.data import Dataset
from problems.errors import InputError
from problems.regions import Ball, Box, Polytope
from tests.verifier import dro_oracles
from tests.verifier.command_line import answers
from tests.verifier.tightness_oracles import IDENTITY, LINEAR, random_network
from verifier import dro
from verifier.bracket import Status
from verifier.cli import main
from verifier.distributional.distribution import read
from verifier.distributional.worst_case import WorstCase

UNIT = Box(np.zeros(2), np.ones(2))


def margins(logits: np.ndarray, labels: np.ndarray) -> np.ndarray:
    rows = np.arange(len(labels))
    others = logits.copy()
    others[rows, labels] = -inf
    return others.max(axis=1) - logits[rows, labels]


@settings(max_examples=3)
@given(seed=st.integers(0, 10_000), norm=st.sampled_from([1, inf]), epsilon=st.floats(0.02, 1.5))
def test_tiny_networks_agree_with_brute_force(seed: int, norm: float, epsilon: float) -> None:
    network = random_network(seed, 2, 3, 3)
    generator = np.random.default_rng(seed)
    x, y = generator.random((2, 2)), generator.integers(0, 3, 2)
    (record,) = dro(network, Dataset(x, y), loss="margin", norm=norm, order=1, epsilon=epsilon, region=UNIT, workers=1, lines=False)
    truth = dro_oracles.value(network, x, y, epsilon, norm, np.zeros(2), np.ones(2), most=100.0)
    assert record.lower <= truth + 1e-6 * (1 + abs(truth))
    assert record.upper >= truth - 1e-6 * (1 + abs(truth))
    assert record.upper - record.lower <= 1e-4 * (record.upper - record.clean[1]) + 1e-9


@pytest.mark.parametrize(
    ("loss", "norm", "order"),
    [
        *(("margin", norm, order) for norm, order in [(1, 1), (2, 1), (inf, 1), (2, 2), (2, inf)]),
        *(("cross-entropy", norm, order) for norm, order in [(1, 1), (inf, 2), (2, inf)]),
    ],
)
def test_brackets_are_distributions_below_and_duals_above(loss: str, norm: float, order: float) -> None:
    network = random_network(3, 2, 5, 3)
    generator = np.random.default_rng(5)
    x, y = generator.random((4, 2)), generator.integers(0, 3, 4)
    epsilon = [0.05, 0.3, 5.0]
    options = {
        "norm": norm,
        "order": order,
        "epsilon": epsilon,
        "region": UNIT,
        "tolerance": 1e-4 if loss == "margin" else 1e-2,
        "workers": 1,
    }
    records = dro(network, Dataset(x, y), loss=loss, lines=loss == "margin", **options)
    grid = np.stack(np.meshgrid(*[np.linspace(0, 1, 81)] * 2), axis=-1).reshape(-1, 2)
    logits = network.forward(grid)
    losses = np.stack([_losses(logits, np.full(len(grid), t), loss) for t in y])
    distances = np.stack([np.linalg.norm(grid - p, ord=norm, axis=1) for p in x])
    for record in records:
        assert record.status is Status.CLOSED
        assert record.attack <= record.lower <= record.upper
        worst = record.distribution
        assert worst is not None
        assert len(worst) <= 5
        assert worst.weights.sum() == pytest.approx(1.0, abs=1e-12)
        for i in range(4):
            assert worst.weights[worst.samples == i].sum() == pytest.approx(0.25, abs=1e-12)
        moved = np.linalg.norm(worst.points - x[worst.samples], ord=norm, axis=1)
        found = _losses(network.forward(worst.points), worst.labels, loss)
        if order == inf:
            assert moved.max() <= record.epsilon * (1 + 1e-9)
            best = np.mean([losses[i][distances[i] <= record.epsilon].max() for i in range(4)])
        else:
            assert worst.weights @ moved**order <= record.epsilon**order * (1 + 1e-9)
            rates = np.append(np.geomspace(1e-3, 50, 300), 0.0)
            duals = [r * record.epsilon**order + np.mean((losses - r * distances**order).max(axis=1)) for r in rates]
            best = min(duals)
        assert worst.weights @ found == pytest.approx(record.lower, abs=1e-9)
        # The grid's dual lies below the true one by little: no more than the value may be missed.
        assert record.upper >= best - 1e-3 * (1 + abs(best))
        assert record.lower <= best + 0.15
        if loss == "margin":
            _check_lines(record, order)


def _check_lines(record: WorstCase, order: float) -> None:
    assert record.chain is not None
    assert record.slope_bounds is not None
    assert record.chain.kappa == (0.0, 0.0)
    below, above = record.slope_bounds
    assert (below is None) == (order != 1)
    assert record.lower <= above <= record.lipschitz_bound
    assert record.chain.lambda_0[0] <= record.chain.lambda_0[1] <= record.chain.lipschitz[1] <= record.chain.norm_product


def _losses(logits: np.ndarray, labels: np.ndarray, loss: str) -> np.ndarray:
    if loss == "margin":
        return margins(logits, labels)
    top = logits.max(axis=1)
    return top + np.log(np.exp(logits - top[:, None]).sum(axis=1)) - logits[np.arange(len(labels)), labels]


def test_bounded_regions_saturate() -> None:
    x, y = np.array([[0.25, 0.5], [0.75, 0.25]]), np.array([0, 1])
    # max over the box of x_1 - x_0 is 1 at (0, 1), of x_0 - x_1 at (1, 0): at the distances (1/4 + 1/2) and (1/4 + 1/4) in the 1-norm.
    before, at, beyond = dro(IDENTITY, Dataset(x, y), loss="margin", norm=1, order=1, epsilon=[0.3, 0.625, 3.0], region=UNIT, workers=1)
    assert at.lower == pytest.approx(1.0, abs=1e-6)
    assert at.upper == pytest.approx(1.0, abs=1e-6)
    assert beyond.upper == pytest.approx(1.0, abs=1e-6)
    assert before.upper < 1.0 - 1e-3


def test_the_region_may_be_a_polytope() -> None:
    # x_0 + x_1 <= 1: the loss x_1 - x_0 of the sample (1/2, 1/4) rises to 1 at (0, 1).
    triangle = Polytope(UNIT, np.array([[-1.0, -1.0]]), np.array([1.0]))
    x = np.array([[0.5, 0.25]])
    data = Dataset(x, np.array([0]))
    small, large = dro(IDENTITY, data, loss="margin", norm=inf, order=1, epsilon=[0.1, 2.0], region=triangle, workers=1)
    assert small.lower == pytest.approx(-0.05, abs=1e-5)
    assert small.upper == pytest.approx(-0.05, abs=1e-5)
    assert large.upper == pytest.approx(1.0, abs=1e-5)
    assert large.distribution is not None
    assert (large.distribution.points.sum(axis=1) <= 1.0).all()


def test_labels_move_at_their_price() -> None:
    x, y = np.array([[0.75, 0.25]]), np.array([0])  # margin -1/2, with the other label 1/2
    line = Box(np.array([0.75, 0.25]), np.array([0.75, 0.25]))  # the input cannot move: only labels can
    for epsilon in (0.1, 0.25, 1.0):
        (record,) = dro(IDENTITY, Dataset(x, y), loss="margin", norm=2, order=1, epsilon=epsilon, region=line, label_cost=0.5, workers=1)
        truth = -0.5 + min(epsilon / 0.5, 1.0)
        assert record.lower - 1e-9 <= truth <= record.upper + 1e-9
        assert record.upper - record.lower < 1e-5
        assert record.lipschitz_bound is None
        assert record.distribution is not None
        assert set(record.distribution.labels) <= {0, 1}
    options = {"norm": 2, "order": inf, "epsilon": [0.4, 0.6], "region": line, "label_cost": 0.5, "workers": 1}
    still, moved = dro(IDENTITY, Dataset(x, y), loss="margin", **options)
    assert (still.lower, still.upper) == pytest.approx((-0.5, -0.5))
    assert (moved.lower, moved.upper) == pytest.approx((0.5, 0.5))
    # Moving both: at the cost 1/10 the label, then the input to the corner.
    (both,) = dro(IDENTITY, Dataset(x, y), loss="margin", norm=1, order=1, epsilon=10.0, region=UNIT, label_cost=0.1, workers=1)
    assert both.upper == pytest.approx(1.0, abs=1e-5)
    with pytest.raises(InputError, match="order 2"):
        dro(IDENTITY, Dataset(x, y), loss="margin", norm=2, order=2, epsilon=0.1, region=UNIT, label_cost=0.5)


def test_a_moved_label_is_an_error_at_once() -> None:
    x, y = np.array([[0.9, 0.1], [0.6, 0.5]]), np.array([0, 0])  # radii 0.4 and 0.05 in the inf-norm
    for order, prices in ((1, (0.2, 0.05)), (2, (0.04, 0.0025))):
        cost = sum(prices) / 2
        budget = cost if order == 1 else cost**0.5
        (record,) = dro(IDENTITY, Dataset(x, y), norm=inf, order=order, epsilon=budget, region=UNIT, label_cost=0.2, workers=1)
        assert record.upper == pytest.approx(1.0, abs=1e-5)
        assert record.lower == pytest.approx(1.0, abs=1e-5)
        (half,) = dro(IDENTITY, Dataset(x, y), norm=inf, order=order, epsilon=budget * 0.5, region=UNIT, label_cost=0.2, workers=1)
        assert half.upper < 0.9


def test_the_bracket_reached_in_no_time_is_sound(tmp_path: Path) -> None:
    network = random_network(1, 6, 12, 12, 3)
    generator = np.random.default_rng(0)
    samples = Dataset(generator.random((5, 6)), generator.integers(0, 3, 5))
    box = Box(np.zeros(6), np.ones(6))
    store = tmp_path / "kept.sqlite"
    options = {"loss": "margin", "norm": inf, "order": 1, "epsilon": [0.05, 0.3], "region": box, "workers": 1, "tolerance": 1e-2}
    first = dro(network, samples, timeout=0.0, **options)
    exact = dro(network, samples, resume=store, lines=False, **options)
    again = dro(network, samples, resume=store, timeout=30.0, lines=False, **options)
    for a, b, c in zip(first, exact, again, strict=True):
        assert a.lower <= b.upper
        assert b.lower <= a.upper < inf
        assert b.status is Status.CLOSED
        # What was kept answers at once, and no worse.
        assert c.upper <= b.upper + 1e-12 * abs(b.upper) or c.status is Status.CLOSED
        assert c.lower <= b.upper
        assert b.lower <= c.upper


def test_the_command_line_exports_what_it_found(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    weights = {"W0": np.eye(2), "b0": np.zeros(2), "W1": np.eye(2), "b1": np.zeros(2)}
    network, data, worst = tmp_path / "net.npz", tmp_path / "data.npz", tmp_path / "worst.npz"
    np.savez(network, L=2, **weights)
    np.savez(data, x=np.array([[1.0, 0.5], [0.2, 0.7]]), y=np.array([0, 1]))
    command = ["dro", "--network", str(network), "--data", str(data), "--loss", "margin", "--norm", "2", "--order", "1"]
    assert main([*command, "--all-space", "--epsilon", "0.5,2", "--json", "--workers", "1", "--export", str(worst)]) == 0
    records = answers(capsys)
    assert [record["epsilon"] for record in records] == [0.5, 2.0]
    found = read(worst)
    with np.load(data) as archive:
        x = archive["x"]
    for record, distribution in zip(records, found, strict=True):
        hidden = np.maximum(distribution.points, 0.0)  # the network, by hand
        losses = np.where(distribution.labels == 0, hidden[:, 1] - hidden[:, 0], hidden[:, 0] - hidden[:, 1])
        assert distribution.weights @ losses == pytest.approx(record["lower"], rel=1e-9)
        moved = np.linalg.norm(distribution.points - x[distribution.samples], axis=1)
        assert distribution.weights @ moved <= record["epsilon"] * (1 + 1e-12)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"epsilon": -0.1}, "epsilon"),
        ({"epsilon": float("nan")}, "epsilon"),
        ({"epsilon": [0.1, inf]}, "epsilon"),
        ({"epsilon": []}, "epsilon"),
        ({"loss": "dlr"}, "scale-invariant"),
        ({"loss": "hinge"}, "hinge"),
        ({"data": Dataset(np.array([[0.5, 0.5]]), np.array([7]))}, "label 7"),
        ({"data": Dataset(np.array([[0.5, 1.5]]), np.array([0]))}, "outside the region"),
        ({"samples": "1:1"}, "selects no rows"),
        ({"label_cost": -1.0}, "label cost"),
        ({"label_cost": float("nan")}, "label cost"),
        ({"region": Ball(np.array([0.5, 0.5]), 0.5, 2)}, "boxes and polytopes"),
        ({"norm": 3}, "norm"),
        ({"order": 0.5}, "order"),
        ({"semantics": "float32"}, "semantics"),
        ({"tolerance": 0.0}, "tolerance"),
    ],
)
def test_bad_input_is_one_clear_error(change: dict, words: str) -> None:
    arguments = {
        "data": Dataset(np.array([[0.5, 0.5]]), np.array([0])), "loss": "margin", "norm": 2, "order": 1, "epsilon": 0.1, "region": UNIT,
    } | change  # fmt: skip
    with pytest.raises(InputError, match=words):
        dro(LINEAR, arguments.pop("data"), **arguments)


def test_no_samples_are_refused() -> None:
    with pytest.raises(InputError, match="at least one sample"):
        Dataset(np.zeros((0, 2)), np.zeros(0, dtype=int))

"""Distributional attacks against closed forms, the exact worst case, and each other."""

from dataclasses import replace
from fractions import Fraction
from math import inf, sqrt
from pathlib import Path

import numpy as np
import pytest

import verifier
from problems.data import Dataset, load
from problems.errors import InputError
from problems.maps import Dense
from problems.network import Network, sequential
from problems.readers import load as load_network
from problems.regions.box import Box
from tests.verifier.attack_cases import DUAL, NORMS, check_mixture, random_network
from verifier.attacks import allocation
from verifier.attacks.distributional import mixture
from verifier.attacks.mixture import Atoms, mixed
from verifier.attacks.wda import FixedWeights
from verifier.bracket import Status
from verifier.distributional.knapsack import Curve, worst_case_error

Array = np.ndarray


def linear(classes: int, size: int, count: int) -> tuple[Network, Dataset]:
    rng = np.random.default_rng(5)
    network = sequential([Dense(rng.normal(size=(classes, size)))], [rng.normal(size=classes)])
    x = rng.normal(size=(count, size))
    return network, Dataset(x, network.forward(x).argmax(axis=1))


def flip_distances(network: Network, data: Dataset, norm: float) -> Array:
    """The closed form: min over k of (z_y - z_k) / ||w_k - w_y||_s."""
    logits, weights = network.forward(data.x), network.nodes[1].maps[0].weights  # type: ignore[union-attr]
    found = []
    for row, label in enumerate(data.y):
        others = [k for k in range(logits.shape[1]) if k != label]
        slopes = np.linalg.norm(weights[others] - weights[label], ord=DUAL[norm], axis=1)
        found.append(((logits[row, label] - logits[row, others]) / slopes).min())
    return np.array(found)


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("order", [1, 2, inf])
def test_bought_flips_are_optimal_for_linear_classifiers(norm: float, order: float) -> None:
    network, data = linear(4, 6, 40)
    radii = flip_distances(network, data, norm)
    epsilon = float(np.median(radii)) / (2 if order < inf else 1)
    report = verifier.attack(network, data, method="wda++", norm=norm, epsilon=epsilon, order=order, restarts=1)
    worst, _ = worst_case_error(radii, radii, epsilon, order)
    assert 0.1 < worst < 0.9
    assert 1 - report.accuracy == pytest.approx(worst, abs=1e-5 if order < inf else 1.01 / 40)
    assert report.mixture is not None
    check_mixture(report.mixture, network, data, norm, order, epsilon, Box.whole_space(6))
    tried = report.mixture.tried
    assert np.all((tried.distances >= radii * (1 - 1e-12)) | (tried.margins < 0))
    assert len(report.mixture.samples) <= 41  # N + 1 atoms: at most one sample is split
    if order < inf:
        assert report.budget_used == pytest.approx(epsilon, rel=1e-9)


def test_fixed_weights_reach_rho_epsilon_and_bought_flips_its_root() -> None:
    # Margins spread evenly with density rho = 1: THEORY section 9.
    count, epsilon = 1000, 0.005
    network = sequential([Dense(np.array([[0.0], [1.0]]))], [np.zeros(2)])
    data = Dataset(-(np.arange(count)[:, None] + 0.5) / count, np.zeros(count, dtype=int))
    for copies in (1, 2, 5):
        report = verifier.attack(network, data, method="wda", norm=2, epsilon=epsilon, copies=copies, restarts=0)
        assert 1 - report.accuracy == pytest.approx(epsilon, abs=1 / count)
    report = verifier.attack(network, data, method="wda++", norm=2, epsilon=epsilon, restarts=0)
    assert 1 - report.accuracy == pytest.approx(sqrt(2 * epsilon), abs=1 / count)


@pytest.mark.parametrize(("norm", "order"), [(1, 1), (inf, 1), (inf, 2), (1, inf)])
def test_no_attack_beats_the_exact_worst_case(norm: float, order: float) -> None:
    network = random_network(np.random.default_rng(2), 3, 6, 6, 3)
    x = np.random.default_rng(4).uniform(size=(24, 3))
    data = Dataset(x, network.forward(x).argmax(axis=1), Box(np.zeros(3), np.ones(3)))
    epsilon = 0.2 if norm == 1 else 0.08
    (exact,) = verifier.dro(network, data, norm=norm, order=order, epsilon=epsilon, workers=1)
    assert 0.1 < exact.lower < 0.9
    for method in ("wda", "wda++") + (("w-pgd",) if order > 1 else ()):
        report = verifier.attack(network, data, method=method, norm=norm, order=order, epsilon=epsilon, restarts=1)
        assert 1 - report.accuracy <= exact.upper
        if method == "wda++":
            assert 1 - report.accuracy >= exact.lower - (5e-3 if order < inf else 0.05)


def test_one_copy_is_point_wise() -> None:
    for loss, orders in (("ce", (1,)), ("dlr", (1, 2, inf))):
        options = {"norm": 2, "epsilon": 0.6, "loss": loss, "restarts": 1, "steps": 15, "samples": "0:20"}
        point_wise = verifier.attack("digits-16x2", "digits:test", method="apgd", **options)
        for order in orders:
            report = verifier.attack("digits-16x2", "digits:test", method="wda", copies=1, order=order, **options)
            assert report.mixture is not None
            assert [row.success for row in report.rows] == [row.success for row in point_wise.rows]
            assert report.accuracy == pytest.approx(point_wise.accuracy)
            won = np.array([row.success for row in point_wise.rows])
            assert np.array_equal(report.points[won], point_wise.points[won])
            assert set(report.mixture.weights) == {1.0}


def test_more_copies_reach_farther_at_less_weight() -> None:
    options = {"norm": 2, "epsilon": 0.3, "restarts": 1, "steps": 15, "samples": "0:30"}
    for order in (1, 2):
        for copies in (2, 5):
            report = verifier.attack("digits-16x2", "digits:test", method="wda", copies=copies, order=order, **options)
            assert report.mixture is not None
            moved = report.mixture.distances > 0
            assert moved.any()
            assert (report.mixture.distances[moved] <= copies ** (1 / order) * 0.3 * (1 + 1e-12)).all()
            assert report.mixture.distances.max() > 0.3
            assert report.mixture.weights[moved] == pytest.approx(1 / copies)


def test_more_than_two_atoms_per_sample_share_the_weight() -> None:
    options = {"norm": inf, "epsilon": 0.1, "copies": 2, "restarts": 1, "steps": 15, "samples": "0:30"}
    one, three = (verifier.attack("digits-16x2", "digits:test", method="wda", points=points, **options).mixture for points in (1, 3))
    assert one is not None
    assert three is not None
    assert len(three.samples) > 60 >= len(one.samples)
    # In zero-one loss more atoms gain nothing (THEORY W3): the shares add up to the same 1/k, but for samples that fell late.
    assert abs(three.accuracy - one.accuracy) <= 0.05


def test_greedy_allocation_beats_random() -> None:
    options = {"method": "wda++", "norm": 2, "epsilon": 0.2, "restarts": 0, "steps": 20, "samples": "0:100"}
    planned = verifier.attack("digits-16x2", "digits:test", **options)
    for seed in range(3):
        chance = verifier.attack("digits-16x2", "digits:test", allocation="random", seed=seed, **options)
        assert chance.accuracy > planned.accuracy + 0.02
        assert chance.budget_used <= 0.2


def test_w_pgd_spends_the_budget_and_not_more() -> None:
    network, data = linear(2, 5, 30)
    weights = network.nodes[1].maps[0].weights  # type: ignore[union-attr]
    slope = np.linalg.norm(weights[1] - weights[0])
    for loss in ("margin", "redlr", "ce"):
        report = verifier.attack(network, data, method="w-pgd", norm=2, epsilon=0.05, loss=loss, restarts=0)
        assert report.mixture is not None
        assert report.budget_used == pytest.approx(0.05, rel=1e-9)
        assert report.mixture.cost <= Fraction(0.05) ** 2
    # All gradients of the margin are alike, so V_2 = E + L epsilon (THEORY section 9).
    report = verifier.attack(network, data, method="w-pgd", norm=2, epsilon=0.05, loss="margin", restarts=0)
    assert report.mixture is not None
    mean = -np.abs(np.diff(network.forward(data.x), axis=1)).mean()
    assert report.mixture.expected_margin() == pytest.approx(mean + 0.05 * slope, rel=1e-9)


def test_allocation_agrees_with_the_knapsack() -> None:
    rng = np.random.default_rng(2)
    distances = rng.uniform(size=50)
    distances[[3, 17]], distances[8] = inf, 0.0
    for order in (1, 2, inf):
        for epsilon in (0.0, 0.05, 0.2, 3.0):
            shares = allocation.bought(distances, allocation.greedy(distances).tolist(), epsilon, order)
            assert shares.sum() / 50 == pytest.approx(float(Curve(distances, order).error(epsilon)), abs=1e-12)
            chance = allocation.bought(distances, allocation.random(distances, 0).tolist(), epsilon, order)
            assert chance.sum() <= shares.sum()
            assert not shares[[3, 17]].any()


def test_shares_beyond_the_budget_are_cut() -> None:
    x = np.zeros((3, 1))
    atoms = Atoms(
        x, np.array([0, 0, 2]), np.array([[1.0], [2.0], [3.0]]), np.array([1.0, 2.0, 3.0]), np.ones(3), np.array([-1.0, -1.0, 0.5])
    )
    made = mixed(atoms, np.array([0.5, 0.5, 1.0]), 0.1, 1)
    assert made.within(0.1)
    assert made.distance == pytest.approx(0.1)
    assert made.error == pytest.approx(
        1 / 3 + 2 * (0.1 / 1.5 + 0) / 3 * 1.5, abs=1e-9
    )  # 0.2 of sample 0 flips, and sample 2 is wrong already
    assert mixed(atoms, np.array([0.5, 0.5, 1.0]), 1.5, inf).weights.tolist() == [0.5, 0.5, 1.0, 1.0]
    with pytest.raises(AssertionError, match="more than 1"):
        mixed(atoms, np.array([1.0, 1.0, 1.0]), 10.0, 1)


def test_an_interrupted_attack_reports_what_it_has(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = verifier.attack("digits-16x2", "digits:test", samples="0:40", method="wda", norm=2, epsilon=0.3, restarts=1)
    search = FixedWeights.run

    def broken(self: FixedWeights, problem: object) -> tuple[Array, Array]:
        calls = []

        def stop(*given: object, **named: object) -> object:
            calls.append(1)
            if len(calls) == 2:
                raise KeyboardInterrupt
            return climb(*given, **named)

        from verifier.attacks import pointwise

        climb = pointwise.climb
        monkeypatch.setattr(pointwise, "climb", stop)
        return search(self, replace(problem))  # type: ignore[type-var]

    monkeypatch.setattr(FixedWeights, "run", broken)
    part = verifier.attack("digits-16x2", "digits:test", samples="0:40", method="wda", norm=2, epsilon=0.3, restarts=1)
    assert part.status is Status.INTERRUPTED
    assert whole.accuracy <= part.accuracy < 1
    assert part.mixture is not None
    assert part.mixture.within(0.3)


def test_the_mixture_comes_with_everything_tried() -> None:
    found = mixture("digits-16x2", "digits:test", norm=2, epsilon=0.05, samples="0:20", restarts=0)
    assert len(found.tried.samples) == 20
    assert found.count == 20
    assert found.costs.tolist() == found.distances.tolist()
    assert mixture("digits-16x2", "digits:test", method="w-pgd", order=2, norm=2, epsilon=0.05, samples="0:20").order == 2
    with pytest.raises(InputError, match="point-wise"):
        mixture("digits-16x2", "digits:test", method="apgd", norm=2, epsilon=0.05)


def test_flips_of_a_convolutional_network_are_proved(shared_data: Path) -> None:
    # Searched in float32, judged for real weights: no flip may be lost on the way.
    network, data = load_network(str(shared_data / "mnist" / "conv_vanilla.onnx")), load(f"mnist:{shared_data / 'mnist'}").select("0:10")
    for norm, epsilon in ((1, 3.0), (2, 0.5), (inf, 0.04)):
        report = verifier.attack(network, data, method="wda++", norm=norm, epsilon=epsilon, steps=10, restarts=0)
        assert report.mixture is not None
        assert (report.mixture.tried.margins >= 0).all()
        assert 0.05 < report.accuracy < 0.95
        check_mixture(report.mixture, network, data, norm, 1, epsilon, Box(np.zeros(784), np.ones(784)))

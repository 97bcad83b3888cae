"""Exact radii in image-space Wasserstein distance: against brute force over activation patterns, with witnesses checked in fractions."""

import time
from fractions import Fraction
from itertools import pairwise, product

import numpy as np
import pytest

import verifier
from problems import exact
from problems.data import Dataset
from problems.errors import DataError, InputError, NetworkError
from problems.maps import Dense, identity
from problems.network import Affine, Input, Network, Relu, sequential
from problems.readers import load
from problems.regions import Box
from problems.transport.domain import point_reference
from problems.transport.flows import distance
from problems.transport.grid import Grid
from tests.problems.transport_oracles import shortest
from tests.verifier.command_line import answers
from verifier.bracket import Bracket, Status
from verifier.cli import main
from verifier.radii import Radius, Task
from verifier.search.budget import Budget
from verifier.transport.configurations import CONFIGURATIONS, problem
from verifier.transport.ladder import Ladder
from verifier.transport.radii import Setting, pose

Array = np.ndarray


def one(network: Network, x: Array, label: int, **options: object) -> Radius:
    data = Dataset(x[None], np.array([label]), None, "one image", (1, 3, 3) if len(x) == 9 else None)
    (found,) = verifier.radius(network, data, norm="wasserstein", workers=1, **options)
    return found


def tiny(seed: int) -> tuple[Network, Array, int]:
    """A 9-4-3-3 network on images of 3 x 3 pixels and an image that it classifies."""
    generator = np.random.default_rng(seed)
    sizes = (9, 4, 3, 3)
    layers = [np.round(generator.normal(size=(b, a)) * 64) / 64 for a, b in pairwise(sizes)]
    network = sequential([Dense(w) for w in layers], [np.round(generator.normal(size=b) * 16) / 64 for b in sizes[1:]])
    x = generator.integers(0, 17, 9) / 16.0 * (generator.random(9) < 0.7)
    x[4] = 1.0
    return network, x, int(network.forward(x).argmax())


def brute_force(network: Network, x: Array, label: int, grid: Grid, cap: float) -> float:
    """The radius as the smallest of one linear program per activation pattern and competing class."""
    weights = [node.maps[0].weights for node in network.nodes if isinstance(node, Affine)]  # type: ignore[attr-defined]
    biases = [node.bias for node in network.nodes if isinstance(node, Affine)]
    best = np.inf
    for pattern in product((1.0, -1.0), repeat=network.neurons):
        signs = np.split(np.array(pattern), np.cumsum([w.shape[0] for w in weights[:-1]])[:-1])
        a, c = np.eye(grid.size), np.zeros(grid.size)
        rows, offsets = [], []
        for w, b, sign in zip(weights, biases, [*signs, None], strict=True):
            a, c = w @ a, w @ c + b
            if sign is not None:
                rows.append(sign[:, None] * a)
                offsets.append(sign * c)
                a, c = (sign > 0)[:, None] * a, (sign > 0) * c
        for k in range(len(c)):
            if k != label:
                found = shortest(grid, np.vstack([*rows, a[k] - a[label]]), np.concatenate([*offsets, [c[k] - c[label]]]), x, cap)
                best = min(best, found)
    return best / float(x.sum())


@pytest.mark.parametrize(("seed", "ground", "pixels"), [(1, "l1", "simplex"), (4, "l2", "simplex"), (3, "l1", "image")])
def test_radii_against_all_patterns(seed: int, ground: str, pixels: str) -> None:
    network, x, label = tiny(seed)
    expected = brute_force(network, x, label, Grid(1, 3, 3, ground), 1.0 if pixels == "image" else np.inf)
    bracket = one(network, x, label, ground=ground, pixels=pixels).bracket
    assert bracket.status.finished
    assert bracket.lower <= expected + 1e-8
    assert bracket.upper >= expected - 1e-8
    assert (bracket.lower == bracket.upper == np.inf) or bracket.upper - bracket.lower <= 1e-6 * bracket.upper
    if expected < np.inf:
        check(network, x, label, bracket, Grid(1, 3, 3, ground), cap=1.0 if pixels == "image" else np.inf)


def check(network: Network, x: Array, label: int, bracket: Bracket, grid: Grid, cap: float = np.inf) -> None:
    """The witness has exactly the mass of x, allowed pixels, at least the distance stated (an exact flow), and another label."""
    image = bracket.witness
    assert image is not None
    assert grid.masses(image) == grid.masses(x)
    assert image.min() >= 0.0
    assert image.max() <= cap
    assert distance(x, image, grid).upper / grid.mass(x) <= Fraction(bracket.upper)
    logits = exact.evaluate(network, image)
    assert max(z for k, z in enumerate(logits) if k != label) >= logits[label]


def test_digits_are_exact() -> None:
    network, grid = load("digits-16x2"), Grid(1, 8, 8)
    found = list(verifier.radius(network, "digits:test", norm="wasserstein", samples="0:4", workers=1))
    import ot

    from problems.data import load as images

    data = images("digits:test")
    assert [record.bracket.status for record in found] == [Status.CLOSED] * 4
    for record in found:
        bracket, x = record.bracket, data.x[record.sample]
        assert 0.0 < bracket.lower <= bracket.upper <= bracket.lower * (1.0 + 1.1e-6)
        check(network, x, record.label, bracket, grid)
        assert bracket.witness is not None
        cost = ot.emd2(x / x.sum(), bracket.witness / bracket.witness.sum(), grid.distances)
        assert cost == pytest.approx(bracket.upper, rel=1e-9)
        assert bracket.stats["ground"] == "l1"
        assert bracket.stats["mass"] == x.sum()


def test_configurations_are_ordered_and_the_reference_changes_nothing() -> None:
    """f~(delta_mu + d) = f(mu + A d) whatever the reference, so centre and distances are all that any configuration sees."""
    network = load("digits-16x2")
    lower: dict[str, Array] = {}
    for name in CONFIGURATIONS:
        found = sorted(
            verifier.radius(network, "digits:test", norm="wasserstein", samples="1:4", workers=1, configuration=name),
            key=lambda record: record.sample,
        )
        lower[name] = np.array([record.bracket.lower for record in found])
        complete = CONFIGURATIONS[name].complete
        assert all(record.bracket.status.finished == complete for record in found)
        assert all(record.bracket.stats["configuration"] == name for record in found)
    assert (lower["vanilla"] < lower["feasible"]).all()
    assert (lower["feasible"] < lower["complete-feasible"]).all()
    assert (lower["vanilla"] < lower["complete-vanilla"]).all()
    assert (lower["complete-vanilla"] <= lower["complete-feasible"] * (1 + 1e-6)).all()
    np.testing.assert_allclose(lower["reference"], lower["vanilla"], rtol=1e-9)
    np.testing.assert_array_equal(lower["both"], lower["feasible"])
    np.testing.assert_allclose(lower["complete-reference"], lower["complete-vanilla"], rtol=2e-6)


def test_any_reference_of_the_same_mass_gives_the_same_certificate() -> None:
    network, x, label = tiny(1)
    grid = Grid(1, 3, 3)
    plain = one(network, x, label, configuration="vanilla").bracket.lower
    for reference in (point_reference(x, grid), x[::-1].copy()):
        assert one(network, x, label, configuration="reference", reference=reference).bracket.lower == pytest.approx(plain, rel=1e-9)


@pytest.mark.parametrize("scale", [1e6, 2.0**30])
@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_steep_networks_are_not_misjudged(scale: float, sign: float) -> None:
    """z_1 - z_0 = s relu(x_0 - 1) - 1: of the mass 2 at distance 1, 1/2 + 1/s has to move; solvers take 1/s for zero."""
    layers = [Dense(np.array([[1.0, 0.0, 0.0, 0.0]])), Dense(np.array([[0.0], [sign * scale]]))]
    bias = np.array([0.0, -1.0]) if sign > 0 else np.array([-2.0, 0.0])
    network = sequential(layers, [np.array([-1.0]), bias])
    x = np.array([0.5, 1.5, 0.0, 0.0]) if sign > 0 else np.array([2.0, 0.0, 0.0, 0.0])
    bracket = one(network, x, 0).bracket
    expected = (Fraction(1, 2) + 1 / Fraction(scale)) / 2 if sign > 0 else (1 - 2 / Fraction(scale)) / 2
    assert Fraction(bracket.lower) <= expected <= Fraction(bracket.upper)
    assert bracket.upper - bracket.lower <= 1e-5


def test_the_bracket_reached_is_the_answer_when_time_ends() -> None:
    bracket = next(verifier.radius("digits-32x2", "digits:test", norm="wasserstein", samples="0:1", workers=1, timeout=0.0)).bracket
    assert 0.0 <= bracket.lower <= bracket.upper
    assert bracket.status is Status.TIMED_OUT


def test_bad_input_is_one_typed_error() -> None:
    network, x, label = tiny(1)
    for bad in (np.where(np.arange(9) == 3, -0.25, x), np.zeros(9)):
        with pytest.raises(DataError, match="one image, sample 0"):
            one(network, bad, label)
    with pytest.raises(DataError, match="reference"):
        one(network, x, label, configuration="reference", reference=2.0 * x)
    with pytest.raises(InputError, match="configuration"):
        one(network, x, label, configuration="best")
    with pytest.raises(InputError, match="pixels"):
        one(network, x, label, pixels="round")
    with pytest.raises(InputError, match="pixels"):
        one(network, x, label, pixels="image", configuration="vanilla")
    with pytest.raises(InputError, match="ground"):
        one(network, x, label, ground="l3")
    with pytest.raises(InputError, match="region"):
        one(network, x, label, region=Box(np.zeros(9), np.ones(9)))
    with pytest.raises(InputError, match="semantics"):
        one(network, x, label, semantics="float32")
    odd = sequential([Dense(np.ones((2, 7)))], [np.zeros(2)])
    with pytest.raises(InputError, match="grid"):
        one(odd, np.ones(7), 0)
    first = (Input(9), Affine((0,), (identity(9),), np.zeros(9)), Relu(1, 9), Affine((2,), (Dense(np.ones((2, 9))),), np.zeros(2)))
    with pytest.raises(NetworkError, match="affine"):
        one(Network(first, (9,), (2,)), x, 0)


def test_the_command_line_states_the_unit(capsys: pytest.CaptureFixture) -> None:
    common = ["radius", "--network", "digits-16x2", "--data", "digits:test", "--samples", "2:3", "--workers", "1", "--json"]
    assert main([*common, "--norm", "wasserstein", "--configuration", "feasible"]) == 0
    (record,) = answers(capsys)
    assert record["ground"] == "l1"
    assert record["pixels"] == "simplex"
    assert record["configuration"] == "feasible"
    assert 0.0 < record["lower"] < record["upper"]
    assert main([*common, "--norm", "2", "--ground", "l2"]) == 2
    assert "wasserstein" in capsys.readouterr().err


def test_a_rung_that_takes_all_the_time_is_kept() -> None:
    """The ladder then ends with what the rung has proved."""

    class Slow(Ladder):
        def _rung(self, rung: float, budget: Budget) -> Status:
            self.lower = rung
            time.sleep(max(self.budget.remaining, 0.0) + 0.01)
            return Status.DECIDED

    network, x, label = tiny(3)
    setting = Setting(network, Grid.of((1, 3, 3), "l1"), CONFIGURATIONS["complete-feasible"])
    posed = problem(setting.configuration, network, x, setting.grid, pixels=setting.pixels, reference=None)
    ladder = Slow(pose(setting, posed, Task(0, x, label, None)), Budget(0.05, None))
    assert ladder.climb(10.0) is Status.TIMED_OUT
    assert ladder.lower > 0.0

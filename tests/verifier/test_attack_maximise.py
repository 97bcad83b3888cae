"""`maximise`: corners and kinks with known optima, reproducibility, deadlines, bad input."""

from math import inf
from pathlib import Path
from time import monotonic

import numpy as np
import pytest

from problems.errors import InputError, RegionError, SpecificationError
from problems.maps import Dense
from problems.network import sequential
from tests.verifier.attack_cases import BOX, SMALL, Array, random_network
from verifier.attacks.pgd import maximise


def test_maximise_finds_the_corner_of_a_linear_network() -> None:
    rng = np.random.default_rng(2)
    network = sequential([Dense(rng.normal(size=(3, 10)))], [rng.normal(size=3)])
    lower, upper = -rng.uniform(size=10), rng.uniform(size=10)
    lower[4] = upper[4] = 0.25
    row = np.array([[1.0, -2.0, 0.5]])
    points, values = maximise(network, lower, upper, row, np.array([0.7]), target=None)
    weights = network.nodes[1].maps[0].weights
    best = row @ (weights @ np.where(row @ weights > 0, upper, lower)[0] + network.nodes[1].bias) + 0.7
    assert values[0] == pytest.approx(best[0])
    assert ((lower <= points) & (points <= upper)).all()
    assert (np.diff(values) <= 0).all()
    assert points.shape == (11, 10)


def test_maximise_takes_the_least_row_and_uses_given_starts() -> None:
    # max min(x - 1, 1 - x - y) over [-4, 4]^2: the rows pull x apart, the optimum is 2 at x = 3, y = -4.
    network = sequential([Dense(np.array([[1.0, 0.0], [-1.0, -1.0]]))], [np.array([-1.0, 1.0])])
    box = np.full(2, -4.0), np.full(2, 4.0)
    points, values = maximise(network, *box, np.eye(2), np.zeros(2), restarts=20, steps=100, target=None)
    assert values[0] == pytest.approx(2.0, abs=0.02)
    assert np.array_equal(values, network.forward(points).min(axis=1))
    start = np.array([[3.0, -4.0]])
    points, values = maximise(network, *box, np.eye(2), np.zeros(2), restarts=0, steps=0, start=start)
    assert values[0] == 2.0
    assert points[0].tolist() == [3.0, -4.0]


def test_maximise_walks_over_dead_neurons() -> None:
    network = sequential([Dense(np.ones((1, 2))), Dense(np.ones((1, 1)))], [np.full(1, -1.0), np.zeros(1)])  # flat but for one corner
    box, row = (np.full(2, -1.0), np.ones(2)), (np.ones((1, 1)), np.zeros(1))
    values = [maximise(network, *box, *row, restarts=0, seed=seed)[1][0] for seed in range(10)]  # the centre is flat
    assert max(values) == pytest.approx(1.0)


def test_maximise_searches_narrow_boxes_in_float64() -> None:
    rng = np.random.default_rng(11)
    network = random_network(rng, 300, 300, 2)  # large enough for float32
    center = rng.normal(size=300)
    upper = center + 1e-9
    points, values = maximise(network, center, upper, np.eye(2)[:1], np.zeros(1), restarts=2, target=None)
    assert ((center <= points) & (points <= upper)).all()
    assert values[0] > network.forward(center)[0] + 1e-10  # float32 would see one point only


def test_maximise_finds_counterexamples_behind_saturated_logits(shared_data: Path) -> None:
    from problems import vnnlib
    from problems.readers import load as load_network

    folder = shared_data / "vnncomp" / "mnist_fc"
    network = load_network(folder / "onnx" / "mnist-net_256x2.onnx")
    best = -inf
    for disjunct in vnnlib.read(folder / "vnnlib" / "prop_2_0.03.vnnlib").disjuncts:
        box = disjunct.region.bounding_box()
        best = max(best, maximise(network, *box, disjunct.coefficients, disjunct.offsets, restarts=40)[1][0])
    assert best > 0


def test_maximise_accepts_infinite_sides() -> None:
    network = random_network(np.random.default_rng(3), 3, 4, 2)
    lower, upper = np.array([-inf, 0.0, -inf]), np.array([inf, inf, 2.0])
    points, values = maximise(network, lower, upper, np.eye(2)[:1], np.zeros(1), target=None)
    assert np.isfinite(points).all()
    assert np.isfinite(values).all()
    assert ((lower <= points) & (points <= upper)).all()


def test_maximise_is_reproducible_and_ends_at_the_deadline() -> None:
    network = random_network(np.random.default_rng(4), 100, 300, 300, 300, 5)
    box = np.full(100, -0.1), np.full(100, 0.1)
    rows, offsets = np.eye(5)[:2], np.full(2, -100.0)
    first, again = (maximise(network, *box, rows, offsets, restarts=5, steps=5, seed=7) for _ in range(2))
    assert np.array_equal(first[0], again[0])
    assert np.array_equal(first[1], again[1])
    other = maximise(network, *box, rows, offsets, restarts=5, steps=5, seed=8)
    assert not np.array_equal(first[0], other[0])
    begin = monotonic()
    points, _ = maximise(network, *box, rows, offsets, restarts=100_000, steps=1000, deadline=begin + 0.3)  # minutes of work
    assert monotonic() - begin < 3
    assert len(points) >= 1
    points, _ = maximise(network, *box, rows, offsets, deadline=begin)  # too late for anything but the starts
    assert len(points) >= 1


@pytest.mark.parametrize(
    ("box", "rows", "offsets", "error"),
    [
        ((np.ones(3), np.zeros(3)), np.eye(2), np.zeros(2), RegionError),
        ((np.full(3, np.nan), np.ones(3)), np.eye(2), np.zeros(2), RegionError),
        ((np.zeros(4), np.ones(4)), np.eye(2), np.zeros(2), RegionError),
        (BOX, np.eye(3), np.zeros(3), SpecificationError),
        (BOX, np.eye(2), np.zeros(3), SpecificationError),
        (BOX, np.empty((0, 2)), np.zeros(0), SpecificationError),
        (BOX, np.full((1, 2), np.nan), np.zeros(1), SpecificationError),
    ],
)
def test_maximise_names_bad_input(box: tuple, rows: Array, offsets: Array, error: type[InputError]) -> None:
    with pytest.raises(error):
        maximise(SMALL, *box, rows, offsets)

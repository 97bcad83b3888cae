"""`nearest`: closed forms, brute force on tiny networks, exact checks of what it returns, bad input."""

from fractions import Fraction
from itertools import product
from math import inf
from time import monotonic

import cvxpy
import numpy as np
import pytest
from scipy.optimize import linprog

from problems.data import load
from problems.errors import DataError, InputError, RegionError
from problems.maps import Dense
from problems.network import Network, sequential
from tests.verifier.attack_cases import BOX, DUAL, NORMS, SMALL, Array, random_network
from verifier.attacks.radius import nearest
from verifier.attacks.witness import exact_margin


@pytest.mark.parametrize("norm", NORMS)
def test_nearest_reaches_the_closed_form_of_a_linear_classifier(norm: float) -> None:
    rng = np.random.default_rng(5)
    weights, bias, x = rng.normal(size=(4, 12)), rng.normal(size=4), rng.normal(size=(9, 12))
    network = sequential([Dense(weights)], [bias])
    logits = network.forward(x)
    labels = logits.argmax(axis=1)
    exact = [
        min((z[y] - z[k]) / np.linalg.norm(weights[k] - weights[y], DUAL[norm]) for k in range(4) if k != y)
        for z, y in zip(logits, labels, strict=True)
    ]
    points, distances = nearest(network, x, labels, norm=norm, restarts=1)
    assert distances == pytest.approx(exact, rel=1e-9)
    assert (distances >= np.array(exact) * (1 - 1e-14)).all()
    assert all(exact_margin(network, point, int(label)) >= 0 for point, label in zip(points, labels, strict=True))


def brute_force_radius(network: Network, x: Array, label: int, norm: float, lower: Array, upper: Array) -> float:
    """min ||x' - x|| over all activation patterns and targets of a network with one hidden layer: one LP (l2: one QP) each."""
    first, last = (network.nodes[i].maps[0].weights for i in (1, 3))
    hidden, output = network.nodes[1].bias, network.nodes[3].bias
    n, best = len(x), inf
    for pattern in product((0, 1), repeat=len(hidden)):
        sign = 2 * np.array(pattern) - 1
        jacobian = last @ (np.array(pattern)[:, None] * first)
        constant = last @ (np.array(pattern) * hidden) + output
        for target in set(range(len(output))) - {label}:
            rows = np.vstack([-sign[:, None] * first, jacobian[label] - jacobian[target]])
            limits = np.append(sign * hidden, constant[target] - constant[label])
            if norm == 2:
                step = cvxpy.Variable(n)
                sides = [rows @ (x + step) <= limits, step >= lower - x, step <= upper - x]
                problem = cvxpy.Problem(cvxpy.Minimize(cvxpy.sum_squares(step)), sides)
                problem.solve(solver="CLARABEL")
                value = np.sqrt(problem.value) if problem.status == "optimal" else inf
            else:
                auxiliary = n if norm == 1 else 1
                bound = np.eye(n) if norm == 1 else np.ones((n, 1))
                matrix = np.block([[rows, np.zeros((len(rows), auxiliary))], [np.eye(n), -bound], [-np.eye(n), -bound]])
                cost = np.append(np.zeros(n), np.ones(auxiliary))
                sides = [*zip(lower, upper, strict=True), *[(0, None)] * auxiliary]
                result = linprog(cost, matrix, np.concatenate([limits, x, -x]), bounds=sides)
                value = result.fun if result.success else inf
            best = min(best, value)
    return best


@pytest.mark.parametrize("norm", NORMS)
def test_nearest_matches_brute_force_on_tiny_networks(norm: float) -> None:
    ratios = []
    for seed in range(6):
        rng = np.random.default_rng(seed)
        network = random_network(rng, 4, 4, 3)
        lower, upper, x = np.full(4, -1.5), np.full(4, 1.5), rng.uniform(-1, 1, size=(1, 4))
        labels = network.forward(x).argmax(axis=1)
        exact = brute_force_radius(network, x[0], int(labels[0]), norm, lower, upper)
        points, distances = nearest(network, x, labels, norm=norm, box=(lower, upper))
        if exact == inf:
            assert distances[0] == inf
            assert np.array_equal(points, x)
            continue
        assert ((lower <= points) & (points <= upper)).all()
        assert distances[0] >= exact - 1e-6  # the solver's tolerance
        ratios.append(distances[0] / exact)
    assert len(ratios) >= 4
    assert max(ratios) < 1.02


@pytest.mark.parametrize("norm", NORMS)
def test_nearest_keeps_its_word_on_digits(norm: float) -> None:
    from problems.readers import load as load_network

    network, data = load_network("digits-16x2"), load("digits:test").select("0:30")
    points, distances = nearest(network, data.x, data.y, norm=norm, box=data.domain, seed=3)
    again = nearest(network, data.x, data.y, norm=norm, box=data.domain, seed=3)
    assert np.array_equal(points, again[0])
    assert np.isfinite(distances).all()
    for x, y, point, distance in zip(data.x, data.y, points, distances, strict=True):
        assert data.domain.contains(point)
        assert exact_margin(network, point, int(y)) >= 0
        steps = [abs(Fraction(a) - Fraction(b)) for a, b in zip(point.tolist(), x.tolist(), strict=True)]
        size = sum(step**2 for step in steps) if norm == 2 else sum(steps) if norm == 1 else max(steps)
        assert Fraction(distance) ** (2 if norm == 2 else 1) >= size
        assert distance == pytest.approx(np.linalg.norm(point - x, norm))
        if distance > 0:  # halfway back the point is right again: the boundary is where it was said to be
            assert exact_margin(network, x + 0.999 * (point - x), int(y)) < 0


def test_nearest_calls_a_tie_an_error() -> None:
    network = sequential([Dense(np.array([[1.0, 0.0], [0.0, 1.0]]))], [np.zeros(2)])
    points, distances = nearest(network, np.array([[0.1, 0.1], [0.3, 0.1], [0.1, 0.3]]), np.zeros(3, dtype=int), norm=inf)
    assert distances[[0, 2]].tolist() == [0.0, 0.0]
    assert distances[1] == pytest.approx(0.1, rel=1e-9)
    assert points[1, 1] >= points[1, 0]


def test_nearest_finds_nothing_where_nothing_is() -> None:
    constant = sequential([Dense(np.zeros((2, 3)))], [np.array([1.0, 0.0])])
    x = np.full((2, 3), 0.5)
    points, distances = nearest(constant, x, np.zeros(2, dtype=int), norm=2, box=(np.zeros(3), np.ones(3)))
    assert distances.tolist() == [inf, inf]
    assert np.array_equal(points, x)


def test_nearest_climbs_where_the_gradient_is_zero() -> None:
    # z_1 - z_0 = relu(x - 3) - 1 is flat around the sample: only points beyond 4 are errors.
    network = sequential([Dense(np.ones((1, 1))), Dense(np.array([[0.0], [1.0]]))], [np.array([-3.0]), np.array([1.0, 0.0])])
    _, distances = nearest(network, np.zeros((1, 1)), np.zeros(1, dtype=int), norm=2)
    assert distances[0] == pytest.approx(4.0, rel=1e-9)


def test_nearest_ends_at_the_deadline() -> None:
    rng = np.random.default_rng(6)
    network = random_network(rng, 100, 300, 300, 10)
    x = rng.normal(size=(400, 100))
    begin = monotonic()
    points, distances = nearest(network, x, network.forward(x).argmax(axis=1), norm=2, deadline=begin + 0.5, restarts=50)
    assert monotonic() - begin < 3
    assert points.shape == x.shape
    assert np.array_equal(points[distances == inf], x[distances == inf])


@pytest.mark.parametrize(
    ("x", "labels", "options", "error"),
    [
        (np.zeros((1, 4)), np.array([0]), {}, DataError),
        (np.zeros((1, 3)), np.array([2]), {}, DataError),
        (np.zeros((1, 3)), np.array([-1]), {}, DataError),
        (np.zeros((1, 3)), np.array([0.5]), {}, DataError),
        (np.zeros((1, 3)), np.array([0, 1]), {}, DataError),
        (np.full((1, 3), np.nan), np.array([0]), {}, DataError),
        (np.full((1, 3), 2.0), np.array([0]), {"box": BOX}, DataError),
        (np.zeros((1, 3)), np.array([0]), {"box": (np.ones(3), np.zeros(3))}, RegionError),
        (np.zeros((1, 3)), np.array([0]), {"norm": 0}, InputError),
        (np.zeros((1, 3)), np.array([0]), {"device": "tpu"}, InputError),
        (np.zeros((1, 3)), np.array([0]), {"steps": -3}, InputError),
    ],
)
def test_nearest_names_bad_input(x: Array, labels: Array, options: dict, error: type[InputError]) -> None:
    with pytest.raises(error):
        nearest(SMALL, x, labels, **({"norm": 2} | options))

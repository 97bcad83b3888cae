"""Inner maximisation of cross-entropy: against dense grids on tiny networks, and closed forms."""

from math import inf

import numpy as np
import pytest

from problems import bundled
from problems.data import digits_split
from problems.maps import Dense
from problems.network import sequential
from problems.readers import load
from problems.regions import Box
from problems.regions.polytope import Polytope
from tests.verifier.inner_oracles import random_network
from verifier.bracket import Status
from verifier.distributional.inner import Setting, Task, maximise
from verifier.distributional.losses import CrossEntropy

NORMS = (1, 2, inf)
RATES = {1: (2.0, 0.7, 0.2), 2: (1.0, 0.3, 0.1), inf: (0.05, 0.5, 1.5)}


def asked(network, region, x, label, norm, order, rates, tolerance, timeout=None):
    setting = Setting(network, norm, order, region, CrossEntropy())
    task = Task(0, np.asarray(x, dtype=float), label, tuple(rates), (tolerance,) * len(rates), np.zeros((0, len(x))), timeout)
    return maximise(setting, task)


def cross_entropy(network, points, label):
    logits = network.forward(points)
    return np.logaddexp.reduce(logits, axis=1) - logits[:, label]


def on_grid(network, points, x, label, norm, order, rates):
    """The largest value at the points for every rate: no more than the supremum."""
    loss, distance = cross_entropy(network, points, label), np.linalg.norm(points - x, ord=norm, axis=1)
    if order == inf:
        return np.array([loss[distance <= radius].max() for radius in rates])
    return np.array([(loss - rate * distance**order).max() for rate in rates])


@pytest.mark.parametrize("order", [1, 2, inf])
@pytest.mark.parametrize("norm", NORMS)
def test_box_against_a_dense_grid(norm, order):
    rng = np.random.default_rng(7)
    network, label = random_network(rng, (2, 5, 3)), 1
    x, box, rates = rng.uniform(-1.0, 1.0, size=2), Box(np.full(2, -2.0), np.full(2, 2.0)), RATES[order]
    axis = np.linspace(-2.0, 2.0, 501)
    points = np.concatenate([np.stack(np.meshgrid(axis, axis), axis=-1).reshape(-1, 2), x[None]])
    expected = on_grid(network, points, x, label, norm, order, rates)
    answer = asked(network, box, x, label, norm, order, rates, 1e-4)
    assert answer.status is Status.CLOSED
    assert (answer.upper >= expected).all()
    assert (answer.upper - answer.lower <= 1e-4 + 1e-9).all()
    reached = on_grid(network, answer.points, x, label, norm, order, rates)
    np.testing.assert_allclose(answer.lower, reached, rtol=1e-9, atol=1e-9)
    assert all(box.contains(point) for point in answer.points)


@pytest.mark.parametrize("norm", NORMS)
def test_two_hidden_layers_on_a_polytope(norm):
    rng = np.random.default_rng(11)
    network, label, x = random_network(rng, (2, 3, 3, 4)), 2, np.array([0.1, -0.2])
    polytope = Polytope(Box(np.full(2, -1.0), np.full(2, 1.0)), np.array([[-1.0, -1.0]]), np.array([0.6]))
    axis = np.linspace(-1.0, 1.0, 401)
    points = np.concatenate([np.stack(np.meshgrid(axis, axis), axis=-1).reshape(-1, 2), x[None]])
    points = points[points.sum(axis=1) <= 0.6]
    rates = (1.5, 0.5, 0.1)
    answer = asked(network, polytope, x, label, norm, 1, rates, 1e-4)
    assert answer.status is Status.CLOSED
    assert (answer.upper >= on_grid(network, points, x, label, norm, 1, rates)).all()
    assert (answer.upper - answer.lower <= 1e-4 + 1e-9).all()
    assert all(polytope.contains(point) for point in answer.points)


@pytest.mark.parametrize("rate", [0.1, 0.5, 0.9, 2.0])
def test_softplus_of_a_line_has_its_maximum_at_an_end_or_at_the_sample(rate):
    network = sequential([Dense(np.array([[0.0], [1.0]]))], [np.array([0.0, -1.0])])
    x = np.array([0.3])
    candidates = np.array([-2.0, 0.3, 4.0])
    expected = (np.log1p(np.exp(candidates - 1.0)) - rate * np.abs(candidates - 0.3)).max()
    answer = asked(network, Box(np.array([-2.0]), np.array([4.0])), x, 0, 2, 1, (rate,), 1e-9)
    assert answer.status is Status.CLOSED
    assert answer.lower[0] - 1e-12 <= expected <= answer.upper[0] + 1e-12
    assert answer.upper[0] - answer.lower[0] <= 2e-9


@pytest.mark.parametrize("size", [1e-6, 1e3, 1e6])
def test_extreme_logits(size):
    rng = np.random.default_rng(3)
    matrix = rng.normal(size=(3, 4))
    network = sequential([Dense(rng.normal(size=(4, 2))), Dense(size * matrix)], [np.zeros(4), np.zeros(3)])
    x, box = np.array([0.2, -0.3]), Box(np.full(2, -1.0), np.full(2, 1.0))
    answer = asked(network, box, x, 0, inf, 1, (0.5 * size,), 1e-6 * size, timeout=20.0)
    axis = np.linspace(-1.0, 1.0, 301)
    points = np.stack(np.meshgrid(axis, axis), axis=-1).reshape(-1, 2)
    assert np.isfinite(answer.upper).all()
    assert answer.upper[0] >= on_grid(network, points, x, 0, inf, 1, (0.5 * size,))[0]
    assert answer.upper[0] - answer.lower[0] <= 1e-6 * size * (1 + 1e-9) + 1e-12


def test_falling_rates_with_finer_tolerances_stay_sound():
    rng = np.random.default_rng(23)
    network, x, box = random_network(rng, (2, 6, 4)), np.array([0.4, 0.1]), Box(np.full(2, -2.0), np.full(2, 2.0))
    rates, tolerances = (3.0, 2.6, 2.3, 2.0, 1.8, 1.6), (0.5, 0.2, 0.1, 1e-2, 1e-3, 1e-4)
    setting = Setting(network, 2, 1, box, CrossEntropy())
    answer = maximise(setting, Task(0, x, 3, rates, tolerances, np.zeros((0, 2))))
    axis = np.linspace(-2.0, 2.0, 401)
    points = np.stack(np.meshgrid(axis, axis), axis=-1).reshape(-1, 2)
    assert (answer.upper >= on_grid(network, points, x, 3, 2, 1, rates)).all()
    assert (answer.upper - answer.lower <= np.array(tolerances) + 1e-9).all()


def test_the_time_ends_with_a_bracket():
    x, y = (part[0] for part in digits_split("test"))
    network, box = load(bundled.path("digits-16x2")), Box(np.zeros(64), np.ones(64))
    answer = asked(network, box, x, int(y), inf, 1, (100.0, 20.0), 1e-3, timeout=1.0)
    assert (answer.upper >= answer.lower).all()
    assert np.isfinite(answer.upper).all()
    assert (answer.lower >= cross_entropy(network, x[None], int(y))[0] - 1e-9).all()

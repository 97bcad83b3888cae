"""Inner maximisation for the margin: against brute force and closed forms, warm against cold, and where time ends."""

import pickle
import threading
import time
from dataclasses import replace
from math import inf, sqrt

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from problems.errors import InputError, RegionError
from problems.maps import Dense
from problems.network import sequential
from problems.regions import Ball, Box
from problems.regions.polytope import Polytope
from tests.verifier.inner_oracles import by_brute_force, random_network
from verifier.bracket import Status
from verifier.distributional import inner_kept as kept
from verifier.distributional.inner import Setting, Task, maximise
from verifier.distributional.losses import Margin

NORMS = (1, 2, inf)
ORDERS = (1, 2, inf)
RATES = {1: (4.0, 1.0, 0.2), 2: (4.0, 1.0, 0.2), inf: (0.05, 0.5, 1.5)}


def asked(network, region, x, label, norm, order, rates, *, tolerance=1e-7, starts=None, **options):
    """The answer for one sample."""
    x = np.asarray(x, dtype=float)
    starts = np.zeros((0, len(x))) if starts is None else np.asarray(starts)
    setting = Setting(network, norm, order, region, Margin())
    return maximise(setting, Task(3, x, label, tuple(rates), (tolerance,) * len(rates), starts, **options))


def checked(answer, network, region, x, label, norm, order, rates):
    """What must hold of every answer."""
    assert (answer.lower <= answer.upper).all()
    assert np.array_equal(answer.points[0], x)
    assert answer.costs[0] == 0.0
    logits = network.forward(answer.points)
    losses = np.delete(logits, label, axis=1).max(axis=1) - logits[:, label]
    size = np.linalg.norm(answer.points - x, ord=norm, axis=1)
    np.testing.assert_allclose(answer.losses, losses, rtol=1e-9, atol=1e-9)
    np.testing.assert_allclose(answer.costs, size**2 if order == 2 else size, rtol=1e-9, atol=1e-12)
    assert all(region.contains(point) for point in answer.points)
    for rate, lower in zip(rates, answer.lower, strict=True):
        values = np.where(answer.costs <= rate, answer.losses, -inf) if order == inf else answer.losses - rate * answer.costs
        assert lower == pytest.approx(values.max(), rel=1e-9, abs=1e-12)


@pytest.mark.parametrize("sizes", [(2, 4, 3), (3, 2, 2, 3)])
@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("norm", NORMS)
def test_box_against_all_patterns(norm, order, sizes):
    rng = np.random.default_rng(len(sizes))
    network, n, rates = random_network(rng, sizes), sizes[0], RATES[order]
    x, box = rng.uniform(-1.0, 1.0, size=n), Box(np.full(n, -2.0), np.full(n, 2.0))
    answer = asked(network, box, x, 1, norm, order, rates)
    checked(answer, network, box, x, 1, norm, order, rates)
    expected = by_brute_force(network, box.lower, box.upper, x, 1, norm, order, rates)
    np.testing.assert_allclose(answer.lower, expected, atol=2e-6)
    np.testing.assert_allclose(answer.upper, expected, atol=2e-6)


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("norm", NORMS)
def test_polytope_against_all_patterns(norm, order):
    rng = np.random.default_rng(8)
    network, rates = random_network(rng, (2, 4, 3)), RATES[order]
    x, matrix = rng.uniform(-1.0, 1.0, size=2), rng.normal(size=(3, 2))
    region = Polytope(Box(np.full(2, -2.0), np.full(2, 2.0)), matrix, 0.6 * rng.random(3) - matrix @ x)
    answer = asked(network, region, x, 0, norm, order, rates)
    checked(answer, network, region, x, 0, norm, order, rates)
    box = region.box
    expected = by_brute_force(network, box.lower, box.upper, x, 0, norm, order, rates, region.matrix, region.offsets)
    np.testing.assert_allclose(answer.lower, expected, atol=1e-5)
    np.testing.assert_allclose(answer.upper, expected, atol=1e-5)


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 10**6), n=st.integers(1, 3), norm=st.sampled_from(NORMS), order=st.sampled_from(ORDERS),
       hidden=st.sampled_from([(2,), (5,), (3, 3)]))  # fmt: skip
def test_random_networks(seed, n, norm, order, hidden):
    rng = np.random.default_rng(seed)
    network, rates = random_network(rng, (n, *hidden, 3)), tuple(np.sort(10.0 ** rng.uniform(-1.5, 1.0, size=4))[::-1].tolist())
    x = rng.normal(size=n)
    box = Box(x - rng.exponential(size=n) * (rng.random(n) < 0.8), x + rng.exponential(size=n))
    answer = asked(network, box, x, 2, norm, order, rates, tolerance=1e-5)
    checked(answer, network, box, x, 2, norm, order, rates)
    assert (answer.upper - answer.lower <= 1e-5 + 1e-9).all()
    others = box.lower + (box.upper - box.lower) * rng.random((300, n))
    logits, size = network.forward(others), np.linalg.norm(others - x, ord=norm, axis=1)
    losses = logits[:, :2].max(axis=1) - logits[:, 2]
    for rate, upper in zip(rates, answer.upper, strict=True):
        values = losses[size <= rate] if order == inf else losses - rate * size**order
        assert values.max(initial=-inf) <= upper + 1e-9


def test_two_neurons_in_closed_form():
    """z = relu(x), l2: V(eps) = min lam eps + phi(lam) is b - a + sqrt2 eps up to sqrt2 a, then b + sqrt(eps^2 - a^2) (THEORY 9)."""
    a, b, wide = 1.0, 0.5, 40.0
    network = sequential([Dense(np.eye(2)), Dense(np.eye(2))], [np.zeros(2), np.zeros(2)])
    lengths = np.array([1.5, 2.0, 5.0])
    rates = (sqrt(2.0), *(lengths / np.sqrt(lengths**2 - a * a)).tolist())
    answer = asked(network, Box([-wide, -wide], [wide, wide]), [a, b], 0, 2, 1, rates)
    assert answer.upper[0] == pytest.approx(b - a, abs=1e-6)
    np.testing.assert_allclose(answer.upper[1:] + rates[1:] * lengths, b + np.sqrt(lengths**2 - a * a), atol=1e-6)
    np.testing.assert_allclose(answer.lower, answer.upper, atol=1e-6)
    assert answer.status is Status.CLOSED


def test_power_two_on_the_whole_line():
    """The loss relu(x - 1), sample 0: phi(lam) = max(0, 1 / (4 lam) - 1), and V_2 = eps^2 / 4 from lam = 1/4 (THEORY 9)."""
    network = sequential([Dense(np.ones((1, 1))), Dense([[0.0], [1.0]])], [np.array([-1.0]), np.zeros(2)])
    rates = (1.0, 0.25, 0.1, 0.01)
    for norm in NORMS:
        answer = asked(network, Box.whole_space(1), [0.0], 0, norm, 2, rates)
        expected = [max(0.0, 0.25 / rate - 1.0) for rate in rates]
        np.testing.assert_allclose(answer.upper, expected, atol=1e-6)
        np.testing.assert_allclose(answer.lower, expected, atol=1e-6)
    with pytest.raises(RegionError, match="unbounded"):
        asked(network, Box.whole_space(1), [0.0], 0, 1, 1, (0.5,))
    steep = asked(network, Box.whole_space(1), [0.0], 0, 1, 1, (2.0, 1.5))  # nothing is steeper: the sample's own loss
    assert (steep.upper <= 1e-200).all()


def test_linear_networks_in_closed_form():
    rng = np.random.default_rng(4)
    weights, bias, x = rng.normal(size=(3, 4)), rng.normal(size=3), rng.random(4)
    network = sequential([Dense(weights)], [bias])
    steep, reach, at = weights[1:] - weights[0], 1.0, (weights @ x + bias)[1:] - (weights @ x + bias)[0]
    for norm, dual in ((1, inf), (2, 2), (inf, 1)):
        sizes = np.linalg.norm(steep, ord=dual, axis=1)
        answer = asked(network, Box(x - reach, x + reach), x, 0, norm, 1, (1.001 * sizes.max(), 100.0))
        assert answer.pieces <= 4
        np.testing.assert_allclose(answer.upper, at.max(), rtol=1e-12)
        inside = asked(network, Box(x - reach, x + reach), x, 0, norm, inf, (0.5, 0.25))
        np.testing.assert_allclose(inside.upper, [(at + sizes * radius).max() for radius in (0.5, 0.25)], rtol=1e-9)
        square = asked(network, Box.whole_space(4), x, 0, norm, 2, (2.0,))
        np.testing.assert_allclose(square.upper, (at + sizes**2 / 8.0).max(), rtol=1e-9)


@pytest.mark.parametrize("scale", [1e6, 2.0**30])
def test_a_steep_neuron_at_the_very_end(scale):
    """y = s relu(x - 1) on [0, 1 + 1/s]: solvers' absolute tolerances hide it."""
    network = sequential([Dense(np.ones((1, 1))), Dense([[0.0], [scale]])], [np.array([-1.0]), np.zeros(2)])
    end = 1.0 + 1.0 / scale
    box, top = Box([0.0], [end]), scale * (end - 1.0)
    for norm in NORMS:
        for order in (1, 2):
            rates = (scale, 1.0, 0.5)
            answer = asked(network, box, [0.5], 0, norm, order, rates)
            expected = [max(0.0, top - rate * (end - 0.5) ** order) for rate in rates]
            assert (answer.lower <= np.array(expected) + 1e-12).all()
            assert (answer.upper >= np.array(expected) - 1e-12).all()
            np.testing.assert_allclose(answer.upper - answer.lower, 0.0, atol=1e-13 * scale)
        within = asked(network, box, [0.5], 0, norm, inf, (0.5, 0.6))
        np.testing.assert_allclose(within.upper, [0.0, top], atol=1e-13 * scale)
        np.testing.assert_allclose(within.lower, [0.0, top], atol=1e-13 * scale)


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("order", [1, 2])
def test_warm_answers_equal_cold_ones(norm, order):
    rng = np.random.default_rng(11)
    network, x = random_network(rng, (6, 8, 6, 4)), rng.random(6)
    box, rates, tolerance = Box(np.zeros(6), np.ones(6)), tuple(np.geomspace(20.0, 0.1, 9).tolist()), 1e-3
    warm = asked(network, box, x, 1, norm, order, rates, tolerance=tolerance)
    assert warm.status is Status.CLOSED
    cold = [asked(network, box, x, 1, norm, order, (rate,), tolerance=tolerance) for rate in rates]
    for i, answer in enumerate(cold):
        assert answer.lower[0] <= warm.upper[i]
        assert warm.lower[i] <= answer.upper[0]
        assert warm.upper[i] - warm.lower[i] <= tolerance * (1.0 + 1e-9)
    assert warm.pieces < sum(answer.pieces for answer in cold)
    backwards = asked(network, box, x, 1, norm, order, rates[::-1], tolerance=tolerance)  # pieces come back at a smaller rate, and go
    assert (np.abs(backwards.upper[::-1] - warm.upper) <= 2.0 * tolerance).all()


@pytest.mark.parametrize("order", [1, 2])
def test_regions_shrink_and_rounds_of_rates_agree(order):
    """Bounds at small rates confine larger ones to a ball; a later call for the same sample goes on from what is kept."""
    rng = np.random.default_rng(21)
    network, x, box = random_network(rng, (5, 7, 6, 3)), rng.random(5), Box(np.zeros(5), np.ones(5))
    setting, rates = Setting(network, 2, order, box, Margin()), tuple(np.geomspace(30.0, 0.3, 7).tolist())
    task = Task(0, x, 2, rates, (1e-3,) * 7, np.zeros((0, 5)))
    first = maximise(setting, task)
    memory = kept.take(setting, (2, x.tobytes()))
    radii = [begun.radius for begun in memory.searches]
    assert radii[0] == inf
    assert min(radii) < 0.5
    kept.keep(setting, (2, x.tobytes()), memory)
    between = replace(task, rates=tuple(np.geomspace(20.0, 0.5, 5).tolist()), tolerances=(1e-3,) * 5)
    later, alone = maximise(setting, between), maximise(replace(setting), between)
    assert first.status is later.status is alone.status is Status.CLOSED
    assert later.pieces < alone.pieces
    assert (later.lower <= alone.upper).all()
    assert (alone.lower <= later.upper).all()
    again = maximise(setting, task)
    assert (again.lower <= first.upper).all()
    assert (first.lower <= again.upper).all()


def test_starts_count_and_answers_travel():
    rng = np.random.default_rng(2)
    network, x, box = random_network(rng, (3, 6, 3)), rng.random(3), Box(np.zeros(3), np.ones(3))
    setting = Setting(network, inf, 1, box, Margin())
    start = rng.random((1, 3))
    task = Task(7, x, 0, (0.5,), (1e-6,), start)
    answer = pickle.loads(pickle.dumps(maximise(*pickle.loads(pickle.dumps((setting, task))))))
    logits = network.forward(start)[0]
    assert answer.sample == 7
    assert answer.lower[0] >= logits[1:].max() - logits[0] - 0.5 * np.abs(start - x).max() - 1e-9
    assert answer.status is Status.CLOSED


@pytest.mark.parametrize("order", ORDERS)
def test_time_that_ends_leaves_a_sound_bracket(order):
    rng = np.random.default_rng(5)
    network, x, box = random_network(rng, (8, 14, 14, 5)), rng.random(8), Box(np.zeros(8), np.ones(8))
    rates = (3.0, 1.0, 0.3) if order != inf else (0.05, 0.2, 0.6)
    full = asked(network, box, x, 0, 2, order, rates, tolerance=0.05)
    stopped = threading.Event()
    stopped.set()
    setting = Setting(network, 2, order, box, Margin())
    task = Task(0, x, 0, rates, (1e-9,) * 3, np.zeros((0, 8)))
    for answer in (
        maximise(setting, replace(task, timeout=0.0)),
        maximise(setting, replace(task, timeout=0.02)),
        maximise(setting, replace(task, until=time.time() - 1.0)),
        maximise(setting, task, stopped),
    ):
        assert answer.status in (Status.TIMED_OUT, Status.INTERRUPTED, Status.CLOSED)
        assert np.isfinite(answer.upper).all()
        assert (answer.upper >= full.lower).all()
        assert (answer.lower <= full.upper).all()
        assert (answer.lower <= answer.upper).all()
    assert maximise(setting, task, stopped).status is Status.INTERRUPTED


def test_bad_input():
    network, box = random_network(np.random.default_rng(0), (2, 3, 2)), Box(np.zeros(2), np.ones(2))
    with pytest.raises(RegionError, match="outside"):
        asked(network, box, [2.0, 0.0], 0, 1, 1, (1.0,))
    with pytest.raises(RegionError, match="box or a polytope"):
        asked(network, Ball(np.zeros(2), 1.0, 2), [0.0, 0.0], 0, 1, 1, (1.0,))
    for rates in ((), (0.0,), (-1.0,), (np.nan,), (inf,)):
        with pytest.raises(InputError, match="rates"):
            asked(network, box, [0.5, 0.5], 0, 1, 1, rates)

"""Cross-entropy over boxes of its rows: proved values, linear upper bounds, floors and cuts."""

import itertools
from decimal import Decimal, localcontext
from math import inf

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from problems.errors import InputError
from problems.maps import Dense
from problems.network import sequential
from verifier.distributional import cross_entropy_envelope as envelope
from verifier.distributional.losses import CrossEntropy, Margin, loss_named

VALUES = st.floats(-60.0, 60.0)


def exactly(margins):
    """log(1 + sum exp m) to 60 digits."""
    with localcontext() as context:
        context.prec = 60
        return (1 + sum(Decimal(float(m)).exp() for m in margins)).ln()


@given(st.lists(st.floats(-800.0, 800.0), min_size=1, max_size=9))
def test_values_enclose_the_real_number(margins):
    logits = np.array([[0.0, *margins]])
    at_least, at_most = CrossEntropy().enclosed(logits, logits, 0)
    low, high = ([np.nextafter(m, side) for m in margins] for side in (-inf, inf))  # differences of logits round, too
    assert Decimal(float(at_least[0])) <= exactly(low) + Decimal("1e-50")
    assert Decimal(float(at_most[0])) >= exactly(high) - Decimal("1e-50")
    assert at_most[0] - at_least[0] <= 1e-12 + 1e-14 * abs(at_most[0])


@pytest.mark.parametrize("size", [1e3, 1e6, 1e300])
def test_large_logits_neither_overflow_nor_vanish(size):
    logits = np.array([[size, -size, 0.0], [-size, size, size]])
    for label in range(3):
        at_least, at_most = CrossEntropy().enclosed(logits, logits, label)
        assert not np.isnan(at_least).any()
        assert (at_least >= 0.0).all()
        if size < 1e300:
            np.testing.assert_allclose(at_most, logits.max(axis=1) - logits[:, label], atol=2.0, rtol=1e-12)
    none = np.full((1, 3), inf)
    assert CrossEntropy().enclosed(-none, none, 0) == (0.0, inf)


def test_rows_are_margins_of_the_competitor_and_differences_to_it():
    rows = CrossEntropy().rows(4, 2)
    logits = np.array([0.3, 5.0, -1.0, 2.0])
    assert [row @ logits for row in rows[1]] == [6.0, 0.3 - 5.0, 2.0 - 5.0]
    top = max(rows, key=lambda target: target[0] @ logits)
    assert envelope.value(top @ logits) == pytest.approx(np.log(np.exp(logits).sum()) - logits[2], rel=1e-14)
    assert len(rows) == 3


@given(st.integers(1, 6), st.integers(0, 2**32 - 1))
def test_linear_bounds_hold_and_touch_at_a_vertex(count, seed):
    rng = np.random.default_rng(seed)
    low = -rng.exponential(10.0, size=count)
    high = low * rng.random(count)
    low[0] = rng.normal() * 10.0
    high[0] = low[0] + rng.exponential(10.0)
    weights = envelope.grained(rng.normal(size=(1, count)))
    offset, vertex = envelope.offsets(weights, low[None], high[None])
    vertices = np.array(list(itertools.product(*zip(low, high, strict=True))))
    needed = envelope.value(vertices) - vertices @ weights[0]
    assert needed.max() <= offset[0] <= needed.max() + 1e-11
    assert envelope.value(vertex[0]) - vertex[0] @ weights[0] == pytest.approx(needed.max(), abs=1e-9)
    inside = rng.uniform(low, high, size=(50, count))
    assert (envelope.value(inside) <= inside @ weights[0] + offset + 1e-12).all()


def test_linear_bounds_of_more_rows_than_are_enumerated_hold():
    rng = np.random.default_rng(5)
    low, high = -rng.exponential(5.0, size=(1, 40)), np.zeros((1, 40))
    weights = envelope.grained(rng.random((1, 40)))
    offset = envelope.offsets(weights, low, high)[0]
    inside = np.where(rng.random((2000, 40)) < 0.5, low, high)
    assert (envelope.value(inside) <= inside @ weights[0] + offset).all()


def test_unbounded_ranges():
    ends = np.array([[-inf], [3.0], [-3.0]]), np.array([[2.0], [inf], [inf]])
    for weights, expected in ((0.0, [np.log1p(np.exp(2.0)), inf, inf]), (1.0, [inf, np.log1p(np.exp(-3.0)), np.log1p(np.exp(3.0))])):
        offset = envelope.offsets(np.full((3, 1), weights), *ends)[0]
        np.testing.assert_allclose(offset, expected, rtol=1e-11)


def test_bounds_converge_with_the_square_of_the_range():
    errors = []
    for width in (1.0, 0.1, 0.01):
        low, high = np.array([[0.4, -1.0, -2.0]]), np.array([[0.4, -1.0, -2.0]]) + width
        middle = 0.5 * (low + high)
        weights = envelope.grained(envelope.chords(middle, low, high))
        errors.append(float(weights[0] @ middle[0] + envelope.offsets(weights, low, high)[0][0] - envelope.value(middle)[0]))
    assert errors[1] < 0.02 * errors[0]
    assert errors[2] < 0.02 * errors[1]


@given(VALUES, st.floats(1e-9, 80.0), st.lists(st.floats(-30.0, 0.0), max_size=4))
def test_what_is_cut_off_is_at_most_the_floor(first, floor, others):
    high = np.array([[first + 1.0, *others]])
    low = np.minimum(high, -70.0)
    raised = envelope.raised(low, high, np.array([floor]))
    assert (raised[0, 1:] == low[0, 1:]).all()
    if raised[0, 0] > low[0, 0]:
        below = np.concatenate([raised[0, :1], high[0, 1:]])
        assert envelope.value(below) <= floor * (1 + 1e-12) + 1e-12
        assert envelope.value(below + np.eye(len(below))[0] * (1e-6 + 1e-6 * abs(below[0]))) >= floor - 1e-6


def test_a_cut_halves_what_chords_cost():
    low, high = np.array([[-8.0, -20.0]]), np.array([[30.0, -15.0]])
    row, place, promise = envelope.cuts(np.array([[20.0, -17.0]]), low, high)
    assert row[0] == 0
    assert -2.0 < place[0] < 2.0  # the kink: at the other end the chord is nearly exact
    assert promise[0] > 1.0
    assert envelope.cuts(low, low, low)[2][0] == -1.0


def test_losses_by_name():
    assert isinstance(loss_named("ce"), CrossEntropy)
    assert isinstance(loss_named("margin"), Margin)
    for name in ("dlr", "hinge"):
        with pytest.raises(InputError):
            loss_named(name)


def test_binary_cross_entropy_is_softplus_of_the_margin():
    network = sequential([Dense(np.array([[0.0], [1.0]]))], [np.zeros(2)])
    points = np.array([[-3.0], [0.0], [2.5]])
    expected = np.log1p(np.exp(points[:, 0]))
    np.testing.assert_allclose(CrossEntropy().at_least(network, points, 0), expected, rtol=1e-11)
    np.testing.assert_allclose(CrossEntropy().at_most(network, points, 0), expected, rtol=1e-11)

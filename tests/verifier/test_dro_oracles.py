"""Worst expected losses against closed forms (THEORY section 9), primal against dual, and the chain (T6)."""

from math import inf, log, sqrt

import numpy as np
import pytest

from problems.data import Dataset
from problems.regions import Box
from tests.verifier.tightness_oracles import FOUR_NEURONS, IDENTITY, LINEAR, chain
from verifier import dro, tightness
from verifier.bracket import Status

EVERYWHERE = Box.whole_space(2)


def data(points: list, labels: list) -> Dataset:
    return Dataset(np.array(points, dtype=float), np.array(labels))


def test_relu_in_the_plane_follows_its_closed_form() -> None:
    a, b = 1.0, 0.5
    epsilon = [0.0, 0.5, 1.0, 1.4, 1.5, 2.0, 5.0]
    records = dro(IDENTITY, data([[a, b]], [0]), loss="margin", norm=2, order=1, epsilon=epsilon, region=EVERYWHERE)
    for e, record in zip(epsilon, records, strict=True):
        truth = b - a + sqrt(2) * e if e <= sqrt(2) * a else b + sqrt(e * e - a * a)
        assert record.lower - 1e-9 <= truth <= record.upper + 1e-9
        assert record.upper - record.lower <= 1e-5 * max(truth - (b - a), 1e-6)
        assert record.status is Status.CLOSED
    chain_ = records[0].chain
    assert chain_ is not None
    assert chain_.lipschitz == pytest.approx((sqrt(2), sqrt(2)), rel=1e-6)
    assert chain_.kappa == pytest.approx((1.0, 1.0), rel=1e-6)
    assert chain_.lambda_0 == pytest.approx((sqrt(2), sqrt(2)), rel=1e-5)


def test_tightness_gives_the_steepest_rise() -> None:
    audit = tightness(IDENTITY, EVERYWHERE, 2, data=data([[1.0, 0.5]], [0]))
    assert audit.lambda_0 is not None
    assert (audit.lambda_0.lower, audit.lambda_0.upper) == pytest.approx((sqrt(2), sqrt(2)), rel=1e-5)
    # In the corner (1/8, 1) of a box the loss x_1 - x_0 is the largest there is.
    audit = tightness(IDENTITY, Box(np.array([0.125, 0.125]), np.ones(2)), 1, data=data([[0.125, 1.0]], [0]))
    assert audit.lambda_0 is not None
    assert audit.lambda_0.upper == pytest.approx(0.0, abs=1e-6)
    audit = tightness(IDENTITY, Box(np.zeros(2), np.ones(2)), inf, data=data([[1.0, 0.0]], [0]))
    assert audit.lambda_0 is not None
    assert (audit.lambda_0.lower, audit.lambda_0.upper) == pytest.approx((2.0, 2.0), rel=1e-5)


def test_cross_entropy_in_the_plane_follows_the_published_curve() -> None:
    samples = data([[-2, 2], [1, 1]], [1, 1])
    epsilon = [0.1, 0.5, 1.0, 2.0, 3.0]
    records = dro(FOUR_NEURONS, samples, loss="cross-entropy", norm=2, order=1, epsilon=epsilon, region=EVERYWHERE, tolerance=1e-5)
    for record, truth in zip(records, (0.05783, 0.25378, 0.42521, 0.66416, log(2)), strict=True):
        assert record.lower <= truth + 1e-5
        assert record.upper >= truth - 1e-5
        assert record.upper - record.lower <= 1e-3 * (truth - 0.0088416)
    assert records[0].clean == pytest.approx((0.0088416, 0.0088416), abs=1e-6)
    chain_ = records[0].chain
    assert chain_ is not None
    assert chain_.lambda_0[0] == pytest.approx(0.489867, abs=1e-5)
    assert chain_.lambda_0[1] == pytest.approx(0.489867, rel=1e-3)
    assert chain_.kappa == pytest.approx((0.0, 0.0), abs=1e-9)


@pytest.mark.parametrize("loss", ["margin", "cross-entropy"])
@pytest.mark.parametrize(("norm", "dual"), [(1, inf), (2, 2), (inf, 1)])
def test_a_linear_network_is_a_straight_line(loss: str, norm: float, dual: float) -> None:
    samples = data([[1, 0.5], [-1, 2], [0, 0]], [0, 1, 1])
    epsilon = [0.1, 1.0, 7.0]
    weights = np.array([[1, 2], [0, -1], [3, 1]], dtype=float)
    steepest = max(np.linalg.norm(weights[k] - weights[y], ord=dual) for y in (0, 1) for k in range(3) if k != y)
    for e, record in zip(epsilon, dro(LINEAR, samples, loss=loss, norm=norm, order=1, epsilon=epsilon, region=EVERYWHERE), strict=True):
        assert record.clean is not None
        truth = record.clean[0] + steepest * e
        assert record.lower <= truth + 1e-9 <= record.upper + 2e-9
        assert record.upper - record.lower <= (1e-4 if loss == "margin" else 1e-3) * steepest * e
        assert record.lipschitz_bound == pytest.approx(truth, rel=1e-6)
        assert record.slope_bounds == pytest.approx((truth, truth), rel=1e-5)


@pytest.mark.parametrize(("norm", "dual"), [(1, inf), (2, 2), (inf, 1)])
def test_higher_orders_of_a_linear_network(norm: float, dual: float) -> None:
    x, y = np.array([[1, 0.5], [-1, 2], [0, 0]], dtype=float), np.array([0, 1, 1])
    weights, bias = np.array([[1, 2], [0, -1], [3, 1]], dtype=float), np.array([0, 1, 2.0])
    logits = x @ weights.T + bias
    pairs = [
        [(logits[i, k] - logits[i, t], np.linalg.norm(weights[k] - weights[t], ord=dual)) for k in range(3) if k != t]
        for i, t in enumerate(y)
    ]
    epsilon = [0.1, 1.0, 3.0]
    for record in dro(LINEAR, Dataset(x, y), loss="margin", norm=norm, order=inf, epsilon=epsilon, region=EVERYWHERE, lines=False):
        truth = np.mean([max(m + s * record.epsilon for m, s in each) for each in pairs])
        assert record.lower - 1e-9 <= truth <= record.upper + 1e-9
        assert record.upper - record.lower <= 1e-4 * truth
    rates = np.geomspace(1e-2, 1e3, 400_001)
    for record in dro(LINEAR, Dataset(x, y), loss="margin", norm=norm, order=2, epsilon=epsilon, region=EVERYWHERE, lines=False):
        duals = rates * record.epsilon**2 + np.mean([np.max([m + s * s / (4 * rates) for m, s in each], axis=0) for each in pairs], axis=0)
        truth = float(duals.min())
        assert record.lower - 1e-6 <= truth <= record.upper + 1e-6
        assert record.upper - record.lower <= 1e-4 * truth


def test_a_hinge_under_order_two() -> None:
    hinge = chain(([[1.0]], [-1.0]), ([[0.0], [1.0]], [0.0, 0.0]))
    records = dro(
        hinge, data([[0.0]], [0]), loss="margin", norm=2, order=2, epsilon=[0.5, 1.0, 2.0, 3.0], region=Box.whole_space(1), lines=False
    )
    # eps^2 / 4 up to 2 (the mass is split), eps - 1 beyond.
    for record, truth in zip(records, (0.0625, 0.25, 1.0, 2.0), strict=True):
        assert record.lower - 1e-8 <= truth <= record.upper + 1e-8
        assert record.upper - record.lower <= 1e-4 * truth


def test_a_worst_case_that_is_not_attained_is_approached() -> None:
    relu = chain(([[1.0]], [0.0]), ([[0.0], [1.0]], [0.0, 0.0]))
    records = dro(relu, data([[-1.0]], [0]), loss="margin", norm=2, order=1, epsilon=[0.5, 3.0], region=Box.whole_space(1))
    for record in records:
        assert record.lower <= record.epsilon <= record.upper * (1 + 1e-9)
        assert record.upper - record.lower <= 1e-4 * record.epsilon
        assert record.chain is not None
        assert record.chain.kappa == pytest.approx((1, 1), rel=1e-6)


def test_slopes_at_zero_and_at_infinity() -> None:
    samples = data([[1, 0.5], [0.2, 0.9], [2.0, -1.0]], [0, 1, 0])
    small, large = 1e-4, 1e5
    first, last = dro(IDENTITY, samples, loss="margin", norm=2, order=1, epsilon=[small, large], region=EVERYWHERE)
    assert first.chain is not None
    assert (first.upper - first.clean[0]) / small == pytest.approx(first.chain.lambda_0[1], rel=1e-3)
    assert (first.lower - first.clean[1]) / small == pytest.approx(first.chain.lambda_0[0], rel=1e-3)
    assert last.upper / large == pytest.approx(first.chain.kappa[1], rel=1e-3)
    assert last.lower / large == pytest.approx(first.chain.kappa[0], rel=1e-3)

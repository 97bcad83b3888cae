"""Recession cones of single cells: against brute force over all patterns by general solvers."""

from fractions import Fraction
from math import inf

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from problems.errors import RegionError
from problems.exact import evaluate, homogeneous
from problems.regions import Ball, Box
from tests.verifier import tightness_oracles as oracle
from verifier.recession import slope as slopes
from verifier.recession.networks import preceded, with_bias_input, without_biases
from verifier.recession.rational import exactly
from verifier.recession.region import directions
from verifier.recession.rows import exact_parts, linear_parts
from verifier.recession.slope import slope
from verifier.recession.tight import tightness
from verifier.recession.unbounded import unbounded

NORMS = (1.0, 2.0, inf)
REGIONS = {
    "all space": Box.whole_space(2),
    "half-plane": Box([-inf, -0.5], [inf, inf]),
    "quadrant": Box([-0.25, -inf], [inf, 0.75]),
    "strip": Box([-1.0, -inf], [1.0, inf]),
}


def patterns_of(network, region=None):
    lower, upper = (-inf, inf) if region is None else region.bounding_box()
    return np.array(list(oracle.full_patterns(network, lower, upper)), dtype=np.int8)


@given(seed=st.integers(0, 10**6), scale=st.sampled_from([1.0, 1e-12, 1e9]))
def test_errors_of_the_linear_parts_cover_the_exact_ones(seed, scale):
    network = oracle.random_network(seed, 3, 4, 3, 2)
    network = preceded(network, scale * np.eye(3))
    patterns = np.random.default_rng(seed).choice([-1, 1], (3, 7)).astype(np.int8)
    parts = linear_parts(network, patterns)
    for b, pattern in enumerate(patterns):
        rows, jacobian = exact_parts(network, pattern)
        for exact, floats, errors in ((rows, parts.rows, parts.row_errors), (jacobian, parts.jacobian, parts.jacobian_errors)):
            for i, row in enumerate(exact):
                for j, value in enumerate(row):
                    assert abs(Fraction(float(floats[b, i, j])) - value) <= Fraction(float(errors[b, i, j]))
                    assert errors[b, i, j] <= 1e-12 * scale


def test_an_error_of_zero_means_zero():
    network = oracle.chain(([[1, 0], [0, 1e-200]], [0, 0]), ([[1, 0], [0, 1e-200]], [0, 0]), ([[1, 1e-200]], [0]))
    parts = linear_parts(network, np.ones((1, 4), dtype=np.int8))
    assert parts.jacobian[0, 0, 1] == 0.0  # underflow
    assert parts.jacobian_errors[0, 0, 1] > 0.0
    parts = linear_parts(oracle.IDENTITY, np.array([[1, -1]], dtype=np.int8))
    assert parts.jacobian_errors[0, 1].tolist() == [0.0, 0.0]


@given(seed=st.integers(0, 10**6))
def test_homogeneous_parts_agree_with_evaluation(seed):
    """With the point's own pattern, J v are the logits of the network without biases: the claim of infinity.py."""
    network = without_biases(oracle.random_network(seed, 3, 4, 3, 2))
    point = np.random.default_rng(seed).standard_normal(3)
    values = network.values(point)
    pattern = np.concatenate([values[network.nodes[i].parent] for i in network.relus])
    assert homogeneous(network, pattern, point)[1] == evaluate(network, point)


def test_a_network_with_an_input_for_its_biases():
    network = oracle.random_network(3, 2, 4, 3, 2)
    carrier = with_bias_input(network)
    x = np.array([0.3, -0.7])
    assert evaluate(carrier, np.append(x, 1.0)) == evaluate(network, x)
    assert evaluate(carrier, np.append(2 * x, 2.0)) == [2 * v for v in evaluate(network, x)]


@pytest.mark.parametrize("region", REGIONS.values(), ids=REGIONS.keys())
@pytest.mark.parametrize("seed", range(2))
def test_unbounded_cells(seed, region):
    network = oracle.random_network(seed, 2, 4, 3, 2)
    patterns = patterns_of(network, region)
    lower, upper = region.bounding_box()
    found = unbounded(network, linear_parts(network, patterns), directions(region))
    assert found.tolist() == [oracle.has_direction(oracle.recession_rows(network, p, lower, upper)) for p in patterns]
    assert found.any()


def test_cones_without_interior_are_decided_exactly():
    """Strips in the plane: the rows of the second layer are parallel exactly, and in floats only nearly."""
    network = oracle.chain(([[0.1, 0.3]], [0]), ([[0.7], [-0.7], [0.9]], [0, 1, -0.2]), ([[1, 2, 3], [0, 0, 1]], [0, 0]))
    region = Box.whole_space(2)
    patterns = patterns_of(network)
    found = unbounded(network, linear_parts(network, patterns), directions(region))
    assert found.all()
    quadrant = Box([0.0, 0.0], [inf, inf])
    patterns = patterns_of(network, quadrant)
    found = unbounded(network, linear_parts(network, patterns), directions(quadrant))
    assert sorted(found.tolist()) == [False] * (len(patterns) - 1) + [True]


def test_exact_cones():
    one, zero = Fraction(1), Fraction(0)
    assert exactly([])
    assert exactly([[one, zero], [-one, zero]])  # a line
    assert exactly([[one, zero], [-one, zero], [zero, one]])  # a ray
    assert not exactly([[one, zero], [-one, zero], [zero, one], [zero, -one]])
    assert not exactly([[one, zero], [-one, one], [zero, -one]])


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("region", REGIONS.values(), ids=REGIONS.keys())
def test_condition_and_slope(norm, region):
    """(T2) holds iff the slope at infinity is the whole norm of the gradient, by another solver."""
    network = oracle.random_network(7, 2, 4, 3, 3)
    lower, upper = region.bounding_box()
    patterns = patterns_of(network, region)
    where, pairs = directions(region), oracle.pairs(network)
    verdict = tightness(network, linear_parts(network, patterns), pairs, norm, where)
    if region is REGIONS["all space"]:
        assert verdict.tight.any()
    # All that are tight, and some that are not.
    patterns = np.concatenate([patterns[verdict.tight.any(axis=1)][:4], patterns[::5]])
    parts = linear_parts(network, patterns)
    verdict = tightness(network, parts, pairs, norm, where)
    for b, pattern in enumerate(patterns):
        rows = oracle.recession_rows(network, pattern, lower, upper)
        rows = np.concatenate([rows, np.eye(2)[where.cone.fixed], -np.eye(2)[where.cone.fixed]])
        for p, pair in enumerate(pairs):
            g = oracle.gradient(network, pattern, pair)
            best, size = oracle.cone_slope(rows, g, norm), oracle.dual_norm(g, norm)
            low, high, direction = slope(network, parts.select(np.array([b])), tuple(pair), norm, where)
            assert low <= high
            assert low == pytest.approx(best, abs=1e-6)
            assert high == pytest.approx(best, abs=1e-6)
            assert (rows @ direction >= -1e-9).all()
            assert verdict.tight[b, p] == (size > 0 and best > size * (1 - 1e-6))


@pytest.mark.parametrize("norm", NORMS)
def test_depth_counts_the_layers_that_hold(norm):
    network = oracle.random_network(11, 2, 3, 3, 3)
    pairs = oracle.pairs(network)
    patterns = patterns_of(network)
    verdict = tightness(network, linear_parts(network, patterns), pairs, norm, directions(Box.whole_space(2)))
    for b, pattern in enumerate(patterns):
        for p, pair in enumerate(pairs):
            g = oracle.gradient(network, pattern, pair)
            rows = oracle.recession_rows(network, pattern, np.full(2, -inf), np.full(2, inf))
            full = [oracle.cone_slope(rows[: 3 * layers], g, norm) > (1 - 1e-6) * oracle.dual_norm(g, norm) for layers in (1, 2)]
            assert verdict.depth[b, p] == (sum(np.cumprod(full)) if g.any() else -1)
    assert set(np.unique(verdict.depth)) >= {0, 1}


def test_ties_are_decided_by_an_exact_program():
    """z_1 = relu(x_1) + relu(x_2). On the quadrant g = (1, 1): for r = 1 all of M_r lies in the cone. Beside it g = (1, 0): u_2 is free."""
    network = oracle.chain(([[1, 0], [0, 1]], [0, 0]), ([[0, 0], [1, 1]], [0, 0]))
    patterns = np.array([[1, 1], [1, -1], [-1, -1]], dtype=np.int8)
    pairs = np.array([[0, 1]])
    for norm in NORMS:
        verdict = tightness(network, linear_parts(network, patterns), pairs, norm, directions(Box.whole_space(2)))
        assert verdict.tight[:, 0].tolist() == [True, True, False]
        assert verdict.depth[2, 0] == -1
    # The free coordinate has to be negative, and cannot be once the region forbids it to move down.
    patterns = np.array([[1, -1]], dtype=np.int8)
    shifted = oracle.chain(([[1, 0], [1, 1]], [0, 0]), ([[0, 0], [1, 0]], [0, 0]))
    for region, tight in ((Box.whole_space(2), True), (Box([-inf, 0.0], [inf, inf]), False)):
        assert tightness(shifted, linear_parts(shifted, patterns), pairs, inf, directions(region)).tight.tolist() == [[tight]]


def test_signs_within_rounding_are_decided_exactly():
    """On (+, +) the gradient is (1, 1), and the second row (a, last) is orthogonal to it, or misses that by a unit in the last place."""
    a = 0.1 + 0.2
    for last, holds in ((-a, True), (np.nextafter(-a, -1), False), (np.nextafter(-a, 0), True)):
        network = oracle.chain(([[1, 1], [a, last]], [0, 0]), ([[0, 0], [1, 0]], [0, 0]))
        verdict = tightness(network, linear_parts(network, np.array([[1, 1]])), np.array([[0, 1]]), 2.0, directions(Box.whole_space(2)))
        assert bool(verdict.tight[0, 0]) is holds
        assert verdict.decided == 1


def test_recession_of_regions():
    assert Ball(np.zeros(2), 1.0, 1).recession().bounded
    assert Ball(np.zeros(2), 1.0, 2).recession().bounded
    assert Box([-1, 0], [1, 0]).recession().still.tolist() == [False, True]
    half = Ball(np.zeros(2), inf, 1, Box([-1, -inf], [inf, inf])).recession()
    assert not half.bounded
    assert half.matrix.tolist() == [[1.0, 0.0]]


def test_a_flat_unbounded_region_is_refused():
    class Line(Box):
        def recession(self):
            from dataclasses import replace

            return replace(super().recession(), flat=True)

    with pytest.raises(RegionError, match="not parallel to the axes"):
        directions(Line([-inf, -inf], [inf, inf]))


def test_dual_norm_is_rounded_outward():
    g = np.array([[0.1, -0.2, 0.3]])
    exact = [abs(Fraction(v)) for v in g[0].tolist()]
    for norm, value in ((1.0, max(exact)), (inf, sum(exact, Fraction(0)))):
        low, high = slopes.dual_norm(g, np.zeros_like(g), norm)
        assert Fraction(float(low[0])) <= value <= Fraction(float(high[0]))
    low, high = slopes.dual_norm(g, np.zeros_like(g), 2.0)
    square = sum((v * v for v in exact), Fraction(0))
    assert Fraction(float(low[0])) ** 2 <= square <= Fraction(float(high[0])) ** 2

"""Balls: proved bounds against exact arithmetic, tightness against their own maximisers and against other solvers."""

from fractions import Fraction
from math import inf

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import linprog

from problems.regions import Ball, Box, duality
from problems.rounding import root_down, root_up

NORMS = (1, 2, inf)
DUAL = {1: 0, 2: 2, inf: 1}  # the exponent as the compiled code writes it


def dot(a, b) -> Fraction:
    return sum((Fraction(x) * Fraction(y) for x, y in zip(a, b, strict=True)), Fraction(0))


def power_norm(values, norm) -> Fraction:
    """||values||^2 for norm 2, else the norm, exactly."""
    values = [abs(Fraction(v)) for v in values]
    if norm == 2:
        return sum((v * v for v in values), Fraction(0))
    return sum(values, Fraction(0)) if norm == 1 else max(values)


def scene(seed, n=None, boxed=True, scale=1.0):
    """(generator, center, box or None, node boxes (B, n) that meet the box; most leave the center out)."""
    rng = np.random.default_rng(seed)
    n = n or int(rng.integers(1, 9))
    center = rng.normal(size=n) * scale
    low, high = (rng.exponential(size=n) * (rng.random(n) < 0.8) * scale for _ in range(2))
    box = Box(center - low, center + high) if boxed else None
    lower, upper = (np.tile(v, (3, 1)) for v in (center - 2 * low, center + 2 * high))
    for b in range(3):  # pull some sides in, some of them across the center
        cut = rng.random(n) < 0.5
        share = rng.uniform(-1.0, 0.5, size=n)
        lower[b][cut] = (center + np.where(share < 0, low, high) * share)[cut]
        upper[b][~cut] = (center - np.where(share < 0, high, low) * share)[~cut]
    return rng, center, box, lower, upper


# --- the duality formulas ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("seed", range(40))
def test_bounds_hold_for_any_split(norm, seed):
    """The duality formulas, whatever g: the floats are on the right side of the exact value of the formula, and near it."""
    rng = np.random.default_rng(seed)
    n = int(rng.integers(1, 200))
    spread = 10.0 ** rng.uniform(-30 * (seed % 3), 30 * (seed % 3) + 1e-9, size=(5, n))
    c, g, center = rng.normal(size=(3, n)) * spread[:3]
    g = np.where(rng.random(n) < 0.5, c, g)
    lower, upper = center - rng.exponential(size=n) * spread[3], center + rng.exponential(size=n) * spread[4]
    radius, terms = rng.exponential(), np.empty(2 * n)
    rest = [Fraction(a) - Fraction(b) for a, b in zip(c.tolist(), g.tolist(), strict=True)]
    box_part = sum((r * Fraction(u if r > 0 else v) for r, u, v in zip(rest, upper.tolist(), lower.tolist(), strict=True)), Fraction(0))
    total = dot(g.tolist(), center.tolist()) + box_part
    dual = power_norm(g.tolist(), {1: inf, 2: 2, inf: 1}[norm])
    norm_low = Fraction(root_down(dual)) if norm == 2 else dual
    value = Fraction(duality.support_bound(c, g, center, lower, upper, radius, DUAL[norm], terms))
    size = sum((abs(Fraction(v)) for v in np.concatenate([g * center, (c - g) * upper, (c - g) * lower]).tolist()), Fraction(0))
    assert value >= total + Fraction(radius) * norm_low
    assert value <= (total + Fraction(radius) * norm_low) + (size + Fraction(radius) * norm_low) * Fraction(1e-13)
    offset = float(-total) - float(radius * norm_low)
    low = Fraction(duality.distance_bound(c, g, center, lower, upper, offset, DUAL[norm], terms))
    norm_high = Fraction(root_up(dual)) if norm == 2 else dual
    assert low * norm_high <= max(-(Fraction(offset) + total), 0) * (1 + Fraction(1, 2**50))


# --- balls: support and distance ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("boxed", [False, True])
@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("seed", range(25))
def test_support_is_proved_and_tight(norm, boxed, seed):
    """Weak duality does the work: a proven bound that a feasible point attains is the maximum."""
    scale = 10.0 ** (15 * (seed % 5 - 2))
    rng, center, box, lower, upper = scene(seed, boxed=boxed, scale=scale)
    n = len(center)
    ball = Ball(center, float(rng.exponential() * scale), norm, box)
    c = rng.normal(size=(3, 4, n)) * 10.0 ** rng.uniform(-15, 15, size=(3, 4, 1))
    c[:, 0] = np.sign(c[:, 0]) * (rng.random((3, n)) < 0.7)  # ties and zeros
    c[:, 1] = 0.0
    for low, high in ((lower, upper), (None, None)):
        value, point = ball.support(c, low, high)
        for b in range(3):
            for s in range(4):
                x = point[b, s]
                assert np.isfinite(x).all()
                nearest = ball.limits.clip(center if low is None else np.minimum(np.maximum(center, low[b]), high[b]))
                if value[b, s] == -inf:
                    assert ball.norm_lower(nearest) > ball.radius
                if ball.norm_upper(nearest) > 0.95 * ball.radius:
                    continue
                assert ball.limits.contains(x)
                assert low is None or Box(low[b], high[b]).contains(x)
                assert ball.norm_lower(x) <= ball.radius * (1 + 1e-13) + np.abs(center).max() * 1e-15
                gap = Fraction(value[b, s]) - dot(c[b, s].tolist(), x.tolist())
                size = float(np.abs(c[b, s]) @ (np.abs(center) + np.abs(x)) + ball.radius * np.abs(c[b, s]).sum())
                assert gap <= Fraction(size * 1e-12)
                inside = ball.clip(x)
                if low is None or Box(low[b], high[b]).contains(inside):
                    assert dot(c[b, s].tolist(), inside.tolist()) <= Fraction(value[b, s])


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("seed", range(25))
def test_distance_is_proved_and_tight(norm, seed):
    scale = 10.0 ** (15 * (seed % 5 - 2))
    rng, center, box, lower, upper = scene(seed, boxed=seed % 2 == 0, scale=scale)
    n = len(center)
    ball = Ball(center, 0.0, norm, box)
    a = rng.normal(size=(3, 4, n))
    a[:, 0] = np.sign(a[:, 0]) * (rng.random((3, n)) < 0.7)
    low, high = (ball.limits.lower, ball.limits.upper) if box is not None else (lower[0] * 0 - inf, lower[0] * 0 + inf)
    low, high = np.maximum(low, lower), np.minimum(high, upper)
    middle = np.minimum(np.maximum(center, low), high)
    reach = np.maximum(a * (high - middle)[:, None], a * (low - middle)[:, None]).sum(-1)
    offset = -(a * middle[:, None]).sum(-1) - reach * rng.uniform(-0.2, 1.2, size=reach.shape)
    distance, point = ball.closest(a, offset, lower, upper)
    assert np.array_equal(distance, ball.distance(a, offset, lower, upper))
    for b in range(3):
        for s in range(4):
            x = point[b, s]
            assert Box(low[b], high[b]).contains(x)
            size = np.abs(a[b, s]) @ (np.abs(center) + np.abs(x)) + abs(offset[b, s])
            top = np.where(a[b, s] > 0, high[b], low[b])
            best = dot(a[b, s].tolist(), top.tolist()) + Fraction(offset[b, s])
            if distance[b, s] == inf:
                assert best < 0
                continue
            violation = dot(a[b, s].tolist(), x.tolist()) + Fraction(offset[b, s])
            assert best < Fraction(size * 1e-12) or violation >= -Fraction(size * 1e-13)
            if violation >= 0:  # a feasible point: the bound must not exceed its distance
                assert Fraction(distance[b, s]) ** ball.power <= ball.distance_exact(x)
            if best > size * 1e-9:
                error = (size / max(np.abs(a[b, s]).max(), 1e-300) + np.abs(center).max()) * n * 1e-12
                assert ball.norm_upper(x) - distance[b, s] <= error


@pytest.mark.parametrize("norm", [1, inf])
@pytest.mark.parametrize("seed", range(12))
def test_against_linear_programs(norm, seed):
    rng, center, box, lower, upper = scene(seed, n=5)
    ball = Ball(center, 0.7, norm, box)
    lift = ball.lift()
    low, high = np.maximum(lift.lower[:5], lower[0]), np.minimum(lift.upper[:5], upper[0])
    a = rng.normal(size=5)

    def solve(cost, bounds_low, bounds_high, extra=None):
        rows = lift.matrix.toarray()
        matrix, right = [rows, -rows], [lift.row_upper, -lift.row_lower]
        if extra is not None:
            matrix.append(extra[0][None])
            right.append([extra[1]])
        matrix, right = np.vstack(matrix), np.concatenate(right)
        keep = np.isfinite(right)
        bounds = list(zip(np.append(bounds_low, lift.lower[5:]), np.append(bounds_high, lift.upper[5:]), strict=True))
        return linprog(cost, matrix[keep], right[keep], bounds=bounds)

    answer = solve(np.append(-a, np.zeros(lift.extra)), low, high)
    value, _ = ball.support(a[None, None], lower[:1], upper[:1])
    assert answer.status == 2 if value[0, 0] == -inf else value[0, 0] == pytest.approx(-answer.fun, abs=1e-7)
    wide = ball.with_radius(1e6)
    lift = wide.lift()
    low, high = np.maximum(box.lower, lower[0]), np.minimum(box.upper, upper[0])
    offset = -float(np.maximum(a * low, a * high).sum()) + 0.3 * seed / 12
    answer = solve(lift.cost, low, high, (np.append(-a, np.zeros(lift.extra)), offset))
    distance = wide.distance(a[None, None], np.array([[offset]]), lower[:1], upper[:1])[0, 0]
    assert distance == pytest.approx(answer.fun, abs=1e-7)


@pytest.mark.parametrize("seed", range(3))
def test_euclidean_against_a_cone_solver(seed):
    cvxpy = pytest.importorskip("cvxpy")
    rng, center, box, lower, upper = scene(seed, n=6)
    ball = Ball(center, 0.8, 2, box)
    a, x = rng.normal(size=6), cvxpy.Variable(6)
    low, high = np.maximum(box.lower, lower[0]), np.minimum(box.upper, upper[0])
    problem = cvxpy.Problem(cvxpy.Maximize(a @ x), [x >= low, x <= high, cvxpy.norm(x - center) <= 0.8])
    value = ball.support(a[None, None], lower[:1], upper[:1])[0][0, 0]
    assert value == pytest.approx(problem.solve(solver="CLARABEL"), abs=1e-6)
    offset = -float(np.maximum(a * low, a * high).sum()) + 0.1
    problem = cvxpy.Problem(cvxpy.Minimize(cvxpy.norm(x - center)), [x >= low, x <= high, a @ x + offset >= 0])
    distance = ball.distance(a[None, None], np.array([[offset]]), lower[:1], upper[:1])[0, 0]
    assert distance == pytest.approx(problem.solve(solver="CLARABEL"), abs=1e-6)


@pytest.mark.parametrize("norm", NORMS)
def test_without_box_the_dual_norm_decides(norm):
    rng = np.random.default_rng(1)
    center, c = rng.normal(size=7), rng.normal(size=(1, 9, 7))
    ball = Ball(center, 2.5, norm)
    dual = np.linalg.norm(c, ball.dual, axis=-1)
    assert 1 / ball.norm + 1 / ball.dual == 1
    np.testing.assert_allclose(ball.support(c)[0], c @ center + 2.5 * dual, rtol=1e-12)
    offset = -(c @ center) - rng.exponential(size=(1, 9))
    np.testing.assert_allclose(ball.distance(c, offset), -(c @ center + offset) / dual, rtol=1e-10)
    assert ball.distance(c, -(c @ center) + 1.0).max() == 0.0


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("boxed", [False, True])
def test_batches_equal_loops(norm, boxed):
    rng, center, box, lower, upper = scene(5, n=7, boxed=boxed)
    ball = Ball(center, 0.6, norm, box)
    c, offset = rng.normal(size=(3, 4, 7)), rng.normal(size=(3, 4)) - 2.0
    value, point = ball.support(c, lower, upper)
    distance, closest = ball.closest(c, offset, lower, upper)
    for b in range(3):
        for s in range(4):
            one = (slice(b, b + 1), slice(s, s + 1))
            v, p = ball.support(c[one], lower[b : b + 1], upper[b : b + 1])
            d, q = ball.closest(c[one], offset[one], lower[b : b + 1], upper[b : b + 1])
            assert v[0, 0] == value[b, s]
            assert np.array_equal(p[0, 0], point[b, s])
            assert d[0, 0] == distance[b, s]
            assert np.array_equal(q[0, 0], closest[b, s])
    shared = ball.support(c[:1], lower, upper)[0]  # one set of functions for all node boxes, and the other way round
    assert np.array_equal(shared, ball.support(np.tile(c[:1], (3, 1, 1)), lower, upper)[0])
    assert np.array_equal(
        ball.support(c, lower[:1], upper[:1])[0], ball.support(c, np.tile(lower[:1], (3, 1)), np.tile(upper[:1], (3, 1)))[0]
    )
    frozen = c.copy()
    frozen.setflags(write=False)
    assert np.array_equal(ball.support(frozen, lower, upper)[0], value)
    assert ball.support(np.zeros((0, 4, 7)))[0].shape == (0, 4)
    assert ball.support(np.zeros((3, 0, 7)), lower, upper)[0].shape == (3, 0)


@pytest.mark.parametrize("norm", NORMS)
def test_degenerate_balls(norm):
    center = np.array([0.1, 0.7, 0.0])
    point_ball = Ball(center, 0.0, norm, Box(np.zeros(3), np.ones(3)))
    c = np.array([[[1.0, -2.0, 3.0], [0.0, 0.0, 0.0], [1e30, 1e-30, 0.0]]])
    value, point = point_ball.support(c)
    for s in range(3):
        exact = dot(c[0, s].tolist(), center.tolist())
        assert exact <= Fraction(value[0, s]) <= exact + abs(exact) * Fraction(1e-13) + Fraction(1e-13)
        np.testing.assert_array_equal(point[0, s], center)
    everything = Ball(center, inf, norm, Box(np.zeros(3), np.ones(3)))
    np.testing.assert_allclose(everything.support(c)[0], [[4.0, 0.0, 1e30]], rtol=1e-12)
    assert Ball(center, inf, norm).support(c)[0].tolist() == [[inf, 0.0, inf]]
    assert everything.contains([1.0, 1.0, 1.0])
    assert not everything.contains([1.1, 0.0, 0.0])
    lifted = everything.lift()
    assert not lifted.cones
    assert np.isfinite(lifted.cost).all()
    flat = Ball(center, 1.0, norm, Box(center, center))  # zero-width sides
    np.testing.assert_allclose(flat.support(c)[0][0, 0], -1.3, rtol=1e-12)
    assert flat.distance(c, np.array([[0.0, 0.0, -1.0]])).tolist() == [[inf, 0.0, 0.0]]
    assert Ball(center, 1.0, norm).distance(np.zeros((1, 2, 3)), np.array([[-1e-300, 0.0]])).tolist() == [[inf, 0.0]]
    assert Ball(center, 1.0, norm).support(np.full((1, 1, 3), np.nan))[0].item() == inf
    for huge in (1e200, 1e-200):
        value, point = Ball(center, huge, norm).support(c[:, :1])
        np.testing.assert_allclose(value[0, 0], (c[0, 0] @ center) + huge * np.linalg.norm(c[0, 0], Ball(center, 1, norm).dual), rtol=1e-11)
        assert np.isfinite(point).all()


@pytest.mark.parametrize("norm", NORMS)
def test_node_boxes_that_miss_the_ball(norm):
    ball = Ball(np.zeros(2), 1.0, norm, Box([-5.0, -5.0], [5.0, 5.0]))
    c = np.array([[[1.0, 1.0], [-1.0, 0.0]]])
    apart = np.array([[1.5, 2.0]]), np.array([[3.0, 3.0]])
    assert ball.support(c, *apart)[0].tolist() == [[-inf, -inf]]
    size = np.linalg.norm([1.5, 2.0], norm)
    distance = ball.distance(np.array([[[1.0, 0.0]]]), np.array([[100.0]]), *apart)[0, 0]
    assert distance <= size
    assert distance == pytest.approx(size, rel=1e-12)
    touching = np.array([[1.0, 0.0]]), np.array([[3.0, 0.0]])  # meets the ball in the point (1, 0)
    value = ball.support(c, *touching)[0][0]
    assert value[0] >= 1.0
    assert value[1] >= -1.0
    corner = ball.distance(np.array([[[1.0, 1.0]]]), np.array([[-6.0]]), *apart)[0, 0]  # the half-space meets the box in (3, 3)
    assert corner <= np.linalg.norm([3.0, 3.0], norm)
    assert corner == pytest.approx(np.linalg.norm([3.0, 3.0], norm), rel=1e-9)
    assert ball.distance(np.array([[[1.0, 1.0]]]), np.array([[-6.0001]]), *apart)[0, 0] == inf


@settings(max_examples=60, deadline=None)
@given(st.data(), st.sampled_from(NORMS))
def test_no_point_of_the_set_beats_the_support(data, norm):
    numbers = st.floats(-1e30, 1e30) | st.sampled_from([0.0, 1.0, -1.0, 1e-30])
    n = data.draw(st.integers(1, 5))
    draw = lambda: np.array(data.draw(st.lists(numbers, min_size=n, max_size=n)))  # noqa: E731
    center, sides, c, x = draw(), np.abs(draw()), draw(), draw()
    radius = data.draw(st.floats(0, 1e30) | st.sampled_from([0.0, 1.0]))
    ball = Ball(center, radius, norm, Box(center - sides, center + sides) if data.draw(st.booleans()) else None)
    point = ball.clip(x)
    assert ball.contains(point)
    reached = dot(c.tolist(), point.tolist())
    value, _ = ball.support(c[None, None])
    assert value[0, 0] >= reached
    offset = float(-reached)  # the half-space holds the point, or misses it by a rounding
    if Fraction(offset) + reached >= 0:
        assert Fraction(ball.distance(c[None, None], np.array([[offset]]))[0, 0]) ** ball.power <= ball.distance_exact(point)

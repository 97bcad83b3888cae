"""Balls as sets: exact membership, projection, programs, bad input."""

import pickle
from fractions import Fraction
from math import inf

import numpy as np
import pytest

from problems.errors import RegionError
from problems.regions import Ball, Box

NORMS = (1, 2, inf)


def ball_scene(seed, n, boxed=True, scale=1.0):
    """(generator, center, box around the center with some sides of width 0, or None)."""
    rng = np.random.default_rng(seed)
    center = rng.normal(size=n) * scale
    low, high = (rng.exponential(size=n) * (rng.random(n) < 0.8) * scale for _ in range(2))
    return rng, center, Box(center - low, center + high) if boxed else None


@pytest.mark.parametrize("norm", NORMS)
def test_membership_is_exact(norm):
    ball = Ball([0.1, 0.2], 0.3, norm)
    along, across = {1: (1, 0), 2: (Fraction(3, 5), Fraction(4, 5)), inf: (1, 1)}[norm]
    edge = [Fraction(0.1) + Fraction(0.3) * along, Fraction(0.2) - Fraction(0.3) * across]
    assert ball.contains(edge)
    assert ball.distance_exact(edge) == Fraction(0.3) ** ball.power
    edge[0] += Fraction(1, 10**40)
    assert not ball.contains(edge)
    assert not ball.contains([np.nan, 0.0])
    assert not ball.contains(np.array([0.1, inf]))
    assert ball.norm_lower(edge) <= 0.3 < ball.norm_upper(edge) <= 0.30000000000000016
    with pytest.raises(RegionError, match="dimension 2"):
        ball.contains([0.0])


@pytest.mark.parametrize("boxed", [False, True])
@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("scale", [1e-30, 1.0, 1e30])
def test_clip_lands_inside_and_is_the_projection(norm, boxed, scale):
    rng, center, box = ball_scene(11, 8, boxed, scale)
    ball = Ball(center, 0.9 * scale, norm, box)
    x = center + rng.normal(size=(2, 6, 8)) * scale * np.array([0.01, 0.1, 0.3, 1.0, 10.0, 1e8])[:, None]
    y = ball.clip(x)
    assert y.shape == x.shape
    assert all(ball.contains(p) for p in y.reshape(-1, 8))
    np.testing.assert_array_equal(ball.clip(y), y)
    others = ball.clip(center + rng.normal(size=(50, 8)) * scale)
    for p, q in zip(x.reshape(-1, 8), y.reshape(-1, 8), strict=True):
        if ball.contains(p):
            np.testing.assert_array_equal(p, q)
        products = (others - q) @ (p - q)  # a projection leaves every point of the set behind the hyperplane
        moved = np.abs(p - q).max()
        assert products.max() <= (moved + scale) * (1e-10 * scale + 1e-14 * moved)
    for tiny in (0.0, 5e-324, 1e-310, 1e-17 * scale):
        assert all(ball.with_radius(tiny).contains(p) for p in ball.with_radius(tiny).clip(x[0]))


@pytest.mark.parametrize("norm", NORMS)
def test_bounding_box_contains_the_ball(norm):
    _, center, box = ball_scene(2, 6)
    ball = Ball(center, 0.1, norm, box)
    lower, upper = ball.bounding_box()
    for i in range(6):
        assert Fraction(lower[i]) <= max(Fraction(center[i]) - Fraction(0.1), Fraction(box.lower[i]))
        assert Fraction(upper[i]) >= min(Fraction(center[i]) + Fraction(0.1), Fraction(box.upper[i]))
    np.testing.assert_allclose(lower, np.maximum(center - 0.1, box.lower), rtol=1e-15)


@pytest.mark.parametrize("radius", [0.5, inf])
@pytest.mark.parametrize("norm", NORMS)
def test_lift_describes_the_ball(norm, radius):
    rng, center, box = ball_scene(7, 4)
    ball = Ball(center, radius, norm, box)
    lift = ball.lift()
    for x in (center, ball.clip(center + rng.normal(size=4)), ball.clip(center + 0.1 * rng.normal(size=4)), center + 10.0):
        step = x - center
        extra = {1: np.concatenate([np.maximum(step, 0), np.maximum(-step, 0)]), 2: step, inf: np.abs(step).max(keepdims=True)}[norm]
        v, slack = np.concatenate([x, extra]), 1e-12
        rows = lift.matrix @ v
        holds = np.all(lift.lower <= v + slack) and np.all(v <= lift.upper + slack)
        holds &= bool(np.all(lift.row_lower <= rows + slack) and np.all(rows <= lift.row_upper + slack))
        holds &= all(np.linalg.norm(v[cone.indices] - cone.shift) <= cone.limit + slack for cone in lift.cones)
        assert holds == ball.contains(x)
        cost = lift.cost @ v + 0.5 * lift.quadratic @ v**2 + lift.offset
        assert cost == pytest.approx(float(ball.distance_exact(x)))
        assert lift.power == ball.power
    plain = ball.lift(with_norm=False)
    assert plain.extra == (8 if norm == 1 else 0)
    assert len(plain.cones) == (1 if norm == 2 and radius < inf else 0)
    assert plain.matrix.shape == (len(plain.row_lower), 4 + plain.extra)
    assert box.lift().matrix.shape == (0, 4)
    assert box.lift().cost is None


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (([0.0, np.nan], 1.0, 2), "coordinate 1 is not finite"),
        (([0.0], -1.0, 2), "not a radius"),
        (([0.0], np.nan, 2), "not a radius"),
        (([0.0], 1.0, 3), "Use 1, 2 or inf"),
        (([0.5, 2.0], 1.0, 1, Box([0.0, 0.0], [1.0, 1.0])), "coordinate 1 lies outside the box"),
        (([0.5], 1.0, 1, Box([0.0, 0.0], [1.0, 1.0])), "the center has 1"),
        (([[0.5]], 1.0, 1), "shape"),
    ],
)
def test_bad_balls(arguments, words):
    with pytest.raises(RegionError, match=words):
        Ball(*arguments)


def test_ball_is_a_value():
    data = np.zeros(2)
    ball = Ball(data, 1, "inf", Box([0.0, 0.0], [1.0, 1.0]))
    data[0] = 7.0
    assert ball.center[0] == 0.0
    assert ball.norm == inf
    assert ball.with_radius(2.0).radius == 2.0
    assert ball.radius == 1.0
    copy = pickle.loads(pickle.dumps(ball))
    assert np.array_equal(copy.support(np.ones((1, 1, 2)))[0], ball.support(np.ones((1, 1, 2)))[0])
    with pytest.raises(ValueError, match="read-only"):
        ball.center[0] = 1.0

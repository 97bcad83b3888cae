"""Linear functions less a price for distance: against linear programs, against exact arithmetic, and on sizes where floats end."""

from fractions import Fraction
from math import inf

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import linprog, minimize

from problems.errors import RegionError
from problems.regions import Ball, Box

NORMS = (1, 2, inf)


def scene(seed, n, cut=True):
    """(center, box with some sides of width 0, node box that may miss the center, c, rate)."""
    rng = np.random.default_rng(seed)
    center = rng.normal(size=n)
    low = center - rng.exponential(size=n) * (rng.random(n) < 0.8)
    high = center + rng.exponential(size=n) * (rng.random(n) < 0.8)
    lower = low + (high - low) * rng.random(n) * (rng.random(n) < 0.4) * cut
    upper = lower + (high - lower) * (1.0 - rng.random(n) * (rng.random(n) < 0.4) * cut)
    upper = np.minimum(upper, high)
    return center, Box(low, high), (lower, upper), rng.normal(size=n) * (rng.random(n) < 0.9), float(10.0 ** rng.uniform(-1.5, 1.0))


def by_programs(center, lower, upper, c, rate, norm, power):
    """The maximum by a linear program (l1, linf, power 1), or by a smooth solver on its lift."""
    n = len(c)
    if norm == 2:
        result = minimize(
            lambda d: rate * ((d @ d) if power == 2 else np.sqrt(d @ d + 1e-30)) - c @ (center + d),
            np.clip(0.01 * c, lower - center, upper - center), bounds=list(zip(lower - center, upper - center, strict=True)),
            method="L-BFGS-B", options={"ftol": 1e-15, "gtol": 1e-10},
        )  # fmt: skip
        return -result.fun
    extra = n if norm == 1 else 1
    spread = np.eye(n) if norm == 1 else np.ones((n, 1))
    rows = np.vstack([np.hstack([np.eye(n), -spread]), np.hstack([-np.eye(n), -spread])])

    def value(length):
        """The largest c.x within the length."""
        total = np.append(np.zeros(n), np.ones(extra))[None]
        result = linprog(
            np.append(-c, np.zeros(extra)), A_ub=np.vstack([rows, total]), b_ub=np.concatenate([center, -center, [length]]),
            bounds=[*zip(lower, upper, strict=True), *[(0, None)] * extra],
        )  # fmt: skip
        return -result.fun if result.status == 0 else -inf

    if power == 1:
        result = linprog(
            np.append(-c, np.full(extra, rate)), A_ub=rows, b_ub=np.concatenate([center, -center]),
            bounds=[*zip(lower, upper, strict=True), *[(0, None)] * extra],
        )  # fmt: skip
        return -result.fun
    low, high = 0.0, float(np.maximum(upper - center, center - lower).sum() + 1.0)
    for _ in range(60):  # concave in the length
        first, second = low + (high - low) / 3.0, high - (high - low) / 3.0
        ahead = value(first) - rate * first**2 > value(second) - rate * second**2 and value(first) > -inf
        low, high = (low, second) if ahead else (first, high)
    return value(high) - rate * high**2


@pytest.mark.parametrize("power", [1, 2])
@pytest.mark.parametrize("norm", NORMS)
def test_value_is_the_maximum(norm, power):
    for seed in range(8 if power == 1 or norm == 2 else 3):
        center, box, (lower, upper), c, rate = scene(seed, 1 + seed % 4)
        ball = Ball(center, 0.1, norm, box)  # the radius plays no part
        value, point = ball.penalised(c[None, None], rate, power, lower[None], upper[None])
        expected = by_programs(center, lower, upper, c, rate, norm, power)
        assert value[0, 0] == pytest.approx(expected, rel=1e-6, abs=1e-6)
        reached = c @ point[0, 0] - rate * np.linalg.norm(point[0, 0] - center, ord=norm) ** power
        assert value[0, 0] == pytest.approx(reached, rel=1e-11, abs=1e-11)


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 10**6), n=st.integers(1, 5), norm=st.sampled_from(NORMS), power=st.sampled_from([1, 2]),
       size=st.sampled_from([1e-150, 1e-6, 1.0, 1e40]), price=st.sampled_from([1e-30, 1e-3, 1.0, 1e6]))  # fmt: skip
def test_value_is_proved_and_its_point_attains_it(seed, n, norm, power, size, price):
    center, box, (lower, upper), c, rate = scene(seed, n)
    c, rate = c * size, rate * price
    ball = Ball(center, inf, norm, box)
    value, point = (part[0, 0] for part in ball.penalised(c[None, None], rate, power, lower[None], upper[None]))
    rng = np.random.default_rng(seed)
    others = [lower, upper, np.clip(center, lower, upper), *(lower + (upper - lower) * rng.random((6, n)))]
    assert (lower <= point).all()
    assert (point <= upper).all()
    for x in [point, *(np.clip(other, lower, upper) for other in others)]:
        gain = sum((Fraction(a) * Fraction(b) for a, b in zip(c.tolist(), x.tolist(), strict=True)), Fraction(0))
        distance = ball.distance_exact(x)
        if power == 1 and norm == 2:  # a root: rounded to 1e-30 of it
            distance = Fraction(np.nextafter(ball.norm_upper(x), -inf)) if distance else Fraction(0)
        elif power == 2 and norm != 2:
            distance = distance**2
        exact = gain - Fraction(rate) * distance
        slack = Fraction(rate) * distance * Fraction(1, 2**50) if power == 1 and norm == 2 else 0
        assert exact - slack <= Fraction(value)
    reach = float(np.maximum(np.abs(lower), np.abs(upper)).sum() + np.abs(center).sum())
    size = np.abs(c).max() * reach + rate * reach**power  # what cancels where the box leaves the center out
    reached = float(c @ point) - rate * ball.norm_upper(point) ** power
    assert value - reached <= 1e-9 * size + 1e-300


@pytest.mark.parametrize("norm", NORMS)
def test_unbounded_boxes(norm):
    half = Ball(np.zeros(2), inf, norm, Box([-1.0, -inf], [inf, inf]))
    dual = {1: inf, 2: 2, inf: 1}[norm]
    for c in ([1.0, 0.5], [-3.0, 0.1], [0.0, 0.0]):
        steep = float(np.linalg.norm(np.maximum(c, [0.0, -inf]), ord=dual))
        for factor in (0.9, 1.1):
            value = half.penalised(np.array([[c]]), max(steep * factor, 1e-3))[0][0, 0]
            assert (value == inf) == (factor < 1.0 and steep > 0.0)
    value = half.penalised(np.array([[[1.0, 0.5]]]), 2.0, 2)[0][0, 0]
    assert value == pytest.approx(float(np.linalg.norm([1.0, 0.5], ord=dual)) ** 2 / 8.0)


def test_batches_share_boxes_and_functions():
    rng = np.random.default_rng(5)
    c, lower = rng.normal(size=(7, 3, 6)), -rng.random((7, 6))
    for norm in NORMS:
        ball = Ball(np.zeros(6), inf, norm, Box(-np.ones(6), np.ones(6)))
        value, point = ball.penalised(c, 0.7, 1, lower, -lower)
        assert value.shape == (7, 3)
        assert point.shape == (7, 3, 6)
        alone = [ball.penalised(c[i : i + 1], 0.7, 1, lower[i : i + 1], -lower[i : i + 1])[0][0] for i in range(7)]
        np.testing.assert_array_equal(value, alone)
        shared = ball.penalised(c, 0.7, 1, np.broadcast_to(lower[:1], (7, 6)), np.broadcast_to(-lower[:1], (7, 6)))[0]
        np.testing.assert_array_equal(shared, ball.penalised(c, 0.7, 1, lower[:1], -lower[:1])[0])
        np.testing.assert_allclose(ball.penalised(c, 0.0)[0], np.abs(c).sum(axis=2))
        assert ball.penalised(c, 1.0, 1, np.full((7, 6), 2.0), np.full((7, 6), 3.0))[0].max() == -inf
        assert ball.penalised(np.full((1, 1, 6), np.nan), 1.0)[0][0, 0] == inf


@pytest.mark.parametrize(("rate", "power"), [(-1.0, 1), (inf, 1), (np.nan, 2), (1.0, 3)])
def test_bad_prices(rate, power):
    with pytest.raises(RegionError, match="price of distance"):
        Ball([0.0], inf, 2).penalised(np.ones((1, 1, 1)), rate, power)

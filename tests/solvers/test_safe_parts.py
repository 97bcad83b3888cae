"""Every rounding of the safe bound against exact rational arithmetic, one part at a time.

The parts hide behind each other in whole programs: the error of the residual is larger than a missing last rounding.
"""

from fractions import Fraction
from math import inf, nextafter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from solvers import Cone, Program, exact_safe_bound, safe_bound
from solvers.dyadic import dyadic, grouped, rounded_down, rounded_up
from solvers.exact import _norm_above
from solvers.implied import implied_bounds
from solvers.safe import _cone_terms, _variable_terms, sum_down

SEEDS = st.integers(0, 2**32 - 1)


def _wide(generator: np.random.Generator, size: int) -> np.ndarray:
    """Random floats of both signs with many mantissa bits and some spread of exponents, some of them zero."""
    values = generator.standard_normal(size) * 10.0 ** generator.uniform(-4, 4, size)
    return np.where(generator.random(size) < 0.1, 0.0, values)


def _intervals(generator: np.random.Generator, points: float) -> tuple[np.ndarray, np.ndarray]:
    """(lower, upper) of 40 intervals, a share `points` of them of width zero."""
    lower = _wide(generator, 40)
    return lower, lower + np.where(generator.random(40) < points, 0.0, np.abs(_wide(generator, 40)))


@settings(max_examples=100)
@given(SEEDS)
def test_linear_terms(seed: int) -> None:
    generator = np.random.default_rng(seed)
    low, high = _intervals(generator, 0.5)
    lower, upper = _intervals(generator, 0.2)
    terms = _variable_terms(low, high, None, lower, upper)
    for term, r0, r1, x0, x1 in zip(terms.tolist(), low.tolist(), high.tolist(), lower.tolist(), upper.tolist(), strict=True):
        exact = min(Fraction(r) * Fraction(x) for r in (r0, r1) for x in (x0, x1))
        assert term <= exact
        assert term >= float(exact) - 1e-15 * abs(float(exact)) - 1e-300


@settings(max_examples=100)
@given(SEEDS)
def test_parabolas(seed: int) -> None:
    generator = np.random.default_rng(seed)
    low, high = _intervals(generator, 0.5)
    lower, upper = _intervals(generator, 0.2)
    q = 10.0 ** generator.uniform(-4, 4, 40)
    # A third of the vertices at or beside an end, where the cases meet.
    near = generator.random(40) < 0.33
    low = np.where(near, np.nextafter(-q * lower, generator.choice([-inf, inf])), low)
    high = np.maximum(low, np.where(near, low, high))
    terms = _variable_terms(low, high, q, lower, upper)
    for term, r0, r1, k, x0, x1 in zip(
        terms.tolist(), low.tolist(), high.tolist(), q.tolist(), lower.tolist(), upper.tolist(), strict=True
    ):
        exact = min(_parabola(Fraction(r), Fraction(k), Fraction(x0), Fraction(x1)) for r in (r0, r1))
        assert term <= exact
        size = max(abs(r0), abs(r1)) * max(abs(x0), abs(x1)) + k * max(x0 * x0, x1 * x1)
        assert term >= float(exact) - 1e-14 * size - 1e-300


def _parabola(slope: Fraction, q: Fraction, lower: Fraction, upper: Fraction) -> Fraction:
    x = min(max(-slope / q, lower), upper)
    return slope * x + q * x * x / 2


def test_terms_over_infinite_bounds() -> None:
    nothing, one = np.zeros(1), np.ones(1)
    whole = (np.array([-inf]), np.array([inf]))
    with np.errstate(all="ignore"):
        assert _variable_terms(nothing, nothing, None, *whole).tolist() == [0.0]
        assert _variable_terms(-one, one, None, *whole).tolist() == [-inf]
        assert _variable_terms(nothing, one, None, np.zeros(1), np.array([inf])).tolist() == [0.0]
        assert _variable_terms(nothing, one, None, np.array([-inf]), np.zeros(1)).tolist() == [-inf]
        assert _variable_terms(-one, nothing, None, np.array([-inf]), np.zeros(1)).tolist() == [0.0]
        assert _variable_terms(-one, nothing, None, np.zeros(1), np.array([inf])).tolist() == [-inf]
        vertex = _variable_terms(one, one, 2 * one, *whole)[0]
    assert vertex <= Fraction(-1, 4)
    assert vertex == pytest.approx(-0.25, abs=1e-15)


@settings(max_examples=100)
@given(SEEDS)
def test_row_terms(seed: int) -> None:
    """Empty rows: the bound is y times side alone, with no residual to hide behind."""
    generator = np.random.default_rng(seed)
    lower = _wide(generator, 10)
    program = Program(
        cost=[0.0],
        matrix=np.zeros((10, 1)),
        row_lower=lower,
        row_upper=lower + np.abs(_wide(generator, 10)),
        lower=[-inf],
        upper=[inf],
        offset=float(generator.standard_normal()),
    )
    for count in (1, 2, 10):
        y = _wide(generator, 10)
        y[count:] = 0.0
        exact = exact_safe_bound(program, y)
        assert exact == Fraction(program.offset) + sum(
            Fraction(v) * Fraction(float(program.row_lower[i] if v > 0 else program.row_upper[i])) for i, v in enumerate(y.tolist()) if v
        )
        assert safe_bound(program, y) <= exact
        assert safe_bound(program, y) >= float(exact) - 1e-14 * float(np.abs(y) @ (np.abs(lower) + 1e4) + 1)


@settings(max_examples=100)
@given(SEEDS)
def test_cone_terms(seed: int) -> None:
    generator = np.random.default_rng(seed)
    size = int(generator.integers(1, 6))
    shift, part = _wide(generator, size), _wide(generator, size) * float(generator.choice([1.0, 1e-120, 1e120]))
    limit = float(abs(generator.standard_normal()))
    total = sum((Fraction(t) for t in _cone_terms(shift, limit, part).tolist()), Fraction(0))
    # total <= part.shift - ‖part‖ limit, decided by squares.
    rest = sum((Fraction(a) * Fraction(b) for a, b in zip(part.tolist(), shift.tolist(), strict=True)), Fraction(0)) - total
    square = sum((Fraction(a) ** 2 for a in part.tolist()), Fraction(0)) * Fraction(limit) ** 2
    assert rest >= 0
    assert rest**2 >= square
    scale = Fraction(float(np.abs(part).max())) * Fraction(float(np.abs(shift).max()) + limit)
    assert rest**2 <= square + Fraction(1, 10**13) * scale**2


def test_a_cone_of_one_entry_is_tight_and_safe() -> None:
    """‖part‖ = |part| and the product with the limit is rounded: many cases, each one multiplication from exact."""
    generator = np.random.default_rng(0)
    for _ in range(300):
        part, limit = float(generator.standard_normal()), float(abs(generator.standard_normal()))
        total = sum(map(Fraction, _cone_terms(np.zeros(1), limit, np.array([part])).tolist()))
        assert total <= -abs(Fraction(part)) * Fraction(limit)


@settings(max_examples=100)
@given(st.fractions(min_value=0), st.integers(-300, 300))
def test_norm_above(value: Fraction, exponent: int) -> None:
    square = value * Fraction(2) ** exponent
    root = _norm_above(square)
    assert root**2 >= square
    assert root**2 <= square * (1 + Fraction(1, 2**190))


@settings(max_examples=100)
@given(SEEDS)
def test_bounds_implied_by_a_row(seed: int) -> None:
    """One variable without bounds in one row: its exact extreme is inside the implied bounds."""
    generator = np.random.default_rng(seed)
    n = int(generator.integers(2, 9))
    row = np.where((values := _wide(generator, n)) == 0, 1.0, values)
    lower = _wide(generator, n)
    upper = lower + np.abs(_wide(generator, n))
    side = float(_wide(generator, 1)[0])
    lower[0], upper[0] = -inf, inf
    above = bool(generator.random() < 0.5)
    program = Program(
        cost=np.zeros(n), matrix=[row], row_lower=[-inf if above else side], row_upper=[side if above else inf], lower=lower, upper=upper
    )
    low, high = implied_bounds(program)
    ends = [(Fraction(a) * Fraction(x), Fraction(a) * Fraction(y)) for a, x, y in zip(row[1:], lower[1:], upper[1:], strict=True)]
    others = sum((min(pair) if above else max(pair) for pair in ends), Fraction(0))
    extreme = (Fraction(side) - others) / Fraction(float(row[0]))
    if above == (row[0] > 0):
        assert low[0] == -inf
        assert high[0] >= extreme
        assert high[0] <= float(extreme) + 1e-10 * (1 + abs(float(extreme)) * 1e6)
    else:
        assert high[0] == inf
        assert low[0] <= extreme
    assert np.array_equal(low[1:], lower[1:])
    assert np.array_equal(high[1:], upper[1:])


@settings(max_examples=100)
@given(SEEDS)
def test_bounds_implied_by_a_cone(seed: int) -> None:
    generator = np.random.default_rng(seed)
    shift, limit = _wide(generator, 3), float(abs(generator.standard_normal()))
    program = Program(cost=np.zeros(3), lower=[-inf, -inf, 0.0], upper=[inf, inf, 1.0], cones=[Cone(np.array([0, 1]), shift[:2], limit)])
    low, high = implied_bounds(program)
    for i in (0, 1):
        assert low[i] <= Fraction(float(shift[i])) - Fraction(limit)
        assert high[i] >= Fraction(float(shift[i])) + Fraction(limit)
    assert (low[2], high[2]) == (0.0, 1.0)


@settings(max_examples=100)
@given(st.lists(st.floats(allow_nan=False, allow_infinity=False, max_value=1e300, min_value=-1e300), max_size=20))
def test_sums_are_rounded_down(values: list[float]) -> None:
    exact = sum(map(Fraction, values), Fraction(0))
    total = sum_down(np.array(values))
    assert total <= exact
    if total > -inf:
        assert rounded_up(exact) >= total >= np.nextafter(rounded_down(exact), -inf)


def test_sums_of_infinities_prove_nothing() -> None:
    assert sum_down(np.array([1.0, -inf])) == -inf
    assert sum_down(np.array([1.0, np.nan])) == -inf
    assert sum_down(np.array([inf, -inf])) == -inf
    assert sum_down(np.array([-1e308, -1e308])) == -inf


@settings(max_examples=100)
@given(st.lists(st.floats(allow_nan=False, allow_infinity=False), min_size=1, max_size=12), st.data())
def test_dyadic_vectors_are_exact(values: list[float], data: st.DataObject) -> None:
    exact = [Fraction(v) for v in values]
    vector = dyadic(np.array(values))
    assert vector.total() == sum(exact, Fraction(0))
    assert (vector * vector).total() == sum((v * v for v in exact), Fraction(0))
    assert (vector + -vector).total() == 0
    cut = data.draw(st.integers(0, len(values)))
    parts = grouped(vector, np.array([0, cut, cut, len(values)]))
    assert parts[[0]].total() == sum(exact[:cut], Fraction(0))
    assert parts[[1]].total() == 0
    assert parts[[2]].total() == sum(exact[cut:], Fraction(0))


@settings(max_examples=200)
@given(st.fractions(), st.integers(-1200, 1200))
def test_rounding_of_fractions(value: Fraction, exponent: int) -> None:
    scaled = value * Fraction(2) ** exponent
    low, high = rounded_down(scaled), rounded_up(scaled)
    assert low <= scaled <= high
    assert high == low or nextafter(low, inf) == high

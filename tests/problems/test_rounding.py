"""Directed rounding: on the right side of the exact number, and no further from it than need be."""

from fractions import Fraction
from math import inf, nextafter
from sys import float_info

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from problems.rounding import add_toward, is_float64, root_down, root_up, round_down, round_up, sum_down, sum_up

EXACT = st.fractions() | st.floats(allow_nan=False, allow_infinity=False).map(Fraction)
TINY = st.builds(lambda value, power: value / 2**power, EXACT, st.integers(1000, 1100))
NEAR = st.builds(lambda value, power: Fraction(value) * (1 + Fraction(1, 2**power)), st.floats(-1e300, 1e300), st.integers(40, 200))


@given(EXACT | TINY | NEAR)
def test_rounding_is_directed_and_tight(value: Fraction) -> None:
    low, high = round_down(value), round_up(value)
    assert low <= value <= high  # Python compares floats and fractions exactly
    assert low == high == value if is_float64(value) else nextafter(low, inf) == high
    assert is_float64(value) == (low == value)


def test_rounding_beyond_the_range() -> None:
    large = Fraction(float_info.max) * 2
    assert (round_down(large), round_up(large)) == (float_info.max, inf)
    assert (round_down(-large), round_up(-large)) == (-inf, -float_info.max)
    assert not is_float64(large)
    within = Fraction(float_info.max) + 1
    assert (round_down(within), round_up(within)) == (float_info.max, inf)
    tiny = Fraction(1, 10**400)
    assert (round_down(tiny), round_up(tiny)) == (0.0, 5e-324)
    assert (round_down(-tiny), round_up(-tiny)) == (-5e-324, 0.0)
    assert str(round_up(Fraction(0))) == "0.0"


@given(st.floats(allow_nan=False))
def test_floats_stay_as_they_are(value: float) -> None:
    assert round_down(value) == round_up(value) == value


@given(st.fractions() | st.floats(-1e300, 1e300).map(Fraction))
def test_roots(value: Fraction) -> None:
    low, high = root_down(abs(value)), root_up(abs(value))
    assert Fraction(low) ** 2 <= abs(value) <= Fraction(high) ** 2
    assert high <= nextafter(nextafter(low, inf), inf)


def test_roots_of_large_squares_are_exact() -> None:
    assert root_up(Fraction(2) ** 1000) == root_down(Fraction(2) ** 1000) == 2.0**500


@given(st.floats(-1e300, 1e300), st.floats(-1e300, 1e300))
def test_directed_sums(a: float, b: float) -> None:
    x, y = np.array([a]), np.array([b])
    exact = Fraction(a) + Fraction(b)
    low, high = sum_down(x, y)[0], sum_up(x, y)[0]
    assert low <= exact <= high
    assert high <= nextafter(low, inf)
    moved = Fraction(add_toward(x, y)[0]) - Fraction(a)
    assert abs(moved) <= abs(Fraction(b))
    assert moved * Fraction(b) >= 0

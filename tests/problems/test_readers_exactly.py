"""Exact float arithmetic: what is returned is exact, and what is refused was worth refusing."""

from fractions import Fraction

import numpy as np
from hypothesis import example, given
from hypothesis import strategies as st

from problems.readers import exactly

FLOATS = st.floats(allow_nan=False, allow_infinity=False)
SINGLES = st.floats(allow_nan=False, allow_infinity=False, width=32)


@given(FLOATS, FLOATS)
@example(5e-324, 0.5)
@example(1e308, 10.0)
@example(0.0, 1e308)
@example(2.0**-1074, 3.0)
def test_product(a: float, b: float) -> None:
    found = exactly.product(np.array([a]), np.array([b]))
    if found is not None:
        assert Fraction(float(found[0])) == Fraction(a) * Fraction(b)


@given(SINGLES, st.floats(-(2.0**20), 2.0**20, width=32).filter(lambda v: v == 0 or abs(v) > 1e-30))
def test_products_of_float32_numbers_are_never_refused(a: float, b: float) -> None:
    assert exactly.product(np.array([a]), np.array([b])) is not None


@given(FLOATS, FLOATS)
@example(1.0, 2.0**-53)
@example(1e308, 1e308)
@example(5e-324, -5e-324)
def test_total(a: float, b: float) -> None:
    found = exactly.total(np.array([a]), np.array([b]))
    exact = Fraction(a) + Fraction(b)
    if found is not None:
        assert Fraction(float(found[0])) == exact
    elif abs(exact) < 1e308 and max(abs(a), abs(b)) < 1e307:
        assert Fraction(a + b) != exact  # refused only where it rounds


def test_reciprocal() -> None:
    np.testing.assert_array_equal(exactly.reciprocal(np.array([0.5, -4.0, 1.0])), [2.0, -0.25, 1.0])
    assert exactly.reciprocal(np.array([0.5, 3.0])) is None
    assert exactly.reciprocal(np.array([5e-324])) is None  # its inverse overflows


@given(st.lists(st.tuples(SINGLES, SINGLES), min_size=1, max_size=6), FLOATS)
@example([(1.0, 1.0), (1.0, -1.0)], 1e-300)
@example([(1.0, 1.0)], 1e-300)
def test_product_sums(pairs: list[tuple[float, float]], offset: float) -> None:
    weights, values = (np.array(side) for side in zip(*pairs, strict=True))
    found = exactly.product_sums([(weights, values)], np.array([offset]))
    exact = sum((Fraction(w) * Fraction(v) for w, v in pairs), Fraction(offset))
    if found is not None:
        assert Fraction(float(found[0])) == exact
    assert exactly.product_sums([(np.array([1.0, 1.0]), np.array([1.0, -1.0]))], np.array([2.0])) is not None


def test_broadcasting() -> None:
    np.testing.assert_array_equal(exactly.product(np.ones((2, 3)), np.array([[2.0], [3.0]])), [[2.0] * 3, [3.0] * 3])
    np.testing.assert_array_equal(exactly.total(np.ones((2, 3)), np.array([[2.0], [3.0]])), [[3.0] * 3, [4.0] * 3])

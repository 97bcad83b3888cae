"""Directed rounding of rational numbers, and float operations that never leave an interval.

Hardware rounds to nearest. Where a float has to lie on one side of a real number, these helpers step to it.
"""

from fractions import Fraction
from math import inf, isqrt, nextafter

import numpy as np

Array = np.ndarray

UNIT = 2.0**-53  # unit roundoff of float64
SMALLEST = 2.0**-1074  # smallest positive float64


def float_below(value: Fraction | float) -> float:
    """The largest float64 <= value (-inf below the range)."""
    try:
        nearest = float(value)
    except OverflowError:
        return nextafter(inf, 0.0) if value > 0 else -inf
    return nextafter(nearest, -inf) if nearest > value else nearest


def float_above(value: Fraction | float) -> float:
    """The smallest float64 >= value (inf above the range)."""
    return -float_below(-value)


def root_below(value: Fraction) -> float:
    """A float64 <= sqrt(value), value >= 0: the largest one but for the last bits."""
    shift = _root_shift(value)
    scaled = isqrt((value.numerator << 2 * shift) // value.denominator)  # floor(sqrt(value) 2^shift)
    return float_below(Fraction(scaled, 1 << shift))


def root_above(value: Fraction) -> float:
    """A float64 >= sqrt(value), value >= 0: the smallest one but for the last bits."""
    shift = _root_shift(value)
    quotient, rest = divmod(value.numerator << 2 * shift, value.denominator)
    root = isqrt(quotient)
    exact = rest == 0 and root * root == quotient
    return float_above(Fraction(root if exact else root + 1, 1 << shift))


def _root_shift(value: Fraction) -> int:
    """Binary digits after the point that leave more than 64 significant ones in sqrt(value)."""
    return 64 + max(0, (value.denominator.bit_length() - value.numerator.bit_length()) // 2 + 1)


def add_toward(base: Array, step: Array) -> Array:
    """base + step, rounded so that |result - base| <= |step| holds for the real numbers, entry by entry."""
    total = base + step
    error = _sum_error(base, step, total)  # base + step = total + error, exactly
    beyond = (error != 0.0) & (np.sign(error) != np.sign(step))
    moved = np.where(beyond, np.nextafter(total, base), total)
    return np.where(np.isfinite(total), moved, base)


def sum_above(a: Array, b: Array) -> Array:
    """a + b rounded up; an infinite term gives that infinity."""
    total = a + b
    error = _sum_error(a, b, total)
    return np.where(np.isfinite(total) & ~(error <= 0.0), np.nextafter(total, np.inf), total)


def sum_below(a: Array, b: Array) -> Array:
    """a + b rounded down; an infinite term gives that infinity."""
    return -sum_above(-a, -b)


def _sum_error(a: Array, b: Array, total: Array) -> Array:
    """Knuth's TwoSum: a + b - total without rounding (a sum of float64 never underflows); NaN where an operand is infinite."""
    with np.errstate(invalid="ignore", over="ignore"):
        part = total - a
        return (a - (total - part)) + (b - part)

"""Directed rounding: exact numbers to float64, and float operations that stay on one side of the real result.

Python divides two integers with correct rounding to nearest, subnormal results included; one exact comparison then says on
which side of the number the float lies.
"""

from fractions import Fraction
from math import inf, isqrt, nextafter
from sys import float_info

import numpy as np

Array = np.ndarray

UNIT = 2.0**-53  # unit roundoff of float64


def round_down(value: Fraction | float) -> float:
    """The largest float64 <= value; -inf below the range of float64. A float is returned as it is."""
    if isinstance(value, float):
        return value
    numerator, denominator = value.numerator, value.denominator
    try:
        nearest = numerator / denominator
    except OverflowError:
        return float_info.max if numerator > 0 else -inf
    top, bottom = nearest.as_integer_ratio()
    return nearest if top * denominator <= numerator * bottom else nextafter(nearest, -inf)


def round_up(value: Fraction | float) -> float:
    """The smallest float64 >= value; +inf above the range of float64. A float is returned as it is."""
    return 0.0 - round_down(-value)  # not a plain minus: zero stays +0.0


def is_float64(value: Fraction | int) -> bool:
    """Whether value is a finite float64 exactly."""
    try:
        top, bottom = (value.numerator / value.denominator).as_integer_ratio()
    except OverflowError:
        return False
    return top == value.numerator and bottom == value.denominator


def root_down(value: Fraction) -> float:
    """A float64 <= sqrt(value), value >= 0: the largest one but for the last bits."""
    shift = _root_shift(value)
    scaled = isqrt((value.numerator << 2 * shift) // value.denominator)  # floor(sqrt(value) 2^shift)
    return round_down(Fraction(scaled, 1 << shift))


def root_up(value: Fraction) -> float:
    """A float64 >= sqrt(value), value >= 0: the smallest one but for the last bits."""
    shift = _root_shift(value)
    quotient, rest = divmod(value.numerator << 2 * shift, value.denominator)
    root = isqrt(quotient)
    exact = rest == 0 and root * root == quotient
    return round_up(Fraction(root if exact else root + 1, 1 << shift))


def _root_shift(value: Fraction) -> int:
    """Binary digits after the point that leave more than 64 significant ones in sqrt(value)."""
    return 64 + max(0, (value.denominator.bit_length() - value.numerator.bit_length()) // 2 + 1)


def add_toward(base: Array, step: Array) -> Array:
    """base + step, entry by entry for arrays of any one shape, rounded so that |result - base| <= |step| holds for the real numbers."""
    total = base + step
    error = _sum_error(base, step, total)  # base + step = total + error, exactly
    beyond = (error != 0.0) & (np.sign(error) != np.sign(step))
    moved = np.where(beyond, np.nextafter(total, base), total)
    return np.where(np.isfinite(total), moved, base)


def sum_up(a: Array, b: Array) -> Array:
    """a + b rounded up, entry by entry for arrays of any one shape; an infinite term gives that infinity."""
    total = a + b
    error = _sum_error(a, b, total)
    return np.where(np.isfinite(total) & ~(error <= 0.0), np.nextafter(total, np.inf), total)


def sum_down(a: Array, b: Array) -> Array:
    """a + b rounded down, entry by entry for arrays of any one shape; an infinite term gives that infinity."""
    return -sum_up(-a, -b)


def _sum_error(a: Array, b: Array, total: Array) -> Array:
    """Knuth's TwoSum: a + b - total without rounding (a sum of float64 never underflows); NaN where an operand is infinite."""
    with np.errstate(invalid="ignore", over="ignore"):
        part = total - a
        return (a - (total - part)) + (b - part)

"""Directed rounding of exact numbers to float64.

Python divides two integers with correct rounding to nearest, subnormal results included; one exact comparison then says on
which side of the number the float lies.
"""

from fractions import Fraction
from math import inf, nextafter
from sys import float_info


def round_down(value: Fraction | int) -> float:
    """The largest float64 <= value; -inf below the range of float64."""
    numerator, denominator = value.numerator, value.denominator
    try:
        nearest = numerator / denominator
    except OverflowError:
        return float_info.max if numerator > 0 else -inf
    top, bottom = nearest.as_integer_ratio()
    return nearest if top * denominator <= numerator * bottom else nextafter(nearest, -inf)


def round_up(value: Fraction | int) -> float:
    """The smallest float64 >= value; +inf above the range of float64."""
    return 0.0 - round_down(-value)  # not a plain minus: zero stays +0.0


def is_float64(value: Fraction | int) -> bool:
    """Whether value is a finite float64 exactly."""
    try:
        top, bottom = (value.numerator / value.denominator).as_integer_ratio()
    except OverflowError:
        return False
    return top == value.numerator and bottom == value.denominator

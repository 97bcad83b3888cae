"""Exact arithmetic on float64 arrays: every finite float64 is an integer times a power of two.

An array is held as Python integers over one common power of two, so that a product costs one integer multiplication.
"""

from dataclasses import dataclass
from fractions import Fraction
from math import inf, nextafter
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]


@dataclass(frozen=True, eq=False)
class Dyadic:
    """The exact vector numerators * 2**exponent; numerators (n,) holds Python integers."""

    numerators: Array
    exponent: int

    def at(self, exponent: int) -> Array:
        """The numerators (n,) over 2**exponent, exponent <= self.exponent."""
        return self.numerators * (1 << (self.exponent - exponent))

    def total(self) -> Fraction:
        """The exact sum of the entries."""
        return scaled(int(self.numerators.sum()) if len(self.numerators) else 0, self.exponent)

    def __getitem__(self, which: Any) -> "Dyadic":
        return Dyadic(self.numerators[which], self.exponent)

    def __add__(self, other: "Dyadic") -> "Dyadic":
        exponent = min(self.exponent, other.exponent)
        return Dyadic(self.at(exponent) + other.at(exponent), exponent)

    def __neg__(self) -> "Dyadic":
        return Dyadic(-self.numerators, self.exponent)

    def __mul__(self, other: "Dyadic") -> "Dyadic":
        return Dyadic(self.numerators * other.numerators, self.exponent + other.exponent)


def dyadic(values: Array) -> Dyadic:
    """The finite float64 vector `values` (n,), without rounding."""
    mantissas, exponents = np.frexp(values)
    whole = (mantissas * 2.0**53).astype(np.int64).astype(object)
    used = exponents[mantissas != 0]
    if not len(used):
        return Dyadic(whole, 0)
    least = int(used.min())
    return Dyadic(np.left_shift(whole, np.maximum(exponents - least, 0).astype(object)), least - 53)


def grouped(values: Dyadic, pointers: Array) -> Dyadic:
    """Sums of values[pointers[i] : pointers[i + 1]], (len(pointers) - 1,)."""
    result = np.zeros(len(pointers) - 1, dtype=object)
    filled = np.flatnonzero(np.diff(pointers))  # reduceat would give an empty group its neighbour's first entry
    if len(filled):
        result[filled] = np.add.reduceat(values.numerators, pointers[:-1][filled])
    return Dyadic(result, values.exponent)


def scaled(numerator: int, exponent: int) -> Fraction:
    """numerator * 2**exponent."""
    return Fraction(numerator << exponent) if exponent >= 0 else Fraction(numerator, 1 << -exponent)


def rounded_down(value: Fraction) -> float:
    """The largest float64 <= value."""
    try:
        nearest = float(value)
    except OverflowError:
        return np.finfo(np.float64).max if value > 0 else -inf
    return nearest if Fraction(nearest) <= value else nextafter(nearest, -inf)


def rounded_up(value: Fraction) -> float:
    """The smallest float64 >= value."""
    return -rounded_down(-value)

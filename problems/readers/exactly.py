"""Float64 arithmetic that either is exact or says so: constants are folded into weights only through these functions.

Each function returns the float64 result where no entry was rounded, and None otherwise. None may also be returned for a result that
happens to be exact; a returned result is always exact.
"""

from collections.abc import Iterable
from math import fsum

import numpy as np

Array = np.ndarray

_SMALLEST = -1074  # exponent of the smallest subnormal number: no bit of a float64 lies below it


def _bits(values: Array) -> tuple[Array, Array]:
    """(number of bits from the highest to the lowest set bit, exponent of the lowest set bit) of nonzero float64 values."""
    mantissas, exponents = np.frexp(values)
    integers = np.abs(np.ldexp(mantissas, 53)).astype(np.int64)
    trailing = np.frexp((integers & -integers).astype(np.float64))[1] - 1
    return 53 - trailing, exponents - 53 + trailing


def product(a: Array, b: Array) -> Array | None:
    """a * b, element-wise with broadcasting."""
    a, b = np.broadcast_arrays(np.asarray(a, dtype=np.float64), np.asarray(b, dtype=np.float64))
    with np.errstate(over="ignore", under="ignore"):
        result = a * b
    kept = (a != 0) & (b != 0)
    bits_a, low_a = _bits(a[kept])
    bits_b, low_b = _bits(b[kept])
    exact = (bits_a + bits_b <= 53) & (low_a + low_b >= _SMALLEST)
    return result if exact.all() and np.isfinite(result).all() else None


def total(a: Array, b: Array) -> Array | None:
    """a + b, element-wise with broadcasting. The rounding error of a sum is itself a float (Knuth's TwoSum) and must vanish."""
    a, b = np.asarray(a, dtype=np.float64), np.asarray(b, dtype=np.float64)
    with np.errstate(over="ignore", invalid="ignore"):
        result = a + b
        virtual = result - a
        error = (a - (result - virtual)) + (b - virtual)
    return result if np.isfinite(result).all() and (error == 0).all() else None


def reciprocal(values: Array) -> Array | None:
    """1 / values where every value is a power of two (of either sign)."""
    values = np.asarray(values, dtype=np.float64)
    if not (np.abs(np.frexp(values)[0]) == 0.5).all():
        return None
    with np.errstate(over="ignore", under="ignore"):
        result = 1.0 / values
    return result if np.isfinite(result).all() and (result != 0).all() else None


def product_sums(rows: Iterable[tuple[Array, Array]], offsets: Array) -> Array | None:
    """weights . values + offset for each (weights, values) in rows and offset in offsets."""
    sums = np.empty(len(offsets))
    for i, (weights, values) in enumerate(rows):
        terms = product(weights, values)
        if terms is None:
            return None
        summands = [*terms.tolist(), float(offsets[i])]
        sums[i] = fsum(summands)
        # fsum rounds correctly, and what remains after subtracting it is a multiple of the smallest float: zero only if exact.
        if not np.isfinite(sums[i]) or fsum([*summands, -sums[i]]) != 0:
            return None
    return sums

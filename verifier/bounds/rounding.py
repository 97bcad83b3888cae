"""A-priori rounding errors of float64 (and float32) arithmetic, after Higham, Accuracy and Stability of Numerical Algorithms, ch. 3.

A sum of n products computed in any order differs from the exact one by at most gamma(n) times the same sum on absolute values.
BLAS kernels and fused multiply-add keep to this bound; algorithms of Strassen type would not, and no CPU BLAS uses them.
"""

import numpy as np

from problems.maps import Array

UNIT = 2.0**-53
SMALLEST = 2.0**-1074
UNIT_FLOAT32 = 2.0**-24
# Covers what underflow can lose in any one pass; far below any magnitude that matters, far above the subnormals lost.
TINY = 1e-280


def gamma(operations: int, unit: float = UNIT) -> float:
    """n u / (1 - n u), itself rounded up."""
    product = operations * unit
    return product / (1.0 - product) * (1.0 + 1e-12)


def up(x: Array) -> Array:
    """The next float64 above."""
    return np.nextafter(x, np.inf)


def down(x: Array) -> Array:
    """The next float64 below."""
    return np.nextafter(x, -np.inf)

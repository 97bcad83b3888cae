"""Which pairs of points are at most so far apart? Every pair is decided: by floats with their error, or by rational numbers."""

from collections.abc import Callable
from fractions import Fraction
from math import inf

import numpy as np

from problems.maps import Array
from problems.rounding import UNIT, round_down, round_up

_METRICS = {1.0: "cityblock", 2.0: "sqeuclidean", inf: "chebyshev"}
# Above any error of underflow: squares below 2^-1074 are lost.
_TINY = 2.0**-1000


class NormDistances:
    """Distances in the norm 1, 2 or inf between the rows of a (A, n) and of b (B, n)."""

    def __init__(self, a: Array, b: Array, norm: float) -> None:
        from scipy.spatial.distance import cdist

        self.a, self.b, self.norm = a, b, norm
        self.shape = (len(a), len(b))
        with np.errstate(over="ignore"):
            self.lower = cdist(a, b, _METRICS[norm])  # but for rounding; for the norm 2 its square
        # One rounding per difference, square and addition, all of the same sign.
        self._relative = 0.0 if exactly_summed(a, b, norm) else 2.0 * (a.shape[1] + 4) * UNIT

    def within(self, threshold: Fraction) -> tuple[Array, Array]:
        """(proved, possible), each (A, B) bool: pairs proved to be at most `threshold` apart, and pairs not proved to be farther.

        Here both are the same: every pair is decided.
        """
        exact = threshold ** (2 if self.norm == 2.0 else 1)
        low, high = round_down(exact), round_up(exact)
        if self._relative == 0.0:
            near = self.lower <= low
            return near, near
        near = self.lower * (1.0 + self._relative) + _TINY <= low
        far = self.lower * (1.0 - self._relative) - _TINY > high
        far &= np.isfinite(self.lower)
        for i, j in np.argwhere(~near & ~far):
            near[i, j] = power_of_distance(self.a[i], self.b[j], self.norm) <= exact
        return near, near

    def decide(self, pairs: Array, threshold: Fraction, stop: Callable[[], bool]) -> None:
        """Nothing is left to decide."""


def exactly_summed(a: Array, b: Array, norm: float) -> bool:
    """Whether no operation rounds when distances (norm 2: squares of distances) between rows of a and b are computed in float64.

    All coordinates are multiples of one power of two, and the largest possible sum is less than 2^53 of its units.
    """
    values = np.concatenate([a.ravel(), b.ravel()])
    mantissas, exponents = np.frexp(values[values != 0.0])
    if not len(mantissas):
        return True
    integers = np.abs(np.ldexp(mantissas, 53).astype(np.int64))
    lowest = int((exponents - 53 + np.frexp((integers & -integers).astype(np.float64))[1] - 1).min())
    bits = int(exponents.max()) + 1 - lowest  # of a difference, in units of 2^lowest
    terms = 1 if norm == inf else a.shape[1]
    power = 2 if norm == 2.0 else 1
    return power * bits + (terms - 1).bit_length() <= 53 and power * lowest > -1000 and power * int(exponents.max()) < 1000


def power_of_distance(p: Array, q: Array, norm: float) -> Fraction:
    """The distance between two points (n,), for the norm 2 its square, exactly."""
    differences = [abs(Fraction(x) - Fraction(y)) for x, y in zip(p.tolist(), q.tolist(), strict=True)]
    if norm == inf:
        return max(differences)
    return sum((d * d for d in differences), Fraction(0)) if norm == 2.0 else sum(differences, Fraction(0))

"""The worst-case error under Wasserstein shift as a fractional knapsack over radii (THEORY W4).

To misclassify sample i its mass must move by r_i, at the price r_i^p per unit of mass. With the budget eps^p the adversary flips the
cheapest samples first, the last one in part; for p = inf it flips every sample with r_i <= eps. Everything here is computed in exact
rational arithmetic and rounded once, outward.
"""

from collections.abc import Sequence
from fractions import Fraction
from math import inf, isfinite

import numpy as np

from problems.errors import InputError
from problems.maps import Array
from problems.regions.ball import exponent
from problems.rounding import round_down, round_up


def error_bounds(lower_radii: Array, upper_radii: Array, epsilon: Sequence[float], order: float) -> tuple[Array, Array]:
    """(lower, upper), each (len(epsilon),): brackets of the worst-case error from brackets (N,) of the radii.

    Larger radii cost more, so the upper radii give the lower end. order: 1, 2 or inf. Raises InputError.
    """
    low = Curve(upper_radii, order)
    high = Curve(lower_radii, order)
    return (
        np.array([round_down(low.error(e)) for e in epsilon]),
        np.array([round_up(high.error(e)) for e in epsilon]),
    )


class Curve:
    """The worst-case error as a function of eps for fixed radii (N,), exactly."""

    def __init__(self, radii: Array, order: float) -> None:
        self.order = exponent(order, "order")
        self.radii = np.sort(np.asarray(radii, dtype=np.float64))
        self.count = len(self.radii)
        if not self.count or np.isnan(self.radii).any() or (self.radii < 0).any():
            raise InputError("radii", "must be numbers >= 0, at least one.")
        finite = [Fraction(r) for r in self.radii.tolist() if isfinite(r)]
        self.prices = finite if self.order == inf else [r ** int(self.order) for r in finite]
        self.totals = [Fraction(0)]  # totals[k]: the price of the k cheapest samples
        for price in self.prices:
            self.totals.append(self.totals[-1] + price)

    def error(self, epsilon: float) -> Fraction:
        """The largest expected zero-one loss within distance epsilon."""
        paid, part = self.flipped(epsilon)
        return (paid + part) / self.count

    def flipped(self, epsilon: float) -> tuple[int, Fraction]:
        """How many samples are flipped in full, and the share of the next one."""
        check_epsilon(epsilon)
        if self.order == inf:
            return int(np.searchsorted(self.radii, epsilon, side="right")) if epsilon < inf else len(self.prices), Fraction(0)
        if epsilon == inf:
            return len(self.prices), Fraction(0)
        budget = Fraction(epsilon) ** int(self.order) * self.count
        low, high = 0, len(self.prices)
        while low < high:  # the largest k with totals[k] <= budget
            middle = (low + high + 1) // 2
            if self.totals[middle] <= budget:
                low = middle
            else:
                high = middle - 1
        if low == len(self.prices):
            return low, Fraction(0)
        return low, (budget - self.totals[low]) / self.prices[low]

    def marginal(self, epsilon: float) -> float:
        """The radius up to which samples are flipped, in full or in part: the others only need a certificate beyond it."""
        if self.order == inf:
            return epsilon
        paid, part = self.flipped(epsilon)
        if part > 0:
            return float(self.radii[paid])
        return float(self.radii[paid - 1]) if paid else 0.0


def check_epsilon(epsilon: float) -> None:
    """Raise InputError unless epsilon is a number >= 0."""
    if not epsilon >= 0:
        raise InputError("epsilon", f"{epsilon} is not a distance.", "Give numbers >= 0.")


def worst_case_error(lower_radii: Array, upper_radii: Array, epsilon: float, order: float) -> tuple[float, float]:
    """`error_bounds` at one epsilon, for brackets (N,) of the radii: (lower, upper). Raises InputError."""
    lower, upper = error_bounds(lower_radii, upper_radii, [epsilon], order)
    return float(lower[0]), float(upper[0])

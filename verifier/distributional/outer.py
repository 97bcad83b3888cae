"""The outer problem of W1, min over lam >= 0 of lam eps^p + mean_i phi_i(lam), between two piecewise linear models of the phi_i.

From below: witnesses (cost c_w = ‖x_w - x_i‖^p, loss l_w) of a sample give phi_i(lam) >= max_w l_w - lam c_w. With these in place of the
phi_i the minimum over lam is the value of the best mixture of the witnesses within the budget (linear programming duality), a fractional
knapsack over the segments of the concave hulls of (c_w, l_w), steepest first: one sort answers every eps, and the slope of the segment at
which the budget ends is the rate lam that the next upper bounds are wanted at (Kelley's cutting planes, all eps at once).

From above: phi_i is convex and nonincreasing in lam, so that proven upper bounds at a few rates hold, interpolated, between them, and
constantly beyond them. For p = inf there is no outer problem; the same two classes answer with staircases instead of hulls.
"""

from dataclasses import dataclass, field
from fractions import Fraction
from math import fsum, inf, nextafter
from typing import TYPE_CHECKING

import numpy as np

from problems.maps import Array
from problems.rounding import round_down, round_up
from verifier.bounds.rounding import UNIT, up

if TYPE_CHECKING:
    from verifier.distributional.shells import Shells

# A split sample's share is a multiple of this, so that its complement is a float64 number too.
GRAIN = 2.0**-52


class Front:
    """The witnesses of one sample that matter: points (A, n), labels (A,), losses (A,) from below, costs (A,) from above, by rising cost.

    For finite order the vertices of the concave hull of (cost, loss), for order inf all that no cheaper witness equals. The first is
    the sample itself, of cost 0.
    """

    def __init__(self, x: Array, label: int, loss: float, *, concave: bool) -> None:
        self.concave = concave
        self.points, self.labels = x[None].copy(), np.array([label])
        self.losses, self.costs = np.array([loss]), np.zeros(1)

    def add(self, points: Array, label: int, losses: Array, costs: Array) -> bool:
        """Take in witnesses; whether any of them matters."""
        good = np.isfinite(losses) & np.isfinite(costs) & (losses > self.losses[0])
        if not good.any():
            return False
        kept = self.losses.copy(), self.costs.copy()
        points = np.concatenate([self.points, points[good]])
        labels = np.concatenate([self.labels, np.full(int(good.sum()), label)])
        losses, costs = np.concatenate([self.losses, losses[good]]), np.concatenate([self.costs, costs[good]])
        order = self._hull(losses, costs)
        self.points, self.labels, self.losses, self.costs = points[order], labels[order], losses[order], costs[order]
        return not (np.array_equal(kept[0], self.losses) and np.array_equal(kept[1], self.costs))

    def _hull(self, losses: Array, costs: Array) -> list[int]:
        result: list[int] = []
        for i in np.lexsort((-losses, costs)).tolist():
            if result and losses[i] <= losses[result[-1]]:
                continue
            while self.concave and len(result) > 1:
                a, b = result[-2], result[-1]
                if (losses[b] - losses[a]) * (costs[i] - costs[a]) > (losses[i] - losses[a]) * (costs[b] - costs[a]):
                    break
                result.pop()
            result.append(i)
        return result

    def at(self, rate: float) -> float:
        """About phi_i(rate), from below."""
        return float((self.losses - rate * self.costs).max())

    def within(self, radius: float) -> int:
        """The best witness that costs at most `radius`."""
        return int(np.searchsorted(self.costs, radius, side="right")) - 1


@dataclass(frozen=True, eq=False)
class Mixture:
    """Which witnesses carry mass: samples (A,), picks (A,) among their fronts, shares (A,) of their mass; expected loss, rounded down.

    rate: the price lam at which the budget ends; 0 where it is not used up.
    """

    samples: Array
    picks: Array
    shares: Array
    value: float
    rate: float


class Segments:
    """The segments of all fronts, steepest first: what the adversary buys, in the order of its worth."""

    def __init__(self, fronts: list[Front]) -> None:
        self.fronts = fronts
        sample = np.concatenate([np.full(len(front.costs) - 1, i) for i, front in enumerate(fronts)])
        self.prices = np.concatenate([np.diff(front.costs) for front in fronts])
        self.gains = np.concatenate([np.diff(front.losses) for front in fronts])
        with np.errstate(divide="ignore", over="ignore"):
            self.slopes = np.where(self.prices > 0, self.gains / self.prices, inf)
        order = np.argsort(-self.slopes, kind="stable")
        self.samples, self.prices, self.gains, self.slopes = (part[order] for part in (sample, self.prices, self.gains, self.slopes))
        self.spent = np.concatenate([[0.0], np.cumsum(self.prices)])
        self.gained = np.concatenate([[0.0], np.cumsum(self.gains)])
        self.base = fsum(float(front.losses[0]) for front in fronts)

    def mixture(self, epsilon: float, order: float) -> Mixture:
        """The best mixture within epsilon whose cost is proved, in exact arithmetic, to be within it: at most one sample is split (W3)."""
        count = len(self.fronts)
        if order == inf:
            picks = np.array([front.within(epsilon) for front in self.fronts])
            total = sum((Fraction(float(front.losses[k])) for front, k in zip(self.fronts, picks, strict=True)), Fraction(0))
            return Mixture(np.arange(count), picks, np.ones(count), round_down(total / count), 0.0)
        budget = Fraction(epsilon) ** int(order) * count
        paid = int(np.searchsorted(self.spent, round_down(budget) * (1 + 1e-15), side="right")) - 1
        while True:
            picks = np.bincount(self.samples[:paid], minlength=count)
            spent = sum((Fraction(float(front.costs[k])) for front, k in zip(self.fronts, picks, strict=True)), Fraction(0))
            if spent <= budget:
                break
            paid -= 1
        value = sum((Fraction(float(front.losses[k])) for front, k in zip(self.fronts, picks, strict=True)), Fraction(0))
        samples, shares, rate = np.arange(count), np.ones(count), 0.0
        if paid < len(self.samples):
            rate = float(self.slopes[paid])
            split = int(self.samples[paid])
            front, k = self.fronts[split], int(picks[split])
            price = Fraction(float(front.costs[k + 1])) - Fraction(float(front.costs[k]))
            share = min(1.0, int((budget - spent) / price / Fraction(GRAIN)) * GRAIN)
            if share > 0.0:
                value += Fraction(share) * (Fraction(float(front.losses[k + 1])) - Fraction(float(front.losses[k])))
                if share < 1.0:
                    shares[split] = 1.0 - share
                    samples, picks, shares = np.append(samples, split), np.append(picks, k + 1), np.append(shares, share)
                else:
                    picks[split] += 1
        return Mixture(samples, picks, shares, round_down(value / count), rate)

    def rates(self, epsilon: float, order: float, slack: float) -> tuple[float, float]:
        """The interval of lam at which lam eps^p + (the lower model) is within `slack` of its minimum, about."""
        count, budget = len(self.fronts), epsilon ** int(order)
        if not len(self.slopes):
            return 0.0, inf
        # At the k-th slope the first k segments are paid for; beyond the first the model is a line, and at 0 all are.
        points = np.append(self.slopes, 0.0)
        sums = np.arange(len(points))
        finite = np.isfinite(points)
        points, sums = points[finite], sums[finite]
        values = points * budget + (self.base + self.gained[sums] - points * self.spent[sums]) / count
        best = int(values.argmin())
        limit = values[best] + slack
        low = high = float(points[best])
        inside = values <= limit
        first, last = int(inside.argmax()), len(inside) - 1 - int(inside[::-1].argmax())
        low, high = float(points[last]), float(points[first])
        if first > 0:
            a, b = values[first - 1], values[first]
            high += float((points[first - 1] - high) * min((limit - b) / max(a - b, 1e-300), 1.0))
        elif budget > 0:
            high += float((limit - values[0]) / budget)
        if last + 1 < len(points):
            a, b = values[last + 1], values[last]
            low += float((points[last + 1] - low) * min((limit - b) / max(a - b, 1e-300), 1.0))
        return low, high


@dataclass(eq=False)
class Envelope:
    """Proven upper bounds of one phi_i as a function of the rate lam (for order inf: of the largest loss as a function of the radius).

    base: an upper bound of the loss at x_i; ceiling: of the loss on the region (inf where there is none); slope: of its Lipschitz constant;
    shells: bounds around the sample.
    """

    order: float
    base: float
    ceiling: float = inf
    slope: float = inf
    shells: "Shells | None" = None
    rates: Array = field(default_factory=lambda: np.zeros(0))
    values: Array = field(default_factory=lambda: np.zeros(0))

    def add(self, rates: Array, values: Array) -> bool:
        """Take in bounds; whether any of them is news."""
        news = bool((np.asarray(values) < self.at(np.asarray(rates))).any())
        rates, values = np.concatenate([self.rates, rates]), np.concatenate([self.values, values])
        order = np.lexsort((values, rates))
        rates, values = rates[order], values[order]
        first = np.concatenate([[True], np.diff(rates) > 0])
        rates, values = rates[first], values[first]
        # The loss grows with the radius, and phi falls with the rate.
        grows = self.order == inf
        self.rates, self.values = rates, np.minimum.accumulate(values[::-1])[::-1] if grows else np.minimum.accumulate(values)
        return news

    def at(self, rates: Array) -> Array:
        """(R,) upper bounds at rates >= 0 (R,)."""
        rates = np.asarray(rates, dtype=np.float64)
        known = np.minimum(self._known(rates), np.minimum(self._at_once(rates), self.ceiling))
        return known if self.shells is None else np.minimum(known, self.shells.at(rates))

    def _known(self, rates: Array) -> Array:
        if not len(self.rates):
            return np.full(len(rates), inf)
        if self.order == inf:
            place = np.searchsorted(self.rates, rates, side="left")
            return np.where(place < len(self.rates), self.values[np.minimum(place, len(self.rates) - 1)], inf)
        place = np.searchsorted(self.rates, rates, side="right") - 1
        a, b = np.clip(place, 0, None), np.clip(place + 1, None, len(self.rates) - 1)
        low, high = self.values[a], self.values[b]
        width = self.rates[b] - self.rates[a]
        share = np.where(width > 0, (rates - self.rates[a]) / np.where(width > 0, width, 1.0), 0.0)
        with np.errstate(invalid="ignore"):
            between = low + share * (high - low)
            between = np.where(share > 0, between + 16 * UNIT * (np.abs(low) + np.abs(high)), low)
        between = np.where(np.isnan(between), low, np.minimum(between, low))
        return np.where(place >= 0, between, inf)

    def _at_once(self, rates: Array) -> Array:
        """What the slope alone gives: sup over d >= 0 of base + slope d - rate d^p."""
        if self.slope == inf:
            return np.full(len(rates), inf)
        if self.order == 1:
            return np.where(rates >= self.slope, self.base, inf)
        with np.errstate(divide="ignore", over="ignore", invalid="ignore"):
            gain = self.slope * rates if self.order == inf else self.slope * self.slope / (4 * rates)
        gain = np.where(np.isnan(gain), inf, gain) * (1 + 8 * UNIT) if self.slope else np.zeros(len(rates))
        return up(self.base + gain)


def dual_bound(rate: float, sums: float, count: int, epsilon: float, order: float) -> float:
    """rate eps^p + sums / count, rounded up."""
    budget = epsilon if order == 1 else round_up(Fraction(epsilon) ** int(order))
    return nextafter(nextafter(rate * budget, inf) * float(rate > 0) + nextafter(sums / count, inf), inf)


def stab(intervals: list[tuple[float, float]], wished: list[float]) -> list[float]:
    """Few numbers such that each interval holds one, largest first; where an interval is alone with its number that is the wished one."""
    order = sorted(range(len(intervals)), key=lambda i: -intervals[i][0])
    chosen: list[float] = []
    while order:
        low = intervals[order[0]][0]
        group = [i for i in order if intervals[i][0] <= low <= intervals[i][1]]
        order = [i for i in order if i not in group]
        common = max(intervals[i][0] for i in group), min(intervals[i][1] for i in group)
        middle = wished[group[len(group) // 2]]
        chosen.append(min(max(middle, common[0]), common[1]))
    return sorted(set(chosen), reverse=True)

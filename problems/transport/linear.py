"""Linear classifiers under moved mass: exact radii without a linear program (THEORY.md F3; the flow paper's Lemmas 7 and 8).

Let an image mu be moved by a plan: every bit of mass at pixel p goes to some pixel q, pays d(p, q) and gains c_q - c_p. For one bit only
the best gain for each distance counts, and mixing makes its concave hull available. So the largest gain for a cost r is a fractional
knapsack over the segments of the hulls of all pixels: steepest first. Inverted, it is the least cost of a gain, and the radius of a
linear classifier is the least cost, over the other classes t, at which c = w_t - w_y makes up for the margin. This is Lemma 8 without
its program.

Without the constraint that pixels stay non-negative all mass goes along the steepest edge, as often as needed: the radius is the
margin divided by the Lipschitz constant of c, the largest |c_q - c_p| / d(p, q) (Lemma 7; its proof's arg max lacks the absolute value).
"""

from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache
from itertools import pairwise
from math import inf

import numpy as np

from problems.errors import DataError, NetworkError
from problems.rounding import UNIT, round_down, round_up
from problems.transport.grid import Grid

Array = np.ndarray


@dataclass(frozen=True, eq=False)
class GainCurve:
    """The largest gain c.(nu - mu) against the cost W1(mu, nu) <= r, in mass times distance: concave, piecewise linear, from (0, 0).

    costs (S + 1,), gains (S + 1,): its corners, constant from the last one on. source, target (S,): the step of each segment carries all
    mass of `source` from where it is by then (origin) to `target`. error: the gains are wrong by at most this much, costs relatively by
    at most (S + 4) u.
    """

    costs: Array
    gains: Array
    source: Array
    origin: Array
    target: Array
    error: float

    def gain(self, cost: float) -> float:
        """The largest gain for a cost, up to rounding."""
        return float(np.interp(cost, self.costs, self.gains))

    def cost(self, gain: float) -> float:
        """The least cost of a gain, up to rounding; inf where no plan gains as much."""
        if gain <= 0.0:
            return 0.0
        if gain > self.gains[-1]:
            return inf
        k = int(np.searchsorted(self.gains, gain))
        share = (gain - self.gains[k - 1]) / (self.gains[k] - self.gains[k - 1])
        return float(self.costs[k - 1] + share * (self.costs[k] - self.costs[k - 1]))

    def image(self, mu: Array, cost: float) -> Array:
        """mu (n,) after the moves of that cost, up to rounding."""
        nu = mu.astype(np.float64)
        for k in range(int(np.searchsorted(self.costs, cost))):
            share = min(1.0, (cost - self.costs[k]) / (self.costs[k + 1] - self.costs[k]))
            amount = share * mu[self.source[k]]
            nu[self.origin[k]] -= amount
            nu[self.target[k]] += amount
        return np.maximum(nu, 0.0)


def gain_curve(c: Array, mu: Array, grid: Grid) -> GainCurve:
    """The curve of gains of c (n,) from an image mu (n,) >= 0 on the grid."""
    levels, index = _levels(grid)
    segments: list[tuple[float, float, float, int, int, int]] = []  # slope, cost, gain, source, origin, target
    for channel in range(grid.channels):
        start = channel * grid.pixels
        values = c[start : start + grid.pixels]
        ascending = np.argsort(values, kind="stable")
        for p in np.flatnonzero(mu[start : start + grid.pixels] > 0.0).tolist():
            best = np.empty(len(levels), dtype=np.int64)
            best.fill(-1)
            best[index[p, ascending]] = ascending  # the last write is the largest value at that distance
            for before, after in _hull(levels, values, p, best):
                mass = float(mu[start + p])
                cost = mass * (levels[index[p, after]] - levels[index[p, before]])
                gain = mass * (values[after] - values[before])
                segments.append((gain / cost, cost, gain, start + p, start + before, start + after))
    # Of one source the segments have falling slopes: a stable sort keeps their order.
    segments.sort(key=lambda segment: -segment[0])
    table = np.array(segments).reshape(-1, 6).T
    costs, gains = table[1], table[2]
    source, origin, target = table[3:].astype(np.int64)
    error = 8.0 * (1 + grid.height + grid.width) * UNIT * np.abs(c).max() * mu.sum() + (len(segments) + 8.0) * UNIT * gains.sum()
    return GainCurve(np.append(0.0, np.cumsum(costs)), np.append(0.0, np.cumsum(gains)), source, origin, target, float(error))


@lru_cache(maxsize=4)
def _levels(grid: Grid) -> tuple[Array, Array]:
    """(levels (L,), index (P, P)): the distances that occur, and which of them lies between two pixels."""
    levels, index = np.unique(grid.distances, return_inverse=True)
    return levels, index.reshape(grid.pixels, grid.pixels)


def _hull(levels: Array, values: Array, p: int, best: Array) -> list[tuple[int, int]]:
    """The rising segments, pixel to pixel, of the least concave function above the values of the best pixels at every distance from p."""
    corners: list[tuple[float, float, int]] = [(0.0, float(values[p]), int(p))]
    for level, q in zip(levels[1:].tolist(), best[1:].tolist(), strict=True):
        if q < 0 or values[q] <= corners[-1][1]:
            continue
        value = float(values[q])
        while len(corners) > 1:
            (a, low, _), (b, middle, _) = corners[-2:]
            if (middle - low) * (level - b) > (value - middle) * (b - a):
                break
            corners.pop()
        corners.append((level, value, q))
    return [(one[2], other[2]) for one, other in pairwise(corners)]


@dataclass(frozen=True, eq=False)
class LinearRadius:
    """lower <= radius <= upper, for images of mass 1, both proved; inf where no plan reaches another class.

    target: the class that is reached first (None where none is, the label where x is already misclassified); image (n,): x moved to the
    boundary, up to rounding (x itself where target is None or the label).
    """

    lower: float
    upper: float
    target: int | None
    image: Array


def linear_radius(weights: Array, bias: Array, x: Array, label: int, grid: Grid) -> LinearRadius:
    """How far the image x (n,) is in W1 from images, non-negative and of its mass, that weights nu + bias does not label `label`.

    weights (K, n), bias (K,), finite; a tie counts as misclassified. Raises DataError, NetworkError.
    """
    weights, bias, x = _checked(weights, bias, x, label, grid)
    mass = grid.mass(x)
    low, high, nearest = inf, inf, None
    image, first = x, inf
    for target, margin in _margins(weights, bias, x, label):
        if margin <= 0:
            return LinearRadius(0.0, 0.0, label, x)
        c = weights[target] - weights[label]
        curve = gain_curve(c, x, grid)
        cost = curve.cost(round_up(margin))
        if cost < first:
            first, nearest, image = cost, target, curve.image(x, cost)
        low = min(low, _least_cost(curve, c, x, margin, grid))
        # A plan that gains so much more that rounding does not matter.
        slack = 1.0 + (len(curve.costs) + 8.0) * 2.0 * UNIT
        high = min(high, curve.cost(round_up(margin + 2 * Fraction(curve.error))) * slack)
    lower = inf if low == inf else max(round_down(Fraction(low) / mass), 0.0)
    return LinearRadius(lower, inf if high == inf else round_up(Fraction(high) / mass), nearest, image)


def _least_cost(curve: GainCurve, c: Array, mu: Array, margin: Fraction, grid: Grid) -> float:
    """A proven lower bound of the cost at which c gains the margin, by (F1).

    For any lam the gain is at most lam cost + sum mu_p max_q [c_q - c_p - lam d(p, q)].
    """
    if round_down(margin) > curve.gains[-1] + curve.error:
        return inf
    k = min(max(int(np.searchsorted(curve.gains, round_up(margin))), 1), len(curve.gains) - 1)
    if len(curve.gains) == 1:
        return inf if margin > Fraction(curve.error) else 0.0
    lam = float((curve.gains[k] - curve.gains[k - 1]) / (curve.costs[k] - curve.costs[k - 1]))
    total = 0.0
    for channel in range(grid.channels):
        part = slice(channel * grid.pixels, (channel + 1) * grid.pixels)
        sources = np.flatnonzero(mu[part] > 0.0)
        best = (c[part][None, :] - lam * grid.distances[sources]).max(axis=1, initial=-inf)
        total += float(mu[part][sources] @ (best - c[part][sources]))
    size = np.abs(c).max() + lam * (grid.height + grid.width)
    error = (len(mu) + 16.0) * 4.0 * UNIT * size * float(mu.sum())
    least = (margin - Fraction(total) - Fraction(error)) / Fraction(lam)
    return max(round_down(least), 0.0)


def vanilla_linear_radius(weights: Array, bias: Array, x: Array, label: int, grid: Grid) -> float:
    """A lower bound of `linear_radius` that lets pixels become negative (Lemma 7), rounded down: the radius in the L1 ball of flows.

    Arguments and errors as for `linear_radius`; 0 where x is misclassified, inf where no flow changes the class.
    """
    weights, bias, x = _checked(weights, bias, x, label, grid)
    mass, result = grid.mass(x), inf
    tail, head, length = grid.edges
    for target, margin in _margins(weights, bias, x, label):
        if margin <= 0:
            return 0.0
        c = weights[target] - weights[label]
        steepest = float((np.abs(c[head] - c[tail]) / length).max(initial=0.0)) + 8.0 * UNIT * float(np.abs(c).max())
        if np.ptp(c.reshape(grid.channels, -1), axis=1).any():
            result = min(result, round_down(margin / mass / Fraction(steepest)))
    return result


def _checked(weights: Array, bias: Array, x: Array, label: int, grid: Grid) -> tuple[Array, Array, Array]:
    weights, bias = np.asarray(weights, dtype=np.float64), np.asarray(bias, dtype=np.float64)
    if weights.ndim != 2 or weights.shape[1] != grid.size or bias.shape != weights.shape[:1]:
        advice = f"A linear classifier of this grid needs weights (K, {grid.size}) and a bias (K,)."
        raise NetworkError("linear classifier", f"weights {weights.shape} and bias {bias.shape} do not fit.", advice)
    if not (np.isfinite(weights).all() and np.isfinite(bias).all()):
        raise NetworkError("linear classifier", "has weights that are not finite.")
    if not 0 <= label < len(bias):
        raise DataError("label", f"{label} is not one of the classes 0 to {len(bias) - 1}.")
    return weights, bias, grid.check_image(x)


def _margins(weights: Array, bias: Array, x: Array, label: int) -> list[tuple[int, Fraction]]:
    """(t, by how much the label's logit exceeds that of t, exactly) for every other class t."""
    used = np.flatnonzero(x).tolist()

    def logit(k: int) -> Fraction:
        row = weights[k]
        return sum((Fraction(float(row[p])) * Fraction(float(x[p])) for p in used), Fraction(float(bias[k])))

    own = logit(label)
    return [(t, own - logit(t)) for t in range(len(bias)) if t != label]

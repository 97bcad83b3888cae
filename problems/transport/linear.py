"""Linear classifiers under moved mass: exact radii without a linear program (THEORY.md F3; the flow paper's Lemmas 7 and 8).

The largest gain of c for a cost is a curve without a linear program (`problems.transport.curve`); inverted, it is the least cost of a
gain. The radius of a linear classifier is the least cost, over the other classes t, at which c = w_t - w_y makes up for the margin: Lemma 8
without its program.

Without the constraint that pixels stay non-negative all mass goes along the steepest edge, as often as needed: the radius is the
margin divided by the Lipschitz constant of c, the largest |c_q - c_p| / d(p, q) (Lemma 7; its proof's arg max lacks the absolute value).
"""

from dataclasses import dataclass
from fractions import Fraction
from math import inf

import numpy as np

from problems.errors import DataError, NetworkError
from problems.rounding import UNIT, round_down, round_up
from problems.transport.curve import Curve, curve
from problems.transport.grid import Grid

Array = np.ndarray


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
        gains = curve(c, x, grid)
        error = _gain_error(gains, c, x, grid)
        cost = gains.cost(round_up(margin))
        if cost < first:
            first, nearest, image = cost, target, gains.image(x, cost)
        low = min(low, _least_cost(gains, c, x, margin, error, grid))
        # A plan that gains so much more that rounding does not matter.
        slack = 1.0 + (len(gains.costs) + 8.0) * 2.0 * UNIT
        high = min(high, gains.cost(round_up(margin + 2 * Fraction(error))) * slack)
    lower = inf if low == inf else max(round_down(Fraction(low) / mass), 0.0)
    return LinearRadius(lower, inf if high == inf else round_up(Fraction(high) / mass), nearest, image)


def _gain_error(gains: Curve, c: Array, mu: Array, grid: Grid) -> float:
    """More than the gains of the curve are wrong by.

    Differences of entries of c that are rounded themselves, slopes in the wrong order by a rounding, a sum of as many terms as segments.
    """
    entries = 8.0 * (1 + grid.height + grid.width) * np.abs(c).max() * mu.sum()
    return float((entries + (len(gains.gains) + 8.0) * gains.gains[-1]) * UNIT)


def _least_cost(gains: Curve, c: Array, mu: Array, margin: Fraction, error: float, grid: Grid) -> float:
    """A proven lower bound of the cost at which c gains the margin, by (F1).

    For any lam the gain is at most lam cost + sum mu_p max_q [c_q - c_p - lam d(p, q)].
    """
    if round_down(margin) > gains.gains[-1] + error:
        return inf
    if len(gains.gains) == 1:
        return 0.0
    k = min(max(int(np.searchsorted(gains.gains, round_up(margin))), 1), len(gains.gains) - 1)
    lam = float((gains.gains[k] - gains.gains[k - 1]) / (gains.costs[k] - gains.costs[k - 1]))
    total = 0.0
    for channel in range(grid.channels):
        part = slice(channel * grid.pixels, (channel + 1) * grid.pixels)
        sources = np.flatnonzero(mu[part] > 0.0)
        best = (c[part][None, :] - lam * grid.distances[sources]).max(axis=1, initial=-inf)
        total += float(mu[part][sources] @ (best - c[part][sources]))
    size = np.abs(c).max() + lam * (grid.height + grid.width)
    slack = (len(mu) + 16.0) * 4.0 * UNIT * size * float(mu.sum())
    least = (margin - Fraction(total) - Fraction(slack)) / Fraction(lam)
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

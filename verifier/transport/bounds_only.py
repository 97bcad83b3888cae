"""The radius that bounds alone certify, without any search: a fixed point.

Bounds of the neurons on the ball of radius r leave for every competing class a half-space, and the nearest of those lies at a distance
d(r): no misclassified point lies within min(r, d(r)). d falls with r, so the best radius is where they meet, found by
the secant method on log d - log r.
"""

from math import inf, sqrt

import numpy as np

from problems.maps import Array
from problems.network import Network
from problems.regions.metric import MetricBall
from verifier.bounds import Propagation, backward, walk
from verifier.bounds.optimise import optimise
from verifier.search.budget import Budget

EVALUATIONS = 12
CLOSE = 1.01  # factor between a radius that is certified and one that is not, at which to stop


def certified(
    network: Network, ball: MetricBall, rows: Array, guess: float, budget: Budget, *, iterations: int = 0, lower: float = 0.0
) -> tuple[float, int]:  # fmt: skip
    """(a proven lower bound of the distance from the ball's center to {z : some rows.z >= 0}, evaluations made).

    rows (T, K); guess > 0: where to begin; iterations: slope steps per layer; lower: what is known already.
    """
    best, low, high = lower, (0.0, inf), (inf, 0.0)
    radius, count = guess, 0
    while count < EVALUATIONS and radius > 0.0 and not budget.exceeded():
        distance = distance_within(network, ball.with_radius(radius), rows, iterations=iterations)
        count += 1
        best = max(best, min(radius, distance))
        if distance >= radius:
            low = (radius, distance)
        else:
            high = (radius, distance)
        if distance == inf and high[0] == inf:
            if radius > 1e6 * guess:
                break
            radius *= 4.0
            continue
        if low[0] > 0.0 and high[0] <= low[0] * CLOSE:
            break
        radius = _next(low, high)
        if best > 0.0 and abs(radius / best - 1.0) < 1e-3 and count > 2:
            break
    return best, count


def _next(low: tuple[float, float], high: tuple[float, float]) -> float:
    """The radius to try between one that is certified and one that is not, each with the distance it gave."""
    if high[0] == inf:
        return min(sqrt(low[0] * low[1]), 4.0 * low[0])
    if low[0] == 0.0:
        return max(sqrt(high[0] * high[1]), 0.25 * high[0])
    above, below = np.log(low[1] / low[0]) if low[1] < inf else 3.0, np.log(high[1] / high[0]) if high[1] > 0.0 else -3.0
    share = above / (above - below)
    return float(low[0] * (high[0] / low[0]) ** np.clip(share, 0.05, 0.95))


def distance_within(network: Network, ball: MetricBall, rows: Array, *, iterations: int = 0) -> float:
    """The smallest proven distance (up to the ball's radius it means something) from the center to where some row may be >= 0."""
    lower, upper = ball.bounding_box()
    pieces = walk(Propagation(network, ball, lower[None], upper[None]), crown=True, iterations=iterations)
    last = len(network.nodes) - 1

    def concretise(pieces: Propagation, linear: object) -> tuple[Array, Array]:
        offset = linear.constant + linear.error  # type: ignore[attr-defined]
        distance, point = ball.closest(linear.coefficients, np.nextafter(offset, inf))  # type: ignore[attr-defined]
        return np.where(np.isnan(distance), 0.0, -distance), point

    if iterations:
        value = optimise(pieces, last, rows[None], concretise, iterations=iterations).value
    else:
        value = concretise(pieces, backward(pieces, last, rows[None]))[0]
    return float(-value.max())

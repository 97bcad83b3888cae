"""The support function of a transport ball as a function of the radius, whole (THEORY.md F3).

Moving the mass of one pixel by a distance d gains at most the largest c within d, less its own: the concave hull of that gain against the
distance is what the pixel's mass can gain per cost. All hulls together are a fractional knapsack: their segments, sorted by slope,
are the curve cost -> max c.(nu - mu), and its inverse is the distance to a half-space. Not with caps or further rows.
"""

from dataclasses import dataclass
from itertools import pairwise
from math import inf

import numpy as np

from problems.transport.grid import Array, Grid, neighbourhoods


@dataclass(frozen=True, eq=False)
class Curve:
    """Concave and piecewise linear through (costs_k, gains_k), k = 0..S, from (0, 0), constant beyond the last; exact up to rounding.

    sources, origins, targets (S,): along segment k the mass of pixel sources_k goes from origins_k, where it is by then, to targets_k.
    """

    costs: Array
    gains: Array
    sources: Array
    origins: Array
    targets: Array

    def gain(self, cost: Array | float) -> Array:
        """max c.(nu - mu) over W1(mu, nu) <= cost, for costs >= 0 of any shape."""
        return np.asarray(np.interp(cost, self.costs, self.gains))

    def cost(self, gain: float) -> float:
        """The least cost of gaining this much; inf where it cannot be gained."""
        if gain <= 0.0:
            return 0.0
        return inf if gain > self.gains[-1] else float(np.interp(gain, self.gains, self.costs))

    def image(self, mu: Array, cost: float) -> Array:
        """mu (n,) after the moves of that cost, which gain the most: non-negative, of mu's mass up to rounding."""
        nu = mu.astype(np.float64)
        for k in range(int(np.searchsorted(self.costs, cost))):
            share = min(1.0, (cost - self.costs[k]) / (self.costs[k + 1] - self.costs[k]))
            amount = share * mu[self.sources[k]]
            nu[self.origins[k]] -= amount
            nu[self.targets[k]] += amount
        return np.maximum(nu, 0.0)


def curve(c: Array, mu: Array, grid: Grid) -> Curve:
    """The curve of c (n,) around the image mu (n,)."""
    order, lengths = neighbourhoods(grid)
    segments: list[tuple[float, float, float, int, int, int]] = []  # slope, cost, gain, source, origin, target
    for channel in range(grid.channels):
        start = channel * grid.pixels
        part = slice(start, start + grid.pixels)
        gains = np.maximum.accumulate(c[part][order], axis=1) - c[part][:, None]
        for pixel in np.flatnonzero(mu[part] > 0).tolist():
            new = np.flatnonzero(np.diff(gains[pixel], prepend=0.0) > 0)
            mass = float(mu[start + pixel])
            corners = _hull(pixel, lengths[pixel][new].tolist(), gains[pixel][new].tolist(), order[pixel][new].tolist())
            for (cost, gain, origin), (next_cost, next_gain, target) in pairwise(corners):
                slope = (next_gain - gain) / (next_cost - cost)
                places = (start + pixel, start + origin, start + target)
                segments.append((slope, mass * (next_cost - cost), mass * (next_gain - gain), *places))
    # The slopes of one pixel fall along its hull; the sort is stable, so its segments stay in order.
    segments.sort(key=lambda segment: -segment[0])
    table = np.array(segments).reshape(-1, 6).T
    totals = np.concatenate([np.zeros((2, 1)), np.cumsum(table[1:3], axis=1)], axis=1)
    return Curve(totals[0], totals[1], *table[3:].astype(np.int64))


def _hull(pixel: int, lengths: list[float], gains: list[float], places: list[int]) -> list[tuple[float, float, int]]:
    """The corners, and the pixels they stand for, of the concave hull of (0, 0) and the points, which rise in both coordinates.

    Of equal lengths the later point is the higher.
    """
    corners = [(0.0, 0.0, pixel)]
    for length, gain, place in zip(lengths, gains, places, strict=True):
        while len(corners) > 1 and (gain - corners[-2][1]) * (corners[-1][0] - corners[-2][0]) >= (corners[-1][1] - corners[-2][1]) * (
            length - corners[-2][0]
        ):
            corners.pop()
        corners.append((length, gain, place))
    return corners

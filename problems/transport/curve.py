"""The support function of a transport ball as a function of the radius, whole (THEORY.md F3).

Moving the mass of one pixel by a distance d gains at most the largest c within d, less its own: the concave hull of that gain against the
distance is what the pixel's mass can gain per cost. All hulls together are a fractional knapsack: their segments, sorted by slope,
are the curve cost -> max c.(nu - mu), and its inverse is the distance to a half-space. Not with caps or further rows.
"""

from dataclasses import dataclass
from math import inf

import numpy as np

from problems.transport.grid import Array, Grid, neighbourhoods


@dataclass(frozen=True, eq=False)
class Curve:
    """Concave and piecewise linear through (costs_k, gains_k), from (0, 0), constant beyond the last; exact up to rounding."""

    costs: Array
    gains: Array

    def gain(self, cost: Array | float) -> Array:
        """max c.(nu - mu) over W1(mu, nu) <= cost, for costs >= 0 of any shape."""
        return np.asarray(np.interp(cost, self.costs, self.gains))

    def cost(self, gain: float) -> float:
        """The least cost of gaining this much; inf where it cannot be gained."""
        if gain <= 0.0:
            return 0.0
        return inf if gain > self.gains[-1] else float(np.interp(gain, self.gains, self.costs))


def curve(c: Array, mu: Array, grid: Grid) -> Curve:
    """The curve of c (n,) around the image mu (n,)."""
    order, lengths = neighbourhoods(grid)
    segments: list[tuple[float, float, float]] = []
    for channel in range(grid.channels):
        part = slice(channel * grid.pixels, (channel + 1) * grid.pixels)
        gains = np.maximum.accumulate(c[part][order], axis=1) - c[part][:, None]
        for pixel in np.flatnonzero(mu[part] > 0):
            new = np.flatnonzero(np.diff(gains[pixel], prepend=0.0) > 0)
            mass = float(mu[part][pixel])
            corners = _hull(lengths[pixel][new].tolist(), gains[pixel][new].tolist())
            for (cost, gain), (next_cost, next_gain) in zip(corners, corners[1:], strict=False):
                segments.append(((next_gain - gain) / (next_cost - cost), mass * (next_cost - cost), mass * (next_gain - gain)))
    segments.sort(key=lambda segment: -segment[0])
    steps = np.array([segment[1:] for segment in segments]).reshape(-1, 2)
    total = np.concatenate([np.zeros((1, 2)), np.cumsum(steps, axis=0)])
    return Curve(total[:, 0], total[:, 1])


def _hull(lengths: list[float], gains: list[float]) -> list[tuple[float, float]]:
    """The corners of the concave hull of (0, 0) and the points, which rise in both coordinates (equal lengths: the later is higher)."""
    corners = [(0.0, 0.0)]
    for length, gain in zip(lengths, gains, strict=True):
        while len(corners) > 1 and (gain - corners[-2][1]) * (corners[-1][0] - corners[-2][0]) >= (corners[-1][1] - corners[-2][1]) * (
            length - corners[-2][0]
        ):
            corners.pop()
        corners.append((length, gain))
    return corners

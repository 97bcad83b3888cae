"""The points that inner maximisations have found: what each is worth at every rate."""

from dataclasses import dataclass, field
from math import inf

import numpy as np

from problems.maps import Array
from problems.network import Network
from problems.regions.base import Region
from verifier.bounds.rounding import UNIT, up
from verifier.distributional.losses import Loss

# Shares of the way back to the sample at which a point that rounding puts outside a polytope is tried.
# Share by which points are drawn back from the boundary of a radius, so that rounding cannot put them outside.
INWARD = 1e-13
RETREATS = (0.0, 1e-15, 1e-13, 1e-11, 1e-9, 1e-6)


@dataclass(eq=False)
class Points:
    """Points of the region with proven lower bounds of the loss and proven upper bounds of their cost ||x - center||^power.

    values(losses, costs) -> (B, R): what the points are worth for each of the R things asked, rounded down. best (R,): the largest so far;
    which (R,): the index of the point that gives it. A point is kept if it was the best for any when it came. The sample is the first.
    """

    network: Network
    loss: Loss
    label: int
    region: Region
    center: Array
    norm: float
    power: int
    rates: Array
    within: bool = False  # rates are radii: a point is worth its loss if it lies within the radius
    points: list[Array] = field(default_factory=list)
    losses: list[float] = field(default_factory=list)
    costs: list[float] = field(default_factory=list)
    best: Array = field(init=False)
    which: Array = field(init=False)

    def ask(self, rates: Array) -> None:
        """Ask for other rates from now on; points that are kept are worth what they are worth there."""
        self.rates = rates
        value = self.values(np.array(self.losses), np.array(self.costs))
        self.best, self.which = value.max(axis=0), value.argmax(axis=0)

    def __post_init__(self) -> None:
        self.best = np.full(len(self.rates), -inf)
        self.which = np.zeros(len(self.rates), dtype=int)
        self.add(self.center[None])

    def costs_of(self, points: Array) -> Array:
        """(B,): upper bounds of ||x - center||^power for points (B, n)."""
        gaps = np.abs(points - self.center)
        if self.norm == inf:
            size = gaps.max(axis=1, initial=0.0)
        else:
            size = gaps.sum(axis=1) if self.norm == 1 else np.sqrt((gaps * gaps).sum(axis=1))
        size = size * (1.0 + (len(self.center) + 8) * 2.0 * UNIT) + np.where(gaps.any(axis=1), 1e-150, 0.0)  # underflow of squares
        return size if self.power == 1 else np.where(size > 0.0, up(size * size), 0.0)

    def values(self, losses: Array, costs: Array) -> Array:
        """(B, R): what points of these losses and costs (B,) are worth."""
        if self.within:
            return np.where(costs[:, None] <= self.rates, losses[:, None], -inf)
        paid = costs[:, None] * self.rates
        value = losses[:, None] - paid
        return value - 4.0 * UNIT * (np.abs(losses)[:, None] + paid)

    def drawn(self, points: Array, position: int) -> Array:
        """The points (B, n) as they are worth trying at a rate: drawn into the radius by a little more than rounding, if it is one."""
        if not self.within:
            return points
        size = np.maximum(self.costs_of(points), 1e-300)
        return self.center + (points - self.center) * np.minimum(float(self.rates[position]) / size, 1.0)[:, None] * (1.0 - INWARD)

    def add(self, points: Array) -> Array:
        """Take the points (B, n) that lie near the region, moved into it; what they are worth, (B, R). Keeps those that are best."""
        inside = self.region.clip(points)
        losses, costs = self.loss.at_least(self.network, inside, self.label), self.costs_of(inside)
        value = self.values(losses, costs)
        while True:
            ahead = np.where(np.isfinite(value), value, -inf) - self.best
            if not (ahead > 0.0).any():
                return value
            i = int(ahead.max(axis=1).argmax())
            point = self._certain(inside[i])
            if point is None:
                value[i] = -inf
                continue
            if not np.array_equal(point, inside[i]):
                losses[i], costs[i] = self.loss.at_least(self.network, point[None], self.label)[0], self.costs_of(point[None])[0]
                value[i] = self.values(losses[i : i + 1], costs[i : i + 1])[0]
                inside[i] = point
            better = value[i] > self.best
            if not better.any():
                continue
            self.best = np.where(better, value[i], self.best)
            self.which = np.where(better, len(self.points), self.which)
            self.points.append(inside[i].copy())
            self.losses.append(float(losses[i]))
            self.costs.append(float(costs[i]))

    def _certain(self, x: Array) -> Array | None:
        """The point (n,) if it lies in the region in exact arithmetic, else one next to it on the way to the sample, or None."""
        for share in RETREATS:
            moved = x if share == 0.0 else x + share * (self.center - x)
            if self.region.contains(moved):
                return moved
        return None

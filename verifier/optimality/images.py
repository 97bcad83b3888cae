"""Wasserstein distance of order 1 between images on one grid: proved bounds, and the exact number where these do not decide.

An image is its pixels divided by their sum: a distribution of mass 1 on the grid. Moving mass to a neighbouring pixel costs 1 (L1 ground
distance), so W1(a, b) is the least ||delta||_1 of a flow delta on the grid's edges with A delta = b - a (THEORY section 6), and also
the largest <u, a - b> of a potential u that changes by at most 1 along every edge. A plan of POT's network simplex gives an upper
bound whatever its marginals are: what it leaves over, a signed measure r of mass 0, costs at most half the diameter times ||r||_1.
Its potentials, rounded to integers and made 1-Lipschitz, give a lower bound. Neither trusts the solver.
"""

from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from math import lcm
from typing import Any

import numpy as np

from problems.maps import Array
from problems.rounding import UNIT, round_down
from problems.transport import solver
from problems.transport.grid import Grid


@dataclass(frozen=True, eq=False)
class Plan:
    """lower <= W1(a, b) <= upper; the plan moves amounts (m,) from pixels `tails` (m,) to pixels `heads` (m,); potential (P,) integers."""

    lower: float
    upper: float
    tails: Array
    heads: Array
    amounts: Array
    potential: Array


def normalised(images: Array) -> Array:
    """(N, P) images -> (N, P) images whose mass is 1 but for rounding: no entry is wrong by more than (P + 1) roundings."""
    return images / images.sum(axis=1, keepdims=True)


def transport(a: Array, b: Array, costs: Array) -> Plan:
    """A bracket of W1 between two images (P,) from `normalised`; costs (P, P): the L1 distances of the pixels. Roundings are accounted for.

    a and b stand for the exact distributions that they are roundings of.
    """
    excess, width, error = a - b, float(costs.max()), rounding_error(len(a))
    tails, heads = np.flatnonzero(excess > 0.0), np.flatnonzero(excess < 0.0)
    i = j = np.zeros(0, dtype=np.int64)
    amounts, potential = np.zeros(0), np.zeros(len(a))
    if len(tails) and len(heads):
        plan, prices = solver.plan(excess[tails], -excess[heads], costs[np.ix_(tails, heads)])
        i, j = np.nonzero(plan)
        amounts, i, j = plan[i, j], tails[i], heads[j]
        if len(amounts) > 2 * len(a) or not 0.0 <= amounts.sum() <= 3.0:  # no basic plan of mass at most 1: the error would be larger
            amounts, i, j = amounts[:0], i[:0], j[:0]
        # 1-Lipschitz as a least distance to points, and integer, whatever the solver says.
        potential = (costs[:, heads] - np.clip(np.rint(prices - prices[0]), -4.0 * width, 4.0 * width)).min(axis=1)
        potential -= np.rint(0.5 * (potential.max() + potential.min()))
    left = excess - np.bincount(i, amounts, len(a)) + np.bincount(j, amounts, len(a))
    upper = costs[i, j] @ np.abs(amounts) + 0.5 * width * np.abs(left).sum() + width * error
    lower = float(potential @ excess - width * error)
    return Plan(lower if lower > 0.0 else 0.0, float(min(upper, width)), i, j, amounts, potential)


def rounding_error(size: int) -> float:
    """More than what all roundings together cost, per unit of distance, when two images of `size` pixels are compared.

    With u the unit roundoff and P pixels: the exact distributions differ from a and b by at most P u each, their difference by 2 u more;
    sums over at most 2 P amounts of mass at most 3 are wrong by 6 P u, and there are three of them; a potential is at most one width, its
    product with a - b is wrong by 2 P u widths. 32 (P + 4) u is more than all of these and their second orders.
    """
    return 32.0 * (size + 4) * UNIT


class ImageDistances:
    """W1 distances between images a (A, P) and b (B, P) on a grid of one channel: bounds that are narrowed where they are needed.

    Pixels are not negative, no image is zero (the caller checked).
    """

    def __init__(self, a: Array, b: Array, grid: Grid) -> None:
        from scipy.spatial.distance import cdist

        self.a, self.b, self.grid = a, b, grid
        self.shape = (len(a), len(b))
        self._costs = grid.distances
        self._a, self._b = normalised(a), normalised(b)
        self._error = (self._costs.max() + 2.0) * rounding_error(a.shape[1])
        # A plan moves at least as much along rows, and along columns, as the projections on them need.
        self.lower = np.maximum(cdist(_projections(self._a, grid), _projections(self._b, grid), "cityblock") - self._error, 0.0)
        self.upper = np.full(self.shape, self._costs.max())
        self._exact: dict[tuple[int, int], Fraction] = {}
        self._measured = np.zeros(self.shape, dtype=bool)

    def within(self, threshold: Fraction) -> tuple[Array, Array]:
        """(proved, possible), each (A, B) bool: pairs proved to be at most `threshold` apart, and pairs not proved to be farther."""
        # A float is at most a fraction iff it is at most the fraction rounded down.
        bound = round_down(threshold)
        near, possible = self.upper <= bound, self.lower <= bound
        for (i, j), distance in self._exact.items():
            near[i, j] = possible[i, j] = distance <= threshold
        return near, possible

    def decide(self, pairs: Array, threshold: Fraction, stop: Callable[[], bool]) -> None:
        """Narrow the bounds of pairs (m, 2) until each is proved to be within `threshold` or beyond, or until stop()."""
        bound = round_down(threshold)
        for i, j in pairs.tolist():
            if stop():
                return
            if self.lower[i, j] > bound:  # by the potential of another pair
                continue
            if not self._measured[i, j]:
                plan = transport(self._a[i], self._b[j], self._costs)
                self._measured[i, j] = True
                self.lower[i, j] = max(self.lower[i, j], plan.lower)
                self.upper[i, j] = min(self.upper[i, j], plan.upper)
                if plan.lower > bound:
                    self._spread(plan.potential)
            if self.lower[i, j] <= bound < self.upper[i, j] and (i, j) not in self._exact:
                self._exact[i, j] = exact_distance(self.a[i], self.b[j], self.grid)

    def _spread(self, potential: Array) -> None:
        """A potential that tells one pair apart tells others apart too: classes differ in the same places. It bounds all pairs."""
        bounds = (self._a @ potential)[:, None] - (self._b @ potential) - self._error
        np.maximum(self.lower, bounds, out=self.lower)


def _projections(images: Array, grid: Grid) -> Array:
    """(N, width + height): cumulated sums of rows and of columns; their L1 distance is W1 of the projections."""
    pictures = images.reshape(len(images), grid.height, grid.width)
    return np.concatenate([pictures.sum(axis=axis).cumsum(axis=1) for axis in (1, 2)], axis=1)


def exact_distance(a: Array, b: Array, grid: Grid) -> Fraction:
    """W1 between two images (P,), not normalised, as a rational number: a network simplex in integers, checked. Slow: for ties."""
    import networkx

    first, second = ([Fraction(value) for value in image.tolist()] for image in (a, b))
    mass, other = sum(first), sum(second)
    excess = [p * other - q * mass for p, q in zip(first, second, strict=True)]
    unit = lcm(*(value.denominator for value in excess))
    graph = networkx.DiGraph()
    for pixel, value in enumerate(excess):
        graph.add_node(pixel, demand=-int(value * unit))
    for p, q in zip(*(ends.tolist() for ends in grid.edges[:2]), strict=True):
        graph.add_edge(p, q, weight=1)
        graph.add_edge(q, p, weight=1)
    cost, flow = networkx.network_simplex(graph)
    _check_optimal(graph, cost, flow)
    return Fraction(cost, unit) / (mass * other)


def _check_optimal(graph: Any, cost: int, flow: dict[int, dict[int, int]]) -> None:
    """A flow that meets all demands at that cost, and no cycle along which it could be made cheaper: in integers, whoever found it."""
    import networkx

    arrived = dict.fromkeys(graph, 0)
    residual, price = networkx.DiGraph(), 0
    for p, out in flow.items():
        for q, amount in out.items():
            assert amount >= 0, "a negative flow"
            arrived[p] -= amount
            arrived[q] += amount
            price += amount
            if not residual.has_edge(p, q) or amount:  # an edge with flow is also a way back that saves 1
                residual.add_edge(p, q, weight=min(1, residual.get_edge_data(p, q, {"weight": 1})["weight"]))
            if amount:
                residual.add_edge(q, p, weight=-1)
    wanted = dict(graph.nodes(data="demand"))
    if price != cost or arrived != wanted or (residual and networkx.negative_edge_cycle(residual)):
        raise AssertionError("a network simplex gave a flow that is not optimal: please report these images")

"""The distance of two images, decided exactly: a flow's cost from above, a potential's value from below.

A floating-point solver (POT's network simplex) suggests a plan and potentials; neither is trusted. The plan's pairs are made a spanning
tree, on which the exact differences of the images leave one flow only, found by stripping leaves in integers: its cost is an upper
bound. The potentials are made 1-Lipschitz in the ground distance by a c-transform, and any such potential gives a lower bound (Kantorovich
duality).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from math import inf, nextafter

import numpy as np

from problems.errors import DataError
from problems.exact import integers
from problems.transport.grid import Array, Grid


@dataclass(frozen=True, eq=False)
class Distance:
    """lower <= W1 <= upper, exact (equal, for L1, where the suggested plan is optimal); moves: (from, to, mass) of the upper end."""

    lower: Fraction
    upper: Fraction
    moves: tuple[tuple[int, int, Fraction], ...]


def distance(mu: Sequence[float] | Array, nu: Sequence[float] | Array, grid: Grid) -> Distance:
    """W1 of two images (n,) of the same mass in every channel, without rounding. Raises DataError where the masses differ."""
    numerators, denominator = integers([*np.asarray(mu, dtype=float).tolist(), *np.asarray(nu, dtype=float).tolist()])
    excess = [a - b for a, b in zip(numerators[: grid.size], numerators[grid.size :], strict=True)]
    lower, upper, moves = Fraction(0), Fraction(0), []
    for channel in range(grid.channels):
        start = channel * grid.pixels
        part = excess[start : start + grid.pixels]
        if sum(part):
            raise DataError("images", f"their masses differ in channel {channel}.", "Mass moves, it is neither made nor lost.")
        places = [p for p, value in enumerate(part) if value]
        if not places:
            continue
        flows, potential = _suggested(part, places, grid, denominator)
        for p, q, flow in _on_tree(part, flows):
            moves.append((start + p, start + q, Fraction(flow, denominator)))
            upper += Fraction(flow, denominator) * _length(grid, p, q, up=True)
        lower += Fraction(sum(part[p] * value for p, value in potential.items())) / denominator
    return Distance(max(lower, Fraction(0)), upper, tuple(moves))


def _length(grid: Grid, p: int, q: int, *, up: bool) -> Fraction:
    """The ground distance, rounded outward where it is irrational."""
    di, dj = abs(p // grid.width - q // grid.width), abs(p % grid.width - q % grid.width)
    if grid.ground == "l1":
        return Fraction(di + dj)
    root = float(np.sqrt(float(di * di + dj * dj)))
    if root * root == di * di + dj * dj and root == int(root):
        return Fraction(root)
    return Fraction(nextafter(root, inf if up else -inf))


def _suggested(
    part: list[int], places: list[int], grid: Grid, denominator: int
) -> tuple[dict[tuple[int, int], float], dict[int, Fraction]]:
    """(flows from p to q, a potential on the places): what the solver found, the potential made 1-Lipschitz in exact arithmetic."""
    from problems.transport.solver import plan

    sources = [p for p in places if part[p] > 0]
    sinks = [p for p in places if part[p] < 0]
    give = np.array([part[p] / denominator for p in sources])
    take = np.array([-part[p] / denominator for p in sinks])
    flow, value = plan(give, take, grid.distances[np.ix_(sources, sinks)])
    used = zip(*np.nonzero(flow), strict=True)
    flows = {(sources[i], sinks[j]): float(flow[i, j]) for i, j in used}
    # For L1 the potentials of an optimal basis are whole numbers up to a constant per tree; rounding to fine dyadics keeps others sound.
    prices = [Fraction(round(v * 2.0**20), 2**20) for v in value.tolist()] if grid.ground == "l1" else [Fraction(v) for v in value.tolist()]
    lengths = {(p, q): _length(grid, p, q, up=False) for p in places for q in sinks} if grid.ground == "l2" else None

    def at(p: int) -> Fraction:
        """max_q [price_q - d(p, q)] over sinks, negated: how much mass at p still has to cost."""
        if lengths is not None:
            return min(lengths[p, q] - price for q, price in zip(sinks, prices, strict=True))
        i, j = p // grid.width, p % grid.width
        return min(abs(i - q // grid.width) + abs(j - q % grid.width) - price for q, price in zip(sinks, prices, strict=True))

    return flows, {p: at(p) for p in places}


def _on_tree(part: list[int], flows: dict[tuple[int, int], float]) -> list[tuple[int, int, int]]:
    """The flow (p, q, amount > 0) on a spanning tree of the pairs, the largest suggested flows first, that balances the excess exactly."""
    parent: dict[int, int] = {p: p for p, value in enumerate(part) if value}

    def root(p: int) -> int:
        while parent[p] != p:
            parent[p] = parent[parent[p]]
            p = parent[p]
        return p

    neighbours: dict[int, list[int]] = {p: [] for p in parent}
    ordered = sorted(flows, key=lambda pair: -flows[pair])
    hub = next(iter(parent))
    for p, q in [*ordered, *((hub, q) for q in parent if q != hub)]:  # what is left apart hangs on one pixel
        a, b = root(p), root(q)
        if a != b:
            parent[a] = b
            neighbours[p].append(q)
            neighbours[q].append(p)
    left = {p: part[p] for p in parent}
    leaves = [p for p in parent if len(neighbours[p]) == 1]
    result = []
    while leaves:
        p = leaves.pop()
        if not neighbours[p]:
            continue
        (q,) = neighbours[p]
        neighbours[p] = []
        neighbours[q].remove(p)
        amount = left[p]
        if amount:
            result.append((p, q, amount) if amount > 0 else (q, p, -amount))
        left[q] += amount
        if len(neighbours[q]) == 1:
            leaves.append(q)
    return result

"""Facets of a cell, the cells behind them, and the graph of neighbouring cells: on demand, with exact patterns.

A facet is found in floats, as a point on one row that keeps clear of all others; where floats do not tell, an exact linear program does.
The point is then moved onto the row in rationals, the others are checked there, and the pattern behind the facet is read off exactly:
a neuron that is zero at the point has the sign of its derivative across the facet. So neurons of several layers that vanish on one facet
change together.
"""

from dataclasses import dataclass
from fractions import Fraction
from math import inf
from typing import Any

import numpy as np

from problems.errors import RegionError
from problems.maps import Array
from problems.network import Network
from problems.regions.base import Region
from solvers import Program, open_session
from solvers.rational import largest
from verifier.enumeration.exact_rows import ExactComposer
from verifier.enumeration.frame import frame_of
from verifier.enumeration.stream import stream_batches

Point = tuple[Fraction, ...]


@dataclass(frozen=True, eq=False)
class Facet:
    """A facet between two cells: the neurons whose rows vanish on it, and the pattern (h,) of the cell behind it."""

    neurons: tuple[int, ...]
    behind: Array


class Geometry:
    """Facets of the cells of one network on one region. Raises RegionError for l2 balls, whose cells are no polyhedra."""

    def __init__(self, network: Network, region: Region) -> None:
        self.frame = frame_of(region)
        if self.frame.ball is not None:
            raise RegionError("region", "cells of an l2 ball are no polyhedra.", "Give a box, a polytope, or an l1 or linf ball.")
        self.composer = ExactComposer(network, self.frame)
        self.layers = range(len(self.composer.layout.slices))

    def facets(self, pattern: Array) -> list[Facet]:
        """The facets of a full cell in the interior of the region, in the order of their first neurons."""
        rows = np.concatenate([np.zeros((0, self.frame.variables + 1), object), *(self.composer.layer(k, pattern) for k in self.layers)])
        groups: dict[tuple[int, ...], list[int]] = {}
        for j, row in enumerate(rows):
            if row[:-1].any():
                groups.setdefault(tuple((row * int(pattern[j])).tolist()), []).append(j)
        sides = [np.array(key, dtype=object) for key in groups]
        own = list(self.composer.own_rows())
        found = []
        for number, neurons in enumerate(groups.values()):
            point = self._point(sides, own, number)
            if point is not None:
                found.append(Facet(tuple(neurons), self._behind(point, sides[number])))
        return found

    def _point(self, sides: list[Array], own: list[Array], number: int) -> Point | None:
        """A point of the facet on which all other rows are positive, or None if there is no facet."""
        others = [row for i, row in enumerate(sides) if i != number] + own
        guess = _guess(sides[number], others)
        if guess is not None:
            on = _onto(sides[number], guess)
            if all(0 < w < 1 for w in on) and all(_value(row, on) > 0 for row in others):
                return on
        return _exact(sides[number], others)

    def _behind(self, point: Point, side: Array) -> Array:
        """The pattern at the point, a little way across the side."""
        pattern = np.zeros(self.composer.layout.neurons, np.int8)
        for k, part in zip(self.layers, self.composer.layout.slices, strict=True):
            for j, row in zip(range(part.start, part.stop), self.composer.layer(k, pattern), strict=True):
                value = _value(row, point)
                if value == 0:
                    value = -Fraction(sum(int(a) * int(b) for a, b in zip(row[:-1], side[:-1], strict=True)))
                pattern[j] = 1 if value > 0 else -1
        return pattern


def facets(network: Network, region: Region, pattern: Array) -> list[Facet]:
    """The facets of one full cell; `Geometry` does many."""
    return Geometry(network, region).facets(pattern)


def neighbour_graph(network: Network, region: Region, **options: Any) -> Any:
    """A networkx.Graph of the cells of `stream_batches(network, region, **options)`: nodes are patterns as tuples, with attributes point,
    inradius and certified; edges are facets, with the attribute neurons.

    Cells that the options leave out are left out here.
    """
    import networkx

    graph, geometry = networkx.Graph(), Geometry(network, region)
    for batch in stream_batches(network, region, **options):
        for cell in batch.cells():
            graph.add_node(tuple(cell.pattern.tolist()), point=cell.point, inradius=cell.inradius, certified=cell.certified)
    for pattern in list(graph):
        for facet in geometry.facets(np.array(pattern, np.int8)):
            behind = tuple(facet.behind.tolist())
            if behind in graph:
                graph.add_edge(pattern, behind, neurons=facet.neurons)
    return graph


def _guess(side: Array, others: list[Array]) -> Array | None:
    """A float point on the side at which the smallest slack of the others and of the unit box is largest, if that is clearly positive."""
    n = len(side) - 1
    matrix, offsets = _floats([side, *others])
    eye = np.eye(n)
    ones = -np.ones((n, 1))
    program = Program(
        cost=np.append(np.zeros(n), -1.0),
        matrix=np.vstack([
            np.column_stack([matrix, np.append(0.0, -np.ones(len(others)))]),
            np.hstack([eye, ones]),
            np.hstack([-eye, ones]),
        ]),
        row_lower=np.concatenate([-offsets, np.zeros(n), -np.ones(n)]),
        row_upper=np.concatenate([-offsets[:1], np.full(len(others) + 2 * n, inf)]),
        lower=np.append(np.zeros(n), -1.0),
        upper=np.ones(n + 1),
    )  # fmt: skip
    with open_session(program) as session:
        x = session.solve().x
    return None if x is None or not x[-1] > 1e-9 else x[:-1]


def _floats(rows: list[Array]) -> tuple[Array, Array]:
    """Integer rows as floats of norm about one."""
    scaled = np.array([[float(Fraction(int(a), max(abs(int(b)) for b in row))) for a in row] for row in rows])
    norms = np.linalg.norm(scaled[:, :-1], axis=1)
    return scaled[:, :-1] / norms[:, None], scaled[:, -1] / norms


def _onto(side: Array, guess: Array) -> Point:
    """The exact projection of a float point onto the side."""
    point = [Fraction(float(w)) for w in guess]
    share = _value(side, tuple(point)) / sum(int(a) ** 2 for a in side[:-1])
    return tuple(w - share * int(a) for w, a in zip(point, side[:-1], strict=True))


def _exact(side: Array, others: list[Array]) -> Point | None:
    """The largest s with the side at zero, every other row at least s times its size, and s <= w <= 1 - s; None if it is not positive."""
    n = len(side) - 1
    eye = np.zeros((n, n), dtype=object)
    eye[np.arange(n), np.arange(n)] = 1
    sizes = [sum(abs(int(a)) for a in row) for row in others]
    coefficients = [np.append(side[:n], 0), np.append(-side[:n], 0)]
    coefficients += [np.append(row[:n], -size) for row, size in zip(others, sizes, strict=True)]
    coefficients += [np.append(row, -1) for row in eye] + [np.append(-row, -1) for row in eye]
    offsets = [side[n], -side[n], *(row[n] for row in others), *([0] * n), *([1] * n)]
    objective = np.zeros(n + 1, dtype=object)
    objective[n] = 1
    found = largest(objective, 0, np.array(coefficients, dtype=object), np.array(offsets, dtype=object), above=0)
    return None if found is None or found.value <= 0 else found.point[:n]


def _value(row: Array, point: Point) -> Fraction:
    return sum((int(a) * w for a, w in zip(row[:-1], point, strict=True) if a), Fraction(int(row[-1])))

"""From leaves of a search to cells: points in input space, verified, with the radius of a ball around them."""

from dataclasses import replace
from functools import cached_property
from math import inf

import numpy as np

from problems.maps import Array
from problems.network import Network
from problems.regions.base import Region
from problems.rounding import round_down
from solvers import Program, SolverError, open_session
from verifier.enumeration.cell import CellBatch, cell_rows
from verifier.enumeration.certify import inside_cells, inside_region
from verifier.enumeration.compiled import Found
from verifier.enumeration.exact_rows import ExactComposer
from verifier.enumeration.exact_tree import ExactLeaf, ExactSearch, inputs
from verifier.enumeration.frame import Frame
from verifier.enumeration.inradius import MOST_VARIABLES, inscribed_radius


class Judge:
    """Verifies leaves. Where floats do not tell, the exact search decides whether the cell is full, and finds it another point."""

    def __init__(self, network: Network, region: Region, frame: Frame, tolerance: float) -> None:
        self.network, self.region, self.frame, self.tolerance = network, region, frame, tolerance

    @cached_property
    def search(self) -> ExactSearch:
        """The exact search, composed where it is first needed."""
        return ExactSearch(ExactComposer(self.network, self.frame))

    def found(self, leaves: Found) -> CellBatch:
        """The cells among compiled leaves; those that are proved not to be full are left out."""
        points = self.frame.inputs(leaves.points)
        certified = inside_region(self.region, points) & inside_cells(self.network, points, leaves.patterns, leaves.vanishing)
        slacks = leaves.slacks / leaves.points[:, -1] if self.frame.cone else leaves.slacks
        if self.frame.ball is not None:
            slacks = np.array([self._slack(*pair) for pair in zip(leaves.patterns, points, strict=True)])
        inradii = np.where(certified, np.minimum(slacks, self.frame.distance_inside(points)), 0.0)
        keep = np.ones(len(points), dtype=bool)
        for i in np.flatnonzero(~certified):
            exact = next(self.search.leaves(leaves.patterns[i]), None)
            if exact is None:
                keep[i] = False
                continue
            cell = self.exact(exact)
            points[i], certified[i], inradii[i] = cell.points[0], cell.certified[0], cell.inradii[0]
            if self.frame.ball is not None and not certified[i]:
                points[i], certified[i], inradii[i] = self._in_ball(leaves.patterns[i], leaves.vanishing[i], points[i])
        for i in np.flatnonzero(keep & certified & (inradii <= self.tolerance)):
            inradii[i] = max(inradii[i], self.inscribed(leaves.patterns[i]))
        return CellBatch(leaves.patterns[keep], points[keep], np.maximum(inradii[keep], 0.0), certified[keep])

    def _slack(self, pattern: Array, x: Array) -> float:
        matrix, offsets = cell_rows(self.network, pattern)
        norms = np.linalg.norm(matrix[:, self.frame.matrix.any(axis=1)], axis=1)
        used = norms > 0.0
        return float(((matrix @ x + offsets)[used] / norms[used]).min(initial=inf))

    def _in_ball(self, pattern: Array, vanishing: Array, x: Array) -> tuple[Array, bool, float]:
        """(a point, whether it verifies, the radius of a ball around it) of a cell in an l2 ball that the search found no point of."""
        centre, radius = self._centre(pattern)
        if centre is None:
            return x, False, 0.0
        certified = inside_region(self.region, centre[None]) & inside_cells(self.network, centre[None], pattern[None], vanishing[None])
        return centre, bool(certified[0]), radius

    def exact(self, leaf: ExactLeaf) -> CellBatch:
        """One cell of the exact search. It is full; it is certified if the float next to its point verifies."""
        x = np.array([[round_down(v) for v in inputs(self.frame, leaf.point)]])
        patterns, vanishing = leaf.pattern[None], leaf.vanishing[None]
        certified = inside_region(self.region, x) & inside_cells(self.network, x, patterns, vanishing)
        return CellBatch(patterns, x, np.array([self.inscribed(leaf.pattern)]), certified)

    def inscribed(self, pattern: Array) -> float:
        """The inscribed radius of a cell in input space, from below: exact for bounded regions of few variables, else in floats."""
        if self.frame.cone or self.frame.ball is not None or self.frame.variables > MOST_VARIABLES:
            return self._centre(pattern)[1]
        return inscribed_radius(self.search.composer, pattern)

    def _centre(self, pattern: Array) -> tuple[Array | None, float]:
        """(centre (n,), radius) of about the largest ball in a cell of the region, in floats; sides of width zero do not count.

        An l2 ball is shrunk step by step: the radius is at least the smaller one of the step and of what the rows leave.
        """
        ball = self.frame.ball
        if ball is None:
            return self._largest_ball(pattern, None)
        best: tuple[Array | None, float] = None, 0.0
        for step in (ball.radius * 0.1**k for k in range(1, 12)):
            point, radius = self._largest_ball(pattern, ball.radius - step)
            if point is not None and min(radius, step) > best[1]:
                best = point, min(radius, step)
        return best

    def _largest_ball(self, pattern: Array, limit: float | None) -> tuple[Array | None, float]:
        """`_centre` without regard to the sphere of an l2 ball, whose radius is replaced by `limit`."""
        with np.errstate(over="ignore", invalid="ignore"):
            matrix, offsets = cell_rows(self.network, pattern)
        free = self.frame.matrix.any(axis=1)
        largest = np.abs(matrix).max(axis=1, initial=0.0)
        if not (np.isfinite(largest).all() and np.isfinite(offsets).all()):
            return None, 0.0
        scale = np.where(largest > 0.0, largest, 1.0)  # squares of the entries may lie outside the range of floats
        matrix, offsets = matrix / scale[:, None], offsets / scale
        lift = self.region.lift(with_norm=False)
        n, extra = self.network.input_size, lift.extra
        norms = np.linalg.norm(matrix[:, free], axis=1)
        used = norms > 0.0
        count = int(used.sum())
        eye = np.eye(n + extra)
        sides = np.concatenate([free & np.isfinite(lift.lower[:n]), np.zeros(extra, bool)])
        tops = np.concatenate([free & np.isfinite(lift.upper[:n]), np.zeros(extra, bool)])
        own = lift.matrix.toarray()
        rows = np.concatenate([
            np.column_stack([matrix[used] / norms[used, None], np.zeros((count, extra)), -np.ones(count)]),
            np.column_stack([eye[sides], -np.ones(int(sides.sum()))]),
            np.column_stack([-eye[tops], -np.ones(int(tops.sum()))]),
            np.column_stack([own, np.zeros(len(own))]),
        ])  # fmt: skip
        program = Program(
            cost=np.append(np.zeros(n + extra), -1.0),
            matrix=rows,
            row_lower=np.concatenate([-offsets[used] / norms[used], lift.lower[sides], -lift.upper[tops], lift.row_lower]),
            row_upper=np.concatenate([np.full(count + int(sides.sum()) + int(tops.sum()), inf), lift.row_upper]),
            lower=np.append(lift.lower, 0.0),
            upper=np.append(lift.upper, 1.0),
            cones=tuple(replace(cone, limit=limit) for cone in lift.cones) if limit is not None else lift.cones,
        )
        try:
            with open_session(program) as session:
                x = session.solve().x
        except SolverError:  # coefficients that no solver takes
            return None, 0.0
        return (None, 0.0) if x is None else (x[:n], max(0.0, float(x[-1])))

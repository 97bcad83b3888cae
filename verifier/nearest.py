"""The question of a radius: the distance from a sample to the nearest misclassified point of the region.

Posed as a maximisation: the value of a point is minus its distance if it is misclassified. A piece is bounded by the distance from
the sample to the half-space that its linear margin bound leaves, so no ladder of radii is needed: the incumbent's ball is the
region, and shrinks with it.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from math import inf, isfinite

import numpy as np

from problems.maps import Array
from problems.regions.metric import MetricBall
from verifier import leaf
from verifier.bounds import Linear, Propagation
from verifier.piecewise import PiecewiseQuestion
from verifier.search.budget import Budget
from verifier.search.question import Closed, Node, Witness
from verifier.witness import enclose, exact_logits

# Relative steps past a boundary point at which misclassification is tried to be certain.
LARGER_STEPS = np.array([1e-6, 3e-6, 1e-5, 3e-5, 1e-4, 3e-4, 1e-3, 1e-2])  # where float32 rounding must be outdone
LIKELY = 0.01  # of the logits' size: a margin below zero by more is not worth a closer look
EXACT_CHECKS = 3  # points whose enclosure straddles zero that are decided exactly, per call
# (share of the margin row's size, share of the other rows' sizes) by which a witness may keep away from their boundaries.
INSIDE = ((1e-9, 0.0), (1e-8, 0.0), (1e-9, 1e-9), (1e-7, 0.0), (1e-7, 1e-7))
STEPS = np.array([0.0, 1e-14, 1e-13, 1e-12, 1e-11, 1e-10, 1e-9, 1e-8, 1e-7])


@dataclass(eq=False)
class Nearest(PiecewiseQuestion):
    """Targets are the rows z_k - z_label + slack >= 0, one per competing class k; `ball` is centred at the sample.

    envelope (T,), one number >= 0 per target, separates what counts from what may count: the targets' own offsets hold it added, so
    that a proof covers all that may be misclassified in float32; a witness must reach its row with it taken away. None: real semantics.
    limit: only points within this distance are searched (inf: as far as the incumbent). tolerance: relative. enough: the search
    may stop once the distance is proved to be at least this.
    """

    ball: MetricBall = field(kw_only=True)
    tolerance: float = 1e-6
    limit: float = inf
    enough: float = inf
    solver: str = "auto"
    envelope: Array | None = None
    root_parameter: float = -inf
    _balls: dict[float, MetricBall] = field(default_factory=dict)

    def region(self, target: int, parameter: float) -> MetricBall:
        radius = min(-parameter, self.limit, self.ball.radius)
        ball = self._balls.get(radius)
        if ball is None:
            ball = self.ball.with_radius(radius)
            self._balls = {radius: ball}
        return ball

    def piece_box(self, target: int, parameter: float) -> tuple[Array, Array]:
        return self.region(target, parameter).bounding_box()

    def roots(self, budget: Budget) -> list[Node]:
        return self.covering(range(len(self.targets)), self.root_parameter)

    def concretise(self, target: int, pieces: Propagation, linear: Linear) -> tuple[Array, Array]:
        offset = linear.constant + linear.error
        distance, point = self.ball.closest(linear.coefficients, np.nextafter(offset, inf), pieces.lower, pieces.upper)
        return np.where(np.isnan(distance), 0.0, -distance), point

    def discards(self, bound: float, incumbent: float) -> bool:
        # Beyond the limit the neurons' bounds do not hold: a piece that begins there is none of this search's business.
        return -bound > self.limit or -bound >= min(-incumbent * (1.0 - self.tolerance), self.enough)

    def finished(self, lower: float, upper: float) -> bool:
        return -upper >= min(-lower * (1.0 - self.tolerance), self.enough) and -upper < inf

    def propose(self, nodes: Sequence[Node], parameter: float) -> Witness | None:
        points = [node.hints.pop("point") for node in nodes if "point" in node.hints and isfinite(node.bound)]
        if not points:
            return None
        likely = self._likely(np.stack(points))
        return self.judge(likely, parameter) if len(likely) else None

    def _likely(self, points: Array) -> Array:
        """Those of the points (B, n) whose margin is so near to zero that a step outwards may turn it."""
        logits = self.network.forward(points)
        rows = np.concatenate([target.rows for target in self.targets])
        margins = logits @ rows.T + np.concatenate([target.offsets for target in self.targets])
        size = np.abs(logits) @ np.abs(rows).T
        return points[(margins >= -LIKELY * size).any(axis=1)]

    def judge(self, points: Array, parameter: float) -> Witness | None:
        """The nearest point (n,) among points (B, n), moved a little outwards, that is certainly misclassified and beats the parameter."""
        steps = STEPS if self.envelope is None else np.concatenate([STEPS, LARGER_STEPS])
        tried = self.ball.outward(points, steps)
        lowers, uppers = enclose(self.network, tried)
        rows = np.concatenate([target.rows for target in self.targets])
        offsets = self.certain_offsets
        positive, negative = np.maximum(rows, 0.0), np.minimum(rows, 0.0)
        slack = 1e-14 * (np.abs(rows) @ np.maximum(np.abs(lowers), np.abs(uppers)).T + np.abs(offsets)[:, None])
        sure = (positive @ lowers.T + negative @ uppers.T + offsets[:, None] - slack >= 0).any(axis=0)
        if not sure.any():
            # Rounding leaves these open: a tie, or a boundary that stepping outwards does not cross.
            possible = np.flatnonzero((positive @ uppers.T + negative @ lowers.T + offsets[:, None] + slack >= 0).any(axis=0))
            for index in possible[:EXACT_CHECKS]:
                sure[index] = certainly_misclassified(self, tried[index])
        best: Witness | None = None
        for index in np.flatnonzero(sure):
            distance = self.ball.norm_upper(tried[index])
            if distance < -parameter and distance <= self.ball.radius and (best is None or -distance > best.value):
                best = Witness(-distance, tried[index])
        return best

    @property
    def certain_offsets(self) -> Array:
        """(T,): the offset that each target's row must reach zero with, for the point to be misclassified beyond doubt."""
        offsets = np.concatenate([target.offsets for target in self.targets])
        return offsets if self.envelope is None else np.nextafter(offsets - 2.0 * self.envelope * (1.0 + 1e-12), -inf)

    def close(self, node: Node, parameter: float, budget: Budget) -> tuple[Closed, Witness | None] | None:
        """A piece without open neurons is one convex program; elsewhere branch."""
        return None if node.hints.get("open", 1) else self.finish(node, parameter, budget)

    def settle(self, node: Node, pieces: Propagation, parameter: float, budget: Budget) -> tuple[Closed, Witness | None]:
        cell = leaf.sign_rows(pieces, node.signs)
        margin = leaf.output_rows(self.output(pieces, node.target))
        rows = leaf.Cell(np.concatenate([margin.matrix, cell.matrix]), np.concatenate([margin.offsets, cell.offsets]))
        ball = self.region(node.target, parameter)
        found = leaf.nearest(
            ball, pieces.lower[0], pieces.upper[0], rows, solver=self.solver, time_limit=leaf.time_left(budget)
        )  # fmt: skip
        if found.infeasible:
            return Closed(-inf), None
        bound = min(-found.distance, node.bound)
        witness = None
        if found.point is not None and bound > parameter:
            witness = self.judge(found.point[None], parameter)
            if witness is None:
                witness = self._further_inside(found.point, rows, pieces, parameter, budget)
        incumbent = parameter if witness is None else max(parameter, witness.value)
        return Closed(bound, stuck=not self.discards(bound, incumbent)), witness

    def _further_inside(self, point: Array, rows: leaf.Cell, pieces: Propagation, parameter: float, budget: Budget) -> Witness | None:
        """A witness near the nearest point (n,) of the piece, where stepping outwards from the sample finds none.

        First a point that keeps away from the piece's boundaries, then the segment from there to the nearest point: the cell is convex.
        """
        ball = self.ball.with_radius(min(-parameter, self.limit))
        size = np.abs(rows.offsets) + np.abs(rows.matrix) @ np.maximum(np.abs(pieces.lower[0]), np.abs(pieces.upper[0]))
        for margin, others in INSIDE:
            share = np.where(np.arange(len(size)) < 1, margin, others)
            inner = leaf.Cell(rows.matrix, rows.offsets - share * size)
            found = leaf.nearest(
                ball, pieces.lower[0], pieces.upper[0], inner, solver=self.solver, time_limit=leaf.time_left(budget)
            )  # fmt: skip
            witness = None if found.point is None else self.judge(found.point[None], parameter)
            if witness is not None:
                closer = self.judge(point + np.logspace(-9, -0.3, 30)[:, None] * (witness.point - point), max(parameter, witness.value))
                return witness if closer is None else closer
        return None


def certainly_misclassified(nearest: Nearest, x: Array) -> bool:
    """Whether some row is >= 0 at x (n,) in exact arithmetic."""
    logits = exact_logits(nearest.network, x)
    rows = np.concatenate([target.rows for target in nearest.targets]).tolist()
    return any(
        sum((Fraction(c) * z for c, z in zip(row, logits, strict=True) if c), Fraction(offset)) >= 0
        for row, offset in zip(rows, nearest.certain_offsets.tolist(), strict=True)
    )

"""The steepest cell by enumeration: every pattern that is not proved empty counts for the upper end, verified points for the lower."""

from collections.abc import Callable
from dataclasses import dataclass
from math import inf

import numpy as np

from problems.maps import Array
from problems.regions import Ball
from verifier.bounds.jacobian import Jacobian
from verifier.bracket import Status
from verifier.enumeration import stream_batches
from verifier.search.budget import Budget
from verifier.search.question import Witness
from verifier.steepness.exact_cell import interior
from verifier.steepness.judge import MOST_CHECKS, Judge
from verifier.steepness.norms import vector_norms
from verifier.steepness.objective import Objective

Excluded = Callable[[Array, int], bool]
# Cells per batch; few where each takes a conic program, so that the budget is looked at in time.
BATCH, FEW = 4096, 32


@dataclass(eq=False)
class Cells:
    """The outcome: bracket [witness, upper] over the cells seen; complete: whether these are all; cells: how many are certified full;
    doubtful: patterns whose interior nothing settled; stopped: why it ended early; kernel_seconds: in compiled code."""

    witness: Witness | None
    upper: float = -inf
    complete: bool = False
    cells: int = 0
    doubtful: int = 0
    stopped: Status | None = None
    kernel_seconds: float = 0.0

    @property
    def lower(self) -> float:
        return -inf if self.witness is None else self.witness.value


def enumerate_cells(
    judge: Judge,
    budget: Budget,
    *,
    tolerance: float,
    excluded: Excluded,
    witness: Witness | None = None,
    most: float = inf,
    solver: str = "auto",
) -> Cells:
    """Go through the cells of the judge's region; stops early, incomplete, after `most` cells or when the budget ends.

    witness: one to begin with. excluded(pattern, target): whether floats prove that no point of the pattern has the target's rival for
    a top competitor; what they leave open is decided exactly. tolerance: norms above the lower end by no more than this share need no
    decision.
    """
    result = Cells(witness)
    size = FEW if isinstance(judge.region, Ball) and judge.region.norm == 2 else BATCH
    stream = stream_batches(judge.network, judge.region, budget=budget, size=size)
    try:
        for batch in stream:
            result.cells += int(batch.certified.sum())
            weigh = _Weigh(judge, result, budget, tolerance, excluded, solver)
            weigh.take(batch.patterns, batch.points, batch.certified)
            if result.cells > most or weigh.late:
                break
    except KeyboardInterrupt:
        result.stopped = Status.INTERRUPTED
    result.kernel_seconds = stream.kernel_seconds
    result.complete = stream.complete and result.stopped is None and not budget.exceeded()
    if not result.complete and result.stopped is None:
        result.stopped = budget.exceeded()
    return result


@dataclass(eq=False)
class _Weigh:
    """Takes batches of cells into a result. late: the budget ended within a batch, whose other cells are not in the result."""

    judge: Judge
    result: Cells
    budget: Budget
    tolerance: float
    excluded: Excluded
    solver: str
    late: bool = False

    def take(self, patterns: Array, points: Array, certified: Array) -> None:
        """Patterns (m, h) with points (m, n)."""
        judge, result, objective = self.judge, self.result, self.judge.objective
        rows = objective.jacobian(judge.network, patterns > 0, patterns > 0)
        lower, upper = _norms(objective, rows, result.lower)  # (m, T) each
        self._offer_steepest(lower, points, certified)
        # From the steepest down: only what exceeds the lower end has to be decided, and each decision may raise that.
        for position in np.argsort(-upper, axis=None, kind="stable"):
            cell, target = divmod(int(position), upper.shape[1])
            value = float(upper[cell, target])
            if self._settled(value) or value <= result.upper:
                result.upper = max(result.upper, value)
                return
            if self.budget.exceeded():
                self.late = True
                return
            if not self._absent(patterns[cell], points[cell], bool(certified[cell]), target, value):
                result.upper = max(result.upper, value)
                result.doubtful += not self._settled(value)

    def _settled(self, value: float) -> bool:
        return value <= self.result.lower * (1.0 + self.tolerance)

    def _offer_steepest(self, lower: Array, points: Array, certified: Array) -> None:
        judge, result = self.judge, self.result
        if judge.objective.label is not None:
            _offer(judge, points[certified], result)
            return
        steepest = np.argsort(-np.where(certified, lower.max(axis=1), -inf), kind="stable")[:MOST_CHECKS]
        for cell in steepest[certified[steepest]]:
            if lower[cell].max() <= result.lower:
                return
            witness = judge.check(points[cell])
            result.witness = witness if witness is not None and witness.value > result.lower else result.witness

    def _absent(self, pattern: Array, point: Array, certified: bool, target: int, value: float) -> bool:
        """Whether it is proved that the pattern has no full cell on which the target counts; offers points on the way."""
        judge, objective = self.judge, self.judge.objective
        ahead = objective.differences(target)
        if certified and not len(ahead):
            _offer(judge, point[None], self.result)
            if self._settled(value):
                return False
        if len(ahead) and self.excluded(pattern, target):
            return True
        decided = interior(judge.network, judge.region, pattern, ahead, objective.directions, solver=self.solver)
        if decided.point is not None:
            _offer(judge, judge.region.clip(decided.point)[None], self.result)
        return decided.empty


def _norms(objective: Objective, rows: Jacobian, least: float) -> tuple[Array, Array]:
    """`objective.norms`, but where the Frobenius norm of a matrix is at most `least` that one will do: (-inf, Frobenius norm)."""
    if not (objective.is_matrix and objective.input_norm == objective.output_norm == 2):
        return objective.norms(rows)
    flat = rows.centre[:, :, objective.directions.free].reshape(len(rows.centre), -1)
    _, upper = vector_norms(flat, rows.radius[:, :, objective.directions.free].reshape(flat.shape), 2)
    lower, upper = np.full((len(flat), 1), -inf), upper[:, None]
    steep = np.flatnonzero(upper[:, 0] > least)
    for part in np.array_split(steep[np.argsort(-upper[steep, 0])], max(1, len(steep) // 256)):
        chosen = part[upper[part, 0] > max(least, float(lower.max()))]
        if len(chosen):
            lower[chosen], upper[chosen] = objective.norms(Jacobian(rows.centre[chosen], rows.radius[chosen]))
    return lower, upper


def _offer(judge: Judge, points: Array, result: Cells) -> None:
    if len(points):
        better = judge.best(points, result.lower)
        result.witness = result.witness if better is None else better

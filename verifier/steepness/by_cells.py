"""The steepest cell by enumeration: every pattern that is not proved empty counts for the upper end, verified points for the lower."""

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
    judge: Judge, budget: Budget, *, tolerance: float, witness: Witness | None = None, most: float = inf, solver: str = "auto"
) -> Cells:
    """Go through the cells of the judge's region; stops early, incomplete, after `most` cells or when the budget ends.

    witness: one to begin with. tolerance: norms above the lower end by no more than this share need no decision.
    """
    result = Cells(witness)
    size = FEW if isinstance(judge.region, Ball) and judge.region.norm == 2 else BATCH
    stream = stream_batches(judge.network, judge.region, budget=budget, size=size)
    try:
        for batch in stream:
            result.cells += int(batch.certified.sum())
            _weigh(judge, batch.patterns, batch.points, batch.certified, result, tolerance, solver)
            if result.cells > most:
                break
    except KeyboardInterrupt:
        result.stopped = Status.INTERRUPTED
    result.kernel_seconds = stream.kernel_seconds
    result.complete = stream.complete and result.stopped is None
    if not result.complete and result.stopped is None:
        result.stopped = budget.exceeded()
    return result


def _weigh(judge: Judge, patterns: Array, points: Array, certified: Array, result: Cells, tolerance: float, solver: str) -> None:
    """Take a batch of patterns (m, h) with points (m, n) into the result."""
    objective, active = judge.objective, patterns > 0
    rows = objective.jacobian(judge.network, active, active)
    lower, upper = _norms(objective, rows, result.lower)  # (m, T) each
    if objective.label is not None:
        _offer(judge, points[certified], result)
    else:
        steepest = np.argsort(-np.where(certified, lower.max(axis=1), -inf), kind="stable")[:MOST_CHECKS]
        for cell in steepest[certified[steepest]]:
            if lower[cell].max() <= result.lower:
                break
            witness = judge.check(points[cell])
            result.witness = witness if witness is not None and witness.value > result.lower else result.witness
    # From the steepest down: only what exceeds the lower end has to be decided, and each decision may raise that.
    order = np.argsort(-upper, axis=None, kind="stable")
    for position in order:
        cell, target = divmod(int(position), upper.shape[1])
        value = float(upper[cell, target])
        if value <= max(result.lower * (1.0 + tolerance), result.upper):
            result.upper = max(result.upper, value)
            return
        ahead = objective.differences(target)
        if certified[cell] and not len(ahead):
            _offer(judge, points[cell][None], result)
            if value <= result.lower * (1.0 + tolerance):
                result.upper = max(result.upper, value)
                return
        decided = interior(judge.network, judge.region, patterns[cell], ahead, objective.directions, solver=solver)
        if decided.empty:
            continue
        if decided.point is not None:
            _offer(judge, judge.region.clip(decided.point)[None], result)
        result.upper = max(result.upper, value)
        if value > result.lower * (1.0 + tolerance):
            result.doubtful += 1


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

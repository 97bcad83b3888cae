"""The steepest cell by enumeration: every pattern that is not proved empty counts for the upper end, verified points for the lower."""

from dataclasses import dataclass
from math import inf

import numpy as np

from problems.maps import Array
from verifier.bracket import Status
from verifier.enumeration import stream_batches
from verifier.search.budget import Budget
from verifier.search.question import Witness
from verifier.steepness.exact_cell import interior
from verifier.steepness.judge import Judge

BATCH = 4096


@dataclass(eq=False)
class Cells:
    """The outcome: bracket [witness, upper] over the cells seen; complete: whether these are all; cells: how many are certified full;
    doubtful: patterns whose interior nothing settled; stopped: why it ended early."""

    witness: Witness | None
    upper: float = -inf
    complete: bool = False
    cells: int = 0
    doubtful: int = 0
    stopped: Status | None = None

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
    stream = stream_batches(judge.network, judge.region, budget=budget, size=BATCH)
    try:
        for batch in stream:
            result.cells += int(batch.certified.sum())
            _weigh(judge, batch.patterns, batch.points, batch.certified, result, tolerance, solver)
            if result.cells > most:
                break
    except KeyboardInterrupt:
        result.stopped = Status.INTERRUPTED
    result.complete = stream.complete and result.stopped is None
    if not result.complete and result.stopped is None:
        result.stopped = budget.exceeded()
    return result


def _weigh(judge: Judge, patterns: Array, points: Array, certified: Array, result: Cells, tolerance: float, solver: str) -> None:
    """Take a batch of patterns (m, h) with points (m, n) into the result."""
    objective, active = judge.objective, patterns > 0
    upper = objective.norms(objective.jacobian(judge.network, active, active))[1]  # (m, T)
    _offer(judge, points[certified], result)
    # From the steepest down: only what exceeds the lower end has to be decided, and each decision may raise that.
    order = np.argsort(-upper, axis=None, kind="stable")
    for position in order:
        cell, target = divmod(int(position), upper.shape[1])
        value = float(upper[cell, target])
        if value <= max(result.lower * (1.0 + tolerance), result.upper):
            result.upper = max(result.upper, value)
            return
        rows = objective.differences(target)
        if certified[cell] and not len(rows):
            _offer(judge, points[cell][None], result)
            if value <= result.lower * (1.0 + tolerance):
                result.upper = max(result.upper, value)
                return
        decided = interior(judge.network, judge.region, patterns[cell], rows, objective.directions, solver=solver)
        if decided.empty:
            continue
        if decided.point is not None:
            _offer(judge, judge.region.clip(decided.point)[None], result)
        result.upper = max(result.upper, value)
        if value > result.lower * (1.0 + tolerance):
            result.doubtful += 1


def _offer(judge: Judge, points: Array, result: Cells) -> None:
    if len(points):
        better = judge.best(points, result.lower)
        result.witness = result.witness if better is None else better

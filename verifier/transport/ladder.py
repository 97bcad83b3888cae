"""Radii by a ladder: the search at one fixed radius after the other, from what bounds certify up to what an attack reaches.

A neuron's bounds are as good as the ball they hold on is small, and the cost of a search grows steeply with the radius (big-M models
over the attack's ball are hopeless on 28 x 28 pixels). So every rung asks for a proof at a little more than is proved already, with
bounds of its own; a rung that takes too long gives what its open pieces leave, and the next one is lower. Each rung is the one search
on the question `Nearest` with its limit; there is no loop over pieces here.
"""

import time
from dataclasses import dataclass, field, replace
from math import inf
from typing import Any

from verifier.bracket import Status
from verifier.nearest import Nearest
from verifier.radii import answered
from verifier.search.budget import Budget
from verifier.search.question import Witness
from verifier.search.search import Search
from verifier.sharpening import Stage

# Factor between two rungs: the first, the largest, and how it changes after a rung that was quick, or one that was broken off.
FIRST_STEP, LARGEST_STEP = 1.25, 2.0
SLICE = 0.35  # share of the time left that one rung may take
QUICK = 0.25  # a rung that takes less than this share of its slice is quick
LEAST_STEP = 1.01  # steps below this are not worth a search of their own
LEAST_SLICE = 0.5  # seconds


@dataclass(eq=False)
class Ladder:
    """The bracket [lower, distance of the incumbent] of one question, whose ball has the radius inf (or the largest of interest)."""

    question: Nearest
    budget: Budget
    lower: float = 0.0
    incumbent: Witness | None = None
    enough: float = inf
    stats: dict[str, Any] = field(default_factory=lambda: {"opened": 0, "bounded": 0, "rungs": 0})

    @property
    def upper(self) -> float:
        return inf if self.incumbent is None else -self.incumbent.value

    @property
    def closed(self) -> bool:
        return self.lower >= self.upper * (1.0 - self.question.tolerance)

    def climb(self, largest: float) -> Status:
        """Until the bracket is closed, nothing is misclassified within `largest` (the diameter of the space), or the budget ends."""
        step = FIRST_STEP
        while not self.closed and self.lower < min(self.enough, largest):
            ended = self.budget.exceeded()
            if ended is not None:
                return ended
            top = min(self.upper, largest)
            rung = min(self.lower * step, top) if self.lower > 0.0 else 1e-3 * top if top < inf else 1.0
            if rung * LEAST_STEP >= top:
                rung = top
            part = self._part()
            began, before = time.monotonic(), self.lower
            status = self._rung(rung, part)
            if status in (Status.INTERRUPTED, Status.OUT_OF_MEMORY):
                return status
            if status is Status.UNDECIDED:
                return status
            if self.lower >= rung:
                quick = part.timeout is None or time.monotonic() - began < QUICK * part.timeout
                step = min(step * step, LARGEST_STEP) if quick else step
            elif step <= LEAST_STEP or self.lower <= before:
                step = max(step**0.5, LEAST_STEP)
            else:
                step = max(step**0.7, LEAST_STEP)
        return Status.CLOSED if self.closed else Status.DECIDED if self.lower >= self.enough else Status.EMPTY

    def _part(self) -> Budget:
        remaining = self.budget.remaining
        return self.budget.part(max(SLICE * remaining, LEAST_SLICE)) if remaining < inf else self.budget

    def _rung(self, rung: float, budget: Budget) -> Status:
        """One search of the ball of radius `rung`; lower and incumbent take what it proves and finds."""
        posed = replace(self.question, limit=rung, models={}, current={})
        search = Search(posed, batch=32)
        search.offer(self.incumbent)
        posed.root_parameter = search.parameter
        status = answered(search, posed, budget, Stage(), None)
        for name in ("opened", "bounded"):
            self.stats[name] += getattr(search, name)
        self.stats["rungs"] += 1
        if search.witness is not None and -search.witness.value < self.upper:
            self.incumbent = search.witness
        if search.started:
            # What is proved within the rung says nothing beyond it.
            self.lower = max(self.lower, min(rung, -search.upper, self.upper))
        return status

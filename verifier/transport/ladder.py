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

# Factor between two rungs: the first, and its limits later on.
FIRST_STEP, LEAST_STEP, LARGEST_STEP = 1.25, 1.005, 1.5
# The cost of a rung grows about like this power of its radius, by measurement on MNIST; a rung is chosen to take this share of the
# time left, and broken off after that one.
GROWTH, AIM, SLICE = 10.0, 0.3, 0.6
LEAST_SLICE = 0.5  # seconds
NEARLY = 0.97  # of a rung that was broken off
# Pieces that are bounded before neurons are tightened: on a ball whose support function is dear, tightening pays early.
QUICK_PIECES = 100


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
        step, failed = FIRST_STEP, inf
        while not self.closed and self.lower < min(self.enough, largest):
            ended = self.budget.exceeded()
            if ended is not None:
                return ended
            top = min(self.upper, largest)
            rung = self._next(min(step, (failed / self.lower) ** 0.5 if self.lower > 0.0 else inf), top)
            part = self._part()
            began = time.monotonic()
            status = self._rung(rung, part)
            if status in (Status.INTERRUPTED, Status.OUT_OF_MEMORY, Status.UNDECIDED):
                return status
            if self.lower >= rung:
                taken = max(time.monotonic() - began, 1e-3)
                left = max(self.budget.remaining, 0.0)  # the rung may have taken all of it
                step = min(max((AIM * left / taken) ** (1.0 / GROWTH), LEAST_STEP), LARGEST_STEP)
            elif self.lower < NEARLY * rung:
                failed = rung
            else:  # nearly done: the next rung is little more
                step, failed = (1.0 / NEARLY) ** 0.5, inf
        return Status.CLOSED if self.closed else Status.DECIDED if self.lower >= self.enough else Status.EMPTY

    def _next(self, step: float, top: float) -> float:
        """The radius of the next rung, at most `top`."""
        if self.lower == 0.0:
            return 1e-3 * top if top < inf else 1.0
        rung = self.lower * max(step, LEAST_STEP)
        return top if rung * FIRST_STEP**0.1 >= top else rung

    def _part(self) -> Budget:
        remaining = self.budget.remaining
        return self.budget.part(max(SLICE * remaining, LEAST_SLICE)) if remaining < inf else self.budget

    def _rung(self, rung: float, budget: Budget) -> Status:
        """One search of the ball of radius `rung`; lower and incumbent take what it proves and finds."""
        posed = replace(self.question, limit=rung, models={}, current={})
        search = Search(posed, batch=32)
        search.offer(self.incumbent)
        posed.root_parameter = search.parameter
        status = answered(search, posed, budget, Stage(), None, quick=QUICK_PIECES)
        for name in ("opened", "bounded"):
            self.stats[name] += getattr(search, name)
        self.stats["rungs"] += 1
        if search.witness is not None and -search.witness.value < self.upper:
            self.incumbent = search.witness
        if search.started:
            # What is proved within the rung says nothing beyond it.
            self.lower = max(self.lower, min(rung, -search.upper, self.upper))
        return status

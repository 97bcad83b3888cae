"""Tightening of neurons and search in turn, with growing effort: the loop that large questions are answered by.

Bounds of hidden neurons are worth more than splits while they are loose, and a search is worth more than bounds once they are tight. Which
is the case only shows in trying: so each is given as long as the other, and after every stage of tightening the search begins
again on a smaller network.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from math import isfinite
from typing import Any

from verifier.bounds import Condensed
from verifier.bracket import Status
from verifier.piecewise import PiecewiseQuestion
from verifier.search.budget import Budget
from verifier.search.checkpoint import Checkpoint
from verifier.search.search import Progress, Search
from verifier.search.sharing import Crew
from verifier.tightening import Tightening

# How often each open neuron's worst piece is split: the first time, by what factor more each time after, and the last time.
FIRST_ROUNDS, GROWTH, LAST_ROUNDS = 10, 4, 640
# A search goes on while it closes at least this share of its open pieces in one slice; its slices last at least so many seconds.
PROGRESS_SHARE, SLICE_SECONDS = 0.1, 2.0
# The share of the time left that one stage of tightening may take.
TIGHTENING_SHARE = 0.5


@dataclass
class Stage:
    """How far it has come; kept with the search. sharpened: the regions (see `first_with_region`) that are done with these rounds.

    attempts: how much of an attack has been made, for whoever begins with one; attacked: whether all of it.
    """

    attempts: int = 0
    attacked: bool = False
    rounds: int = FIRST_ROUNDS
    sharpened: tuple[int, ...] = ()


@dataclass(eq=False)
class Sharpening:
    """The loop on one search, whose question splits neurons of bounded regions.

    watch is called between the steps of the search, saved after every stage; lanes keeps a tightening in progress, where a file was
    given for it, and kept is what an earlier run left there; crew: workers, wanted from the second stage on. alone: search between the
    stages (False: somebody else will search after the first).
    """

    question: PiecewiseQuestion
    search: Search
    budget: Budget
    watch: Progress | None = None
    saved: Callable[[], None] | None = None
    stage: Stage = field(default_factory=Stage)
    lanes: Checkpoint | None = None
    kept: dict[str, Any] | None = None
    alone: bool = True
    crew: Crew | None = None
    solver: str = "auto"

    def run(self) -> Status | None:
        """How the search ended; None where it is to go on for as long as it takes, since tightening has done what it can."""
        while self.question.splitting == "neuron" and self.stage.rounds <= (LAST_ROUNDS if self.alone else FIRST_ROUNDS):
            if self.search.started and self.search.ended() is not None:
                return self.search.ended()
            if self.crew is not None and self.stage.rounds > FIRST_ROUNDS:
                self.crew.start()
            began = time.monotonic()
            if not self._stage():
                return None
            if self.alone:
                status = self._search_on(max(SLICE_SECONDS, time.monotonic() - began))
                if status is not Status.TIMED_OUT or self.budget.exceeded():
                    return status
            self.stage.rounds, self.stage.sharpened = self.stage.rounds * GROWTH, ()
        return None

    def _stage(self) -> bool:
        """Tighten the neurons on every region still searched, and begin the search again there. False where nothing can be tightened."""
        live = sorted({node.target for node in self.search.frontier()})
        regions = sorted({self.question.first_with_region(target) for target in live})
        regions = [first for first in regions if len(self.question.model(first).network.relus) > 1]
        for first in regions:
            if first in self.stage.sharpened or self.budget.exceeded():
                continue
            share = TIGHTENING_SHARE * self.budget.remaining / len(regions)
            self.question.improve(first, self._tightened(first, self.budget.part(share) if isfinite(share) else self.budget))
            mine = [target for target in live if self.question.first_with_region(target) == first]
            self.search.restart(self.question.covering(mine, self.search.parameter))
            self.question.forget(self.search.frontier())
            self.stage.sharpened = (*self.stage.sharpened, first)
            if self.saved is not None:
                self.saved()
        return bool(regions)

    def _tightened(self, first: int, budget: Budget) -> Condensed:
        work = Tightening(
            self.question.model(first), self.question.region(first, self.search.parameter), self.stage.rounds, self.solver,
            self.question.batch_bytes, self.search.executor, self.search.workers,
        )  # fmt: skip
        task = (self.stage.rounds, first)
        if self.kept is not None and self.kept["extra"]["task"] == task:
            work.restore(self.kept["extra"], self.kept)
        self.kept = None

        def watch(work: Tightening) -> None:
            if self.lanes is not None and work.lanes is not None:
                self.lanes.keep(work.lanes, work.state() | {"task": task})

        return work.run(budget, watch, None if self.lanes is not None else self.crew)

    def _search_on(self, seconds: float) -> Status:
        """Search for slices of time as long as the number of open pieces falls."""
        while True:
            before = self.search.open_pieces
            part = self.budget.part(seconds)
            status = self.search.run(part, self.watch) if self.crew is None else self.crew.search(self.search, part, self.watch)
            if status is not Status.TIMED_OUT or self.budget.exceeded() or self.search.open_pieces > (1.0 - PROGRESS_SHARE) * before:
                return status

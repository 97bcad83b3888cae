"""In which order `verify` spends its time: quick bounds, an attack, then tightening of neurons and search in turn, with growing effort."""

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from dataclasses import dataclass, field
from itertools import product
from math import isfinite
from typing import Any

import numpy as np
from threadpoolctl import threadpool_limits

from verifier.bounds import Condensed
from verifier.bracket import Status
from verifier.search.alarm import TimeUp, alarm
from verifier.search.budget import Budget
from verifier.search.checkpoint import Checkpoint
from verifier.search.search import Progress, Search
from verifier.search.sharing import Pace
from verifier.tightening import Tightening
from verifier.violation import Violation

# Seconds of search before torch is loaded: what they settle needs no attack, and what they do not is worth one.
QUICK_SECONDS = 1.0
# How often each open neuron's worst piece is split: the first time, and by what factor more each time after.
FIRST_ROUNDS, GROWTH, LAST_ROUNDS = 10, 4, 640
# A search goes on while it closes at least this share of its open pieces in one slice; its slices last at least so many seconds.
PROGRESS_SHARE, SLICE_SECONDS = 0.1, 2.0
# The share of the time left that one stage of tightening may take.
TIGHTENING_SHARE = 0.5

Finish = Callable[[Search, Budget, Progress], Status]


@dataclass
class Stage:
    """How far a call has come; kept with the search. sharpened: the regions (see `Violation.first_with_region`) done with these rounds."""

    attacked: bool = False
    rounds: int = FIRST_ROUNDS
    sharpened: tuple[int, ...] = ()


@dataclass(eq=False)
class Schedule:
    """One call's work on a question. finish does the last and longest part, with several processes or on a cluster; far: it is the latter.

    checkpoint and lanes keep the search and a tightening in progress, where a file was given for it; kept: what an earlier run left of
    the latter.
    """

    question: Violation
    search: Search
    budget: Budget
    finish: Finish
    workers: int = 1
    far: bool = False
    device: str = "cpu"
    seed: int = 0
    progress: Progress | None = None
    checkpoint: Checkpoint | None = None
    lanes: Checkpoint | None = None
    kept: dict[str, Any] | None = None
    stage: Stage = field(default_factory=Stage)
    _pace: Pace = field(init=False)

    def __post_init__(self) -> None:
        self._pace = Pace(self.search.batch)

    def run(self) -> Status:
        """Work until an end, and say which."""
        try:
            # Parallel batches, each with single-threaded products: small matrices gain nothing from more threads inside.
            threads = ThreadPoolExecutor(self.workers) if self.workers > 1 else nullcontext()
            with alarm(self.budget), threadpool_limits(1), threads as executor:
                if self.search.question is self.question:
                    self.search.executor, self.search.workers = executor, self.workers
                    status = self._prepared()
                    if status is not None:
                        return status
                return self.finish(self.search, self.budget, self._watch)
        except TimeUp:
            return Status.TIMED_OUT
        except KeyboardInterrupt:
            return Status.INTERRUPTED

    def _prepared(self) -> Status | None:
        """Quick bounds, the attack, and tightening while it helps; None where the search is to go on for as long as it takes."""
        if not self.stage.attacked:
            status = self.search.run(self.budget.part(QUICK_SECONDS), self._watch)
            if status is not Status.TIMED_OUT or self.budget.exceeded():
                return status
            attack(self.question, self.search, self.budget, device=self.device, seed=self.seed)
            self.stage.attacked = True
        while self.question.splitting == "neuron" and self.stage.rounds <= (FIRST_ROUNDS if self.far else LAST_ROUNDS):
            if self.search.started and self.search.ended() is not None:
                return self.search.ended()
            began = time.monotonic()
            if not self._sharpen():
                return None
            if not self.far:
                status = self._search_on(max(SLICE_SECONDS, time.monotonic() - began))
                if status is not Status.TIMED_OUT or self.budget.exceeded():
                    return status
            self.stage.rounds, self.stage.sharpened = self.stage.rounds * GROWTH, ()
        return None

    def _sharpen(self) -> bool:
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
            self.search.restart(self.question.covering(mine, 0.0))
            self.question.forget(self.search.frontier())
            self.stage.sharpened = (*self.stage.sharpened, first)
            if self.checkpoint is not None:
                self.checkpoint.keep(self.search, self.stage, now=True)
        return bool(regions)

    def _tightened(self, first: int, budget: Budget) -> Condensed:
        work = Tightening(
            self.question.model(first), self.question.targets[first].region, self.stage.rounds, self.question.solver,
            self.question.batch_bytes, self.search.executor, self.search.workers,
        )  # fmt: skip
        task = (self.stage.rounds, first)
        if self.kept is not None and self.kept["extra"]["task"] == task:
            work.restore(self.kept["extra"], self.kept)
        self.kept = None

        def watch(work: Tightening) -> None:
            if self.lanes is not None and work.lanes is not None:
                self.lanes.keep(work.lanes, work.state() | {"task": task})
            if self.progress is not None:
                self.progress(self.search)

        return work.run(budget, watch)

    def _search_on(self, seconds: float) -> Status:
        """Search for slices of time as long as the number of open pieces falls."""
        while True:
            before = self.search.open_pieces
            status = self.search.run(self.budget.part(seconds), self._watch)
            if status is not Status.TIMED_OUT or self.budget.exceeded() or self.search.open_pieces > (1.0 - PROGRESS_SHARE) * before:
                return status

    def _watch(self, search: Search) -> None:
        """Called between two steps of the search."""
        self._pace(search)
        if self.checkpoint is not None:
            self.checkpoint.keep(search, self.stage)
        if self.progress is not None:
            self.progress(search)


def attack(question: Violation, search: Search, budget: Budget, *, device: str = "cpu", seed: int = 0) -> None:
    """Offer the search what projected gradient ascent finds for the targets still open; at most a tenth of the time left, or 10 s.

    A first pass starts from the centres alone, which settles most falsifiable targets at once; the others restart at random, more
    often where a restart is cheap.
    """
    from verifier.attacks.pgd import maximise

    allowed = min(10.0, 0.1 * budget.remaining) if isfinite(budget.deadline) else 10.0
    end = time.monotonic() + allowed
    live = sorted({node.target for node in search.frontier() if question.targets[node.target].inputs is None})
    passes = (0, 100, 4000) if question.splitting == "input" else (0, 16)
    for number, (restarts, target) in enumerate(product(passes, live)):
        wanted = question.targets[target]
        left = end - time.monotonic()
        if search.lower >= 0 or left <= 0:
            return
        low, high = wanted.region.bounding_box()
        points, _ = maximise(
            question.network, low, high, wanted.rows, wanted.offsets, restarts=restarts, steps=100 if restarts > 100 else 60, seed=seed,
            device=device,
            deadline=time.monotonic() + left / (len(passes) * len(live) - number),
        )  # fmt: skip
        inside = np.stack([wanted.region.clip(point) for point in points[:4]])
        search.offer(question.judge(inside, [target] * len(inside)))

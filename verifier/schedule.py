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

from verifier.bracket import Status
from verifier.search.alarm import TimeUp, alarm
from verifier.search.budget import Budget
from verifier.search.checkpoint import Checkpoint
from verifier.search.search import Progress, Search
from verifier.search.sharing import Crew, Pace
from verifier.sharpening import Sharpening, Stage
from verifier.violation import Violation

# Seconds of search before torch is loaded: what they settle needs no attack, and what they do not is worth one.
QUICK_SECONDS = 1.0


@dataclass(eq=False)
class Schedule:
    """One call's work on a question. crew: processes, or far a cluster, that share what takes long.

    checkpoint and lanes keep the search and a tightening in progress, where a file was given for it; kept: what an earlier run left of
    the latter.
    """

    question: Violation
    search: Search
    budget: Budget
    crew: Crew
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
            with alarm(self.budget), threadpool_limits(1), threads as executor, self.crew:
                if self.search.question is self.question:
                    self.search.executor, self.search.workers = executor, self.workers
                    status = self._prepared()
                    if status is not None:
                        return status
                return self.crew.finish(self.search, self.budget, self._watch)
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
            attack(self.question, self.search, self.budget, device=self.device, seed=self.seed, done=self.stage.attempts, mark=self._mark)
            self.stage.attacked = True
            self._save()
        return Sharpening(
            self.question, self.search, self.budget, self._watch, self._save, self.stage, self.lanes, self.kept,
            alone=not self.far, crew=None if self.far else self.crew, solver=self.question.solver,
        ).run()  # fmt: skip

    def _mark(self, attempts: int) -> None:
        self.stage.attempts = attempts
        if self.checkpoint is not None:
            self.checkpoint.keep(self.search, self.stage)

    def _save(self) -> None:
        if self.checkpoint is not None:
            self.checkpoint.keep(self.search, self.stage, now=True)

    def _watch(self, search: Search) -> None:
        """Called between two steps of the search."""
        self._pace(search)
        if self.checkpoint is not None:
            self.checkpoint.keep(search, self.stage)
        if self.progress is not None:
            self.progress(search)


def attack(
    question: Violation, search: Search, budget: Budget, *, device: str = "cpu", seed: int = 0, done: int = 0,
    mark: Callable[[int], None] | None = None,
) -> None:  # fmt: skip
    """Offer the search what projected gradient ascent finds for the targets still open; at most a tenth of the time left, or 10 s.

    A first pass starts from the centres alone, which settles most falsifiable targets at once; the others restart at random, more
    often where a restart is cheap. done: how many of the attempts an earlier run has made; mark is told how many there are by now.
    """
    from verifier.attacks.pgd import maximise

    allowed = min(10.0, 0.1 * budget.remaining) if isfinite(budget.deadline) else 10.0
    end = time.monotonic() + allowed
    live = sorted({node.target for node in search.frontier() if question.targets[node.target].inputs is None})
    passes = (0, 100, 4000) if question.splitting == "input" else (0, 16)
    for number, (restarts, target) in enumerate(product(passes, live)):
        if number < done:
            continue
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
        if mark is not None:
            mark(number + 1)

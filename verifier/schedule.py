"""In which order `verify` spends its time: quick bounds, an attack, then tightening of neurons and search in turn, with growing effort."""

import time
from itertools import product
from math import isfinite

import numpy as np

from verifier.bracket import Status
from verifier.search.budget import Budget
from verifier.search.search import Progress, Search
from verifier.tightening import tighten
from verifier.violation import Violation

# Seconds of search before torch is loaded: what they settle needs no attack, and what they do not is worth one.
QUICK_SECONDS = 1.0
# How often each open neuron's worst piece is split: the first time, and by what factor more each time after.
FIRST_ROUNDS, GROWTH, LAST_ROUNDS = 10, 4, 640
# A search goes on while it closes at least this share of its open pieces in one slice; its slices last at least so many seconds.
PROGRESS_SHARE, SLICE_SECONDS = 0.1, 2.0


def work(question: Violation, search: Search, budget: Budget, *, device: str, seed: int, progress: Progress | None) -> Status:
    """Answer the question as far as the budget goes, and say how it ended."""
    status = search.run(_slice(budget, QUICK_SECONDS), progress)
    if status is not Status.TIMED_OUT or budget.exceeded():
        return status
    try:
        attack(question, search, budget, device=device, seed=seed)
        rounds = FIRST_ROUNDS
        while question.splitting == "neuron" and rounds <= LAST_ROUNDS and not question.finished(search.lower, search.upper):
            began = time.monotonic()
            if not sharpen(question, search, rounds, budget, progress):
                break
            status = _search_on(search, max(SLICE_SECONDS, time.monotonic() - began), budget, progress)
            if status is not Status.TIMED_OUT or budget.exceeded():
                return status
            rounds *= GROWTH
    except KeyboardInterrupt:
        return Status.INTERRUPTED
    return search.run(budget, progress)


def sharpen(question: Violation, search: Search, rounds: int, budget: Budget, progress: Progress | None = None) -> bool:
    """Tighten the neurons on every region still searched, and begin the search again. False where nothing can be tightened."""
    live = sorted({node.target for node in search.frontier()})
    firsts = sorted({question.first_with_region(target) for target in live})
    tried = False
    for first in firsts:
        model = question.model(first)
        if len(model.network.relus) > 1 and not budget.exceeded():
            tried = True
            question.models[first] = tighten(
                model, question.targets[first].region, rounds=rounds, budget=budget, solver=question.solver,
                executor=search.executor, workers=search.workers,
            )  # fmt: skip
    if tried:
        search.restart(question.covering(live, 0.0))
    return tried


def _search_on(search: Search, seconds: float, budget: Budget, progress: Progress | None) -> Status:
    """Search for slices of time as long as the number of open pieces falls."""
    while True:
        before = search.open_pieces
        status = search.run(_slice(budget, seconds), progress)
        if status is not Status.TIMED_OUT or budget.exceeded() or search.open_pieces > (1.0 - PROGRESS_SHARE) * before:
            return status


def _slice(budget: Budget, seconds: float) -> Budget:
    """The next seconds of the budget, or what is left of it."""
    return Budget(max(0.0, min(seconds, budget.remaining)), budget.memory, budget.interrupt)


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

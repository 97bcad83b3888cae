"""Worst-case error under Wasserstein shift, by lazy verification (THEORY W4).

Only samples that the adversary pays for need an exact radius; the rest need one certificate beyond the last radius paid. So the
cheapest unproved samples are refined, round by round, until proved and witnessed error agree at every eps.
"""

import time
from collections.abc import Sequence
from concurrent.futures import Executor
from dataclasses import replace
from math import inf
from pathlib import Path
from typing import Any

import numpy as np

from problems.data import Dataset
from problems.errors import InputError
from problems.maps import Array
from problems.regions.ball import exponent
from problems.regions.base import Region
from verifier import options
from verifier.bounds.rounding import up
from verifier.bracket import Status
from verifier.distributional.distribution import of_mixture
from verifier.distributional.knapsack import Curve, check_epsilon, error_bounds, worst_case_error
from verifier.distributional.outer import Front, Segments
from verifier.distributional.worst_case import WorstCase
from verifier.kept import stored
from verifier.radii import Radius, Setting, Task, attacked_tasks, fanned, prepare, solve
from verifier.search.budget import Budget, bytes_of
from verifier.search.cluster import opened
from verifier.search.executors import default_workers, fan_out

__all__ = ["Curve", "WorstCase", "error_bounds", "worst_case_error", "worst_errors"]

# A sample that is refined again is refined at least this much further.
STRIDE = 1.25


def worst_errors(
    network: Any,
    data: Any,
    *,
    norm: float | str,
    order: float | str,
    epsilon: Sequence[float] | float,
    region: Region | None = None,
    samples: str | slice | None = None,
    label_cost: float | None = None,
    timeout: float | None = None,
    memory: float | None = None,
    workers: int | None = None,
    device: str = "cpu",
    solver: str = "auto",
    tolerance: float = 1e-6,
    seed: int = 0,
    semantics: str = "real",
    restarts: int = 10,
    executor: Executor | str | None = None,
    resume: str | Path | None = None,
) -> list[WorstCase]:
    """`verifier.dro` for the zero-one loss; a label that moves at the cost C caps every radius at C. tolerance: relative, on radii.

    A closed bracket has upper - lower <= tolerance. Raises InputError.
    """
    if label_cost is not None and not (label_cost > 0 and label_cost < inf):
        raise InputError("label cost", f"{label_cost!r} is not a cost.", "Give a finite number > 0, or none: labels then never move.")
    power = exponent(order, "order")
    values = [epsilon] if isinstance(epsilon, int | float) else list(epsilon)
    if not values:
        raise InputError("epsilon", "is empty.", "Give at least one number >= 0.")
    for value in values:
        check_epsilon(float(value))
    options.check(
        timeout=timeout, memory=memory, workers=workers, solver=solver, tolerance=tolerance, seed=seed, semantics=semantics
    )  # fmt: skip
    budget = Budget(timeout, bytes_of(memory))
    setting, chosen = prepare(
        network, data, norm=norm, region=region, samples=samples, memory=memory, solver=solver, tolerance=tolerance, semantics=semantics
    )
    with opened(executor, budget.remaining) as pool, stored(setting, resume, seed) as setting:
        return _refined(
            setting, chosen, power, [float(e) for e in values], budget, device=device, seed=seed, restarts=restarts, workers=workers,
            executor=pool, cap=inf if label_cost is None else float(label_cost),
        )  # fmt: skip


def _refined(
    setting: Setting, chosen: Dataset, power: float, epsilon: list[float], budget: Budget, *, device: str, seed: int, restarts: int,
    workers: int | None, executor: Executor | None, cap: float,
) -> list[WorstCase]:  # fmt: skip
    """Refine radii until the bracket of every epsilon is closed or the budget ends."""
    tasks = attacked_tasks(
        setting, chosen, range(len(chosen)), timeout=None, device=device, seed=seed, restarts=restarts,
        attack_seconds=None if budget.timeout is None else 0.25 * budget.timeout,
    )  # fmt: skip
    state = Refinement(tasks, power, epsilon, setting.tolerance, cap)
    count = default_workers() if workers is None else workers
    status = Status.CLOSED
    try:
        # A first pass with nothing to prove takes the attack's points exactly and finds the samples already misclassified.
        first = [replace(task, enough=0.0) for task in tasks]
        state.absorb(fan_out(solve, replace(setting, store=None), first, workers=1, budget=budget), attacked=True)
        while batch := state.next_batch():
            stop = budget.exceeded()
            if stop is not None:
                status = stop
                break
            until = time.time() + budget.remaining
            state.absorb(fanned(setting, [replace(task, until=until) for task in batch], workers=count, budget=budget, executor=executor))
            if not state.progressed:
                status = budget.exceeded() or Status.UNDECIDED
                break
    except KeyboardInterrupt:
        status = Status.INTERRUPTED
    return state.records(budget.elapsed, status, chosen, setting.norm)


class Refinement:
    """Brackets of all radii, and which of them to refine next. cap: no sample costs more, since its label can be moved instead."""

    def __init__(self, tasks: Sequence[Task], order: float, epsilon: Sequence[float], tolerance: float, cap: float = inf) -> None:
        self.tasks = {task.sample: task for task in tasks}
        self.index = {task.sample: i for i, task in enumerate(tasks)}
        self.order, self.epsilon, self.tolerance, self.cap = order, epsilon, tolerance, cap
        self.lower = np.zeros(len(tasks))
        self.upper = np.full(len(tasks), cap)
        self.attack = np.full(len(tasks), cap)
        self.progressed = True

    def absorb(self, results: Any, *, attacked: bool = False) -> None:
        """Narrow the brackets by new answers."""
        self.progressed = False
        for result in results:
            assert isinstance(result, Radius)
            i, bracket = self.index[result.sample], result.bracket
            self.progressed |= bracket.lower > self.lower[i] or bracket.upper < self.upper[i]
            self.lower[i] = max(self.lower[i], min(bracket.lower, self.cap))
            self.upper[i] = min(self.upper[i], bracket.upper)
            if attacked:
                self.attack[i] = min(bracket.upper, self.cap)
            if bracket.witness is not None and bracket.upper == self.upper[i]:
                self.tasks[result.sample] = replace(self.tasks[result.sample], start=bracket.witness)

    @property
    def open(self) -> Array:
        """(N,) whether a bracket is wider than the tolerance."""
        return self.lower < self.upper * (1.0 - self.tolerance)

    def next_batch(self) -> list[Task]:
        """The samples to refine: those the adversary would pay for, were the lower ends true, at an eps whose bracket is open."""
        low, high = error_bounds(self.lower, self.upper, self.epsilon, self.order)
        wide = [e for e, a, b in zip(self.epsilon, low, high, strict=True) if b - a > self.tolerance]
        if not wide:
            return []
        reached = Curve(self.lower, self.order).marginal(max(wide))
        beyond = Curve(self.upper, self.order).marginal(max(wide))
        batch = []
        for sample, i in self.index.items():
            if self.open[i] and self.lower[i] <= reached:
                goal = max(beyond, reached, self.lower[i]) * STRIDE
                batch.append(replace(self.tasks[sample], enough=min(goal if goal > 0 else inf, self.cap)))
        return batch

    def fronts(self, classes: int) -> list[Front]:
        """What one error costs of each sample: its misclassified point, or another label where that is cheaper."""
        result = []
        for sample, i in self.index.items():
            task = self.tasks[sample]
            front = Front(task.x, task.label, float(self.upper[i] == 0), concave=self.order < inf)
            if 0 < self.upper[i] < inf:
                moved = task.start is None or self.upper[i] == self.cap
                point, label = (task.x, (task.label + 1) % classes) if moved else (task.start, task.label)
                price = self.upper[i] if self.order != 2 else up(self.upper[i] * self.upper[i])
                assert point is not None
                front.add(point[None], label, np.ones(1), np.array([price]))
            result.append(front)
        return result

    def records(self, seconds: float, status: Status, data: Dataset, norm: float) -> list[WorstCase]:
        """One record per eps."""
        fronts = self.fronts(max(2, int(data.y.max()) + 1))
        segments = Segments(fronts)
        worst = [
            of_mixture(segments.mixture(e, self.order), fronts, data, epsilon=e, order=self.order, norm=norm, loss="zero-one")
            if e < inf
            else None
            for e in self.epsilon
        ]
        low, high = error_bounds(self.lower, self.upper, self.epsilon, self.order)
        attack, _ = error_bounds(self.attack, self.attack, self.epsilon, self.order)
        return [
            WorstCase(e, float(f), float(a), float(b), seconds, Status.CLOSED if b - a <= self.tolerance else status, distribution=d)
            for e, f, a, b, d in zip(self.epsilon, attack, low, high, worst, strict=True)
        ]

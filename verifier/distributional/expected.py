"""Worst expected losses (W1): rounds of upper bounds at few rates, and the mixtures that their witnesses make.

Every round asks, for each eps whose bracket is open, for the suprema phi_i at the rate at which the best mixture so far spends its last
bit of budget: one task per sample with all its rates, only for samples whose own gap there matters, those with the widest gap first.
Each answer is a proven upper bound and witnesses; both stay for all eps and all later rounds.
"""

import time
from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from contextlib import ExitStack
from dataclasses import replace
from hashlib import sha256
from math import inf, isfinite
from pathlib import Path
from typing import Any

import numpy as np

from problems import readers
from problems.data import Dataset, load
from problems.errors import InputError, RegionError
from problems.regions import Ball, Box, Polytope
from problems.regions.ball import exponent
from problems.regions.base import Region
from verifier import options
from verifier.bracket import Status
from verifier.distributional import inner, shells, whole_space
from verifier.distributional.chain import Chain, Lines
from verifier.distributional.distribution import of_mixture
from verifier.distributional.fan import Fan
from verifier.distributional.inner import Inner, Setting, Task
from verifier.distributional.knapsack import check_epsilon
from verifier.distributional.losses import loss_named
from verifier.distributional.outer import Mixture
from verifier.distributional.refinement import Item, Refinement
from verifier.distributional.rise import of_order_one, steepest_rise
from verifier.distributional.starts import ladder, starts
from verifier.distributional.witnesses import transport_costs
from verifier.distributional.worst_case import WorstCase
from verifier.search.budget import Budget, bytes_of
from verifier.search.cluster import opened
from verifier.search.executors import default_workers
from verifier.search.store import Store, run_fingerprint

# Of the time: for the attack before any search, for shells around the samples of large networks, and, at the end, for L and lambda_0.
ATTACK_SHARE, SHELLS_SHARE, LINES_SHARE = 0.1, 0.35, 0.15
# Without a time limit: what L and lambda_0 may take.
LINES_SECONDS = 20.0
# Seconds that a sample gets at least, and at first where nothing limits it.
LEAST_SLICE, FIRST_SLICE = 0.05, 10.0


def expected(
    network: Any, data: Any, *, loss: str, norm: float | str, order: float | str, epsilon: Sequence[float] | float,
    region: Region | None = None, samples: str | slice | None = None, label_cost: float | None = None, timeout: float | None = None,
    memory: float | None = None, workers: int | None = None, device: str = "cpu", solver: str = "auto", tolerance: float = 1e-6,
    seed: int = 0, semantics: str = "real", executor: Executor | str | None = None, resume: str | Path | None = None, lines: bool = True,
) -> list[WorstCase]:  # fmt: skip
    """`verifier.dro` for the losses margin and cross-entropy."""
    options.check(
        timeout=timeout, memory=memory, workers=workers, solver=solver, tolerance=tolerance, seed=seed, semantics=semantics
    )  # fmt: skip
    if semantics != "real":
        raise InputError("semantics", "of expected losses are those of real numbers.", "Use real.")
    power = exponent(order, "order")
    values = [float(e) for e in ([epsilon] if isinstance(epsilon, int | float) else epsilon)]
    if not values:
        raise InputError("epsilon", "is empty.", "Give at least one number >= 0.")
    for value in values:
        check_epsilon(value)
        if value == inf:
            raise InputError("epsilon", "is infinite.", "Give finite numbers.")
    _check_label_cost(label_cost, power)
    budget = Budget(timeout, bytes_of(memory))
    net = readers.load(network)
    chosen = load(data).select(samples)
    chosen.check_fits(net)
    where = _region(region, chosen)
    chosen.check_inside(where)
    setting = Setting(net, exponent(norm), power, where, loss_named(loss), solver, memory)
    with ExitStack() as stack:
        pool = stack.enter_context(opened(executor, budget.remaining))
        store = None if resume is None else stack.enter_context(Store(resume, run=_run_name(setting, label_cost)))
        run = _Run(setting, chosen, values, budget, tolerance, label_cost=label_cost, seed=seed, device=device, lines=lines)
        return run.answer(default_workers() if workers is None else workers, pool, store)


def _check_label_cost(label_cost: float | None, order: float) -> None:
    if label_cost is None:
        return
    if not (label_cost > 0 and isfinite(label_cost)):
        raise InputError("label cost", f"{label_cost!r} is not a cost.", "Give a finite number > 0, or none: labels then never move.")
    if order == 2:
        raise InputError(
            "label cost", "is not available for order 2: (d + C)^2 = d^2 + 2 C d + C^2 penalises d twice, as no inner problem here does.",
            "Use order 1 or inf.",
        )  # fmt: skip


def _region(region: Region | None, data: Dataset) -> Region:
    if region is None:
        region = data.domain if data.domain is not None else Box.whole_space(data.x.shape[1])
    if isinstance(region, Ball) and region.norm == inf:
        region = Box(*region.bounding_box())
    if not isinstance(region, Box | Polytope):
        raise RegionError("region", "worst expected losses are sought in boxes and polytopes.", "Give one of these, or all of R^n.")
    return region


def _run_name(setting: Setting, label_cost: float | None) -> str:
    from verifier import __version__

    region = setting.region
    rows = [region.matrix, region.offsets] if isinstance(region, Polytope) else []
    return run_fingerprint(
        setting.network.fingerprint, "dro", loss=setting.loss.name, norm=setting.norm, order=setting.order,
        region=[*region.bounding_box(), *rows], version=__version__,
    )  # fmt: skip


class _Run:
    """One call of `dro`."""

    def __init__(
        self, setting: Setting, data: Dataset, epsilon: list[float], budget: Budget, tolerance: float, *, label_cost: float | None,
        seed: int, device: str, lines: bool,
    ) -> None:  # fmt: skip
        self.setting, self.data, self.epsilon, self.budget = setting, data, epsilon, budget
        self.label_cost, self.seed, self.device, self.wanted = label_cost, seed, device, lines
        self.bounded = all(np.isfinite(side).all() for side in setting.region.bounding_box())
        self.lines = Lines(setting, data, tolerance, seed=seed, moving_labels=label_cost is not None)
        self.least, self.complete = 0.0, False
        self.work: Callable[[Any, Any, Any], Inner] = inner.maximise
        self.context: Any = setting
        self.attack: list[Mixture] = []
        self.tolerance = tolerance
        self.state = self._state()

    def _state(self) -> Refinement:
        return Refinement(
            self.setting, self.data, self.epsilon, self.tolerance, slopes=self.lines.slopes, ceilings=self.lines.ceilings(),
            label_cost=self.label_cost, least=self.least,
        )  # fmt: skip

    def answer(self, workers: int, executor: Executor | None, store: Store | None) -> list[WorstCase]:
        status = Status.CLOSED
        share = (
            self.budget.part((1.0 - LINES_SHARE * self.wanted) * self.budget.remaining) if self.budget.timeout is not None else self.budget
        )
        try:
            self._attack()
            if not self.bounded:
                self._whole_space(share)
            if self.bounded and self.setting.order < inf and self.setting.network.neurons >= shells.FROM_NEURONS:
                self._shells(share, workers, executor)
            status = self._rounds(share, workers, executor, store)
            if self.wanted and status is not Status.INTERRUPTED:
                self._lines(workers, executor)
        except KeyboardInterrupt:
            status = Status.INTERRUPTED
        return self._records(status, self.lines.known())

    def _lines(self, workers: int, executor: Executor | None) -> None:
        """kappa*, L and lambda_0 in what is left of the time."""
        seconds = LINES_SECONDS if self.budget.timeout is None else self.budget.remaining
        budget = self.budget.part(seconds)
        self.lines.infinity(budget.part(0.2 * budget.remaining))
        if self.lines.moving_labels:
            return
        most = self.lines.lipschitz(budget.part(0.5 * budget.remaining))[1]
        for item in self.state.items:
            item.envelope.slope = min(item.envelope.slope, float(self.lines.slopes[item.label]))
        if self.bounded or self.complete:
            state = self.state if self.setting.order == 1 else of_order_one(self.state)
            context = _with_order_one(self.context)
            kappa = self.lines.infinity(budget)
            state.least = kappa.upper * (1 + 1e-8)
            with Fan(self.work, context, workers, executor, budget) as fan:
                self.lines.rise = steepest_rise(state, fan, budget, least=kappa.lower, most=most, tolerance=self.tolerance)

    def _attack(self) -> None:
        """Witnesses from ascents; their best mixtures are the attack."""
        import torch  # noqa: F401  # loaded before its time is counted

        end = None if self.budget.timeout is None else time.monotonic() + ATTACK_SHARE * self.budget.remaining
        lower, upper = self.setting.region.bounding_box()
        x = self.data.x
        with np.errstate(invalid="ignore"):
            reach = np.linalg.norm(np.maximum(upper - x, x - lower), ord=self.setting.norm, axis=1).max()
        radii = ladder(self.epsilon, len(x), self.setting.order, float(reach) if np.isfinite(reach) else inf)
        places = {label: [item.place for item in self.state.items if item.label == label] for label in {i.label for i in self.state.items}}
        for label, rows in places.items():
            if not radii:
                break
            found = starts(
                self.setting.network, x[rows], np.full(len(rows), label), radii, norm=self.setting.norm, region=self.setting.region,
                seed=self.seed, device=self.device, deadline=end,
            )  # fmt: skip
            for column, place in enumerate(rows):
                self.state.witness(place, label, found[:, column])
        self.attack = self.state.lowers()

    def _shells(self, budget: Budget, workers: int, executor: Executor | None) -> None:
        """Bounds on balls around every sample, which hold at all rates, in at most SHELLS_SHARE of the time."""
        part = budget if budget.timeout is None else budget.part(SHELLS_SHARE * budget.remaining)
        lower, upper = self.setting.region.bounding_box()
        with Fan(shells.bound, self.setting, workers, executor, part) as fan:
            tasks, asked = [], {}
            until = inf if part.timeout is None else time.time() + part.remaining
            for index, item in enumerate(self.state.items):
                x = self.data.x[item.place]
                far = float(transport_costs(np.where(upper - x > x - lower, upper, lower)[None], x, self.setting.norm, inf)[0])
                if far == 0.0:
                    continue
                radii = shells.radii_of(self.epsilon, far)
                seconds = None if part.timeout is None else max(part.remaining * fan.count / len(self.state.items), LEAST_SLICE)
                asked[index] = radii
                tasks.append(Task(index, x, item.label, radii, (0.0,) * len(radii), x[None], seconds, until))
            for result in fan.results(tasks):
                item, around = self.state.items[result.sample], np.array(asked[result.sample])
                rising = np.argsort(around)
                item.envelope.shells = shells.Shells(around[rising], result.upper[rising], item.envelope.ceiling, self.setting.order)
                self.state.witness(item.place, item.label, result.points)

    def _whole_space(self, budget: Budget) -> None:
        """kappa* and the cells of a region without bounds."""
        infinity = self.lines.infinity(budget.part(0.3 * budget.remaining if budget.timeout is not None else inf))
        if self.setting.order == 1 and infinity.upper < inf:
            self.least = self.state.least = infinity.upper * (1.0 + 1e-8)
        cells = whole_space.cells_of(self.setting, budget.part(0.3 * budget.remaining if budget.timeout is not None else inf))
        direction = infinity.witness if self.setting.order == 1 and infinity.lower > 0 else None
        if direction is not None:
            for item in self.state.items:
                self.state.witness(item.place, item.label, whole_space.far_out(self.data.x[item.place], direction))
        self.work, self.context, self.complete = whole_space.maximise, replace(cells, direction=direction), cells.complete

    # --- rounds ----------------------------------------------------------------------------------------------------------------------

    def _rounds(self, budget: Budget, workers: int, executor: Executor | None, store: Store | None) -> Status:
        kept = _Kept(self.state, store)
        with Fan(self.work, self.context, workers, executor, budget) as fan:
            number = 0
            while True:
                mixtures, uppers = self.state.brackets()
                questions = self.state.questions(mixtures, uppers)
                if not questions:
                    done = all(self.state.closed(m.value, float(u)) for m, u in zip(mixtures, uppers, strict=True))
                    return Status.CLOSED if done else Status.UNDECIDED
                stop = budget.exceeded()
                if stop is not None:
                    return stop
                tasks = _timed(questions, budget, fan.count, number)
                asked = {task.sample: task for task in tasks}
                self.state.progressed, cut = False, len(tasks) < len(questions)
                for result in fan.results(tasks):
                    task = asked[result.sample]
                    self.state.absorb(self.state.items[task.sample], np.array(task.rates), result)
                    kept.keep(task, result)
                    cut |= result.status not in (Status.CLOSED, Status.UNDECIDED)
                if not self.state.progressed and not cut:
                    return budget.exceeded() or Status.UNDECIDED
                number += 1

    def _records(self, status: Status, chain: Chain) -> list[WorstCase]:
        mixtures, uppers = self.state.brackets()
        clean = self.state.clean
        records = []
        for place, (epsilon, mixture, upper) in enumerate(zip(self.epsilon, mixtures, uppers.tolist(), strict=True)):
            distribution = of_mixture(
                mixture, self.state.fronts, self.data, epsilon=epsilon, order=self.setting.order, norm=self.setting.norm,
                loss=self.setting.loss.name,
            )  # fmt: skip
            lipschitz_bound, slope_bounds = chain.lines(clean, epsilon, self.setting.order)
            upper = max(min(upper, inf if lipschitz_bound is None else lipschitz_bound), mixture.value)
            closed = self.state.closed(mixture.value, upper)
            stopped = Status.UNDECIDED if status is Status.CLOSED else status
            attack = min(self.attack[place].value if self.attack else clean[0], mixture.value)
            record = WorstCase(
                epsilon, attack, mixture.value, upper, self.budget.elapsed, Status.CLOSED if closed else stopped, lipschitz_bound,
                slope_bounds, distribution, chain, clean, chain.reasons,
            )  # fmt: skip
            records.append(record)
        return records


def _with_order_one(context: Any) -> Any:
    if isinstance(context, Setting):
        return replace(context, order=1.0)
    return replace(context, setting=replace(context.setting, order=1.0), direction=None)


def _timed(questions: list[tuple[float, Item, Task]], budget: Budget, workers: int, number: int) -> list[Task]:
    """The tasks of a round with their time: each at least twice what it had last, as many as the time allows, widest gaps first."""
    if budget.timeout is None:
        slices = [max(FIRST_SLICE, 4.0 * item.seconds) for _, item, _ in questions]
        left = inf
    else:
        remaining = max(budget.remaining, 0.0) * workers
        base = max(LEAST_SLICE, 0.4 * remaining / len(questions))
        slices = [min(max(base, 2.0 * item.seconds), max(budget.remaining, LEAST_SLICE)) for _, item, _ in questions]
        left = remaining if number else inf
    until = time.time() + budget.remaining if budget.timeout is not None else inf
    tasks = []
    for (_, item, task), seconds in zip(questions, slices, strict=True):
        if left <= 0:
            break
        left -= seconds
        item.seconds = seconds
        tasks.append(replace(task, timeout=seconds, until=until))
    return tasks


class _Kept:
    """Answers in the store: what was proved of a sample's suprema holds in every later call with this network, loss, norm and region."""

    def __init__(self, state: Refinement, store: Store | None) -> None:
        self.store, self.numbers = store, dict.fromkeys(range(len(state.items)), 0)
        if store is None:
            return
        self.names = []
        for index, item in enumerate(state.items):
            x = state.data.x[item.place]
            self.names.append(f"{sha256(x.tobytes()).hexdigest()[:24]}/{item.label}/")
            for _, record in store.records(self.names[index]):
                points, losses, costs = (np.array(record[name], dtype=np.float64) for name in ("points", "losses", "costs"))
                upper = np.array(record["upper"], dtype=np.float64)
                result = Inner(index, upper, np.zeros(0), points.reshape(-1, len(x)), losses, costs, Status.CLOSED, 0.0, 0)
                state.absorb(item, np.array(record["rates"]), result)
                self.numbers[index] += 1

    def keep(self, task: Task, result: Inner) -> None:
        """Write an answer; it survives a kill from then on."""
        if self.store is None:
            return
        record = {name: getattr(result, name) for name in ("upper", "points", "losses", "costs")} | {"rates": list(task.rates)}
        self.store.put_record(f"{self.names[task.sample]}{self.numbers[task.sample]:06}", record)
        self.numbers[task.sample] += 1

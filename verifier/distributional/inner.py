"""Inner maximisation: phi(rate) = sup {loss(x) - rate ||x - x_i||^p : x in region} for one sample and many rates (THEORY W1).

One branch and bound per sample serves all rates: its pieces keep linear bounds of the loss, which a new rate re-evaluates
(`inner_question`). The lower ends are values of points, the upper ends are proved. For order inf the rates are radii, and what is asked is
the largest loss within each.
"""

import time
from contextlib import AbstractContextManager
from dataclasses import dataclass
from math import inf
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np
from threadpoolctl import ThreadpoolController

from problems.errors import InputError
from problems.maps import Array
from problems.network import Affine, Network, Relu
from problems.regions.ball import exponent
from problems.regions.base import Region
from problems.regions.box import Box
from verifier.bounds import Condensed
from verifier.bounds.interval import affine_interval
from verifier.bounds.rounding import UNIT, up
from verifier.bracket import Status
from verifier.distributional import inner_kept as kept
from verifier.distributional.cross_entropy import CrossEntropyWithin, PenalisedCrossEntropy
from verifier.distributional.inner_ascent import climb
from verifier.distributional.inner_kept import Begun, Memory
from verifier.distributional.inner_points import Points
from verifier.distributional.inner_question import Inner as Question
from verifier.distributional.inner_question import Penalised, Within
from verifier.distributional.inner_region import bounded, posed
from verifier.distributional.losses import CrossEntropy, Loss
from verifier.piecewise import REFRESH_NEURONS, Target
from verifier.search.budget import Budget, bytes_of
from verifier.search.search import Search

# Pieces opened per step: more fill the vector units better, fewer follow the best bound more closely.
BATCH = 128
# A region is left for one with less than this share of its radius, which is then taken a little wider than needed.
MUCH_SMALLER, WIDER = 0.7, 1.1
# Steps of optimisation per piece (by measurement on digits-16x2: more steps pay, as pieces serve for many rates).
ITERATIONS = 16
# A rate may take this many times its share of the time that is left; what it saves goes to the others.
GENEROUS = 3.0


@dataclass(frozen=True, eq=False)
class Setting:
    """What all samples of one call share. norm, order: 1, 2 or inf; region: a Box or Polytope; memory in GB of a worker."""

    network: Network
    norm: float
    order: float
    region: Region
    loss: Loss
    solver: str = "auto"
    memory: float | None = None


@dataclass(frozen=True, eq=False)
class Task:
    """A sample x (n,) with its label; rates > 0, decreasing (order inf: radii >= 0), with the absolute gaps that are good enough.

    starts (A, n): points of the region worth trying. timeout in seconds; until: an instant of time.time() at which the answer must be
    there.
    """

    sample: int
    x: Array
    label: int
    rates: tuple[float, ...]
    tolerances: tuple[float, ...]
    starts: Array
    timeout: float | None = None
    until: float = inf


@dataclass(frozen=True, eq=False)
class Inner:
    """upper (R,): proved; lower (R,): what points (A, n) of the region give, with losses (A,) rounded down and costs (A,) rounded up.

    Costs are ||x - x_i||^p. The sample itself is the first point. For order inf costs are distances.
    """

    sample: int
    upper: Array
    lower: Array
    points: Array
    losses: Array
    costs: Array
    status: Status
    seconds: float
    pieces: int


def maximise(setting: Setting, task: Task, interrupt: Any = None) -> Inner:
    """Brackets of phi at all rates of the task, or those reached in its time. Raises InputError, RegionError for what cannot be bounded."""
    began = time.monotonic()
    limits = [limit for limit in (task.timeout, task.until - time.time()) if limit is not None and limit < inf]
    budget = Budget(max(min(limits), 0.0) if limits else None, bytes_of(setting.memory))
    if interrupt is not None:
        budget.interrupt = interrupt
    with _one_thread():
        work = _Maximisation(setting, task, budget)
        status = work.run()
    points = work.points
    upper = np.maximum(work.upper, points.best)
    return Inner(
        task.sample, upper, points.best.copy(), np.stack(points.points), np.array(points.losses), np.array(points.costs), status,
        time.monotonic() - began, work.pieces,
    )  # fmt: skip


def _one_thread() -> AbstractContextManager:
    """Products here are small: threads of the linear algebra library cost more than they give, and wait for each other."""
    global _controller
    if _controller is None:
        _controller = ThreadpoolController()  # looks through the libraries of the process: once
    return _controller.limit(limits=1)


_controller: ThreadpoolController | None = None


class _Maximisation:
    """One task under way."""

    def __init__(self, setting: Setting, task: Task, budget: Budget) -> None:
        self.setting, self.task, self.budget = setting, task, budget
        self.rates = np.array(task.rates, dtype=float)
        self.tolerances = np.array(task.tolerances, dtype=float)
        self.within = exponent(setting.order, "order") == inf
        if len(self.rates) != len(self.tolerances) or not len(self.rates):
            raise InputError("rates", "need one tolerance each, and there must be one.")
        if not np.isfinite(self.rates).all() or (self.rates < 0).any() or (not self.within and not (self.rates > 0).all()):
            raise InputError("rates", "must be positive numbers (radii: numbers >= 0).")
        self.power = 1 if self.within else int(setting.order)
        whole = posed(setting.network, setting.region, np.asarray(task.x, dtype=float), exponent(setting.norm))
        self.rows = setting.loss.rows(setting.network.output_size, task.label)
        every = np.concatenate(self.rows)
        if self.within:
            self.posed = bounded(whole, every, None, 1, float(self.rates.max()))
        else:
            self.posed = bounded(whole, every, float(self.rates.min()), self.power, inf)
        ball = self.posed.ball
        # A search that serves for any rate, and whose root is that of other samples.
        self.shared = self.posed is whole and isinstance(setting.region, Box)
        self.name = (task.label, ball.center.tobytes())
        self.points = Points(
            setting.network, setting.loss, task.label, setting.region, ball.center, ball.norm, self.power, self.rates, self.within
        )
        if not self.points.points:
            raise InputError("sample", "its loss has no finite bounds.", "Check the network's weights and the data.")
        self.at_sample = float(setting.loss.at_most(setting.network, ball.center[None], task.label)[0])
        self.pieces = 0
        self.upper = np.full(len(self.rates), max(self._by_intervals(), self.at_sample))

    def _by_intervals(self) -> float:
        """A bound of the loss over the whole region that costs nothing."""
        return by_intervals(self.setting.network, self.posed.ball.limits, self.setting.loss, self.task.label)

    def run(self) -> Status:
        self.points.add(np.asarray(self.task.starts, dtype=float).reshape(-1, self.posed.ball.dimension))
        return self._within() if self.within else self._penalised()

    def _question(self, kind: type[Question], region: Region, position: int) -> Question:
        network = self.posed.network
        small = network.neurons <= REFRESH_NEURONS
        targets = tuple(Target(region, rows, np.zeros(len(rows))) for rows in self.rows)
        forced = None
        if self.posed.forced:
            forced = np.zeros(network.neurons, np.int8)
            forced[: self.posed.forced] = 1
        return kind(
            network, targets, splitting="neuron", condenses=not small and forced is None, loss=self.setting.loss, ball=self.posed.ball,
            points=self.points, tolerance=float(self.tolerances[position]), position=position, solver=self.setting.solver, forced=forced,
            iterations=ITERATIONS,
        )  # fmt: skip

    # A price for the distance.

    def _penalised(self) -> Status:
        """Rate by rate: the smallest first, as its bound says how far away points can count at larger ones."""
        memory = self._recalled()
        worst = Status.CLOSED
        # Cross-entropy goes the other way, in one region: its pieces say nothing below what was reached at their rate.
        order = np.argsort(-self.rates if self._curved else self.rates, kind="stable").tolist()
        for number, position in enumerate(order):
            self._climb(position, first=not number)
            begun = self._begun(memory, position)
            before = begun.search.bounded
            if begun.question.anew(position) and begun.search.started:
                begun.search, before = Search(begun.question, batch=BATCH), 0
            status = self._at(begun, position, self._share(len(self.rates) - number))
            self.pieces += begun.search.bounded - before
            memory.proved(float(self.rates[position]), float(self.upper[position]))
            if self.shared and begun.radius == inf and 0 in begun.question.current:
                _roots[self.setting] = begun.question.model(0)
            stop = self.budget.exceeded() or (status if status is Status.INTERRUPTED else None)
            if stop is not None or not status.finished:
                worst = stop or status
            if stop is not None:
                self._remaining(memory, order[number + 1 :])
                break
        if self.shared and not self._curved:
            kept.keep(self.setting, self.name, memory)
        self._by_convexity()
        return self._status(worst)

    def _recalled(self) -> Memory:
        """What an earlier call has left of this sample, asked the new rates, or nothing."""
        memory = kept.take(self.setting, self.name) if self.shared and not self._curved else None
        if memory is None:
            return Memory(self.points)
        memory.points.ask(self.rates)
        memory.points.add(np.stack(self.points.points))
        self.points = memory.points
        return memory

    def _begun(self, memory: Memory, position: int) -> Begun:
        """The search in the smallest region that holds all that counts, or a new one where that is much smaller still."""
        ball, box = self.posed.ball, self.posed.ball.limits
        reach = inf if self._curved else memory.reach(position)
        with np.errstate(over="ignore"):
            whole = float(np.linalg.norm(np.maximum(box.upper - ball.center, ball.center - box.lower), ord=ball.norm))
        found = min((each for each in memory.searches if each.radius >= reach), key=lambda each: each.radius, default=None)
        if found is not None and reach >= MUCH_SMALLER * min(found.radius, whole):
            return found
        radius = WIDER * reach if WIDER * reach < whole else inf
        kind = PenalisedCrossEntropy if self._curved else Penalised
        question = self._question(kind, box if radius == inf else ball.with_radius(radius), position)
        if self.shared and radius == inf and self.setting in _roots:
            question.improve(0, _roots[self.setting])
        begun = Begun(Search(question, batch=BATCH), question, radius)
        memory.searches.append(begun)
        return begun

    @property
    def _curved(self) -> bool:
        return isinstance(self.setting.loss, CrossEntropy)

    def _share(self, left: int) -> Budget:
        """What one of so many rates may take of the time that is left."""
        return self.budget if self.budget.timeout is None else self.budget.part(self.budget.remaining * min(GENEROUS / left, 1.0))

    def _status(self, worst: Status) -> Status:
        """How it ended, if the worst of the rates ended like this."""
        reached = self.upper - self.points.best <= self.tolerances + 1e-12 * np.abs(self.upper)
        return Status.CLOSED if reached.all() else (Status.UNDECIDED if worst.finished else worst)

    def _at(self, begun: Begun, position: int, budget: Budget) -> Status:
        """Work at one rate; what is proved goes to `upper`."""
        search, question = begun.search, begun.question
        question.tolerance = float(self.tolerances[position])
        if search.started:
            search.retarget(position)
        question.position = position
        try:
            search.offer(question.known())
            status = search.run(budget)
        finally:
            if search.started:
                self.upper[position] = min(self.upper[position], max(search.upper, self.at_sample))
        return status

    def _climb(self, position: int, *, first: bool) -> None:
        """Ascend from the sample, the best point so far, and (the first time) from what was given."""
        starts = [self._best(position), self.points.points[0]]
        if first:
            starts.extend(np.asarray(self.task.starts, dtype=float).reshape(-1, self.posed.ball.dimension))
        climb(self.points, self.posed.ball, position, np.unique(np.stack(starts), axis=0))

    def _remaining(self, memory: Memory, positions: list[int]) -> None:
        """The rates that the time did not reach: what the pieces' bounds prove as they are."""
        for begun in memory.searches:
            for position in positions if begun.search.started and begun.radius == inf else ():
                begun.search.retarget(position)
                begun.question.position = position
                self.upper[position] = min(self.upper[position], max(begun.search.upper, self.at_sample))

    def _by_convexity(self) -> None:
        """phi is convex in the rate, and falls: chords between upper ends are upper ends, and so is the next smaller rate's."""
        order = np.argsort(self.rates)
        rates, upper = self.rates[order], np.minimum.accumulate(self.upper[order])
        for i in range(1, len(rates) - 1):
            for j in range(i + 1, len(rates)):
                if rates[j] > rates[i] > rates[i - 1]:
                    share = (rates[j] - rates[i]) / (rates[j] - rates[i - 1])
                    chord = share * upper[i - 1] + (1.0 - share) * upper[j]
                    upper[i] = min(upper[i], float(up(chord + 8.0 * UNIT * (abs(upper[i - 1]) + abs(upper[j])))))
        self.upper[order] = upper

    # Within a radius.

    def _within(self) -> Status:
        worst = Status.CLOSED
        for number, position in enumerate(np.argsort(self.rates, kind="stable").tolist()):
            region = self.posed.ball.with_radius(float(self.rates[position]))
            question = self._question(CrossEntropyWithin if self._curved else Within, region, position)
            question.ball = region
            search = Search(question, batch=BATCH)
            try:
                climb(self.points, self.posed.ball, position, np.stack([self._best(position), region.center]))
                search.offer(question.known())
                status = search.run(self._share(len(self.rates) - number))
            finally:
                self.pieces += search.bounded
                if search.started:
                    self.upper[position] = min(self.upper[position], max(search.upper, self.at_sample))
            stop = self.budget.exceeded() or (status if status is Status.INTERRUPTED else None)
            if stop is not None or not status.finished:
                worst = stop or status
            if stop is not None:
                break
        # A larger radius allows no less.
        order = np.argsort(-self.rates, kind="stable")
        self.upper[order] = np.minimum.accumulate(self.upper[order])
        return self._status(worst)

    def _best(self, position: int) -> Array:
        """The best point so far."""
        return self.points.points[int(self.points.which[position])]


# The bounds of all neurons on a region that samples share, by setting: found once per process.
_roots: WeakKeyDictionary[Setting, Condensed] = WeakKeyDictionary()


def by_intervals(network: Network, box: Box, loss: Loss, label: int) -> float:
    """An upper bound of the loss over a box by interval arithmetic; inf where it is unbounded."""
    lowers, uppers = [box.lower[None]], [box.upper[None]]
    for node in network.nodes[1:]:
        if isinstance(node, Affine):
            lower, upper, _ = affine_interval(node, [lowers[p] for p in node.parents], [uppers[p] for p in node.parents])
        else:
            assert isinstance(node, Relu)
            lower, upper = np.maximum(lowers[node.parent], 0.0), np.maximum(uppers[node.parent], 0.0)
        lowers.append(lower)
        uppers.append(upper)
    return float(loss.enclosed(lowers[-1], uppers[-1], label)[1][0])

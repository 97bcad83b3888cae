"""Exact radii: how far is the nearest misclassified input of each sample?

The upper end is the norm, rounded up, of a point whose margin is >= 0 in exact arithmetic; the lower end is proved by the search.
Replay in the network's own runtime is reported in the statistics and never decides.
"""

import time
from collections.abc import Callable, Collection, Iterator, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, replace
from functools import partial
from math import inf, nextafter
from pathlib import Path
from typing import Any

import numpy as np

from problems import data as datasets
from problems import readers
from problems.errors import InputError, RegionError
from problems.maps import Array
from problems.network import Network
from problems.regions.ball import Ball, exponent
from problems.regions.base import Region
from problems.regions.box import Box
from problems.regions.metric import MetricBall
from verifier import options
from verifier.bounds.rounding import up
from verifier.bracket import Bracket, Status
from verifier.kept import place_of, record_of, recorded, stored
from verifier.nearest import Nearest, certainly_misclassified
from verifier.piecewise import Target
from verifier.search.budget import Budget, bytes_of
from verifier.search.checkpoint import Checkpoint
from verifier.search.cluster import opened
from verifier.search.executors import default_workers, fan_out
from verifier.search.question import Witness
from verifier.search.search import Search
from verifier.search.store import Store
from verifier.sharpening import Sharpening, Stage

# Pieces that are bounded before neurons are tightened: a count, so that radii that need no more are the same on every machine.
QUICK_PIECES = 2000
# Without a witness in R^n, balls of growing radius are searched up to this multiple of the sample's own size.
LARGEST_RADIUS = 1e6


@dataclass(frozen=True, eq=False)
class Radius:
    """One sample's answer: its number in the data, its label, and the bracket of its distance to misclassification."""

    sample: int
    label: int
    bracket: Bracket


@dataclass(frozen=True, eq=False)
class Task:
    """A sample x (n,) with its label; start (n,) is a misclassified point found by an attack, or None. timeout in seconds.

    until: an instant of time.time() at which the answer must be there, however late the task was begun.
    """

    sample: int
    x: Array
    label: int
    start: Array | None
    timeout: float | None = None
    enough: float = inf
    until: float = inf


@dataclass(frozen=True, eq=False)
class Setting:
    """What all samples of one call share."""

    network: Network
    norm: float
    box: Box | None
    tolerance: float
    solver: str
    memory: float | None = None
    float32: bool = False
    store: Store | None = None


def radius(
    network: Any,
    data: Any,
    *,
    norm: float | str,
    region: Region | None = None,
    samples: str | slice | None = None,
    timeout: float | None = None,
    memory: float | None = None,
    workers: int | None = None,
    device: str = "cpu",
    solver: str = "auto",
    tolerance: float = 1e-6,
    seed: int = 0,
    semantics: str = "real",
    skip: Collection[int] = (),
    executor: Executor | str | None = None,
    restarts: int = 10,
    resume: str | Path | None = None,
    ground: str = "l1",
    pixels: str = "simplex",
    configuration: str = "complete-feasible",
    reference: Array | None = None,
) -> Iterator[Radius]:
    """Radii of the samples, one `Radius` each, in order of completion.

    norm: 1, 2, inf or "wasserstein"; region: a Box, or None for the data's own domain (R^n where it has none); timeout in seconds
    per sample; tolerance relative; skip: sample numbers not asked for; executor: where samples are solved (anything that follows
    concurrent.futures.Executor, or "dask://HOST:PORT"), default `workers` processes. A sample already misclassified has radius 0; where no
    misclassified point exists the radius is inf and the status EMPTY. resume: a file that keeps radii and searches as they go, and that
    the same call goes on from. Raises InputError on bad input, StoreError where that file cannot be used.

    norm "wasserstein": distances between images of mass 1, with ground, pixels, configuration and reference as described by
    `verifier.transport.radii.radii`; no region applies, semantics are real, and nothing is resumed.
    """
    options.check(
        timeout=timeout, memory=memory, workers=workers, solver=solver, tolerance=tolerance, seed=seed, semantics=semantics
    )  # fmt: skip
    if norm == "wasserstein":
        from verifier.transport.radii import radii as transported

        for name, given in (("region", region is not None), ("semantics", semantics != "real"), ("resume", resume is not None)):
            if given:
                raise InputError(name, "does not go with the norm wasserstein.", "Leave it out: mass is kept, and radii are real.")
        with opened(executor) as pool:
            yield from transported(
                network, data, ground=ground, pixels=pixels, configuration=configuration, reference=reference, samples=samples,
                timeout=timeout, memory=memory, workers=workers, device=device, solver=solver, tolerance=tolerance, seed=seed, skip=skip,
                executor=pool,
            )  # fmt: skip
        return
    setting, chosen = prepare(
        network, data, norm=norm, region=region, samples=samples, memory=memory, solver=solver, tolerance=tolerance, semantics=semantics
    )
    with opened(executor) as pool, stored(setting, resume, seed) as setting:
        yield from _solved(
            setting, chosen, skip, timeout=timeout, device=device, seed=seed, restarts=restarts, workers=workers, executor=pool
        )  # fmt: skip


def _solved(
    setting: Setting, chosen: datasets.Dataset, skip: Collection[int], *, timeout: float | None, device: str, seed: int, restarts: int,
    workers: int | None, executor: Executor | None,
) -> Iterator[Radius]:  # fmt: skip
    keep = [i for i, number in enumerate(chosen.numbers) if int(number) not in skip]
    if not keep:
        return
    # The attack is one batch over all samples: it may take a quarter of what they may take together.
    share = None if timeout is None else 0.25 * timeout * len(keep)
    tasks = attacked_tasks(
        setting, chosen, keep, timeout=timeout, device=device, seed=seed, restarts=restarts, attack_seconds=share
    )  # fmt: skip
    count = default_workers() if workers is None else workers
    yield from fanned(setting, tasks, workers=count, executor=executor)


def fanned(
    setting: Setting, tasks: Sequence[Task], *, workers: int, budget: Budget | None = None, executor: Executor | None = None
) -> Iterator[Radius]:
    """The radii of the tasks, in order of completion. Workers keep them in the setting's store; for those elsewhere it is done here."""
    if setting.store is None or executor is None:
        yield from fan_out(solve, setting, tasks, workers=workers, budget=budget, executor=executor)
        return
    places = {task.sample: Checkpoint(setting.store, prefix=place_of(setting, task)) for task in tasks}
    kept = {sample: place.answer() for sample, place in places.items()}
    yield from (Radius(*recorded(answer)) for answer in kept.values() if answer is not None)
    rest = [task for task in tasks if kept[task.sample] is None]
    for result in fan_out(solve, replace(setting, store=None), rest, workers=workers, budget=budget, executor=executor):
        if result.bracket.status.finished:
            places[result.sample].finish(record_of(result))
        yield result


def prepare(
    network: Any,
    data: Any,
    *,
    norm: float | str,
    region: Region | None,
    samples: str | slice | None,
    memory: float | None,
    solver: str,
    tolerance: float,
    semantics: str,
) -> tuple[Setting, datasets.Dataset]:
    """Check and load what a radius question is asked about."""
    net = readers.load(network)
    chosen = datasets.load(data).select(samples)
    chosen.check_fits(net)
    if isinstance(region, Ball) and region.norm == inf:
        region = Box(*region.bounding_box())
    if region is not None and not isinstance(region, Box):
        raise RegionError("region", "a radius is sought in a box.", "Give a box, or nothing for the data's own domain.")
    box = region if region is not None else chosen.domain
    if box is not None and not isinstance(box, Box):
        raise RegionError("region", "a radius is sought in a box.", "Give the box the data live in.")
    if box is not None:
        chosen.check_inside(box)
    return Setting(net, exponent(norm), box, tolerance, solver, memory, semantics == "float32"), chosen


def attacked_tasks(
    setting: Setting,
    chosen: datasets.Dataset,
    rows: Collection[int],
    *,
    timeout: float | None,
    device: str,
    seed: int,
    restarts: int,
    attack_seconds: float | None = None,
) -> list[Task]:
    """One task per row of the data set, started from the nearest point that a batched attack finds within `attack_seconds`."""
    from verifier.attacks.radius import nearest

    index = np.array(sorted(rows))
    x, y = chosen.x[index], chosen.y[index]
    deadline = None if attack_seconds is None else time.monotonic() + attack_seconds
    points, distances = nearest(
        setting.network, x, y, norm=setting.norm, box=setting.box, seed=seed, device=device, restarts=restarts, deadline=deadline
    )
    return [
        Task(int(number), x[i], int(y[i]), points[i] if distances[i] < inf else None, timeout)
        for i, number in enumerate(chosen.numbers[index])
    ]


def solve(setting: Setting, task: Task, interrupt: Any = None) -> Radius:
    """The radius of one sample: from the store if it is there, else the search, gone on with from where an earlier call has left it."""
    if setting.store is None:
        return _solve(setting, task, interrupt)
    checkpoint = Checkpoint(setting.store, prefix=place_of(setting, task))
    kept = checkpoint.answer()
    return Radius(*recorded(kept)) if kept is not None else _solve(setting, task, interrupt, checkpoint)


def _solve(setting: Setting, task: Task, interrupt: Any, checkpoint: Checkpoint | None = None) -> Radius:
    """The search of one sample's radius, started from the attack's point."""
    limits = [limit for limit in (task.timeout, task.until - time.time()) if limit is not None and limit < inf]
    budget = Budget(max(min(limits), 0.0) if limits else None, bytes_of(setting.memory))
    if interrupt is not None:
        budget.interrupt = interrupt
    question = pose(setting, task)
    if certainly_misclassified(question, task.x):
        return Radius(task.sample, task.label, Bracket("min", 0.0, 0.0, Status.CLOSED, task.x, _semantics(question), budget.elapsed))
    incumbent = None if task.start is None else question.judge(task.start[None], -inf)
    attacked = inf if incumbent is None else -incumbent.value
    whole = setting.box is not None and _bounded(setting.box)
    reach = nextafter(question.ball.norm_upper(_farthest(question.ball)) * (1.0 + 1e-15), inf) if whole else inf
    limit = reach if attacked == inf else inf
    if limit == inf and attacked == inf:
        limit = min(max(1.0, float(np.abs(task.x).max(initial=0.0))), question.ball.radius)
    proved, stats = 0.0, {"opened": 0, "bounded": 0}
    state = None if checkpoint is None else checkpoint.load()
    if state is not None:
        limit, proved, attacked, stats, _ = state["extra"]
    while True:
        posed = replace(question, limit=limit, models={}, current={})
        search, stage = _search(posed, incumbent), Stage()
        if state is not None:
            search.restore(state)
            stage, state = state["extra"][-1], None
        extra = (limit, proved, attacked, dict(stats), stage)
        status = answered(search, posed, budget, stage, None if checkpoint is None else partial(checkpoint.keep, extra=extra))
        for name in stats:
            stats[name] += getattr(search, name)
        if search.witness is not None and limit < -search.lower and status.finished:
            # A misclassified point beyond the limit: from here on its own ball is the region.
            incumbent, proved, limit = search.witness, max(proved, min(limit, -search.upper)), inf
            continue
        if search.witness is not None or limit in (reach, inf) or not status.finished or min(-search.upper, limit) >= task.enough:
            break
        proved = limit
        if limit >= question.ball.radius:
            status = Status.UNDECIDED
            break
        if limit > LARGEST_RADIUS * max(1.0, float(np.abs(task.x).max(initial=0.0))):
            status = Status.UNBOUNDED_SEARCH
            break
        limit = min(4.0 * limit, question.ball.radius)
    # What a search proves within a limit says nothing beyond it.
    known = inf if limit == reach else limit
    result = Radius(task.sample, task.label, _bracket(search, question, status, budget, proved, known, stats | {"attack": attacked}))
    if checkpoint is not None:
        if status in (Status.TIMED_OUT, Status.INTERRUPTED, Status.OUT_OF_MEMORY) and not result.bracket.status.finished:
            checkpoint.leave(search)
        else:
            checkpoint.finish(record_of(result))
    return result


def pose(setting: Setting, task: Task) -> Nearest:
    """The question for one sample, with a row z_k - z_label per competing class k."""
    classes = setting.network.output_size
    ball = Ball(task.x, inf, setting.norm, setting.box)
    if setting.float32 and not (setting.box is not None and _bounded(setting.box)) and task.start is not None:
        ball = ball.with_radius(1.01 * ball.norm_upper(task.start))  # the envelope holds on a bounded region only
    logits = _envelope(setting, task, ball) if setting.float32 else np.zeros(classes)
    envelope = up(np.delete(logits, task.label) + logits[task.label])
    targets: list[Target] = []
    for k in range(classes):
        if k != task.label:
            row = np.zeros((1, classes))
            row[0, k], row[0, task.label] = 1.0, -1.0
            targets.append(Target(ball, row, envelope[len(targets) : len(targets) + 1] * float(setting.float32)))
    return Nearest(
        setting.network,
        tuple(targets),
        ball=ball,
        tolerance=setting.tolerance,
        enough=task.enough,
        solver=setting.solver,
        splitting="neuron",
        envelope=envelope if setting.float32 else None,
    )


def _envelope(setting: Setting, task: Task, ball: Ball) -> Array:
    """(K,): how far float32 logits may lie from the exact ones, over the box, or else over the ball of the attack's point."""
    from verifier.bounds.envelope import float32_envelope

    if task.start is None and (setting.box is None or not _bounded(setting.box)):
        raise InputError("semantics", "float32 needs a bounded region or an attack that succeeds.", "Give --box, or use real.")
    envelope = float32_envelope(setting.network, *ball.bounding_box())
    if not np.isfinite(envelope).all():
        raise InputError(setting.network.name, "may overflow in float32 on this region.", "Use the semantics real.")
    return envelope


def _search(question: Nearest, incumbent: Witness | None) -> Search:
    search = Search(question, batch=32)
    search.offer(incumbent)
    question.root_parameter = search.parameter
    return search


def answered(
    search: Search, question: Nearest, budget: Budget, stage: Stage, keep: Callable[..., None] | None, *, quick: int = QUICK_PIECES
) -> Status:  # fmt: skip
    """Search; what takes longer than a moment is worth tighter neurons first. keep is called after every step."""
    status: Status | None = search.run(budget, keep, most=quick)
    if status is Status.TIMED_OUT and not budget.exceeded():
        saved = None if keep is None else partial(keep, search, now=True)
        status = Sharpening(question, search, budget, watch=keep, saved=saved, stage=stage, solver=question.solver).run()
    return search.run(budget, keep) if status is None else status


def _bracket(
    search: Search, question: Nearest, status: Status, budget: Budget, proved: float, known: float, stats: dict[str, Any]
) -> Bracket:
    upper = inf if search.witness is None else -search.lower
    searched = min(-search.upper, known) if search.started else 0.0
    if search.witness is None and status.finished and searched == inf:
        status = Status.EMPTY
    lower = min(max(proved, searched, 0.0), upper)
    if upper < inf and lower >= upper * (1.0 - question.tolerance):
        status = Status.CLOSED
    witness = None if search.witness is None else search.witness.point
    return Bracket("min", lower, upper, status, witness, _semantics(question), budget.elapsed, stats)


def _semantics(question: Nearest) -> str:
    return "real" if question.envelope is None else "float32"


def _bounded(box: Box) -> bool:
    return bool(np.isfinite(box.lower).all() and np.isfinite(box.upper).all())


def _farthest(ball: MetricBall) -> Array:
    lower, upper = ball.limits.lower, ball.limits.upper
    return np.where(upper - ball.center > ball.center - lower, upper, lower)

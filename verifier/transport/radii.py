"""Exact radii in image-space Wasserstein distance: how much mass, how far, until an image is misclassified?

Radii are distances between images of mass 1, whatever mass the network sees: the cost of a flow divided by the image's mass. The record of
each states ground distance, pixel semantics, configuration and mass. No box applies: mass is kept, pixels stay >= 0 (and <= 1 for "image").
"""

import time
from collections.abc import Collection, Iterator
from concurrent.futures import Executor
from dataclasses import dataclass
from fractions import Fraction
from math import inf
from typing import Any

import numpy as np
from threadpoolctl import threadpool_limits

from problems import data as datasets
from problems import readers
from problems.errors import InputError
from problems.maps import Array
from problems.network import Network
from problems.rounding import round_down, round_up
from problems.transport.domain import check_affine_start
from problems.transport.grid import PIXELS, Grid
from verifier.bracket import Bracket, Status
from verifier.nearest import Nearest, certainly_misclassified
from verifier.piecewise import Target
from verifier.radii import Radius, Task
from verifier.search.budget import Budget, bytes_of
from verifier.search.executors import default_workers, fan_out
from verifier.transport.bounds_only import certified
from verifier.transport.configurations import Configuration, Problem, named, problem
from verifier.transport.ladder import Ladder

# Slope steps per layer once the radius is nearly known, and by how much they are expected to raise it.
STEPS, EXPECTED = 5, 1.04
ATTACK_SHARE = 0.25
# Slope steps per piece. Deeper neurons keep the bounds of the root: bounding them anew on every piece costs five times what it saves.
PIECE_STEPS = 5
# Where bounds begin without an attack: a share of the largest distance.
FIRST_GUESS = 0.01
# Without a misclassified flow, how far the L1 ball in the flow domain is searched, in units of mass 1.
LARGEST = 1e6


@dataclass(frozen=True, eq=False)
class Setting:
    """What all samples of one call share. reference (n,) or None: see `configurations.problem`."""

    network: Network
    grid: Grid
    configuration: Configuration
    pixels: str = "simplex"
    reference: Array | None = None
    tolerance: float = 1e-6
    solver: str = "auto"
    memory: float | None = None


def radii(
    network: Any,
    data: Any,
    *,
    ground: str = "l1",
    pixels: str = "simplex",
    configuration: str = "complete-feasible",
    reference: Array | None = None,
    samples: str | slice | None = None,
    timeout: float | None = None,
    memory: float | None = None,
    workers: int | None = None,
    device: str = "cpu",
    solver: str = "auto",
    tolerance: float = 1e-6,
    seed: int = 0,
    skip: Collection[int] = (),
    executor: Executor | None = None,
) -> Iterator[Radius]:
    """Radii of the samples in units of mass 1, one `Radius` each, in order of completion. See `verifier.radius` for the options.

    ground "l1" or "l2"; pixels "simplex" or "image"; configuration: a name of `CONFIGURATIONS`; reference (n,): an image of every sample's
    mass, which has no effect. Raises InputError, DataError (images that are none), NetworkError (not a classifier of images).
    """
    setting, chosen = prepare(
        network, data, ground=ground, pixels=pixels, configuration=configuration, reference=reference, samples=samples, memory=memory,
        solver=solver, tolerance=tolerance,
    )  # fmt: skip
    keep = [i for i, number in enumerate(chosen.numbers) if int(number) not in skip]
    share = None if timeout is None else ATTACK_SHARE * timeout * len(keep)
    tasks = attacked(setting, chosen, keep, timeout=timeout, device=device, seed=seed, seconds=share)
    yield from fan_out(solve, setting, tasks, workers=default_workers() if workers is None else workers, executor=executor)


def prepare(
    network: Any, data: Any, *, ground: str, pixels: str, configuration: str, reference: Array | None, samples: str | slice | None,
    memory: float | None, solver: str, tolerance: float,
) -> tuple[Setting, datasets.Dataset]:  # fmt: skip
    """Check and load what the radii are asked about."""
    row = named(configuration)
    if pixels not in PIXELS:
        raise InputError("pixels", f"{pixels!r} is not known.", f"Use one of {', '.join(PIXELS)}.")
    net = readers.load(network)
    chosen = datasets.load(data).select(samples)
    chosen.check_fits(net)
    grid = Grid.of_network(net, chosen.image_shape, ground)
    check_affine_start(net)
    for number, x in zip(chosen.numbers, chosen.x, strict=True):
        grid.check_image(x, f"{chosen.name}, sample {number}")
        problem(row, net, x, grid, pixels=pixels, reference=reference)
    return Setting(net, grid, row, pixels, reference, tolerance, solver, memory), chosen


def attacked(
    setting: Setting, chosen: datasets.Dataset, rows: Collection[int], *, timeout: float | None, device: str, seed: int,
    seconds: float | None = None,
) -> list[Task]:  # fmt: skip
    """One task per row of the data set, started from the nearest image that Frank-Wolfe finds."""
    from verifier.attacks.frank_wolfe import nearest

    index = np.array(sorted(rows), dtype=np.int64)
    if not len(index):
        return []
    x, y = chosen.x[index], chosen.y[index]
    deadline = None if seconds is None else time.monotonic() + seconds
    points, distances = nearest(
        setting.network, x, y, shape=setting.grid, pixels=setting.pixels, seed=seed, device=device, deadline=deadline
    )  # fmt: skip
    found = np.isfinite(distances)
    return [
        Task(int(number), x[i], int(y[i]), points[i] if found[i] else None, timeout) for i, number in enumerate(chosen.numbers[index])
    ]  # fmt: skip


def solve(setting: Setting, task: Task, interrupt: Any = None) -> Radius:
    """The radius of one sample. One thread: the products are small, and samples are solved side by side."""
    with threadpool_limits(1):
        return _solved(setting, task, interrupt)


def _solved(setting: Setting, task: Task, interrupt: Any) -> Radius:
    limits = [limit for limit in (task.timeout, task.until - time.time()) if limit is not None and limit < inf]
    budget = Budget(max(min(limits), 0.0) if limits else None, bytes_of(setting.memory))
    if interrupt is not None:
        budget.interrupt = interrupt
    posed = problem(setting.configuration, setting.network, task.x, setting.grid, pixels=setting.pixels, reference=setting.reference)
    question = pose(setting, posed, task)
    mass = setting.grid.mass(task.x)
    if certainly_misclassified(question, posed.ball.center):
        stats = {"bounds": 0.0, "attack": 0.0}
        return Radius(task.sample, task.label, _bracket(setting, mass, 0.0, 0.0, Status.CLOSED, task.x, budget, stats))
    incumbent = None
    if task.start is not None:
        incumbent = question.judge(posed.coordinates(task.start)[None], -inf)
    ladder = Ladder(question, budget, incumbent=incumbent, enough=task.enough * float(mass))
    attack = ladder.upper
    ladder.lower, evaluations = by_bounds(question, posed, ladder.upper, mass, budget)
    bounds_only = ladder.lower
    status = Status.CLOSED if ladder.closed else Status.BOUNDS_ONLY
    if setting.configuration.complete:
        # Nothing is farther from an image than across the grid; flows without images have no end.
        farthest = float(mass) * (setting.grid.height + setting.grid.width) * 1.01
        status = ladder.climb(farthest if posed.domain is None else LARGEST * float(mass))
        if status is Status.EMPTY and posed.domain is not None:
            status = Status.UNBOUNDED_SEARCH
    elif budget.exceeded() is not None and not ladder.closed:
        status = budget.exceeded() or status
    image = None if ladder.incumbent is None else posed.image(ladder.incumbent.point)
    stats = ladder.stats | {
        "evaluations": evaluations,
        "bounds": round_down(Fraction(bounds_only) / mass),
        "attack": inf if attack == inf else round_up(Fraction(attack) / mass),
    }
    return Radius(task.sample, task.label, _bracket(setting, mass, ladder.lower, ladder.upper, status, image, budget, stats))


def pose(setting: Setting, posed: Problem, task: Task) -> Nearest:
    """The question for one sample, with a row z_k - z_label per competing class k."""
    targets = []
    for k in range(setting.network.output_size):
        if k != task.label:
            row = np.zeros((1, setting.network.output_size))
            row[0, k], row[0, task.label] = 1.0, -1.0
            targets.append(Target(posed.ball, row, np.zeros(1)))
    return Nearest(
        posed.network, tuple(targets), ball=posed.ball, tolerance=setting.tolerance, solver=setting.solver, splitting="neuron",
        iterations=PIECE_STEPS, refresh_neurons=0,
    )  # fmt: skip


def by_bounds(question: Nearest, posed: Problem, upper: float, mass: Fraction, budget: Budget) -> tuple[float, int]:
    """(the radius, in mass times distance, that bounds alone certify; how often they were evaluated)."""
    rows = np.concatenate([target.rows for target in question.targets])
    guess = 0.5 * upper if upper < inf else FIRST_GUESS * float(mass)
    lower, first = certified(posed.network, posed.ball, rows, guess, budget)
    if lower <= 0.0 or lower >= upper:
        return min(lower, upper), first
    better, second = certified(posed.network, posed.ball, rows, lower * EXPECTED, budget, iterations=STEPS, lower=lower)
    return min(better, upper), first + second


def _bracket(
    setting: Setting, mass: Fraction, lower: float, upper: float, status: Status, image: Array | None, budget: Budget, stats: dict[str, Any]
) -> Bracket:
    """The bracket in units of mass 1."""
    ends = (min(lower, upper), upper)
    below = inf if ends[0] == inf else round_down(Fraction(ends[0]) / mass)
    above = inf if upper == inf else round_up(Fraction(upper) / mass)
    if status is Status.EMPTY:
        below = inf
    unit = {"ground": setting.grid.ground, "pixels": setting.pixels, "configuration": setting.configuration.name, "mass": float(mass)}
    return Bracket("min", below, above, status, image, "real", budget.elapsed, unit | stats)

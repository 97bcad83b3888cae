"""`certified_radii` and `certified_at`: many samples, by several certificates."""

import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from functools import cache
from math import inf, isfinite
from pathlib import Path
from typing import Any

import numpy as np

from problems import readers
from problems.data import Dataset, load
from problems.errors import InputError, RegionError
from problems.maps import Array, Dense
from problems.network import Network, sequential
from problems.regions import Box
from problems.regions.ball import exponent
from verifier import options
from verifier.certified.base import Certificate, Question
from verifier.certified.crown import Crown
from verifier.certified.interval import IntervalBounds
from verifier.certified.lipschitz_margin import LocalLipschitz, NormProduct
from verifier.certified.triangle import Triangle
from verifier.search.executors import default_workers, fan_out

# By increasing strength and time, as a rule.
LEAST = 2.0  # seconds that a sample may take, as long as this is a small part of what is left
QUICK = 0.1  # seconds that a patient certificate has for a sample, however little is left
METHODS: dict[str, type[Certificate]] = {kind.name: kind for kind in (NormProduct, IntervalBounds, Crown, Triangle, LocalLipschitz)}


@dataclass(frozen=True)
class CertifiedRadii:
    """One sample: by each certificate the radius within which it proves that nothing is misclassified, and what that took.

    complete says of which of them the deadline did not cut the work short; a radius holds either way.
    """

    sample: int
    label: int
    radii: Mapping[str, float]
    seconds: Mapping[str, float]
    complete: Mapping[str, bool]


@dataclass(frozen=True, eq=False)
class _Setting:
    """What all samples of one call share; until: an instant of time.time(), by which `workers` at a time are done with all of them.

    quick: seconds that a patient certificate has in any case.
    """

    network: Network
    norm: float
    box: Box | None
    methods: tuple[str, ...]
    tolerance: float
    solver: str
    until: float
    workers: int
    quick: float


@dataclass(frozen=True, eq=False)
class _Task:
    """One sample; left: how many are to be done from here on, itself included."""

    sample: int
    x: Array
    label: int
    reach: float
    left: int


def certified_radii(
    network: Any,
    data: Dataset | str | Path,
    *,
    norm: float | str,
    methods: Sequence[str] | None = None,
    region: Box | None = None,
    samples: str | slice | None = None,
    reach: Mapping[int, float] | None = None,
    tolerance: float = 0.01,
    timeout: float | None = None,
    workers: int | None = None,
    solver: str = "auto",
    skip: Collection[int] = (),
    executor: Executor | None = None,
) -> Iterator[CertifiedRadii]:
    """Radii around each sample within which each certificate proves that nothing is misclassified, in order of completion.

    norm: 1, 2 or inf; methods: among METHODS (default all); region: a Box, or None for the data's own domain (R^n where it has none).
    reach: {sample: distance of a misclassified input}, where known: the largest radius worth trying. tolerance: relative, on the radius.
    timeout in seconds, for the whole call: what is proved by then is what is returned. skip: sample numbers not asked for.

    Every radius is a lower bound of the exact one, for the stored weights as exact numbers; a sample that is misclassified has 0, inf
    says that the certificate holds for the whole region. Trusted: IEEE arithmetic and the error bounds of matrix products; solvers only
    through safe dual bounds. Raises InputError.
    """
    names = _names(methods)
    options.check(timeout=timeout, workers=workers, tolerance=tolerance, solver=solver)
    net = readers.load(network)
    chosen = load(data).select(samples)
    chosen.check_fits(net)
    box = region if region is not None else chosen.domain
    if box is not None and not isinstance(box, Box):
        raise RegionError("region", "certificates are about boxes.", "Give a box, or nothing for the data's own domain.")
    if box is not None:
        chosen.check_inside(box)
    count = default_workers() if workers is None else workers
    ready(exponent(norm), solver)
    until = inf if timeout is None else time.time() + timeout
    quick = QUICK if timeout is None else min(QUICK, timeout)
    setting = _Setting(net, exponent(norm), box, names, tolerance, solver, until, count, quick)
    known = {} if reach is None else reach
    rows = [row for row, number in enumerate(chosen.numbers.tolist()) if number not in skip]
    tasks = [
        _Task(number, chosen.x[row], int(chosen.y[row]), float(known.get(number, inf)), len(rows) - place)
        for place, (row, number) in enumerate((row, int(chosen.numbers[row])) for row in rows)
    ]
    yield from fan_out(_certified, setting, tasks, workers=count, executor=executor)


def certified_at(
    network: Any, data: Dataset | str | Path, *, method: str, norm: float | str, epsilon: float, region: Box | None = None,
    samples: str | slice | None = None, solver: str = "auto",
) -> Array:  # fmt: skip
    """(N,) bool: whether the certificate proves that nothing within epsilon of the sample, which is included, is misclassified.

    A sample that is misclassified itself is not certified. Otherwise as `certified_radii`. Raises InputError.
    """
    (name,) = _names((method,))
    if not (isinstance(epsilon, int | float) and epsilon >= 0 and isfinite(epsilon)):
        raise InputError("epsilon", f"is {epsilon!r}.", "Give a finite number, 0 or more.")
    net = readers.load(network)
    chosen = load(data).select(samples)
    chosen.check_fits(net)
    box = region if region is not None else chosen.domain
    certificate = METHODS[name]()
    questions = [Question(net, x, int(y), exponent(norm), box, solver=solver) for x, y in zip(chosen.x, chosen.y, strict=True)]  # type: ignore[arg-type]
    return np.array([bool((q.margins() > 0).all()) and (epsilon == 0 or certificate.holds(q, float(epsilon))) for q in questions])


@cache
def ready(norm: float, solver: str) -> None:
    """One tiny question, so that all is compiled before the clock starts."""
    maps = [Dense(np.eye(2)), Dense(np.eye(2))]
    network = sequential(maps, [np.zeros(2), np.array([0.25, 0.0])], name="ready")
    setting = _Setting(network, norm, Box(np.zeros(2), np.ones(2)), tuple(METHODS), 0.1, solver, inf, 1, QUICK)
    _certified(setting, _Task(0, np.full(2, 0.5), 0, inf, 1), None)


def _names(methods: Sequence[str] | None) -> tuple[str, ...]:
    names = tuple(METHODS) if methods is None else tuple(methods)
    for name in names:
        if name not in METHODS:
            raise InputError("method", f"{name!r} is not a certificate.", f"Choose among {', '.join(METHODS)}.")
    if not names:
        raise InputError("method", "none is given.", f"Choose among {', '.join(METHODS)}.")
    return names


def _certified(setting: _Setting, task: _Task, interrupt: Any) -> CertifiedRadii:
    """All certificates of one sample, within its share of the time left. The triangle begins where CROWN ends, which it contains."""
    begun = time.monotonic()
    left = max(setting.until - time.time(), 0.0)
    # A worker's first sample also pays for loading what was compiled.
    share = max(left * setting.workers / max(task.left, setting.workers), min(0.05 * left, LEAST))
    radii: dict[str, float] = {}
    seconds: dict[str, float] = {}
    complete: dict[str, bool] = {}
    for name in setting.methods:
        start = time.monotonic()
        patience = METHODS[name].patience
        granted = max(patience * share, start - begun + setting.quick if patience > 1 else 0.0)
        deadline = begun if interrupt is not None and interrupt.is_set() else begun + granted
        question = Question(
            setting.network, task.x, task.label, setting.norm, setting.box, task.reach,
            radii.get(Crown.name, 0.0) if name == Triangle.name else 0.0, setting.tolerance, setting.solver, deadline,
        )  # fmt: skip
        radii[name], complete[name] = METHODS[name]().radius(question)
        seconds[name] = time.monotonic() - start
    return CertifiedRadii(task.sample, task.label, radii, seconds, complete)

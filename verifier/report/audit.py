"""The audit: exact radii of many samples, worst-case error curves, and one report that says it all.

Every radius is stored as soon as it is known. Ctrl-C, a crash or kill -9 lose nothing but the samples in work: the report shows what is
done, and the same call goes on from there.
"""

import math
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from hashlib import sha256
from itertools import pairwise
from pathlib import Path
from typing import Any
from uuid import uuid4

import numpy as np

from problems import data as datasets
from problems import readers
from problems.data import Dataset
from problems.errors import InputError
from problems.maps import Conv
from problems.network import Affine, Network
from problems.regions import Ball, Box
from verifier.bracket import Status
from verifier.distributional.knapsack import error_bounds
from verifier.report import machine
from verifier.report.cells import picture_of
from verifier.report.html import write
from verifier.report.record import Audit, AuditedSample, Curve, NormAudit, SampleRadius, encode, radius_from_json
from verifier.search.executors import default_workers
from verifier.search.store import Store, run_fingerprint
from verifier.witness import enclose, exact_logits

STORE = "store.sqlite"
Progress = Callable[[str, int, int], None]  # (norm, radii done, radii wanted), at the start and after every radius
_NORMS = {"1": 1.0, "2": 2.0, "inf": math.inf}


def audit(
    network: Any = "digits-16x2",
    data: str | Path | Dataset = "digits:test",
    *,
    output: str | Path = "report",
    samples: str | slice | None = None,
    count: int = 100,
    norms: Sequence[str | float] = ("inf", "2"),
    orders: Sequence[str | float] = (1, 2, math.inf),
    points: int = 160,
    timeout: float | None = None,
    memory: float | None = None,
    workers: int | None = None,
    device: str = "cpu",
    solver: str = "auto",
    tolerance: float = 1e-6,
    seed: int = 0,
    semantics: str = "real",
    progress: Progress | None = None,
    executor: Executor | str | None = None,
) -> Audit:
    """Exact radii, worst-case error curves and a report about the first `count` samples of `data` (or about `samples`, "A:B").

    Writes index.html (opens offline), results.json (docs/results.md) and store.sqlite (for resuming) into the folder `output`.
    norms: of the inputs, among 1, 2, inf; orders: of the Wasserstein distance, among 1, 2, inf; points: about how many epsilons per curve.
    timeout (seconds) and memory (GB) bound the work on one sample. The rest is handed to `verifier.radius`.

    Ends in an Audit: `complete` is False after Ctrl-C, and what it then says about the missing samples is that nothing is known. Every
    witness is checked once more in exact arithmetic. Mathematics: THEORY W4. What is trusted is listed in the report.
    Errors: InputError.
    """
    clock = time.monotonic()
    net = readers.load(network)
    dataset = datasets.load(data)
    about_data = _about_data(dataset)  # fingerprint and size are those of the whole data set
    dataset = dataset.select(samples if samples is not None else slice(0, min(_at_least("count", count, 1), len(dataset))))
    dataset.check_fits(net)
    options = _Options(
        norms=_choices("norms", norms), orders=_choices("orders", orders), points=_at_least("points", points, 2),
        timeout=timeout, memory=memory, workers=workers or default_workers(), device=device, solver=solver,
        tolerance=tolerance, seed=seed, semantics=semantics, executor=executor,
    )  # fmt: skip
    folder = _folder(output)
    examined = list(_examine(net, dataset))
    with Store(folder / STORE) as store:
        session = _Session(store, _run(net, about_data["fingerprint"], options), clock)
        radii, complete = _all_radii(net, dataset, options, session, progress)
        record = Audit(
            network=_about_network(net),
            data=about_data,
            options=options.record(len(dataset)),
            samples=tuple(examined),
            norms=tuple(_norm_audit(norm, found, dataset, options, session) for norm, found in radii.items()),
            sessions=session.all(),
            date=datetime.now(UTC).isoformat(timespec="seconds"),
            machine=machine.machine(device),
            versions=machine.versions(),
            complete=complete,
            notes=tuple(note for found in radii.values() for radius in found.values() if radius.checked is False for note in radius.notes),
            cells=picture_of(net, dataset, options.norms[0]) if complete else None,
        )
        write(record, folder)
    return record


@dataclass(frozen=True)
class _Options:
    norms: tuple[str, ...]
    orders: tuple[str, ...]
    points: int
    timeout: float | None
    memory: float | None
    workers: int
    device: str
    solver: str
    tolerance: float
    seed: int
    semantics: str
    executor: Executor | str | None

    def record(self, count: int) -> dict[str, Any]:
        fields = {
            name: getattr(self, name) for name in ("timeout", "memory", "workers", "device", "solver", "tolerance", "seed", "semantics")
        }
        return {"count": count, "norms": list(self.norms), "orders": [_NORMS[order] for order in self.orders], **fields}


class _Session:
    """This run's use of the store: radii by norm, and how long every run has worked."""

    def __init__(self, store: Store, run: dict[str, str], clock: float) -> None:
        self._store = store
        self._run = run
        self._clock = clock
        self._key = f"session/{datetime.now(UTC).isoformat()}/{uuid4().hex}"
        self.computed = 0

    def _norm(self, norm: str) -> Store:
        return self._store.for_run(self._run[norm])

    def radii(self, norm: str) -> Iterator[SampleRadius]:
        """What earlier runs found."""
        return (radius_from_json(record) for _, record in self._norm(norm).records("sample/"))

    def keep(self, norm: str, radius: SampleRadius, norm_seconds: float) -> None:
        """Store a radius: when this returns it survives a kill."""
        self._norm(norm).put_record(f"sample/{radius.sample:08}", encode(radius))
        self.computed += 1
        self._norm(norm).put_record(self._key, norm_seconds)
        self._store.for_run(self._run["audit"]).put_record(self._key, [time.monotonic() - self._clock, self.computed])

    def seconds(self, norm: str) -> float:
        """Wall-clock seconds that all runs have spent on this norm."""
        return sum(seconds for _, seconds in self._norm(norm).records("session/"))

    def all(self) -> tuple[tuple[float, int], ...]:
        """(seconds, radii computed) of every run that computed a radius; this run last."""
        store = self._store.for_run(self._run["audit"])
        if self.computed:
            store.put_record(self._key, [time.monotonic() - self._clock, self.computed])
        return tuple((float(seconds), int(count)) for _, (seconds, count) in store.records("session/"))


def _all_radii(
    network: Network, dataset: Dataset, options: _Options, session: _Session, progress: Progress | None
) -> tuple[dict[str, dict[int, SampleRadius]], bool]:
    """({norm: {sample: radius}}, whether all are there). Ends early, with what is done, on Ctrl-C."""
    rows = _rows(dataset)
    found: dict[str, dict[int, SampleRadius]] = {norm: {} for norm in options.norms}
    for norm in options.norms:
        found[norm] = {radius.sample: radius for radius in session.radii(norm) if radius.sample in rows}
    stopped = False
    try:
        for norm in options.norms:
            done = {sample for sample, radius in found[norm].items() if not _worth_repeating(radius, options)}
            start = time.monotonic()
            if progress is not None:
                progress(norm, len(done), len(rows))
            for radius in _radii(network, dataset, norm, options, done):
                if radius.status == Status.INTERRUPTED.name:
                    # Other workers may still hand in what they had finished; alone, the next sample would be started.
                    stopped = True
                    if options.workers == 1:
                        break
                    continue
                session.keep(norm, radius, time.monotonic() - start)
                found[norm][radius.sample] = radius
                done.add(radius.sample)
                if progress is not None:
                    progress(norm, len(done), len(rows))
            if stopped:
                return found, False
    except KeyboardInterrupt:
        return found, False
    return found, all(len(found[norm]) == len(rows) for norm in options.norms)


def _radii(network: Network, dataset: Dataset, norm: str, options: _Options, done: set[int]) -> Iterator[SampleRadius]:
    """The radii of the samples that are not done, checked, in the order in which they are ready."""
    from verifier.radii import radius

    rows = _rows(dataset)
    if rows.keys() <= done:
        return
    records = radius(
        network, dataset, norm=_NORMS[norm], timeout=options.timeout, memory=options.memory, workers=options.workers, device=options.device,
        solver=options.solver, tolerance=options.tolerance, seed=options.seed, semantics=options.semantics, skip=frozenset(done),
        executor=options.executor,
    )  # fmt: skip
    for record in records:
        yield _checked(network, dataset, rows[record.sample], norm, _from_record(record, options))


def _from_record(record: Any, options: _Options) -> SampleRadius:
    bracket = record.bracket
    attack = bracket.stats.get("attack", bracket.upper if bracket.upper == 0 else math.inf)
    return SampleRadius(
        sample=int(record.sample),
        lower=float(bracket.lower),
        upper=float(bracket.upper),
        attack=float(attack),
        status=bracket.status.name,
        sentence=bracket.status.value,
        closed=bracket.status.finished,
        seconds=float(bracket.seconds),
        witness=None if bracket.witness is None else tuple(float(value) for value in bracket.witness),
        timeout=options.timeout,
        notes=tuple(bracket.notes),
    )


def _checked(network: Network, dataset: Dataset, row: int, norm: str, radius: SampleRadius) -> SampleRadius:
    """The radius after the exact check of its witness; one that fails is dropped with its upper end, and a note says so."""
    if radius.witness is None:
        return radius
    point = np.array(radius.witness)
    label = int(dataset.y[row])
    logits = exact_logits(network, point)
    rival = max((k for k in range(len(logits)) if k != label), key=lambda k: logits[k])
    inside = dataset.domain is None or dataset.domain.contains(point)
    near = Ball(dataset.x[row], radius.upper, _NORMS[norm]).contains(point)
    if inside and near and logits[rival] >= logits[label]:
        return replace(radius, witness_label=rival, checked=True)
    note = f"Sample {radius.sample}, norm {norm}: the witness failed the audit's exact check and was dropped with its upper end."
    return replace(radius, upper=math.inf, witness=None, closed=False, checked=False, notes=(*radius.notes, note))


def _worth_repeating(radius: SampleRadius, options: _Options) -> bool:
    """Whether an unfinished earlier result should be tried again: where it ran out of what there is more of now."""
    if radius.status == Status.TIMED_OUT.name:
        now, then = (math.inf if timeout is None else timeout for timeout in (options.timeout, radius.timeout))
        return now > then
    return radius.status == Status.OUT_OF_MEMORY.name


def _norm_audit(norm: str, found: Mapping[int, SampleRadius], dataset: Dataset, options: _Options, session: _Session) -> NormAudit:
    """The record of one norm. A sample without a result has a radius in [0, inf], so that the curves hold for all samples."""
    radii = tuple(found[sample] for sample in sorted(found))
    missing = len(dataset) - len(radii)
    lower = np.array([radius.lower for radius in radii] + [0.0] * missing)
    upper, attack = (np.array([getattr(radius, end) for radius in radii] + [math.inf] * missing) for end in ("upper", "attack"))
    grid = epsilon_grid(upper, options.points)
    curves = tuple(_curve(_NORMS[order], grid, lower, upper, attack) for order in options.orders) if grid else ()
    return NormAudit(norm, radii, curves, session.seconds(norm))


def _curve(order: float, grid: Sequence[float], lower: np.ndarray, upper: np.ndarray, attack: np.ndarray) -> Curve:
    low, high = error_bounds(lower, upper, grid, order)
    attacked, _ = error_bounds(lower, attack, grid, order)
    return Curve(order, tuple(grid), tuple(attacked.tolist()), tuple(low.tolist()), tuple(high.tolist()))


def epsilon_grid(radii: Iterable[float], points: int) -> tuple[float, ...]:
    """Multiples of a round number, about `points` of them, from 0 to 1.3 times the 90 % quantile of the finite radii.

    Each is the float nearest to its decimal. Empty where no radius is finite and positive.
    """
    finite = sorted(radius for radius in radii if math.isfinite(radius))
    reach = 1.3 * float(np.quantile(finite, 0.9)) if finite else 0.0
    if reach <= 0.0:
        reach = 1.3 * max(finite, default=0.0)
    if reach <= 0.0:
        return ()
    exponent = math.floor(math.log10(reach / points))
    # The smallest round step that needs no more than `points` steps.
    factor = next(m for m in (1, 2, 5, 10, 20) if m * 10.0**exponent * points >= reach)
    scale = 10 ** abs(exponent)
    steps = math.ceil(reach / (factor * 10.0**exponent))
    return tuple(float(k * factor * scale) if exponent >= 0 else k * factor / scale for k in range(steps + 1))


def _examine(network: Network, dataset: Dataset) -> Iterator[AuditedSample]:
    """What the network says about every sample: decided by enclosures, in exact arithmetic where these overlap."""
    lower, upper = enclose(network, dataset.x)
    predicted = network.forward(dataset.x).argmax(axis=1)
    for sample, row in _rows(dataset).items():
        label = int(dataset.y[row])
        others = [k for k in range(network.output_size) if k != label]
        if lower[row, others].max() >= upper[row, label]:
            wrong = True
        elif upper[row, others].max() < lower[row, label]:
            wrong = False
        else:
            logits = exact_logits(network, dataset.x[row])
            wrong = max(logits[k] for k in others) >= logits[label]
        yield AuditedSample(sample, label, int(predicted[row]), wrong, tuple(dataset.x[row].tolist()))


def _run(network: Network, data: str, options: _Options) -> dict[str, str]:
    """Fingerprints of the runs: one per norm for its radii, and "audit" for the sessions. What cannot change a result stays out."""
    from verifier import __version__

    common = {
        "data": data, "tolerance": options.tolerance, "seed": options.seed, "semantics": options.semantics,
        "solver": options.solver, "device": options.device, "version": __version__,
    }  # fmt: skip
    runs = {norm: run_fingerprint(network.fingerprint, "radius", norm=norm, **common) for norm in _NORMS}
    return runs | {"audit": run_fingerprint(network.fingerprint, "audit", norms=list(options.norms), **common)}


def _data_fingerprint(dataset: Dataset) -> str:
    """SHA-256 of the samples, their labels and the region they live in."""
    digest = sha256(repr((dataset.name, dataset.x.shape, None if dataset.domain is None else type(dataset.domain).__name__)).encode())
    for part in (dataset.x, dataset.y, *(dataset.domain.bounding_box() if dataset.domain is not None else ())):
        digest.update(np.ascontiguousarray(part).tobytes())
    return digest.hexdigest()


def _rows(dataset: Dataset) -> dict[int, int]:
    """{number of the sample in its data set: row here}."""
    return {int(sample): row for row, sample in enumerate(dataset.numbers)}


def _about_network(network: Network) -> dict[str, Any]:
    sizes = [network.input_size, *(network.nodes[index].size for index in network.relus), network.output_size]
    affine = [node for node in network.nodes if isinstance(node, Affine)]
    kinds = [
        "convolutional " if any(isinstance(linear, Conv) for node in affine for linear in node.maps) else "",
        "with joins " if any(len(node.parents) > 1 for node in affine) else "",
    ]
    return {
        "name": network.name,
        "source": network.source.name if network.source is not None else None,
        "fingerprint": network.fingerprint,
        "architecture": "".join(kinds) + "-".join(str(size) for size in sizes),
        "input_shape": list(network.input_shape),
        "output_size": network.output_size,
        "neurons": network.neurons,
        "precision": network.precision,
        "roundings": list(network.roundings),
    }


def _about_data(dataset: Dataset) -> dict[str, Any]:
    n = dataset.x.shape[1]
    power = str(n).translate(str.maketrans("0123456789", "⁰¹²³⁴⁵⁶⁷⁸⁹"))
    domain = f"ℝ{power}"
    if dataset.domain is not None:
        sides = dataset.domain.bounding_box()
        same = isinstance(dataset.domain, Box) and all(a == b for side in sides for a, b in pairwise(side))
        domain = f"[{sides[0][0]:g}, {sides[1][0]:g}]{power}" if same else f"a region of ℝ{power}"
    return {
        "name": dataset.name,
        "fingerprint": _data_fingerprint(dataset),
        "available": len(dataset),
        "domain": domain,
        "image_shape": None if dataset.image_shape is None else list(dataset.image_shape),
    }


def _folder(output: str | Path) -> Path:
    folder = Path(output)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(str(folder), f"cannot be made ({error.strerror}).", "Name another folder with --output.") from None
    return folder


def _choices(name: str, values: Sequence[str | float]) -> tuple[str, ...]:
    """The norms or orders by their names "1", "2", "inf", each once."""
    names = [next((name for name, number in _NORMS.items() if value in (name, number)), None) for value in values]
    if not names or None in names or len(set(names)) != len(names):
        raise InputError(name, f"{', '.join(map(str, values)) or 'none'} given.", "Give one or more of 1, 2, inf, each once.")
    return tuple(str(name) for name in names)


def _at_least(name: str, value: int, least: int) -> int:
    if value < least:
        raise InputError(name, f"{value} is too small.", f"Give at least {least}.")
    return value

"""The part of an audit that all others stand on: exact radii of the samples, and the worst-case error curves that follow from them."""

import math
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from problems.regions import Ball
from verifier.bracket import Status
from verifier.distributional.knapsack import error_bounds
from verifier.report.ground import NORMS, Ground, Options
from verifier.report.record import Curve, NormAudit, SampleRadius
from verifier.report.session import Session
from verifier.witness import exact_logits

Progress = Callable[[str, int, int], None]  # (what, how many are done, how many are wanted), at the start and after each


def all_radii(ground: Ground, session: Session, progress: Progress | None) -> tuple[dict[str, dict[int, SampleRadius]], bool]:
    """({norm: {sample: radius}}, whether all are there). Ends early, with what is done, on Ctrl-C."""
    rows, options = ground.rows, ground.options
    found: dict[str, dict[int, SampleRadius]] = {norm: {} for norm in options.norms}
    for norm in options.norms:
        found[norm] = {radius.sample: radius for radius in session.radii(norm) if radius.sample in rows}
    stopped = False
    try:
        for norm in options.norms:
            done = {sample for sample, radius in found[norm].items() if not _worth_repeating(radius, options)}
            start = time.monotonic()
            if progress is not None:
                progress(f"radii, norm {norm}", len(done), len(rows))
            for radius in _radii(ground, norm, done):
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
                    progress(f"radii, norm {norm}", len(done), len(rows))
            if stopped:
                return found, False
    except KeyboardInterrupt:
        return found, False
    return found, all(len(found[norm]) == len(rows) for norm in options.norms)


def _radii(ground: Ground, norm: str, done: set[int]) -> Iterator[SampleRadius]:
    """The radii of the samples that are not done, checked, in the order in which they are ready."""
    from verifier.radii import radius

    rows, options = ground.rows, ground.options
    if rows.keys() <= done:
        return
    records = radius(
        ground.network, ground.dataset, norm=NORMS[norm], timeout=options.timeout, memory=options.memory, workers=options.workers,
        device=options.device, solver=options.solver, tolerance=options.tolerance, seed=options.seed, semantics=options.semantics,
        skip=frozenset(done), executor=options.executor,
    )  # fmt: skip
    for record in records:
        yield _checked(ground, rows[record.sample], norm, _from_record(record, options))


def _from_record(record: Any, options: Options) -> SampleRadius:
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


def _checked(ground: Ground, row: int, norm: str, radius: SampleRadius) -> SampleRadius:
    """The radius after the exact check of its witness; one that fails is dropped with its upper end, and a note says so."""
    if radius.witness is None:
        return radius
    network, dataset, point = ground.network, ground.dataset, np.array(radius.witness)
    label = int(dataset.y[row])
    logits = exact_logits(network, point)
    rival = max((k for k in range(len(logits)) if k != label), key=lambda k: logits[k])
    inside = dataset.domain is None or dataset.domain.contains(point)
    near = Ball(dataset.x[row], radius.upper, NORMS[norm]).contains(point)
    if inside and near and logits[rival] >= logits[label]:
        return replace(radius, witness_label=rival, checked=True)
    note = f"Sample {radius.sample}, norm {norm}: the witness failed the audit's exact check and was dropped with its upper end."
    return replace(radius, upper=math.inf, witness=None, closed=False, checked=False, notes=(*radius.notes, note))


def _worth_repeating(radius: SampleRadius, options: Options) -> bool:
    """Whether an unfinished earlier result should be tried again: where it ran out of what there is more of now."""
    if radius.status == Status.TIMED_OUT.name:
        now, then = (math.inf if timeout is None else timeout for timeout in (options.timeout, radius.timeout))
        return now > then
    return radius.status == Status.OUT_OF_MEMORY.name


def norm_audit(ground: Ground, norm: str, found: Mapping[int, SampleRadius], session: Session) -> NormAudit:
    """The record of one norm. A sample without a result has a radius in [0, inf], so that the curves hold for all samples."""
    radii = tuple(found[sample] for sample in sorted(found))
    missing = len(ground.dataset) - len(radii)
    lower = np.array([radius.lower for radius in radii] + [0.0] * missing)
    upper, attack = (np.array([getattr(radius, end) for radius in radii] + [math.inf] * missing) for end in ("upper", "attack"))
    grid = epsilon_grid(upper, ground.options.points)
    curves = tuple(_curve(NORMS[order], grid, lower, upper, attack) for order in ground.options.orders) if grid else ()
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

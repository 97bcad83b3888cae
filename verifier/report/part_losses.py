"""The part of an audit about worst expected losses: V(epsilon) for margin and cross-entropy, order 1, with its worst distributions."""

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from verifier.report.ground import NORMS, Ground
from verifier.report.parts import Part
from verifier.report.record import LossCurve, Move, WorstDistribution
from verifier.search.store import Store

LOSSES = ("margin", "cross-entropy")
# Relative gap, of the rise of the loss, at which an epsilon is closed.
TOLERANCE = 1e-2
# Points of one distribution that are kept to be drawn.
DRAWN = 8


@dataclass(frozen=True, eq=False)
class LossPart(Part):
    """One curve. epsilon: at which budgets, increasing; shown: indices of those whose worst distribution is kept."""

    loss: str
    epsilon: tuple[float, ...]
    shown: tuple[int, ...]
    share: ClassVar[float] = 25.0
    kind: ClassVar[type] = LossCurve

    @property
    def title(self) -> str:
        return f"worst expected {self.loss} loss, norm {self.norm}"

    def question(self, ground: Ground) -> dict[str, Any]:
        return {"loss": self.loss, "norm": self.norm, "epsilon": self.epsilon, "samples": ground.dataset.numbers, "shown": self.shown}

    def settled(self, record: LossCurve) -> bool:
        return all(name == "CLOSED" for name in record.status)

    def compute(self, ground: Ground, seconds: float, meant: float, store: Store) -> LossCurve:
        import verifier

        options = ground.options
        start = time.monotonic()
        # Ctrl-C ends in the brackets reached, and the answers about single samples stay in the file for the next time.
        records = verifier.dro(
            ground.network, ground.dataset, loss=self.loss, norm=NORMS[self.norm], order=1, epsilon=self.epsilon, timeout=seconds,
            memory=options.memory, workers=options.workers, device=options.device, solver=options.solver, tolerance=TOLERANCE,
            seed=options.seed, executor=options.executor, resume=store.path,
        )  # fmt: skip
        return curve_of(self, ground, records, time.monotonic() - start, meant)


def curve_of(part: LossPart, ground: Ground, records: Sequence[Any], seconds: float, meant: float) -> LossCurve:
    """The record of the answers of `verifier.dro`, one per epsilon."""

    def column(read: Any) -> tuple[float, ...]:
        return tuple(float(read(record)) for record in records)

    def line(record: Any, which: int, missing: float) -> float:
        value = None if record.slope_bounds is None else record.slope_bounds[which]
        return missing if value is None else value

    clean = records[0].clean
    return LossCurve(
        loss=part.loss,
        norm=part.norm,
        order=1.0,
        clean=(float(clean[0]), float(clean[1])),
        epsilon=part.epsilon,
        attack=column(lambda record: record.attack),
        lower=column(lambda record: record.lower),
        upper=column(lambda record: record.upper),
        published=column(lambda record: math.inf if record.lipschitz_bound is None else record.lipschitz_bound),
        steepest=column(lambda record: line(record, 1, math.inf)),
        flattest=column(lambda record: line(record, 0, -math.inf)),
        status=tuple(record.status.name for record in records),
        worst=tuple(
            distribution_of(ground, part.loss, records[i].distribution, drawn=place == len(part.shown) // 2)
            for place, i in enumerate(part.shown)
            if records[i].distribution is not None
        ),
        seconds=seconds,
        timeout=meant,
        notes=tuple(dict.fromkeys(note for record in records for note in record.reasons)),
    )


def distribution_of(ground: Ground, loss: str, worst: Any, *, drawn: bool) -> WorstDistribution:
    """The moves of a distribution, with the points of the first few where they are to be drawn."""
    from verifier.distributional.losses import loss_named

    dataset, rows = ground.dataset, ground.rows
    measure = loss_named(loss)
    places = [rows[int(sample)] for sample in worst.samples]
    before = {
        place: float(measure.at_least(ground.network, dataset.x[place : place + 1], int(dataset.y[place]))[0]) for place in set(places)
    }
    moves = []
    for k, place in enumerate(places):
        if worst.costs[k] == 0:
            continue
        share, after = float(worst.weights[k]) * len(dataset), float(worst.losses[k])
        gain = share * (after - before[place]) / len(dataset)
        moves.append((gain, k, Move(int(worst.samples[k]), share, float(worst.costs[k]), before[place], after, gain)))
    moves.sort(key=lambda entry: (-entry[0], entry[1]))
    found = []
    for rank, (_, k, move) in enumerate(moves):
        point = tuple(worst.points[k].tolist()) if drawn and rank < DRAWN else None
        found.append(Move(move.sample, min(move.share, 1.0), move.distance, move.before, move.after, move.gain, point))
    return WorstDistribution(float(worst.epsilon), float(worst.expected), float(worst.cost), tuple(found))


def loss_epsilons(radii: Sequence[float], count: int, otherwise: float = 1.0) -> tuple[float, ...]:
    """`count` budgets, evenly spaced in their logarithms from a fiftieth to twice the median finite radius, each of two digits.

    otherwise: what stands for that median where no radius is finite and positive.
    """
    finite = [radius for radius in radii if 0.0 < radius < math.inf]
    middle = float(np.median(finite)) if finite else otherwise
    return tuple(sorted({float(f"{value:.1e}") for value in np.geomspace(middle / 50, 2 * middle, count)}))


def shown_of(epsilon: Sequence[float]) -> tuple[int, ...]:
    """Three of the budgets: a small, a middle and a large one."""
    last = len(epsilon) - 1
    return tuple(sorted({last // 3, last // 2, (4 * last) // 5}))

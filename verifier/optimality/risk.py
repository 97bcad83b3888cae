"""The optimal adversarial risk between two classes: what no classifier can do better, from samples (THEORY section 9).

An adversary moves every sample by at most eps. Two samples of different classes at most 2 eps apart can be moved to one point (their
midpoint), so no classifier is right around both: they are in conflict. The samples around which a classifier is right are free of
conflicts; conversely, for every set free of conflicts there is a classifier that is right around it: the first class on the balls of its
samples of that class, the second elsewhere. So the optimal risk of the weighted samples is the lightest vertex cover of the conflict
graph, and by König's theorem the largest (fractional) matching. That is the optimal transport between the classes at cost
1[distance > 2 eps] (Bhagoji, Cullina and Mittal 2019; Pydi and Jog 2020; the book chapter's 17.6.6).
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from math import isfinite
from threading import Event
from typing import Any, Protocol

import numpy as np

from problems.data import Dataset, load
from problems.errors import DataError, InputError
from problems.maps import Array
from problems.regions.ball import exponent
from problems.rounding import round_down, round_up
from problems.transport.grid import Grid
from verifier import options
from verifier.bracket import Status
from verifier.optimality import cover
from verifier.optimality.distances import NormDistances
from verifier.optimality.images import ImageDistances
from verifier.search.budget import Budget, bytes_of

PRIORS = ("empirical", "equal")


class Distances(Protocol):
    """Distances between the samples of two classes, known as well as needed."""

    shape: tuple[int, int]
    lower: Array

    def within(self, threshold: Fraction) -> tuple[Array, Array]: ...

    def decide(self, pairs: Array, threshold: Fraction, stop: Callable[[], bool]) -> None: ...


@dataclass(frozen=True, eq=False)
class OptimalRisk:
    """lower <= the least adversarial risk of any classifier on these samples <= upper, both proved.

    exact_lower, exact_upper: the same as fractions, equal unless the time was over. pairs (m, 2): samples of the first and of the second
    class in conflict, weights (m,) their shares of the risk, which sum to exact_lower. errors (e,): samples to give up; a
    classifier that is right around all others exists, and these weigh exact_upper. Samples are numbered as in the data before
    selection. conflicts: pairs proved to be in conflict; open_pairs: those not decided, because the answer does not depend on them or the
    time was over. seconds: for this epsilon.
    """

    epsilon: float
    exact_lower: Fraction
    exact_upper: Fraction
    pairs: Array
    weights: tuple[Fraction, ...]
    errors: Array
    conflicts: int
    open_pairs: int
    seconds: float
    status: Status

    @property
    def lower(self) -> float:
        """exact_lower rounded down."""
        return round_down(self.exact_lower)

    @property
    def upper(self) -> float:
        """exact_upper rounded up."""
        return round_up(self.exact_upper)

    @property
    def matching(self) -> int:
        """The number of pairs in the matching."""
        return len(self.pairs)


def optimal_risk(
    data: Any,
    *,
    classes: Sequence[int],
    norm: float | str,
    epsilon: Sequence[float] | float,
    samples: str | slice | None = None,
    priors: str = "empirical",
    timeout: float | None = None,
    memory: float | None = None,
) -> list[OptimalRisk]:
    """The least adversarial risk that any classifier can have between two classes of `data`, for each eps.

    data: as for `radius`; classes: two labels; norm: 1, 2, inf, or "wasserstein" (images normalised to mass 1, W1 with L1 ground
    distance in pixels); epsilon: how far each sample may move, >= 0; priors: "empirical", every sample weighs the same, or "equal", both
    classes do; timeout in seconds for the whole call, memory in GB. The answer holds for deterministic and for randomised classifiers,
    and for an adversary in the whole space or in any convex domain (a box; a cap on pixels): midpoints lie in it. For "wasserstein" it
    is about classifiers that see the normalised image. Raises InputError.
    """
    values = [epsilon] if isinstance(epsilon, int | float | np.number) else list(epsilon)
    if not values:
        raise InputError("epsilon", "is empty.", "Give at least one number >= 0.")
    for value in values:
        if not (isinstance(value, int | float | np.number) and isfinite(value) and value >= 0):
            raise InputError("epsilon", f"{value!r} is not a finite number >= 0.", "Give how far each sample may move.")
    if priors not in PRIORS:
        raise InputError("priors", f"{priors!r} is not known.", f"Choose one of {', '.join(PRIORS)}.")
    options.check(timeout=timeout, memory=memory)
    chosen = load(data).select(samples)
    first, second = _members(chosen, classes)
    distances = _distances(chosen, first, second, norm)
    interrupt = Event()
    budget = Budget(timeout, bytes_of(memory), interrupt)
    numbers = chosen.numbers[first], chosen.numbers[second]
    return [_answer(distances, float(value), numbers, priors == "equal", budget, interrupt) for value in values]


def _members(data: Dataset, classes: Sequence[int]) -> tuple[Array, Array]:
    """The rows of the two classes."""
    labels = list(classes)
    if len(labels) != 2 or labels[0] == labels[1]:
        raise InputError("classes", f"{', '.join(map(str, labels))} are not two classes.", "Give two different labels, as in 3,7.")
    rows = [np.flatnonzero(data.y == label) for label in labels]
    for label, members in zip(labels, rows, strict=True):
        if not len(members):
            present = ", ".join(map(str, np.unique(data.y).tolist()))
            raise DataError(data.name, f"has no sample of class {label}.", f"The classes among the selected samples are {present}.")
    return rows[0], rows[1]


def _distances(data: Dataset, first: Array, second: Array, norm: float | str) -> Distances:
    a, b = data.x[first], data.x[second]
    if norm != "wasserstein":
        return NormDistances(a, b, exponent(norm, "norm"))
    return ImageDistances(a, b, image_grid(data, np.concatenate([first, second])))


def image_grid(data: Dataset, rows: Array) -> Grid:
    """The grid the samples live on. Raises DataError unless the chosen samples are images with mass to move."""
    if data.image_shape is None:
        raise DataError(data.name, "has no image shape, so there is no grid to move mass on.", "Give x as an array (N, rows, columns).")
    grid = Grid.of(data.image_shape)
    if grid.channels != 1:
        advice = "Give one channel, or their sum: mass keeps its channel, and in normalised images the channels' masses differ."
        raise DataError(data.name, f"holds images of {grid.channels} channels.", advice)
    for row in rows:
        grid.check_image(data.x[row], f"{data.name}, sample {data.numbers[row]}")
    return grid


def _answer(
    distances: Distances, epsilon: float, numbers: tuple[Array, Array], equal: bool, budget: Budget, interrupt: Event
) -> OptimalRisk:
    """Match along pairs that may be in conflict, decide those that the matching uses, match again without the refuted ones.

    Once all pairs used are proved, the matching of the possible conflicts is one of the proved conflicts too, so both ends are the same.
    """
    started, threshold = time.monotonic(), 2 * Fraction(epsilon)
    capacity = cover.capacities(*distances.shape, equal=equal)
    total = distances.shape[0] * capacity[0] + distances.shape[1] * capacity[1]
    status = Status.CLOSED
    while True:
        proved, possible = distances.within(threshold)
        widest = cover.solve(possible, capacity)
        surest = widest if (proved == possible).all() else _likeliest(distances, proved, possible, widest, capacity)
        doubtful = surest.pairs[~proved[surest.pairs[:, 0], surest.pairs[:, 1]]]
        if not len(doubtful):
            break
        stop = budget.exceeded()
        if stop is not None:
            surest, status = cover.solve(proved, capacity), stop
            break
        try:
            distances.decide(doubtful, threshold, lambda: budget.exceeded() is not None)
        except KeyboardInterrupt:  # what is known by now is the answer
            interrupt.set()
    weights = tuple(Fraction(int(amount), total) for amount in surest.amounts)
    return OptimalRisk(
        epsilon=epsilon,
        exact_lower=sum(weights, Fraction(0)),
        exact_upper=Fraction(widest.value, total),
        pairs=np.stack([numbers[0][surest.pairs[:, 0]], numbers[1][surest.pairs[:, 1]]], axis=1),
        weights=weights,
        errors=np.sort(np.concatenate([numbers[0][widest.left], numbers[1][widest.right]])),
        conflicts=int(proved.sum()),
        open_pairs=int((possible & ~proved).sum()),
        seconds=time.monotonic() - started,
        status=status,
    )


def _likeliest(distances: Distances, proved: Array, possible: Array, widest: cover.Cover, capacity: tuple[int, int]) -> cover.Cover:
    """A matching of the same weight as `widest` along pairs that are proved or have small lower bounds: few of them will be refuted.

    Bisection on the lower bound up to which pairs may be used.
    """
    ranks = np.where(proved, -1.0, np.where(possible, distances.lower, np.inf))
    levels = np.unique(ranks[possible])
    best, low, high = widest, 0, len(levels) - 1
    while low < high:
        middle = (low + high) // 2
        found = cover.solve(ranks <= levels[middle], capacity)
        if found.value == widest.value:
            best, high = found, middle
        else:
            low = middle + 1
    return best

"""What attacks on the whole distribution share: they move mass within Wasserstein distance epsilon, and are judged by what it cost."""

from abc import abstractmethod
from dataclasses import dataclass
from itertools import pairwise
from math import inf
from typing import ClassVar, final

import numpy as np

from problems.errors import InputError
from verifier.attacks.base import Attack, AttackReport, AttackRow, Problem, confined, described
from verifier.attacks.mixture import Atoms, Mixture, mixed
from verifier.attacks.witness import distance_up

Array = np.ndarray


@dataclass(frozen=True)
class MixtureRow(AttackRow):
    """One sample under an attacking distribution.

    success: some of its mass is misclassified. distance and margin are those of the nearest misclassified atom of the sample; without one
    of the atom, away from the sample if any mass left it, with the largest margin. weight: the share of the sample's mass on that atom;
    flipped: the share of the sample's mass that is misclassified.
    """

    weight: float
    flipped: float


class DistributionalAttack(Attack):
    """An attack within Omega_p(epsilon). Subclasses propose atoms in `run` and weigh them in `shares`; `attack` believes nothing of it."""

    orders: ClassVar[tuple[float, ...]] = (1, 2, inf)  # the first is the default

    @final
    def attack(self, problem: Problem) -> AttackReport:
        """Run, move the atoms into the region, judge them, weigh them, and prove that the transport cost is within epsilon^p."""
        order = self.order(problem)
        mixture = mixed(*self._weighed(problem), problem.epsilon, order)
        if not mixture.within(problem.epsilon):
            raise AssertionError(f"{self.name} spent {mixture.distance} of {problem.epsilon}: please report this")
        rows, points = _rows(problem, mixture)
        return AttackReport(
            self.name, rows, points, mixture.accuracy, min(mixture.distance, problem.epsilon), self.threat_model(problem),
            problem.model.judged_by, self.loss(problem), problem.status, mixture,
        )  # fmt: skip

    def _weighed(self, problem: Problem) -> tuple[Atoms, Array]:
        samples, points = self.run(problem)
        atoms = judged(problem, samples, points, self.radius(problem))
        return atoms, self.shares(problem, atoms)

    @abstractmethod
    def run(self, problem: Problem) -> tuple[Array, Array]:
        """(samples (A,), points (A, n)): where mass of these samples could go, about inside the region."""

    @abstractmethod
    def shares(self, problem: Problem, atoms: Atoms) -> Array:
        """The share (A,) of its sample's mass that each atom takes, within the budget up to rounding."""

    def radius(self, problem: Problem) -> float:
        """How far any single atom may lie from its sample."""
        return problem.epsilon if self.order(problem) == inf else inf

    def order(self, problem: Problem) -> float:
        """The order p. Raises InputError for one that the attack does not know."""
        order = problem.choices.order
        if order is None:
            return self.orders[0]
        if order not in self.orders:
            known = ", ".join(f"{known:g}" for known in self.orders)
            raise InputError("order", f"{self.name} has no order {order:g}.", f"Choose one of: {known}.")
        return order

    def threat_model(self, problem: Problem) -> str:
        """What was allowed, in words."""
        name, order = "linf" if problem.norm == inf else f"l{problem.norm:.0f}", self.order(problem)
        return (
            f"distributional, Omega_{order:g}({problem.epsilon!r}): all distributions within {order:g}-Wasserstein distance "
            f"{problem.epsilon!r} of the {len(problem.x)} samples, ground norm {name}, labels fixed, inside {described(problem.region)}"
        )


def judged(problem: Problem, samples: Array, points: Array, radius: float) -> Atoms:
    """Atoms at float points near `points` (A, n) that lie exactly in the region and within `radius` of their samples (A,)."""
    inside = [confined(problem, row, point, radius) for row, point in zip(samples.tolist(), points, strict=True)]
    placed = np.stack(inside) if inside else np.empty((0, problem.x.shape[1]))
    distances = np.array([distance_up(point, problem.x[row], problem.norm) for row, point in zip(samples.tolist(), placed, strict=True)])
    labels = np.concatenate([problem.labels, problem.labels[samples]])
    margins = problem.model.margins(np.concatenate([problem.x, placed]), labels)
    count = len(problem.x)
    return Atoms(problem.x, samples, placed, distances, margins[count:], margins[:count])


def _rows(problem: Problem, mixture: Mixture) -> tuple[tuple[MixtureRow, ...], Array]:
    """A row per sample, and the points (N, n) they speak about."""
    rows, places = [], []
    ends = np.searchsorted(mixture.samples, np.arange(mixture.count + 1))
    for sample, (begin, end) in enumerate(pairwise(ends)):
        margins, distances, weights = (values[begin:end] for values in (mixture.margins, mixture.distances, mixture.weights))
        wrong = margins >= 0
        if wrong.any():
            place = int(np.argmin(np.where(wrong, distances, inf)))
        else:
            away = distances > 0
            place = int(np.argmax(np.where(away, margins, -inf))) if away.any() else 0
        places.append(begin + place)
        rows.append(
            MixtureRow(
                sample=int(problem.numbers[sample]),
                label=int(problem.labels[sample]),
                success=bool(wrong.any()),
                distance=float(distances[place]),
                margin=float(margins[place]),
                weight=float(weights[place]),
                flipped=float(weights[wrong].sum()),
            )
        )
    return tuple(rows), mixture.points[places]

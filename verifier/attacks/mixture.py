"""Attacking distributions: atoms near the samples with weights, and what moving the mass there costs, proved."""

from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property
from math import inf

import numpy as np

from problems.rounding import root_up, round_down, round_up
from verifier.attacks.allocation import UNITS

Array = np.ndarray


@dataclass(frozen=True, eq=False)
class Atoms:
    """Places to which mass may move: samples (A,) positions among the N samples x (N, n), points (A, n) exactly in the region.

    distances (A,) from their samples, rounded up; margins (A,) lower bounds of the margins there; home (N,) those at the samples.
    """

    x: Array
    samples: Array
    points: Array
    distances: Array
    margins: Array
    home: Array


@dataclass(frozen=True, eq=False)
class Mixture:
    """The distribution (1/N) sum_a weights[a] delta(points[a], label of samples[a]); weights of one sample add up to 1, exactly.

    samples (A,) positions 0..N-1 in the data attacked, points (A, n) float64 in the region, weights (A,) > 0 multiples of 2^-53, distances
    (A,) from their samples in the ground norm, rounded up, margins (A,) lower bounds. `tried` are all atoms found, also those that
    got no weight: starting points for a search. order p, count N.
    """

    count: int
    order: float
    samples: Array
    points: Array
    weights: Array
    distances: Array
    margins: Array
    tried: Atoms

    @property
    def costs(self) -> Array:
        """(A,) proven upper bounds of ||x - x_i||^p; for order inf the distances."""
        if self.order in (1, inf):
            return self.distances
        return np.array([round_up(Fraction(d) ** int(self.order)) for d in self.distances.tolist()])

    @cached_property
    def cost(self) -> Fraction:
        """A proven upper bound of the mean transport cost (order inf: of the largest distance), on which `distance` rests."""
        if self.order == inf:
            return Fraction(float(self.distances.max(initial=0.0)))
        pairs = zip(self.weights.tolist(), self.distances.tolist(), strict=True)
        return sum((Fraction(w) * Fraction(d) ** int(self.order) for w, d in pairs if d), Fraction(0)) / self.count

    def within(self, epsilon: float) -> bool:
        """Whether the cost is proved to be at most epsilon^p."""
        return self.cost <= (Fraction(epsilon) if self.order == inf else Fraction(epsilon) ** int(self.order))

    @property
    def distance(self) -> float:
        """A proven upper bound of the p-Wasserstein distance from the data."""
        return root_up(self.cost) if self.order == 2 else round_up(self.cost)

    @cached_property
    def error(self) -> Fraction:
        """The share of the mass that is misclassified: a proven lower bound of the expected zero-one loss."""
        return sum((Fraction(w) for w in self.weights[self.margins >= 0].tolist()), Fraction(0)) / self.count

    @property
    def accuracy(self) -> float:
        """1 - error, rounded up: no distribution that contains this one has a larger worst-case accuracy."""
        return round_up(1 - self.error)

    def expected_margin(self) -> float:
        """A proven lower bound of the expected margin loss."""
        if not np.isfinite(self.margins).all():
            return -inf
        pairs = zip(self.weights.tolist(), self.margins.tolist(), strict=True)
        return round_down(sum((Fraction(w) * Fraction(m) for w, m in pairs), Fraction(0)) / self.count)


def mixed(atoms: Atoms, shares: Array, epsilon: float, order: float) -> Mixture:
    """The mixture in which atom a takes the share shares[a] of its sample's mass, the rest staying; within the budget in any case.

    shares (A,) in [0, 1], rounded down to multiples of 2^-53. Where they cost more than epsilon^p, all are cut in proportion; for order
    inf an atom beyond epsilon gets none. Samples that are wrong already stay.
    """
    count = len(atoms.home)
    units = np.array([int(Fraction(share) * UNITS) for share in shares.tolist()], dtype=np.int64)
    units[(atoms.home[atoms.samples] >= 0) | (atoms.distances == 0)] = 0
    if order == inf:
        units[atoms.distances > epsilon] = 0
    else:
        prices = [Fraction(d) ** int(order) for d in atoms.distances.tolist()]
        total = sum((unit * price for unit, price in zip(units.tolist(), prices, strict=True) if unit), Fraction(0)) / UNITS
        budget = Fraction(epsilon) ** int(order) * count
        if total > budget:
            units = np.array([int(unit * (budget / total)) for unit in units.tolist()], dtype=np.int64)
    left = np.full(count, UNITS, dtype=np.int64)
    np.subtract.at(left, atoms.samples, units)
    if (left < 0).any():
        raise AssertionError("the shares of a sample's mass add up to more than 1")
    moved, staying = np.flatnonzero(units > 0), np.flatnonzero(left > 0)
    samples = np.concatenate([staying, atoms.samples[moved]])
    sequence = np.argsort(samples, kind="stable")

    def joined(home: Array, away: Array) -> Array:
        return np.concatenate([home[staying], away[moved]])[sequence]

    return Mixture(
        count=count,
        order=order,
        samples=samples[sequence],
        points=joined(atoms.x, atoms.points),
        weights=joined(left, units) / UNITS,
        distances=joined(np.zeros(count), atoms.distances),
        margins=joined(atoms.home, atoms.margins),
        tried=atoms,
    )

"""Wasserstein distributional attacks (Le, Dao, Nguyen and Chu, 2025): WDA with fixed weights, WDA++ with bought ones."""

from dataclasses import replace
from math import inf
from typing import ClassVar

import numpy as np

from problems.errors import InputError
from verifier.attacks import allocation
from verifier.attacks.base import Problem
from verifier.attacks.flips import flips
from verifier.attacks.mixture import Atoms
from verifier.attacks.pointwise import AutoProjectedGradient
from verifier.attacks.shift import DistributionalAttack

Array = np.ndarray


class FixedWeights(DistributionalAttack):
    """WDA(k): every sample keeps the weight 1 - 1/k and sends 1/k to a point within k^(1/p) epsilon; k = `copies`, default 2.

    The points are those of `apgd` at that radius (with its `loss`), so k = 1 is `apgd`. With `points` M the weight 1/k is spread evenly
    over as many different misclassified points as M runs find, up to (M + 1) N atoms. Samples without such a point keep all their mass.
    For order inf no atom may lie beyond epsilon, and k changes nothing.
    """

    name = "wda"
    takes = frozenset({"loss", "order", "copies", "points"})
    losses: ClassVar[tuple[str, ...]] = AutoProjectedGradient.losses

    def run(self, problem: Problem) -> tuple[Array, Array]:
        """The points of each run, sample by sample."""
        wider = replace(problem, epsilon=self.radius(problem))
        search = AutoProjectedGradient()
        runs = []
        for number in range(problem.choices.points or 1):
            runs.append(search.searched(replace(wider, seed=problem.seed + number), from_samples=number == 0))
            if problem.late():
                break
        count = len(problem.x)
        return np.tile(np.arange(count), len(runs)), np.concatenate(runs)

    def shares(self, problem: Problem, atoms: Atoms) -> Array:
        """1/k, over the different misclassified points of each sample."""
        wrong = (atoms.margins >= 0) & (atoms.distances > 0)
        seen: set[tuple[int, bytes]] = set()
        for row in np.flatnonzero(wrong):
            key = (int(atoms.samples[row]), atoms.points[row].tobytes())
            wrong[row] = key not in seen
            seen.add(key)
        each = np.bincount(atoms.samples[wrong], minlength=len(atoms.home)).clip(min=1)
        kept = 1 if self.order(problem) == inf else self._copies(problem)
        return np.where(wrong, 1 / (kept * each[atoms.samples]), 0.0)

    def radius(self, problem: Problem) -> float:
        order = self.order(problem)
        return problem.epsilon if order == inf else float(self._copies(problem) ** (1 / order) * problem.epsilon)

    def loss(self, problem: Problem) -> str:
        return AutoProjectedGradient().loss(problem)

    @staticmethod
    def _copies(problem: Problem) -> int:
        return problem.choices.copies or 2


class BoughtFlips(DistributionalAttack):
    """WDA++: the distance d_i at which each sample flips, by attack; then flips are bought, cheapest first, until the budget is spent.

    allocation "random" buys in a random sequence instead: the ablation. With exact radii for d_i, "greedy" would be optimal (THEORY W4);
    as d_i >= r_i it gives an upper bound of the worst-case accuracy. For order inf every flip within epsilon is made.
    """

    name = "wda++"
    takes = frozenset({"order", "allocation"})

    def run(self, problem: Problem) -> tuple[Array, Array]:
        """The nearest misclassified point known of every sample."""
        order, count = self.order(problem), len(problem.x)
        dearest = problem.epsilon * (1.0 if order == inf else count ** (1 / order))
        ordered = replace(problem, choices=replace(problem.choices, order=order))
        return np.arange(count), flips(ordered, dearest)

    def shares(self, problem: Problem, atoms: Atoms) -> Array:
        """1 for samples paid in full, the last one in part."""
        distances = np.where(atoms.home >= 0, 0.0, np.where(atoms.margins >= 0, atoms.distances, inf))
        greedy = problem.choices.allocation != "random"
        sequence = allocation.greedy(distances) if greedy else allocation.random(distances, problem.seed)
        return allocation.bought(distances, sequence.tolist(), problem.epsilon, self.order(problem))


def check_choices(copies: object, points: object, allocated: object) -> None:
    """Raises InputError for a number of copies or points, or an allocation, that means nothing."""
    for place, value in (("copies", copies), ("points", points)):
        if value is not None and (isinstance(value, bool) or not isinstance(value, int | np.integer) or value < 1):
            raise InputError(place, f"is {value!r}.", "Give a whole number, 1 or more.")
    if allocated not in (None, "greedy", "random"):
        raise InputError("allocation", f"{allocated!r} is not an allocation.", "Choose greedy or random.")

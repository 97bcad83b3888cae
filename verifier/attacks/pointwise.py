"""Attacks on every sample by itself: projected gradient ascent (Madry et al., ICLR 2018) and Auto-PGD (Croce and Hein, ICML 2020)."""

from collections.abc import Callable
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from problems.regions.box import Box
from verifier.attacks.apgd import climb
from verifier.attacks.base import PointwiseAttack, Problem
from verifier.attacks.losses import LOSSES, described
from verifier.attacks.module import one_thread
from verifier.attacks.pgd import Reach, ascend, diversified, likely_targets, margin_objective
from verifier.attacks.witness import float_margins

Array = np.ndarray
# (problem, rows (B,), targets (B,), generator) -> points (B, n).
Ascent = Callable[[Problem, Array, Array, torch.Generator], Array]
# Marks of ascents without a target: from the samples themselves, and from random points.
FROM_SAMPLES, UNTARGETED = -1, -2


class ProjectedGradient(PointwiseAttack):
    """One untargeted ascent from the samples themselves, then `restarts` random starts with every class as target.

    Each ascent takes `steps` steps. Samples that fall drop out. Targets are the classes with the largest logits (`likely_targets`).
    """

    name = "pgd"

    def run(self, problem: Problem) -> Array:
        return best_of(problem, self._ascent)

    def _ascent(self, problem: Problem, rows: Array, targets: Array, generator: torch.Generator) -> Array:
        """Points (B, n) of one ascent for the samples `rows` (B,), towards `targets` (B,); -1: untargeted, from the sample."""
        model, labels = problem.model, problem.model.indices(problem.labels[rows])
        reach = reach_of(problem, rows)
        untargeted = targets[0] < 0
        starts = reach.centers
        if not untargeted:
            starts = reach.random(generator)
            chosen = (torch.arange(len(starts)) % 2 == 1).to(problem.device)
            starts = diversified(model.module, starts, reach, chosen, generator, problem.deadline)
        found, _ = ascend(
            model.module,
            starts,
            reach,
            margin_objective(labels, None if untargeted else model.indices(targets)),
            steps=problem.steps,
            generator=generator,
            deadline=problem.deadline,
            done=lambda best: bool((best > 0).all()),
        )
        return as_points(found)


class AutoProjectedGradient(PointwiseAttack):
    """Auto-PGD on cross-entropy or the difference of logits ratio ("dlr", the default), or on the margin.

    The first ascent is untargeted and starts at the samples. The `restarts` begin at random points: with "ce" untargeted, else towards
    every class with a large logit. Fallbacks of the ratio for two and three classes: see `losses`.
    """

    name = "apgd"
    takes = frozenset({"loss"})
    losses: ClassVar[tuple[str, ...]] = ("dlr", "ce", "margin")

    def run(self, problem: Problem) -> Array:
        return self.searched(problem)

    def searched(self, problem: Problem, *, from_samples: bool = True) -> Array:
        """Points (N, n); without `from_samples` random starts only, which give other points for every seed."""
        targeted = self._loss(problem) != "ce"
        return best_of(problem, self._ascent, targeted=targeted, from_samples=from_samples)

    def loss(self, problem: Problem) -> str:
        name = self._loss(problem)
        return described(name, problem.model.output_size, targeted=True)

    def _loss(self, problem: Problem) -> str:
        return problem.choices.loss or self.losses[0]

    def _ascent(self, problem: Problem, rows: Array, targets: Array, generator: torch.Generator) -> Array:
        model, reach = problem.model, reach_of(problem, rows)
        from_samples, untargeted = targets[0] == FROM_SAMPLES, targets[0] < 0
        found, _ = climb(
            model.module,
            reach.centers if from_samples else reach.random(generator),
            reach,
            LOSSES[self._loss(problem)],
            model.indices(problem.labels[rows]),
            None if untargeted else model.indices(targets),
            steps=problem.steps,
            generator=generator,
            deadline=problem.deadline,
        )
        return as_points(found)


def best_of(problem: Problem, ascent: Ascent, *, targeted: bool = True, from_samples: bool = True) -> Array:
    """The points (N, n) of largest margin that `ascent(problem, rows, targets, generator)` finds: first from the samples, then restarts.

    Samples that fell are left alone. Targets are FROM_SAMPLES, UNTARGETED, or classes.
    """
    model = problem.model
    logits = model.logits(problem.x)
    values, points = float_margins(logits, problem.labels), problem.x.copy()
    likely = likely_targets(logits, problem.labels) if targeted else np.full((len(points), 1), UNTARGETED)
    generator = torch.Generator().manual_seed(problem.seed)
    with one_thread(), problem.interruptible():
        for restart in range(0 if from_samples else 1, problem.restarts + 1):
            todo = np.flatnonzero(~(values >= 0))
            if not len(todo) or problem.epsilon == 0 or problem.late():
                break
            columns = likely[todo] if restart else np.full((len(todo), 1), FROM_SAMPLES)
            rows = np.repeat(todo, columns.shape[1])
            for begin in range(0, len(rows), model.batch):
                if problem.late():
                    break
                part = slice(begin, begin + model.batch)
                found = ascent(problem, rows[part], columns.ravel()[part], generator)
                reached = float_margins(model.logits(found), problem.labels[rows[part]])
                for row, point, value in zip(rows[part], found, reached, strict=True):
                    if value > values[row]:
                        values[row], points[row] = value, point
    return points


def reach_of(problem: Problem, rows: Array, radius: float | Array | None = None) -> Reach:
    """The sets in which the samples `rows` (B,) may move: balls of `radius` (None: epsilon) cut by the region."""
    model = problem.model
    centers = model.tensor(problem.x[rows])
    lower, upper = (model.tensor(side).expand_as(centers) for side in problem.region.bounding_box())
    reach = model.tensor(np.broadcast_to(problem.epsilon if radius is None else radius, len(rows)))
    return Reach.balls(centers, reach, problem.norm, lower, upper, also_inside(problem))


def also_inside(problem: Problem) -> Callable[[Tensor], Tensor] | None:
    """What moves points (B, n) into a region that is no box; None for a box."""
    if isinstance(problem.region, Box):
        return None

    def also(points: Tensor) -> Tensor:
        return problem.model.tensor(problem.region.clip(as_points(points)))

    return also


def as_points(points: Tensor) -> Array:
    """Points (B, n) of a search as float64."""
    return points.detach().double().cpu().numpy()

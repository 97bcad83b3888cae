"""W-PGD: projected gradient ascent in a Wasserstein ball around the data (Bai, He, Jiang and Obloj, NeurIPS 2023).

One step moves sample i by alpha (||g_i||_s / Upsilon)^(q-1) M_r(g_i), g_i the gradient of the loss, Upsilon = (mean ||g_i||_s^q)^(1/q),
1/p + 1/q = 1: steep samples move farther. For p = 2 all displacements are then scaled so that their mean square is at most epsilon^2;
for p = inf each sample is projected on its own ball. Then the region (THEORY section 5).
"""

from math import inf
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from verifier.attacks.base import Problem
from verifier.attacks.losses import LOSSES, described, margins
from verifier.attacks.mixture import Atoms
from verifier.attacks.module import one_thread
from verifier.attacks.pgd import Reach
from verifier.attacks.pointwise import as_points, reach_of
from verifier.attacks.projections import steepest
from verifier.attacks.shift import DistributionalAttack

Array = np.ndarray

DUAL = {1: inf, 2: 2, inf: 1}
# All steps together are this many epsilon.
PATH = 2.5
# The last scaling leaves this share of epsilon, so that rounding does not carry the cost past it.
WITHIN = 1 - 2.0**-36


class WassersteinGradient(DistributionalAttack):
    """W-PGD for p = 2 (default) or inf, on "redlr" (default), "dlr", "ce" or "margin": N atoms, each with its sample's whole mass.

    The first run starts at the samples, `restarts` more at random points; the iterate with the least accuracy is kept, of several the one
    with the largest mean loss.
    """

    name = "w-pgd"
    takes = frozenset({"loss", "order"})
    orders = (2, inf)
    losses: ClassVar[tuple[str, ...]] = ("redlr", "dlr", "ce", "margin")

    def run(self, problem: Problem) -> tuple[Array, Array]:
        """The best iterate."""
        best, best_score = problem.x.copy(), (-inf, -inf)
        generator = torch.Generator().manual_seed(problem.seed)
        with one_thread(), problem.interruptible():
            for restart in range(problem.restarts + 1):
                points = problem.x.copy() if restart == 0 else self._scaled(problem, _random(problem, generator))
                for step in range(problem.steps + 1):
                    gradients, score = self._gradients(problem, points)
                    if score > best_score:
                        best, best_score = points, score
                    if step == problem.steps or problem.epsilon == 0 or problem.late() or not gradients.any():
                        break
                    points = self._scaled(problem, self._moved(problem, points, gradients))
                if problem.epsilon == 0 or problem.late():
                    break
        return np.arange(len(best)), best

    def shares(self, problem: Problem, atoms: Atoms) -> Array:
        return np.ones(len(atoms.samples))

    def loss(self, problem: Problem) -> str:
        return described(self._loss(problem), problem.model.output_size, targeted=False)

    def _loss(self, problem: Problem) -> str:
        return problem.choices.loss or self.losses[0]

    def _gradients(self, problem: Problem, points: Array) -> tuple[Array, tuple[float, float]]:
        """Gradients (N, n) of the loss at points (N, n), and (share of errors, mean loss) there."""
        model, loss = problem.model, LOSSES[self._loss(problem)]
        parts, wrong, total = [], 0, 0.0
        for begin in range(0, len(points), model.batch):
            part = slice(begin, begin + model.batch)
            inputs = model.tensor(points[part]).requires_grad_()
            labels = model.indices(problem.labels[part])
            logits = model.module(inputs)
            values = loss(logits, labels, None)
            (gradients,) = torch.autograd.grad(values.sum(), inputs)
            parts.append(as_points(torch.nan_to_num(gradients)))
            wrong += int((margins(logits.detach(), labels) >= 0).sum())
            total += float(values.detach().sum())
        return np.concatenate(parts), (wrong / len(points), total / len(points))

    def _moved(self, problem: Problem, points: Array, gradients: Array) -> Array:
        """One step of every sample, (N, n)."""
        lower, upper = (torch.from_numpy(np.array(side)) for side in problem.region.bounding_box())
        at = torch.from_numpy(points)
        unit = steepest(torch.from_numpy(gradients), problem.norm, at - lower, upper - at).numpy()
        size = np.linalg.norm(gradients, ord=DUAL[problem.norm], axis=1)
        # For p = inf, q = 1: every sample moves as far as any other.
        factor = (size > 0).astype(np.float64) if self.order(problem) == inf else size / np.sqrt((size**2).mean())
        return points + PATH * problem.epsilon / problem.steps * factor[:, None] * unit

    def _scaled(self, problem: Problem, points: Array) -> Array:
        """The points (N, n) with their displacements within the budget, then inside the region."""
        inside = problem.region.clip(points)
        if self.order(problem) == inf:
            return as_points(_balls(problem).project(torch.from_numpy(inside)))
        shift = inside - problem.x
        spent = np.sqrt((np.linalg.norm(shift, ord=problem.norm, axis=1) ** 2).mean())
        return problem.x + min(1.0, problem.epsilon * WITHIN / max(spent, 1e-300)) * shift


def _balls(problem: Problem) -> Reach:
    """The balls of radius epsilon, in float64 on the CPU."""
    centers = torch.from_numpy(problem.x)
    lower, upper = (torch.from_numpy(np.array(side)).expand_as(centers) for side in problem.region.bounding_box())
    return Reach.balls(centers, torch.full_like(centers[:, 0], problem.epsilon), problem.norm, lower, upper)


def _random(problem: Problem, generator: torch.Generator) -> Array:
    """Points (N, n) spread over the balls of radius epsilon."""
    found: list[Tensor] = []
    for begin in range(0, len(problem.x), problem.model.batch):
        rows = np.arange(begin, min(begin + problem.model.batch, len(problem.x)))
        found.append(reach_of(problem, rows).random(generator).cpu())
    return torch.cat(found).numpy().astype(np.float64)

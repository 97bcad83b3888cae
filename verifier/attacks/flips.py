"""How far each sample is from being misclassified, by attack: the prices that WDA++ pays (Le et al., 2025).

Ascent of z_k - z_y towards the top competitors k, by steepest steps M_r (THEORY section 3), then bisection towards the sample. The source
takes steps of a fixed length and so ends where it happens to cross; here each step is as long as the linearised boundary is far
(FAB: Croce and Hein, ICML 2020), which needs fewer steps and ends nearer.
"""

from math import ceil, inf

import numpy as np
import torch
from torch import Tensor

from verifier.attacks.apgd import climb
from verifier.attacks.base import Problem
from verifier.attacks.fab import descend
from verifier.attacks.losses import margins
from verifier.attacks.module import one_thread
from verifier.attacks.pgd import likely_targets
from verifier.attacks.pointwise import also_inside, as_points, reach_of
from verifier.attacks.witness import float_margins

Array = np.ndarray

COMPETITORS = 3
# (share of all steps, retreat, overshoot) of descents: towards every competitor, from the nearest point towards its own, from around it,
# and to settle. Most steps go to the competitor that a few steps have shown to be nearest: on MNIST three times cheaper than to all.
TRYING, DEEPENING, SHAKEN = (0.25, 0.9, 1.05), (1.0, 0.9, 1.05), (0.5, 0.9, 1.05)
SETTLING = ((0.5, 0.97, 1.02), (0.5, 0.99, 1.005))
Pace = tuple[float, float, float]
# Radii, in shares of the dearest that a sample can cost, at which ascents start where no linearisation reached the boundary.
LADDER = (1 / 64, 1 / 8, 1.0)
HALVINGS = 30
BEYOND = (1e-6, 1e-5, 1e-4, 1e-3, 1e-2)
# A margin above this share of the largest logit is seen by intervals as well, so that no exact evaluation is needed.
PROVABLE = {torch.float64: 1e-8, torch.float32: 1e-6}


class Flips:
    """Points (N, n), the nearest misclassified ones known, at `distances` (N,): inf where none is, 0 where the sample is wrong already."""

    def __init__(self, problem: Problem) -> None:
        self.problem, self.model = problem, problem.model
        logits = self.model.logits(problem.x)
        self.points, self.distances = problem.x.copy(), np.where(float_margins(logits, problem.labels) >= 0, 0.0, inf)
        self.competitors = likely_targets(logits, problem.labels)[:, :COMPETITORS]
        self.target = self.competitors[:, 0].copy()  # of the nearest point known
        self.generator = np.random.default_rng(problem.seed)

    def search(self, dearest: float) -> None:
        """Descends from every sample; `dearest` is the largest distance at which a flip can still be paid in full."""
        todo = np.flatnonzero(self.distances == inf)
        count = self.competitors.shape[1]
        self._descend(np.repeat(todo, count), self.competitors[todo].ravel(), self.problem.x[np.repeat(todo, count)], TRYING)
        for share in LADDER:
            self._climb(np.flatnonzero(self.distances == inf), share * dearest)

    def refine(self, rows: Array) -> None:
        """Looks around the points of these samples for nearer ones, then settles there."""
        rows = rows[(self.distances[rows] > 0) & (self.distances[rows] < inf)]
        self._descend(rows, self.target[rows], self.points[rows], DEEPENING)
        for restart in range(self.problem.restarts):
            if self.problem.late():
                return
            others = self.competitors[rows, restart // 2 % self.competitors.shape[1]]
            targets = self.target[rows] if restart % 2 == 0 else others
            self._descend(rows, targets, self._shaken(rows), SHAKEN)
        for pace in SETTLING:
            self._descend(rows, self.target[rows], self.points[rows], pace)

    def bisect(self) -> None:
        """Moves each point to where its segment from the sample first turns wrong for good, and a touch beyond."""
        rows = np.flatnonzero((self.distances > 0) & (self.distances < inf))
        for begin in range(0, len(rows), self.model.batch):
            part = rows[begin : begin + self.model.batch]
            x, found = self.problem.x[part], self.points[part]
            low, high = np.zeros(len(part)), np.ones(len(part))
            for past in BEYOND:  # what float32 took for an error may need to go on a little
                short = ~self._wrong(x + high[:, None] * (found - x), self.problem.labels[part])
                if not short.any():
                    break
                high = np.where(short, 1 + past, high)
            for _ in range(HALVINGS):
                middle = (low + high) / 2
                wrong = self._wrong(x + middle[:, None] * (found - x), self.problem.labels[part])
                low, high = np.where(wrong, low, middle), np.where(wrong, middle, high)
            points = np.where((high == 1)[:, None], found, x + high[:, None] * (found - x))
            points = np.clip(points, *self.problem.region.bounding_box())
            self.points[part] = points
            self.distances[part] = np.linalg.norm(points - x, ord=self.problem.norm, axis=1)

    def _wrong(self, points: Array, labels: Array) -> Array:
        precision = self.model.sharp_precision
        with torch.no_grad():
            logits = self.model.sharp(torch.from_numpy(points).to(self.model.device, precision))
            return (margins(logits, self.model.indices(labels)) >= PROVABLE.get(precision, 1e-6) * logits.abs().max(1).values).cpu().numpy()

    def _descend(self, rows: Array, targets: Array, starts: Array, pace: Pace) -> None:
        problem, model = self.problem, self.model
        share, retreat, overshoot = pace
        lower, upper = (model.tensor(side) for side in problem.region.bounding_box())
        for begin in range(0, len(rows), model.batch):
            if problem.late():
                return
            part = slice(begin, begin + model.batch)
            origins = model.tensor(problem.x[rows[part]])
            found, _ = descend(
                model.module,
                origins,
                model.tensor(starts[part]),
                model.indices(problem.labels[rows[part]]),
                model.indices(targets[part]),
                problem.norm,
                lower.expand_as(origins),
                upper.expand_as(origins),
                steps=ceil(share * problem.steps),
                retreat=retreat,
                overshoot=overshoot,
                deadline=problem.deadline,
                also=also_inside(problem),
            )
            self._keep(rows[part], targets[part], found)

    def _climb(self, rows: Array, radius: float) -> None:
        problem, model = self.problem, self.model
        generator = torch.Generator().manual_seed(problem.seed)
        for begin in range(0, len(rows), model.batch):
            if problem.late() or not 0 < radius < inf:
                return
            part = rows[begin : begin + model.batch]
            reach = reach_of(problem, part, radius)
            labels = model.indices(problem.labels[part])
            starts = reach.random(generator)
            found, _ = climb(
                model.module, starts, reach, margins, labels, None, steps=problem.steps, generator=generator, deadline=problem.deadline
            )  # fmt: skip
            self._keep(part, self.target[part], found)

    def _keep(self, rows: Array, targets: Array, found: Tensor) -> None:
        points = as_points(found)
        with torch.no_grad():
            wrong = (margins(self.model.module(found), self.model.indices(self.problem.labels[rows])) >= 0).cpu().numpy()
        distances = np.linalg.norm(points - self.problem.x[rows], ord=self.problem.norm, axis=1)
        for place in np.flatnonzero(wrong & (distances < self.distances[rows])):
            if distances[place] < self.distances[rows[place]]:  # a sample may stand in a batch once per target
                row = rows[place]
                self.points[row], self.distances[row], self.target[row] = points[place], distances[place], targets[place]

    def _shaken(self, rows: Array) -> Array:
        """Starts around the points known: each coordinate moved by up to a third of the largest displacement, inside the box."""
        shift = self.points[rows] - self.problem.x[rows]
        noise = self.generator.uniform(-1, 1, shift.shape) * np.abs(shift).max(axis=1, keepdims=True, initial=0) / 3
        return np.clip(self.points[rows] + noise, *self.problem.region.bounding_box())


def flips(problem: Problem, dearest: float) -> Array:
    """Points (N, n), the nearest misclassified ones found; the sample itself where none was, or where it is wrong already.

    dearest: the largest distance that can still be paid in full. The samples nearest to the boundary, as many as cost twice the budget,
    are searched again and again, the others once.
    """
    search = Flips(problem)
    with one_thread(), problem.interruptible():
        search.search(dearest)
        search.refine(affordable(search.distances, problem.epsilon, problem.choices.order or 1.0))
        search.bisect()
    return search.points


def affordable(distances: Array, epsilon: float, order: float) -> Array:
    """The samples (B,) that a budget could pay for if they came twice as near."""
    sequence = np.argsort(distances, kind="stable")
    if order == inf:
        return sequence[distances[sequence] <= 2 * epsilon]
    halved = (distances[sequence] / 2) ** order
    count = int((np.cumsum(halved) <= len(distances) * epsilon**order).sum())
    return sequence[: count + 1]

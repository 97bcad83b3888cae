"""Projected gradient ascent against every sample, untargeted and towards every class (Madry et al., ICLR 2018)."""

import numpy as np
import torch
from torch import Tensor

from problems.regions.box import Box
from verifier.attacks.base import Attack, Problem
from verifier.attacks.module import as_module, one_thread, search_precision
from verifier.attacks.pgd import Reach, ascend, batch_size, diversified, likely_targets, margin_objective
from verifier.attacks.witness import float_margins

Array = np.ndarray


class ProjectedGradient(Attack):
    """One untargeted ascent from the samples themselves, then `restarts` random starts with every class as target.

    Each ascent takes `steps` steps. Samples that fall drop out. Targets are the classes with the largest logits (`likely_targets`).
    """

    name = "pgd"

    def run(self, problem: Problem) -> Array:
        logits = problem.network.forward(problem.x)
        values, points = float_margins(logits, problem.labels), problem.x.copy()
        targets = likely_targets(logits, problem.labels)
        generator = torch.Generator().manual_seed(problem.seed)
        with one_thread():
            for restart in range(problem.restarts + 1):
                todo = np.flatnonzero(values < 0)
                if not len(todo) or problem.epsilon == 0 or problem.late():
                    break
                columns = targets[todo] if restart else np.full((len(todo), 1), -1)
                rows = np.repeat(todo, columns.shape[1])
                for begin in range(0, len(rows), batch_size(problem.network, problem.device)):
                    part = slice(begin, begin + batch_size(problem.network, problem.device))
                    if problem.late():
                        break
                    found, reached = _ascent(problem, rows[part], columns.ravel()[part], generator)
                    for row, point, value in zip(rows[part], found, reached, strict=True):
                        if value > values[row]:
                            values[row], points[row] = value, point
        return points


def _ascent(problem: Problem, rows: Array, targets: Array, generator: torch.Generator) -> tuple[Array, Array]:
    """(points (B, n), margins (B,)) of one ascent for the samples `rows` (B,), towards `targets` (B,); -1: untargeted, from the sample."""

    precision = search_precision(problem.network)

    def tensor(values: Array) -> Tensor:
        return torch.from_numpy(np.array(values, dtype=np.float64)).to(device=problem.device, dtype=precision)

    def indices(values: Array) -> Tensor:
        return torch.from_numpy(np.array(values, dtype=np.int64)).to(problem.device)

    centers, labels = tensor(problem.x[rows]), indices(problem.labels[rows])
    lower, upper = (tensor(side).expand_as(centers) for side in problem.region.bounding_box())
    also = None
    if not isinstance(problem.region, Box):

        def also(points: Tensor) -> Tensor:
            return tensor(problem.region.clip(points.cpu().numpy()))

    radius = torch.full_like(centers[:, 0], problem.epsilon)
    reach = Reach.balls(centers, radius, problem.norm, lower, upper, also)
    untargeted = targets[0] < 0
    module = as_module(problem.network, problem.device, precision)
    starts = centers
    if not untargeted:
        starts = reach.random(generator)
        chosen = (torch.arange(len(starts)) % 2 == 1).to(problem.device)
        starts = diversified(module, starts, reach, chosen, generator, problem.deadline)
    found, _ = ascend(
        module,
        starts,
        reach,
        margin_objective(labels, None if untargeted else indices(targets)),
        steps=problem.steps,
        generator=generator,
        deadline=problem.deadline,
        done=lambda best: bool((best > 0).all()),
    )
    points = found.cpu().numpy().astype(np.float64)
    return points, float_margins(problem.network.forward(points), problem.labels[rows])

"""Auto-PGD: projected gradient ascent whose step sizes look after themselves (Croce and Hein, ICML 2020; norm 1: ICML 2021).

Norms 2 and inf: momentum, and step sizes that are halved at checkpoints where too few steps gained or nothing moved, going on from the
best point. Norm 1: steps over the few coordinates with the largest gradients; how many follows how sparse the best perturbation has become.
The long first phase on larger balls of the second paper is left out. Projections respect ball and box together.
"""

from collections.abc import Sequence
from dataclasses import replace
from math import ceil, inf
from time import monotonic

import torch
from torch import Tensor

from verifier.attacks.losses import Loss, margins
from verifier.attacks.pgd import Reach
from verifier.attacks.projections import steepest

MOMENTUM = 0.75  # share of the new step; the rest is the one before
GAINING = 0.75  # share of steps that must gain between two checkpoints
# Norm 1: how often sparsity is looked at, in shares of all steps; the first share of coordinates; and how it falls.
LOOKS, FIRST_SHARE, THINNER, LEAST_STEP = 0.04, 0.2, 1.5, 0.1
# A float32 margin above this share of the largest logit is an error in exact arithmetic too, nearly always.
CLEAR = {torch.float32: 1e-5, torch.float64: 1e-11}


def checkpoints(steps: int) -> list[int]:
    """The steps after which sizes are reviewed: at 0, 22, 41, 57, ... per cent, never closer than 6 per cent."""
    shares = [0.0, 0.22]
    while shares[-1] < 1:
        shares.append(shares[-1] + max(shares[-1] - shares[-2] - 0.03, 0.06))
    return sorted({ceil(share * steps - 1e-9) for share in shares if share <= 1})


def climb(
    module: torch.nn.Module,
    starts: Tensor,
    reach: Reach,
    loss: Loss,
    labels: Tensor,
    targets: Tensor | None,
    *,
    steps: int,
    generator: torch.Generator,
    deadline: float | None = None,
) -> tuple[Tensor, Tensor]:
    """The points (B, n) of largest margin met from starts (B, n), and their margins (B,): max over k != y of z_k - z_y.

    labels (B,), targets (B,) or None; `reach` are the B sets. A row stops at its first clear error. `deadline` is an instant of
    time.monotonic().
    """
    state = _Sparse(reach, starts, steps) if reach.norm == 1 else _Halving(reach, starts, steps)
    found, found_margins = starts.clone(), torch.full_like(starts[:, 0], -inf)
    rows = torch.arange(len(starts), device=starts.device)
    for step in range(steps + 1):
        points = state.points.detach().requires_grad_()
        logits = module(points)
        values = loss(logits, labels, targets)
        reached = margins(logits.detach(), labels)
        better = reached > found_margins[rows]
        found[rows[better]], found_margins[rows[better]] = points.detach()[better], reached[better]
        open_rows = reached <= CLEAR.get(reached.dtype, 1e-5) * logits.detach().abs().max(1).values
        if step == steps or not bool(open_rows.any()) or (deadline is not None and monotonic() >= deadline):
            break
        (gradients,) = torch.autograd.grad(values.sum(), points)
        gradients = torch.nan_to_num(gradients)
        flat = (gradients == 0).all(1, keepdim=True)
        if bool(flat.any()):  # dead neurons, or a loss that is 0 in float32: walk at random until some gradient shows
            noise = torch.randn(points.shape, generator=generator, dtype=points.dtype).to(points.device)
            gradients = torch.where(flat, noise, gradients)
        state.seen(step, points.detach(), values.detach(), gradients)
        if not bool(open_rows.all()):
            keep = open_rows.nonzero()[:, 0]
            state.keep(keep)
            rows, labels = rows[keep], labels[keep]
            targets = None if targets is None else targets[keep]
        state.move()
    return found, found_margins


class _Halving:
    """Steps for the norms 2 and inf."""

    KEPT: Sequence[str] = (
        "points", "previous", "gradients", "size", "best", "best_values", "best_gradients", "values", "gains", "halved", "best_then",
    )  # fmt: skip

    def __init__(self, reach: Reach, starts: Tensor, steps: int) -> None:
        self.reach = reach
        self.points = self.previous = self.best = starts
        self.gradients = self.best_gradients = torch.zeros_like(starts)
        self.size = self.first_size()
        self.values = self.best_values = self.best_then = torch.full_like(starts[:, 0], -inf)
        self.gains = torch.zeros_like(self.values)
        self.halved = torch.zeros_like(self.values, dtype=torch.bool)
        self.marks = checkpoints(steps)
        self.steps, self.started, self.last = steps, False, 0

    def first_size(self) -> Tensor:
        return 2 * self.reach.radius

    def keep(self, rows: Tensor) -> None:
        """Goes on with these rows alone."""
        for name in self.KEPT:
            setattr(self, name, getattr(self, name)[rows])
        reach = self.reach
        self.reach = replace(
            reach, centers=reach.centers[rows], radius=reach.radius[rows], lower=reach.lower[rows], upper=reach.upper[rows]
        )

    def seen(self, step: int, points: Tensor, values: Tensor, gradients: Tensor) -> None:
        """Takes note of a point, its loss and the gradient there, and reviews the sizes where it is time."""
        self.gains = self.gains + (values > self.values)
        better = values > self.best_values
        self.values, self.gradients = values, gradients
        self.best = torch.where(better[:, None], points, self.best)
        self.best_gradients = torch.where(better[:, None], gradients, self.best_gradients)
        self.best_values = torch.where(better, values, self.best_values)
        self.review(step)

    def review(self, step: int) -> None:
        if step not in self.marks[1:]:
            if step == 0:  # the start is no gain
                self.best_then, self.gains = self.best_values, torch.zeros_like(self.gains)
            return
        stalled = self.gains < GAINING * (step - self.last)
        stuck = ~self.halved & (self.best_values <= self.best_then)
        again = stalled | stuck
        self.size = torch.where(again, self.size / 2, self.size)
        self.restart(again)
        self.halved, self.best_then, self.last = again, self.best_values, step
        self.gains = torch.zeros_like(self.gains)

    def restart(self, again: Tensor) -> None:
        self.points = torch.where(again[:, None], self.best, self.points)
        self.previous = torch.where(again[:, None], self.best, self.previous)
        self.gradients = torch.where(again[:, None], self.best_gradients, self.gradients)

    def move(self) -> None:
        reach, points = self.reach, self.points
        unit = steepest(self.gradients, reach.norm, points - reach.lower, reach.upper - points)
        ahead = reach.project(points + self.size[:, None] * unit)
        if self.started:
            ahead = reach.project(points + MOMENTUM * (ahead - points) + (1 - MOMENTUM) * (points - self.previous))
        self.previous, self.points, self.started = points, ahead, True


class _Sparse(_Halving):
    """Steps for the norm 1: `share` (B,) of the coordinates move, by `size` in all; both follow the sparsity of the best point."""

    KEPT = (*_Halving.KEPT, "share", "changed")

    def __init__(self, reach: Reach, starts: Tensor, steps: int) -> None:
        super().__init__(reach, starts, steps)
        self.share = torch.full_like(self.size, FIRST_SHARE)
        self.changed = torch.full_like(self.size, float(starts.shape[1]))
        self.every = max(1, int(LOOKS * steps))

    def first_size(self) -> Tensor:
        return self.reach.radius

    def review(self, step: int) -> None:
        if step == 0 or step % self.every:
            return
        changed = (self.best != self.reach.centers).sum(1).to(self.size.dtype)
        thinner = changed < 0.95 * self.changed
        self.share = changed / self.points.shape[1] / THINNER
        full = self.first_size()
        self.size = torch.where(thinner, full, torch.maximum(self.size / THINNER, LEAST_STEP * full))
        self.changed = changed
        self.restart(thinner)

    def move(self) -> None:
        reach, points = self.reach, self.points
        room = torch.where(self.gradients > 0, reach.upper - points, points - reach.lower)
        free = torch.where(room > 0, self.gradients, torch.zeros_like(points))
        sizes, order = free.abs().sort(dim=1, descending=True)
        count = (self.share * points.shape[1]).round().clamp(min=1)[:, None]
        chosen = (torch.arange(points.shape[1], device=points.device) < count) & (sizes > 0)
        signs = torch.zeros_like(points).scatter(1, order, chosen.to(points.dtype)) * free.sign()
        unit = signs / signs.abs().sum(1, keepdim=True).clamp(min=1)
        self.points = reach.project(points + self.size[:, None] * unit)

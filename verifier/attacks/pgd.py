"""Projected gradient ascent of a minimum of affine functions of the logits, batched over starts (Madry et al., ICLR 2018).

`ascend` works on batches that differ in ball, box and objective; `maximise` is the form that the search calls on one box.
Floating point throughout: what is found here is a candidate, and callers decide about it in exact arithmetic.
"""

from collections.abc import Callable
from dataclasses import dataclass
from math import cos, inf, pi
from time import monotonic

import numpy as np
import torch
from torch import Tensor

from problems.errors import InputError, RegionError, SpecificationError
from problems.network import Network
from verifier.attacks.module import as_module, one_thread, operations, search_precision
from verifier.attacks.projections import onto_ball, steepest

Array = np.ndarray

# Multiplications of a forward pass that one step may spend, so that the clock is looked at often enough.
STEP_OPERATIONS = {"cpu": 1e8, "cuda": 2e10}
LARGEST_BATCH = {"cpu": 4096, "cuda": 65536}
# Steps taken after the first success, to leave the boundary behind: a replay in float32 must succeed as well.
STEPS_BEYOND = 5
# Steps, half the size of the set each, that make starts diverse.
DIVERSE_STEPS = 5
MOST_TARGETS = 9


@dataclass(frozen=True, eq=False)
class Reach:
    """The sets {u: ||u - center||_norm <= radius, lower <= u <= upper}, one per row of a batch.

    centers, lower, upper (B, n), radius (B,); the centre lies in the box. With norm inf the ball is already cut into the box.
    """

    centers: Tensor
    radius: Tensor
    norm: float
    lower: Tensor
    upper: Tensor
    also: Callable[[Tensor], Tensor] | None = None  # moves points (B, n) into a region that is no box, approximately

    @staticmethod
    def boxes(lower: Tensor, upper: Tensor) -> "Reach":
        """Boxes (B, n). A missing side is put at distance max(1, |the other side|): steps and starts need a scale."""
        lower_kept = torch.where(lower.isfinite(), lower, torch.where(upper.isfinite(), upper - upper.abs().clamp(min=1), -1.0))
        upper_kept = torch.where(upper.isfinite(), upper, lower_kept + lower_kept.abs().clamp(min=1))
        centers = (lower_kept + upper_kept) / 2
        return Reach(centers, torch.ones_like(centers[:, 0]), inf, lower_kept, upper_kept)

    @staticmethod
    def balls(
        centers: Tensor, radius: Tensor, norm: float, lower: Tensor, upper: Tensor, also: Callable[[Tensor], Tensor] | None = None
    ) -> "Reach":
        """Balls around centers (B, n) of radius (B,), cut by the boxes lower, upper (B, n)."""
        if norm == inf:
            lower = torch.maximum(lower, centers - radius[:, None])
            upper = torch.minimum(upper, centers + radius[:, None])
        return Reach(centers, radius, norm, lower, upper, also)

    def project(self, points: Tensor) -> Tensor:
        """The nearest points of the sets, (B, n); with `also`, nearby points."""
        if self.also is not None:
            points = self.also(self._onto(points))
        return self._onto(points)

    def _onto(self, points: Tensor) -> Tensor:
        if self.norm == inf:
            return torch.maximum(torch.minimum(points, self.upper), self.lower)
        return onto_ball(points, self.centers, self.radius, self.norm, self.lower, self.upper)

    def direction(self, gradients: Tensor, points: Tensor, progress: float) -> Tensor:
        """The steepest ascent step of the size of the whole set, (B, n).

        For norm 1: over ever fewer coordinates and four times as long, because the projection takes most of such a step back.
        """
        unit = steepest(gradients, self.norm, points - self.lower, self.upper - points, 0.1 * (1 - progress) ** 3)
        if self.norm == inf:
            return unit * (self.upper - self.lower) / 2
        return unit * self.radius[:, None] * (4 if self.norm == 1 else 1)

    def random(self, generator: torch.Generator) -> Tensor:
        """Points (B, n) spread over the sets: uniform for boxes, uniform directions and volumes for balls."""
        shape, kind = self.centers.shape, self.centers.dtype
        if self.norm == inf:
            share = torch.rand(shape, generator=generator, dtype=kind).to(self.centers.device)
            return self.project(self.lower + share * (self.upper - self.lower))
        if self.norm == 2:
            direction = torch.randn(shape, generator=generator, dtype=kind)
        else:
            uniform = torch.rand(shape, generator=generator, dtype=kind) - 0.5
            direction = -uniform.sign() * torch.log1p(-2 * uniform.abs().clamp(max=0.4999999))
        direction /= torch.linalg.vector_norm(direction, ord=self.norm, dim=1, keepdim=True).clamp(min=1e-300)
        direction *= torch.rand(shape[0], 1, generator=generator, dtype=kind) ** (1 / shape[1])
        return self.project(self.centers + self.radius[:, None] * direction.to(self.centers.device))


# An objective turns logits (B, K) into (values (B,), what to ascend (B,)).
Objective = Callable[[Tensor], tuple[Tensor, Tensor]]


def rows_objective(coefficients: Tensor, offsets: Tensor, spread: Tensor | None = None) -> Objective:
    """min over rows of coefficients.z + offsets; coefficients (m, K) or (B, m, K), offsets (m,) or (B, m).

    Where `spread` (B,) is true and some row is negative, the sum of the negative rows is ascended instead of the least row: it
    escapes from points at which two rows pull in opposite directions.
    """

    def objective(logits: Tensor) -> tuple[Tensor, Tensor]:
        shared = coefficients.dim() == 2
        rows = offsets + (logits @ coefficients.T if shared else torch.einsum("bmk,bk->bm", coefficients, logits))
        values = rows.min(1).values
        if spread is None or rows.shape[1] == 1:
            return values, values
        return values, torch.where(spread & (values < 0), rows.clamp(max=0).sum(1), values)

    return objective


def margin_objective(labels: Tensor, targets: Tensor | None = None) -> Objective:
    """z_target - z_y for labels and targets (B,); without targets the margin, max over k != y of z_k - z_y."""

    def targeted(logits: Tensor) -> tuple[Tensor, Tensor]:
        values = (logits.gather(1, targets[:, None]) - logits.gather(1, labels[:, None]))[:, 0]  # type: ignore[index]
        return values, values

    def objective(logits: Tensor) -> tuple[Tensor, Tensor]:
        true = logits.gather(1, labels[:, None])
        others = logits.scatter(1, labels[:, None], -inf)
        values = others.max(1).values - true[:, 0]
        return values, values

    return objective if targets is None else targeted


def ascend(
    module: torch.nn.Module,
    points: Tensor,
    reach: Reach,
    objective: Objective,
    *,
    steps: int,
    generator: torch.Generator,
    deadline: float | None = None,
    done: Callable[[Tensor], bool] | None = None,
    first_step: float = 0.25,
) -> tuple[Tensor, Tensor]:
    """The best points found on the way, (B, n), and their values (B,), by `steps` steps from points (B, n).

    The steps fall from `first_step` times the size of the set to a thousandth of it along a cosine, 2.5 sizes in all for 20 steps.
    `done(best values)` ends the ascent STEPS_BEYOND steps later; `deadline` is an instant of time.monotonic().
    """
    best, best_values = points, torch.full_like(points[:, 0], -inf)
    remaining = steps
    for step in range(steps + 1):
        points = points.detach().requires_grad_()
        values, ascended = objective(module(points))
        better = values.detach() > best_values
        best = torch.where(better[:, None], points.detach(), best)
        best_values = torch.where(better, values.detach(), best_values)
        if done is not None and remaining > STEPS_BEYOND and done(best_values):
            remaining = STEPS_BEYOND
        if remaining <= 0 or (deadline is not None and monotonic() >= deadline):
            break
        remaining -= 1
        (gradients,) = torch.autograd.grad(ascended.sum(), points)
        flat = (gradients == 0).all(1, keepdim=True)
        if bool(flat.any()):  # dead neurons only: walk at random until some gradient shows
            noise = torch.randn(points.shape, generator=generator, dtype=points.dtype).to(points.device)
            gradients = torch.where(flat, noise, gradients)
        progress = step / steps
        size = 0.001 + (first_step - 0.001) * (1 + cos(pi * progress)) / 2
        points = reach.project(points.detach() + size * reach.direction(gradients, points.detach(), progress))
    return best, best_values


def diversified(
    module: torch.nn.Module, points: Tensor, reach: Reach, chosen: Tensor, generator: torch.Generator, deadline: float | None = None
) -> Tensor:
    """The points (B, n), those `chosen` (B,) after DIVERSE_STEPS steps that ascend a random combination of the logits each.

    Starts that differ in the logits rather than in the inputs (Tashiro, Song and Ermon, NeurIPS 2020): on networks whose logits
    saturate, uniform starts all climb the same hill.
    """
    weights = None
    moved = points
    for _ in range(DIVERSE_STEPS if bool(chosen.any()) else 0):
        if deadline is not None and monotonic() >= deadline:
            break
        moved = moved.detach().requires_grad_()
        logits = module(moved)
        if weights is None:
            weights = (torch.rand(logits.shape, generator=generator, dtype=points.dtype) * 2 - 1).to(points.device)
        (gradients,) = torch.autograd.grad((weights * logits).sum(), moved)
        moved = reach.project(moved.detach() + 0.5 * reach.direction(gradients, moved.detach(), 0.0))
    return torch.where(chosen[:, None], moved.detach(), points)


def likely_targets(logits: Array, labels: Array) -> Array:
    """The other classes with the largest logits, at most MOST_TARGETS, largest first: logits (N, K), labels (N,) -> (N, T)."""
    others = logits.copy()
    np.put_along_axis(others, labels[:, None], -inf, 1)
    return np.argsort(-others, axis=1, kind="stable")[:, : min(MOST_TARGETS, logits.shape[1] - 1)]


def batch_size(network: Network, device: str, columns: int = 1) -> int:
    """Rows per batch for which one step ends well within a tenth of a second."""
    kind = device.split(":")[0]
    return int(max(columns, min(LARGEST_BATCH[kind], STEP_OPERATIONS[kind] / max(1, operations(network)))))


def maximise(
    network: Network,
    lower: Array,
    upper: Array,
    coefficients: Array,
    offsets: Array,
    *,
    restarts: int = 10,
    steps: int = 50,
    seed: int = 0,
    device: str = "cpu",
    deadline: float | None = None,
    start: Array | None = None,
    target: float | None = 0.0,
) -> tuple[Array, Array]:
    """Float points of a box at which the least of several affine functions of the logits is large.

    lower, upper (n,), coefficients (m, K), offsets (m,); `restarts` random starts besides the centre and the rows of start (S, n).
    Returns (points (R, n), values (R,)), best first: float64, each point within [lower, upper], values[r] the minimum over rows of
    coefficients @ network.forward(points[r]) + offsets. The ascent ends a few steps after a value above `target` is found (None:
    never); `deadline` is an instant of time.monotonic(), kept to within a step. Nothing is proved: check witnesses exactly.
    Raises RegionError, SpecificationError (shapes, NaN, an empty box) and InputError (device).
    """
    lower, upper, coefficients, offsets = _checked(network, lower, upper, coefficients, offsets)
    check_budget(steps=steps, restarts=restarts, seed=seed)
    precision = torch.float64 if _narrow(lower, upper) else search_precision(network)
    module = as_module(network, device, precision)
    generator = torch.Generator().manual_seed(seed)

    def tensor(values: Array) -> Tensor:
        return torch.from_numpy(np.array(values, dtype=np.float64)).to(device=device, dtype=precision)

    given = np.empty((0, len(lower))) if start is None else np.asarray(start, dtype=np.float64).reshape(-1, len(lower))
    first = len(given) + 1
    box = Reach.boxes(tensor(lower)[None], tensor(upper)[None])
    rows, constants = tensor(coefficients), tensor(offsets)
    count, step = first + max(0, restarts), batch_size(network, device)
    found: list[Array] = []
    for begin in range(0, count, step):
        size = min(count, begin + step) - begin
        reach = Reach.boxes(tensor(lower).expand(size, -1), tensor(upper).expand(size, -1))
        points = reach.random(generator)
        number = torch.arange(begin, begin + size)
        with one_thread():
            chosen = ((number >= first) & (number % 2 == 0)).to(device)
            points = diversified(module, points, reach, chosen, generator, deadline)
        for row in range(begin, min(begin + size, first)):  # given starts, then the centre, then random ones
            points[row - begin] = box.project(tensor(given[row])[None] if row < len(given) else box.centers)[0]
        spread = (number // 2 % 2 == 1).to(device)
        with one_thread():
            points, values = ascend(
                module,
                points,
                reach,
                rows_objective(rows, constants, spread),
                steps=steps,
                generator=generator,
                deadline=deadline,
                done=None if target is None else (lambda best: bool((best > target).any())),
            )
        found.append(points.cpu().numpy().astype(np.float64))
        reached = bool((values > target).any()) if target is not None else False
        if reached or (deadline is not None and monotonic() >= deadline):
            break
    result = np.clip(np.concatenate(found), lower, upper)
    return sort_by_value(result, (network.forward(result) @ coefficients.T + offsets).min(axis=1))


def _narrow(lower: Array, upper: Array) -> bool:
    """Whether float32 would blur the box."""
    width = upper - lower
    size = np.maximum(np.abs(lower), np.abs(upper))
    return bool((np.isfinite(width) & (width > 0) & (width < 1e-5 * size)).any())


def sort_by_value(points: Array, values: Array) -> tuple[Array, Array]:
    """points (R, n) and values (R,), largest value first; a NaN (overflow in the network) counts as -inf."""
    values = np.where(np.isnan(values), -inf, values)
    order = np.argsort(-values, kind="stable")
    return points[order], values[order]


def _checked(network: Network, lower: Array, upper: Array, coefficients: Array, offsets: Array) -> tuple[Array, Array, Array, Array]:
    lower, upper = np.asarray(lower, dtype=np.float64), np.asarray(upper, dtype=np.float64)
    if lower.shape != (network.input_size,) or upper.shape != lower.shape:
        raise RegionError("box", f"sides of shape {lower.shape} and {upper.shape} do not fit an input of size {network.input_size}.")
    if not (lower <= upper).all():
        raise RegionError("box", "is empty, or a side is NaN.", "Give lower <= upper in every coordinate.")
    coefficients, offsets = np.asarray(coefficients, dtype=np.float64), np.asarray(offsets, dtype=np.float64)
    fits = coefficients.ndim == 2 and coefficients.shape[1] == network.output_size and offsets.shape == coefficients.shape[:1]
    if not fits or not len(offsets):
        raise SpecificationError(
            "objective", f"rows of shape {coefficients.shape} and offsets {offsets.shape} do not fit {network.output_size} outputs."
        )
    if not (np.isfinite(coefficients).all() and np.isfinite(offsets).all()):
        raise SpecificationError("objective", "holds NaN or infinite numbers.")
    return lower, upper, coefficients, offsets


def check_budget(*, steps: int, restarts: int, seed: int) -> None:
    """Raises InputError for a number of steps or restarts, or a seed, that means nothing."""
    for place, value, least in (("steps", steps, 0), ("restarts", restarts, 0), ("seed", seed, 0)):
        if isinstance(value, bool) or not isinstance(value, int | np.integer) or value < least:
            raise InputError(place, f"is {value!r}.", f"Give a whole number, {least} or more.")

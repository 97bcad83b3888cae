"""Minimal perturbations by alternating linearisation and projection (FAB: Croce and Hein, ICML 2020), targeted and batched."""

from collections.abc import Callable
from time import monotonic

import torch
from torch import Tensor

from verifier.attacks.projections import onto_halfspace

LARGEST_PULL = 0.1  # towards the linearisation's own nearest point, as in the paper


def descend(
    module: torch.nn.Module,
    origins: Tensor,
    starts: Tensor,
    labels: Tensor,
    targets: Tensor,
    norm: float,
    lower: Tensor,
    upper: Tensor,
    *,
    steps: int,
    retreat: float = 0.9,
    overshoot: float = 1.05,
    deadline: float | None = None,
    also: Callable[[Tensor], Tensor] | None = None,
) -> tuple[Tensor, Tensor]:
    """Near points at which the logit of `targets` reaches that of `labels`.

    origins, starts, lower, upper (B, n), labels, targets (B,). Returns (points (B, n), distances (B,)): float points with
    z_target >= z_label inside [lower, upper] and their distance from the origin in `norm`; inf where none was met.
    `overshoot` extrapolates past the linearised boundary, `retreat` scales the displacement after a success: with the paper's values
    (the defaults) it explores, with values nearer to 1 it settles into a local minimum. `also` moves points (B, n) into a region that is no
    box, approximately.
    """
    best, distances = starts, torch.full_like(origins[:, 0], float("inf"))
    points = starts
    for step in range(steps + 1):
        points = points.detach().requires_grad_()
        logits = module(points)
        margins = (logits.gather(1, targets[:, None]) - logits.gather(1, labels[:, None]))[:, 0]
        lengths = torch.linalg.vector_norm(points.detach() - origins, ord=norm, dim=1)
        better = (margins.detach() >= 0) & (lengths < distances)
        best = torch.where(better[:, None], points.detach(), best)
        distances = torch.where(better, lengths, distances)
        if step == steps or (deadline is not None and monotonic() >= deadline):
            break
        (normals,) = torch.autograd.grad(margins.sum(), points)
        points, margins = points.detach(), margins.detach()
        from_point = _onto_boundary(normals, margins, norm, points, lower, upper)
        at_origin = margins + (normals * (origins - points)).sum(1)
        from_origin = _onto_boundary(normals, at_origin, norm, origins, lower, upper)
        near = torch.linalg.vector_norm(from_point, ord=norm, dim=1)
        far = torch.linalg.vector_norm(from_origin, ord=norm, dim=1)
        pull = (near / (near + far).clamp(min=1e-300)).clamp(max=LARGEST_PULL)[:, None]
        moved = (1 - pull) * (points + overshoot * from_point) + pull * (origins + overshoot * from_origin)
        # A success is left at once: the next linearisation is taken nearer to the origin.
        moved = torch.where(better[:, None], origins + retreat * (moved - origins), moved)
        points = torch.maximum(torch.minimum(moved, upper), lower)
        if also is not None:
            points = torch.maximum(torch.minimum(also(points), upper), lower)
    return best, distances


def _onto_boundary(normals: Tensor, values: Tensor, norm: float, points: Tensor, lower: Tensor, upper: Tensor) -> Tensor:
    """The shortest step from points (B, n) in the box to {value + normal.d = 0}, from either side."""
    side = torch.where(values > 0, -1.0, 1.0)
    return onto_halfspace(normals * side[:, None], values.abs(), norm, points - lower, upper - points)[0]

"""Transport balls cut by pixel caps and further rows: their support function through multipliers (THEORY.md F2).

    max {c.nu : nu in ball, nu <= cap, rows nu <= limits}  <=  max {(c - beta - gamma rows).nu : nu in ball} + beta.cap + gamma.limits

for any beta, gamma >= 0, and with equality for the best ones. They are sought by projected subgradient steps; every step gives a bound.
"""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from problems.errors import InputError
from problems.rounding import UNIT
from problems.transport.grid import Grid
from problems.transport.support import as_doubles, support


@dataclass(frozen=True, eq=False)
class Cut:
    """value (B,): proven upper bounds; caps (B, n), rows (B, R): the multipliers that give them; nu (B, n): the maximiser for these."""

    value: Tensor
    caps: Tensor
    rows: Tensor
    nu: Tensor


def cut_support(
    c: Any, mu: Any, radius: Any, *, shape: tuple[int, ...] | Grid, ground: str = "l1", cap: float | None = None, rows: Any = None,
    limits: Any = None, steps: int = 50, device: str | None = None,
) -> Cut:  # fmt: skip
    """Upper bounds of max c.nu over the ball (see `support`) with nu <= cap and rows.nu <= limits, by `steps` steps of the multipliers.

    cap: a number or None; rows (R, n) or (B, R, n), limits (R,) or (B, R), or None. Raises InputError.
    """
    grid = shape if isinstance(shape, Grid) else Grid.of(tuple(shape), ground)
    c = as_doubles(c, device)
    batch, n = c.shape
    matrix = torch.zeros((batch, 0, n), dtype=c.dtype, device=c.device) if rows is None else as_doubles(rows, device).expand(batch, -1, n)
    bounds = torch.zeros((batch, 0), dtype=c.dtype, device=c.device) if limits is None else as_doubles(limits, device).expand(batch, -1)
    if matrix.shape[1] != bounds.shape[1]:
        raise InputError("rows", f"{matrix.shape[1]} rows and {bounds.shape[1]} limits.", "Give one limit for each row.")
    beta, gamma = torch.zeros_like(c), torch.zeros_like(bounds)
    best: Cut | None = None
    for step in range(steps + 1):
        mixed = c - beta - torch.einsum("br,brn->bn", gamma, matrix)
        found = support(mixed, mu, radius, shape=grid)
        extra = (beta * (cap or 0.0)).sum(1) + (gamma * bounds).sum(1)
        # Mixing rounds the functional: each entry by its size, against the mass that can meet it.
        size = c.abs() + beta + torch.einsum("br,brn->bn", gamma, matrix.abs())
        mass = as_doubles(mu, device).to(c.device).expand(batch, -1).sum(1)
        error = (matrix.shape[1] + 8) * UNIT * size.amax(1) * mass + (n + matrix.shape[1] + 8) * UNIT * (
            (beta * (cap or 0.0)).sum(1) + (gamma * bounds).abs().sum(1) + found.value.abs()
        )
        total = found.value + extra + error * (1.0 + 1e-10)
        value = torch.nextafter(total, torch.full_like(total, torch.inf))
        if best is None:
            best = Cut(value, beta, gamma, found.nu)
        else:
            wins = value < best.value
            best = Cut(
                torch.where(wins, value, best.value), torch.where(wins[:, None], beta, best.caps),
                torch.where(wins[:, None], gamma, best.rows), torch.where(wins[:, None], found.nu, best.nu),
            )  # fmt: skip
        rate = (c.amax(1) - c.amin(1))[:, None] / (step + 4.0) ** 0.75
        if cap is not None:
            surplus = found.nu - cap
            beta = (beta + 0.25 * rate * surplus / max(cap, 1e-300)).clamp(min=0.0)
        if matrix.shape[1]:
            surplus = torch.einsum("brn,bn->br", matrix, found.nu) - bounds
            scale = matrix.abs().amax(2).clamp(min=1e-300)
            gamma = (gamma + 0.25 * rate * surplus / scale / scale).clamp(min=0.0)
    assert best is not None
    return best

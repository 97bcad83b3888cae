"""The support function of the transport ball {nu >= 0 : W1(mu, nu) <= radius}, batched in torch (THEORY.md F1).

By one-dimensional duality

    max_{nu in ball} c.nu = min_{lam >= 0}  lam radius + sum_p mu_p max_q [c_q - lam d(p, q)],

and for the L1 ground distance the inner maximum is a distance transform: running maxima along each axis, forward and backward,
O(pixels). The right-hand side is convex and piecewise linear in lam, with slope radius - (cost of the maximising plan); its minimum
is found by intersecting the tangents of the best plan that costs too much and the best one that does not. Those two plans, mixed to
cost the radius, are the maximiser.

What is trusted: nothing about the search. Every lam >= 0 gives an upper bound, and the value returned is that bound for the best lam
met, with the a-priori rounding error of its evaluation added (in any order of summation, so on any device).
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from problems.errors import InputError
from problems.rounding import UNIT
from problems.transport.grid import Grid

EVALUATIONS = 60  # of multipliers, at most; 8 to 11 are usual
PAIRS = 1 << 24  # pairs of pixels of a Euclidean transform held at a time


@dataclass(frozen=True, eq=False)
class Support:
    """value (B,): proven upper bounds of max c.nu; nu (B, n): a maximiser up to rounding; multiplier (B,): the best lam; cost (B,): of the
    plan that leads to nu.

    The gradient of max c.(nu - mu) in c is nu - mu, its derivative in the radius is the multiplier.
    """

    value: Tensor
    nu: Tensor
    multiplier: Tensor
    cost: Tensor


def support(
    c: Any, mu: Any, radius: Any, *, shape: tuple[int, ...] | Grid, ground: str = "l1", device: str | None = None
) -> Support:  # fmt: skip
    """The largest c.nu over {nu >= 0 : mass of mu in every channel, W1(mu, nu) <= radius}.

    c (B, n), mu (B or 1, n) >= 0, radius (B,) or a number >= 0, in mass of mu times pixels; shape (H, W), (C, H, W) or a Grid, which
    brings its own ground distance. Tensors or arrays; the work is done in float64 on the device given, else on that of c. Raises
    InputError.
    """
    grid = shape if isinstance(shape, Grid) else Grid.of(tuple(shape), ground)
    c = as_doubles(c, device)
    mu, radius = as_doubles(mu, device).to(c.device), as_doubles(radius, device).to(c.device)
    if c.ndim != 2 or mu.ndim != 2 or c.shape[1] != grid.size or mu.shape[1] != grid.size:
        raise InputError("support", f"c {tuple(c.shape)} and mu {tuple(mu.shape)} do not fit a grid of {grid.size} pixels.", "Give (B, n).")
    if bool((mu < 0).any()) or not bool((radius >= 0).all()):
        raise InputError("support", "mass or radius is negative or NaN.", "Give mu >= 0 and radius >= 0.")
    mu, radius = mu.expand(len(c), -1), radius.expand(len(c))
    with torch.no_grad():
        return _Search(grid, c, mu, radius).run()


def transform(c: Tensor, lam: Tensor, grid: Grid) -> tuple[Tensor, Tensor, Tensor]:
    """(value, target, distance), each (B, n): max_q [c_q - lam d(p, q)] for every pixel p, the q of the channel that attains it, d(p, q).

    c (B, n), lam (B,). The value is off by at most 8 u (max |c| + lam diameter) for L1, 4 u (...) for L2, u = 2^-53.
    """
    if grid.ground == "l2":
        return _pairs(c, lam, grid)
    batch, (channels, height, width) = len(c), grid.shape
    best = c.reshape(batch, channels, height, width)
    slope = lam.reshape(batch, 1, 1, 1)
    best, row = _running(best, slope, 2)
    best, column = _running(best, slope, 3)
    row = row.gather(3, column)  # the row that the best of column q was taken from
    rows = torch.arange(height, device=c.device).reshape(1, 1, height, 1)
    columns = torch.arange(width, device=c.device).reshape(1, 1, 1, width)
    distance = ((row - rows).abs() + (column - columns).abs()).to(c.dtype)
    return best.reshape(batch, -1), (row * width + column).reshape(batch, -1), distance.reshape(batch, -1)


def _running(values: Tensor, slope: Tensor, axis: int) -> tuple[Tensor, Tensor]:
    """max_j [values_j - slope |i - j|] along an axis, and the j."""
    shape = [1, 1, 1, 1]
    shape[axis] = values.shape[axis]
    place = torch.arange(values.shape[axis], device=values.device)
    ramp = slope * place.to(values.dtype).reshape(shape)
    before, first = torch.cummax(values + ramp, dim=axis)
    after, last = torch.cummax((values - ramp).flip(axis), dim=axis)
    before, after = before - ramp, after.flip(axis) + ramp
    last = values.shape[axis] - 1 - last.flip(axis)
    nearer = (before > after) | ((before == after) & ((place.reshape(shape) - first) <= (last - place.reshape(shape))))
    return torch.where(nearer, before, after), torch.where(nearer, first, last)


def _pairs(c: Tensor, lam: Tensor, grid: Grid) -> tuple[Tensor, Tensor, Tensor]:
    """The same by all pairs of pixels, for any ground distance."""
    distances = torch.as_tensor(grid.distances, device=c.device)
    batch, pixels = len(c) * grid.channels, grid.pixels
    flat, slopes = c.reshape(batch, pixels), lam.repeat_interleave(grid.channels)
    value, target = torch.empty_like(flat), torch.empty(flat.shape, dtype=torch.int64, device=c.device)
    step = max(1, PAIRS // pixels**2)
    for first in range(0, batch, step):
        part = slice(first, first + step)
        value[part], target[part] = (flat[part, None, :] - slopes[part, None, None] * distances).max(dim=2)
    distance = distances[torch.arange(pixels, device=c.device), target]
    return tuple(part.reshape(len(c), -1) for part in (value, target, distance))


def cheapest_largest(c: Tensor, grid: Grid) -> tuple[Tensor, Tensor, Tensor]:
    """The transform at lam = 0, where all of a channel's mass goes to its largest entry, to the nearest one among equals."""
    rows = c.reshape(len(c), grid.channels, grid.pixels)
    largest = rows.max(dim=2, keepdim=True).values
    far = -4.0 * (grid.diameter + 1.0)
    marks = torch.where(rows == largest, 0.0, far).reshape(c.shape)
    _, target, distance = transform(marks, torch.ones_like(c[:, 0]), grid)
    return largest.expand(rows.shape).reshape(c.shape), target, distance


def moved(mu: Tensor, target: Tensor, grid: Grid) -> Tensor:
    """The image (B, n) in which the mass of every pixel has gone to its target (B, n)."""
    shape = (len(mu) * grid.channels, grid.pixels)
    image = torch.zeros(shape, dtype=mu.dtype, device=mu.device)
    return image.scatter_add_(1, target.reshape(shape), mu.reshape(shape)).reshape(mu.shape)


class _Search:
    """Intersection of the bracketing tangents, for all rows at once; rows that are done leave the batch."""

    def __init__(self, grid: Grid, c: Tensor, mu: Tensor, radius: Tensor) -> None:
        self.grid, self.c, self.mu, self.radius = grid, c, mu, radius
        self.value = torch.full_like(radius, torch.inf)
        self.multiplier = torch.zeros_like(radius)

    def run(self) -> Support:
        grid, c, mu, radius = self.grid, self.c, self.mu, self.radius
        everything = torch.arange(len(c), device=c.device)
        pixel = torch.arange(grid.pixels, device=c.device).repeat(len(c), grid.channels)
        # The plan that costs too much (none yet: at lam = 0), and the one that does not (at lam = the largest slope nothing moves).
        value, over_target, distance = cheapest_largest(c, grid)
        over_cost = (mu * distance).sum(1)
        over_gain = (mu * (value - c)).sum(1)
        self._offer(everything, torch.zeros_like(radius), value)
        steepest = self._steepest()
        self._offer(everything, steepest, c)
        under_target, under_cost, under_gain = pixel.clone(), torch.zeros_like(radius), torch.zeros_like(radius)
        enough = over_cost <= radius  # the cheapest best plan is within the radius: lam = 0
        rows = torch.nonzero(~enough & (over_gain > 0) & (radius > 0)).flatten()
        for _ in range(EVALUATIONS):
            if not len(rows):
                break
            lam = ((over_gain[rows] - under_gain[rows]) / (over_cost[rows] - under_cost[rows])).clamp(min=0.0)
            value, target, distance = transform(c[rows], lam, grid)
            cost = (mu[rows] * distance).sum(1)
            gain = (mu[rows] * (c[rows].gather(1, self._flat(target)) - c[rows])).sum(1)
            self._offer(rows, lam, value)
            tangent = under_gain[rows] - lam * under_cost[rows]
            new = gain - lam * cost > tangent + 1e-14 * (tangent.abs() + over_gain[rows].abs())
            over = new & (cost > radius[rows]) & (cost < over_cost[rows])
            under = new & (cost <= radius[rows]) & (cost > under_cost[rows])
            for mask, targets, costs, gains in ((over, over_target, over_cost, over_gain), (under, under_target, under_cost, under_gain)):
                chosen = rows[mask]
                targets[chosen], costs[chosen], gains[chosen] = target[mask], cost[mask], gain[mask]
            rows = rows[over | under]
        wide = over_cost > under_cost
        share = torch.where(wide, (radius - under_cost) / torch.where(wide, over_cost - under_cost, 1.0), 0.0).clamp(0.0, 1.0)
        share = torch.where(enough, 1.0, torch.where(over_gain > 0, share, 0.0))[:, None]
        nu = share * moved(mu, over_target, grid) + (1.0 - share) * moved(mu, under_target, grid)
        cost = share[:, 0] * over_cost + (1.0 - share[:, 0]) * under_cost
        return Support(self.value, nu, self.multiplier, cost)

    def _flat(self, target: Tensor) -> Tensor:
        """Targets within channels as positions in a whole image."""
        shift = torch.arange(self.grid.channels, device=target.device).repeat_interleave(self.grid.pixels) * self.grid.pixels
        return target + shift

    def _steepest(self) -> Tensor:
        """(B,): a lam at which no mass moves, rounded up: the largest difference of neighbours, which are at distance >= 1."""
        image = self.c.reshape(len(self.c), *self.grid.shape)
        steps = [torch.zeros_like(self.radius)]
        for axis in (2, 3):
            if image.shape[axis] > 1:
                steps.append(image.diff(dim=axis).abs().flatten(1).amax(1))
        # On the L1 grid neighbours suffice; an L2 distance is at least the L1 distance over sqrt 2.
        return torch.stack(steps).amax(0) * ((1.0 if self.grid.ground == "l1" else 1.4142135623730954) * (1.0 + 4.0 * UNIT))

    def _offer(self, rows: Tensor, lam: Tensor, value: Tensor) -> None:
        """Keep lam radius + mu.value + error where it is the best so far; value (R, n) computed by `transform`."""
        c, mu, radius = self.c[rows], self.mu[rows], self.radius[rows]
        finite = torch.where(lam > 0, lam * radius, 0.0)
        terms = (mu * value.abs()).sum(1)
        size = c.abs().amax(1) + lam * self.grid.diameter
        error = (self.grid.size + 16) * UNIT * (finite + terms) + 10.0 * UNIT * size * mu.sum(1)
        total = finite + (mu * value).sum(1) + error * (1.0 + 1e-10) + 1e-290
        total = torch.nextafter(total, torch.full_like(total, torch.inf))
        better = total < self.value[rows]
        self.value[rows] = torch.where(better, total, self.value[rows])
        self.multiplier[rows] = torch.where(better, lam, self.multiplier[rows])


def as_doubles(values: Any, device: str | None) -> Tensor:
    """A float64 tensor of these numbers, without their history."""
    tensor = values if isinstance(values, Tensor) else torch.as_tensor(np.asarray(values, dtype=np.float64))
    return tensor.detach().to(dtype=torch.float64, device=device)

"""Projected gradient descent in the flow domain (Wegel et al. 2021, Algorithm 1): the baseline of attacks in transport balls.

A flow delta on the edges of the grid turns an image x into x + A delta, at a cost of ||delta||_1 (Levine and Feizi 2020). A step descends
min over k of z_label - z_k in delta, then projects onto {||delta||_1 <= r, 0 <= x + A delta <= cap}. The paper projects in the 1 norm, by a
linear program whose solution is not unique and forgets how far the step went (THEORY.md section 8; it fails even at large radii); here the
projection is the Euclidean one, with which projected gradients converge. It is computed by accelerated ascent of its dual, whose inner
minimum is the projection onto an l1 ball.
"""

from dataclasses import dataclass
from math import inf
from time import monotonic

import numpy as np
import torch
from torch import Tensor

from problems.errors import InputError
from problems.network import Network
from problems.transport.grid import Grid
from verifier.attacks.module import as_module, check_device, operations, search_precision
from verifier.attacks.pgd import STEP_OPERATIONS, check_budget, margin_objective
from verifier.attacks.projections import onto_ball
from verifier.attacks.transport_witness import checked, searched

Array = np.ndarray

LEVELS = 10  # radii tried: doubled until an error is met, then halved into the bracket
FIRST_RADIUS = 0.1  # pixels, for images of mass 1
STEP, LAST_STEP = 1.0, 0.05  # length of the first and the last step, in radii
DUAL_STEPS = 40  # of every projection
ROWS = 96  # images searched together


def nearest(
    network: Network,
    x: Array,
    labels: Array,
    *,
    shape: tuple[int, ...] | Grid,
    ground: str = "l1",
    pixels: str = "simplex",
    steps: int = 30,
    seed: int = 0,
    device: str = "cpu",
    deadline: float | None = None,
) -> tuple[Array, Array]:
    """For every image a near one that is misclassified: (points (N, n), distances (N,)), as `frank_wolfe.nearest`.

    `steps` at every radius tried; the radius is bisected. Only for the L1 ground distance: others have no grid of edges.
    Raises what `frank_wolfe.nearest` raises.
    """
    check_device(device)
    check_budget(steps=steps, restarts=0, seed=seed)
    x, labels, grid, cap = checked(network, x, labels, shape, ground, pixels)
    if grid.ground != "l1":
        raise InputError("ground", f"{grid.ground} has no flow domain on the edges of the grid.", "Use l1, or the attack frank-wolfe.")
    return searched(network, x, labels, grid, cap, Search(network, grid, cap, steps, device, deadline).run, deadline)


@dataclass(frozen=True, eq=False)
class Search:
    """Projected gradient descent with a bisection of the radius, for images (N, n) of one network."""

    network: Network
    grid: Grid
    cap: float
    steps: int
    device: str = "cpu"
    deadline: float | None = None

    def run(self, x: Array, labels: Array) -> tuple[Array, Array]:
        """(candidates (N, 1, n), costs (N, 1)): the nearest error found, and the mass times pixels it takes; inf where there is none."""
        candidates, costs = x[:, None].copy(), np.full((len(x), 1), inf)
        kind = self.device.split(":")[0]
        step = max(1, min(ROWS, int(STEP_OPERATIONS[kind] / operations(self.network))))
        for begin in range(0, len(x), step):
            rows = slice(begin, begin + step)
            image = torch.from_numpy(np.array(x[rows])).to(self.device)
            found, cost = self._bisect(image, torch.from_numpy(np.array(labels[rows])).to(self.device))
            candidates[rows, 0], costs[rows, 0] = found.cpu().numpy(), cost.cpu().numpy()
        return candidates, costs

    def _bisect(self, x: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """(points (B, n), costs (B,)) after LEVELS radii."""
        mass = x.sum(1)
        best, costs, safe = x.clone(), torch.full_like(mass, inf), torch.zeros_like(mass)
        radius = FIRST_RADIUS * mass
        for _ in range(LEVELS):
            if self.deadline is not None and monotonic() >= self.deadline:
                break
            flows = self._descend(x, labels, radius)
            points = onto_images(x + applied(flows, self.grid), x, self.cap, self.grid)
            wrong = self._margins(points, labels) >= 0
            # The first error on the way, by bisection: a flow scaled down costs as much less.
            low, high = torch.zeros_like(mass), torch.ones_like(mass)
            for _ in range(10):
                middle = (low + high) / 2
                hit = self._margins(x + middle[:, None] * (points - x), labels) >= 0
                low, high = torch.where(hit, low, middle), torch.where(hit, middle, high)
            cost = high * flows.abs().sum(1)
            closer = wrong & (cost < costs)
            best = torch.where(closer[:, None], x + high[:, None] * (points - x), best)
            costs = torch.where(closer, cost, costs)
            safe = torch.where(wrong, safe, torch.maximum(safe, radius))
            safe = torch.minimum(safe, costs)
            radius = torch.where(costs.isfinite(), (safe + costs) / 2, 2 * radius)
        return best, costs

    def _descend(self, x: Tensor, labels: Tensor, radius: Tensor) -> Tensor:
        """The flows (B, E) of Algorithm 1 at these radii (B,)."""
        edges = len(self.grid.edges[0])
        flows = x.new_zeros(len(x), edges)
        prices = torch.zeros_like(x)
        for step in range(self.steps):
            points = (x + applied(flows, self.grid)).requires_grad_()
            (slopes,) = torch.autograd.grad(self._margins(points, labels).sum(), points)
            upward = differences(slopes, self.grid)
            length = torch.linalg.vector_norm(upward, dim=1).clamp(min=torch.finfo(x.dtype).tiny)
            size = STEP * (LAST_STEP / STEP) ** (step / max(1, self.steps - 1)) * radius / length
            flows, prices = project(flows + size[:, None] * upward, x, radius, self.cap, self.grid, prices)
        return flows

    def _margins(self, points: Tensor, labels: Tensor) -> Tensor:
        """max over k != label of z_k - z_label at points (B, n)."""
        precision = search_precision(self.network)
        logits = as_module(self.network, self.device, precision)(points.to(precision))
        return margin_objective(labels)(logits)[0].to(points.dtype)


def applied(flows: Tensor, grid: Grid) -> Tensor:
    """A delta (B, n): what flows (B, E), in the order of Grid.edges, add to an image."""
    down, right = _split(flows, grid)
    image = flows.new_zeros(len(flows), *grid.shape)
    image[:, :, :-1] -= down
    image[:, :, 1:] += down
    image[..., :-1] -= right
    image[..., 1:] += right
    return image.flatten(1)


def differences(image: Tensor, grid: Grid) -> Tensor:
    """A^T image (B, E): head minus tail along every edge, for images (B, n)."""
    pixels = image.reshape(len(image), *grid.shape)
    return torch.cat([pixels.diff(dim=2).flatten(2), pixels.diff(dim=3).flatten(2)], dim=2).flatten(1)


def _split(flows: Tensor, grid: Grid) -> tuple[Tensor, Tensor]:
    """Flows (B, E) as flows down (B, C, H-1, W) and to the right (B, C, H, W-1)."""
    channels, height, width = grid.shape
    rows = flows.reshape(len(flows), channels, -1)
    cut = (height - 1) * width
    batch = len(flows)
    return rows[..., :cut].reshape(batch, channels, height - 1, width), rows[..., cut:].reshape(batch, channels, height, width - 1)


def project(
    flows: Tensor, x: Tensor, radius: Tensor, cap: float, grid: Grid, prices: Tensor, steps: int = DUAL_STEPS
) -> tuple[Tensor, Tensor]:
    """(delta (B, E), prices (B, n)): nearly the Euclidean projection of flows (B, E) onto {||delta||_1 <= radius, 0 <= x + A delta <= cap}.

    The dual is ascended from `prices`, the multipliers w of the pixels: delta(w) is the projection of flows - A^T w onto the l1 ball, and
    w + t (x + A delta) keeps what lies outside [0, cap]; t = 1/8 is safe since ||A||^2 < 8 on any grid. The 1 norm is met up to
    rounding, the pixels up to the dual's convergence.
    """
    ahead, momentum = prices, 1.0
    free = torch.full_like(flows, inf)
    delta = flows
    for _ in range(steps):
        delta = onto_ball(flows - differences(ahead, grid), torch.zeros_like(flows), radius, 1.0, -free, free)
        raised = ahead + (x + applied(delta, grid)) / 8
        following = raised - (raised * 8).clamp(min=0.0, max=cap) / 8
        faster = (1 + (1 + 4 * momentum * momentum) ** 0.5) / 2
        ahead = following + (momentum - 1) / faster * (following - prices)
        prices, momentum = following, faster
    return onto_ball(flows - differences(prices, grid), torch.zeros_like(flows), radius, 1.0, -free, free), prices


def onto_images(points: Tensor, x: Tensor, cap: float, grid: Grid) -> Tensor:
    """Points (B, n) clipped to the range of pixels, then scaled (below a cap: filled up) to the mass of x in every channel."""
    clipped = points.clamp(min=0.0, max=cap).reshape(len(x), grid.channels, -1)
    wanted = x.reshape(clipped.shape).sum(2, keepdim=True)
    has = clipped.sum(2, keepdim=True)
    scaled = clipped * torch.where(has > wanted, wanted / has.clamp(min=1e-300), 1.0)
    if cap == inf:
        scaled = clipped * torch.where(has > 0, wanted / has.clamp(min=1e-300), 1.0)
    else:
        room = cap - scaled
        missing = (wanted - scaled.sum(2, keepdim=True)).clamp(min=0.0)
        scaled = scaled + room * missing / room.sum(2, keepdim=True).clamp(min=1e-300)
    return scaled.flatten(1)

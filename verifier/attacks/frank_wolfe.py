"""Frank-Wolfe in transport balls: near images, in Wasserstein distance, that a network misclassifies (THEORY.md sections 6 and 8).

For a target class the margin z_target - z_label is ascended over {nu >= 0 : W1(x, nu) <= r}. The linear problem of every step is solved
exactly by the support function of the ball (F1), so no projection is needed; the margin is piecewise linear, so several step sizes are
tried at once. Whenever an error is met the ball shrinks to the first one on the way from x to it, and a little further; where a step does
not ascend, a kink of the margin is near, and the next direction ascends the mean of the gradients met there.
Mass may be capped per pixel ("image"): multipliers of the caps (F2), an augmented Lagrangian's, are subtracted from the gradient, and what
still overflows where an error is met is spilled to neighbouring pixels.
"""

from dataclasses import dataclass
from math import inf
from time import monotonic

import numpy as np
import torch
from torch import Tensor

from problems.network import Network
from problems.transport.grid import Grid
from problems.transport.support import Support
from verifier.attacks.linear_maximum import largest
from verifier.attacks.module import as_module, check_device, operations, search_precision
from verifier.attacks.pgd import STEP_OPERATIONS, check_budget, likely_targets
from verifier.attacks.transport_witness import checked, searched

Array = np.ndarray

STEPS = (1.0, 0.7, 0.5, 0.35, 0.25, 0.15, 0.08, 0.04, 0.015)  # tried along every direction
STEADY = 0.08  # taken where none of them ascends
SHARES = (0.5, 0.6, 0.7, 0.8, 0.9, 0.93, 0.95, 0.97, 0.98, 0.99, 0.995, 0.999, 1.0)  # of the way to an error, where the first is looked for
FIRST_RADIUS = 0.3  # pixels, for images of mass 1
MARGIN, NARROWER = 0.04, 0.3  # how much smaller than the nearest error the ball is, and how that changes without success
AIM = 0.1  # share of MARGIN by which the ball stays smaller at least
BEYOND = 1 + 1e-7  # past the radius at which a linear margin would be 0
SLACK = 2e-6  # of the logits, in float32
CHARGING, FADING = 0.3, 0.9  # how fast multipliers of caps follow what overflows, and their unit the largest rate of late
PATIENCE = 12  # steps without an error before the search goes back to the nearest one
EXPLORING, LEADING = 0.3, 3  # share of the steps taken towards all targets, and how many of them are pursued then
AFRESH = 0.2  # share of the steps taken from the images again, in balls as large as the errors then known are far
ROWS = {"cpu": 192, "cuda": 8192}  # pairs of image and target searched together: what a cache holds


def nearest(
    network: Network,
    x: Array,
    labels: Array,
    *,
    shape: tuple[int, ...] | Grid,
    ground: str = "l1",
    pixels: str = "simplex",
    steps: int = 80,
    seed: int = 0,
    device: str = "cpu",
    deadline: float | None = None,
) -> tuple[Array, Array]:
    """For every image a near one at which z_k >= z_label for some k != label, in Wasserstein distance.

    x (N, n) float64 images of `shape` ((H, W), (C, H, W), or a Grid, which brings its ground distance), labels (N,); ground "l1" or "l2";
    pixels "simplex" (mass may pile up) or "image" (pixels stay <= 1); `steps` per target class, of which three are pursued to the end.
    Returns (points (N, n), distances (N,)): float64 images with exactly the mass of x in every channel and pixels in range, whose
    margin is proved to be >= 0 in real arithmetic; W1(x, point) / mass of x, proved upper bounds, so upper ends of exact radii. inf (and
    the image itself) where nothing was found: that proves nothing. An image that is already misclassified comes back with distance 0.
    Nothing is random: `seed` is there as in all attacks. `deadline` is an instant of time.monotonic().
    Raises DataError (images, labels), InputError (shape, ground, pixels, device, budget), NetworkError (one output).
    """
    check_device(device)
    check_budget(steps=steps, restarts=0, seed=seed)
    x, labels, grid, cap = checked(network, x, labels, shape, ground, pixels)
    return searched(network, x, labels, grid, cap, Search(network, grid, cap, steps, device, deadline).run, deadline)


@dataclass(frozen=True, eq=False)
class Search:
    """Frank-Wolfe for images (N, n) of one network, towards its most likely targets."""

    network: Network
    grid: Grid
    cap: float
    steps: int
    device: str = "cpu"
    deadline: float | None = None

    def run(self, x: Array, labels: Array) -> tuple[Array, Array]:
        """(candidates (N, T, n), costs (N, T)): the nearest error found towards each target, and the mass times pixels it takes."""
        logits = self.network.forward(x)
        targets = likely_targets(logits, labels)
        count = targets.shape[1]
        candidates, costs = np.repeat(x[:, None], count, axis=1), np.full(targets.shape, inf)
        todo = np.flatnonzero(logits.argmax(1) == labels)
        exploring = max(1, round(EXPLORING * self.steps))
        pairs = np.repeat(todo, count), np.tile(np.arange(count), len(todo))
        self._pursue(x, labels, targets, pairs, exploring, candidates, costs)
        order = np.argsort(costs[todo], axis=1, kind="stable")[:, :LEADING]
        pairs = np.repeat(todo, order.shape[1]), order.ravel()
        afresh = round(AFRESH * self.steps)
        self._pursue(x, labels, targets, pairs, afresh, candidates, costs, afresh=True)
        self._pursue(x, labels, targets, pairs, self.steps - exploring - afresh, candidates, costs)
        return candidates, costs

    def ascended(self, x: Array, labels: Array, radius: Array) -> Array:
        """Images (N, n) of large margin at costs of at most radius (N,), in mass times pixels: no error is sought beyond it."""
        targets = likely_targets(self.network.forward(x), labels)[:, :LEADING]
        points, margins = x.copy(), np.full(len(x), -inf)
        rows, columns = np.repeat(np.arange(len(x)), targets.shape[1]), np.tile(np.arange(targets.shape[1]), len(x))
        for begin in range(0, len(rows), self._batch()):
            part, place = rows[begin : begin + self._batch()], columns[begin : begin + self._batch()]
            descent = self._descent(x[part], labels[part], targets[part, place])
            descent.limit = self._tensor(radius[part])
            for _ in range(self.steps):
                if self.deadline is not None and monotonic() >= self.deadline:
                    break
                descent.step()
            for row, point, value in zip(part, *(found.cpu().numpy() for found in descent.steepest()), strict=True):
                if value > margins[row]:
                    points[row], margins[row] = point, value
        return points

    def _batch(self) -> int:
        kind = self.device.split(":")[0]
        return max(1, min(ROWS[kind], int(STEP_OPERATIONS[kind] / operations(self.network))))

    def _descent(self, x: Array, labels: Array, targets: Array) -> "Descent":
        return Descent(self.network, self.grid, self._tensor(x), self._tensor(labels), self._tensor(targets), self.cap)

    def _pursue(
        self,
        x: Array,
        labels: Array,
        targets: Array,
        pairs: tuple[Array, Array],
        steps: int,
        candidates: Array,
        costs: Array,
        *,
        afresh: bool = False,
    ) -> None:
        step = self._batch()
        for begin in range(0, len(pairs[0]), step):
            rows, columns = pairs[0][begin : begin + step], pairs[1][begin : begin + step]
            if self.deadline is not None and monotonic() >= self.deadline:
                return
            descent = self._descent(x[rows], labels[rows], targets[rows, columns])
            descent.start(self._tensor(candidates[rows, columns]), self._tensor(costs[rows, columns]), afresh=afresh)
            for _ in range(steps):
                if self.deadline is not None and monotonic() >= self.deadline:
                    break
                descent.step()
            candidates[rows, columns], costs[rows, columns] = descent.best.cpu().numpy(), descent.nearest.cpu().numpy()

    def _tensor(self, values: Array) -> Tensor:
        return torch.from_numpy(np.array(values)).to(self.device)


class Descent:
    """A batch of R pairs of image and target. Everything is in the units of the images: costs are mass times pixels.

    best (R, n): the nearest error met, nearest (R,): what it costs, inf where none was met.
    """

    def __init__(self, network: Network, grid: Grid, x: Tensor, labels: Tensor, targets: Tensor, cap: float) -> None:
        self.precision = search_precision(network)
        self.module, self.grid, self.x, self.cap = as_module(network, str(x.device), self.precision), grid, x, cap
        self.labels, self.targets = labels, targets
        self.mass = x.sum(1)
        self.points, self.costs = x.clone(), torch.zeros_like(self.mass)
        self.best, self.nearest = x.clone(), torch.full_like(self.mass, inf)
        self.radius = FIRST_RADIUS * self.mass
        self.limit = torch.full_like(self.mass, inf)  # the largest radius of interest
        self.margin = torch.full_like(self.mass, MARGIN)
        self.failures = torch.zeros_like(self.mass)
        self.slopes = torch.zeros_like(x)
        self.prices = torch.zeros_like(x)  # multipliers of the caps
        self.worth = torch.zeros_like(self.mass)  # how much margin a unit of cost is worth, lately

    def start(self, best: Tensor, nearest: Tensor, *, afresh: bool = False) -> None:
        """Go on from known errors (R, n) at these costs (R,), inf where there is none; afresh: from the images, in balls of that size."""
        known = nearest.isfinite()
        self.best, self.nearest = torch.where(known[:, None], best, self.best), nearest.clone()
        self._retreat(known)
        if afresh:
            self.points, self.costs = self.x.clone(), torch.zeros_like(self.costs)

    def steepest(self) -> tuple[Tensor, Tensor]:
        """(points (R, n), margins (R,)) where the search stands, an error if one was met."""
        points = torch.where(self.nearest.isfinite()[:, None], self.best, self.points)
        fitting = points if self.cap == inf else spill(points, self.cap, self.grid)[0]
        with torch.no_grad():
            return fitting, self.margins(fitting[:, None])[:, 0]

    def margins(self, points: Tensor, rows: Tensor | slice = slice(None)) -> Tensor:
        """z_target - z_label at points (R, S, n) of some rows (default all): (R, S).

        In float32 a little less than that, so that an error seen there is one in float64 as well.
        """
        logits = self.module(points.flatten(0, 1).to(self.precision)).to(points.dtype).reshape(*points.shape[:2], -1)
        index = torch.stack([self.targets[rows], self.labels[rows]], 1)[:, None].expand(-1, points.shape[1], -1)
        target, label = logits.gather(2, index).unbind(2)
        return target - label - (SLACK * (target.abs() + label.abs()) if self.precision is torch.float32 else 0.0)

    def step(self) -> None:
        """One linear problem, one line search."""
        points = self.points.detach().requires_grad_()
        values = self.margins(points[:, None])[:, 0]
        (slopes,) = torch.autograd.grad(values.sum(), points)
        with torch.no_grad():
            self.slopes += (slopes - self.slopes) / (self.failures[:, None] + 1)
            radius = torch.minimum(self.radius, self.limit)
            goal = largest(self.slopes - self._charged(self.points), self.x, radius, self.grid)
            self.worth = torch.maximum(FADING * self.worth, goal.multiplier)
            values, multiplier = self._search(values.detach(), goal), goal.multiplier
            reached = self.costs.clone()
            self.failures += 1
            hit = values >= 0
            if bool(hit.any()):
                self._shrink(hit)
            self._aim(values, reached, multiplier)
            self._retreat((self.failures >= PATIENCE) & self.nearest.isfinite(), narrower=True)
            far = (self.failures > PATIENCE) & ~self.nearest.isfinite()
            self.radius = torch.where(far, 2 * self.radius, self.radius)
            self.failures = torch.where(far, 0.0, self.failures)

    def _search(self, values: Tensor, goal: Support) -> Tensor:
        """Move from points of margin `values` (R,) towards the goal, by the best of the step sizes; the margins (R,) there."""
        sizes = torch.tensor(STEPS, dtype=self.x.dtype, device=self.x.device)
        tried = self.points[:, None] + sizes[:, None] * (goal.nu - self.points)[:, None]
        costs = self.costs[:, None] + sizes * (goal.cost - self.costs)[:, None]
        found = self.margins(tried)
        ascent, choice = (found - self._penalty(tried)).max(1)
        choice = torch.where(ascent > values - self._penalty(self.points[:, None])[:, 0], choice, STEPS.index(STEADY))
        row = torch.arange(len(choice), device=choice.device)
        self.points, self.costs = tried[row, choice], costs[row, choice]
        if self.cap == inf:
            return found[row, choice]
        self.prices += CHARGING * (self._charged(self.points) - self.prices)
        fitting, extra = spill(self.points, self.cap, self.grid)
        reached = self.margins(fitting[:, None])[:, 0]
        hit = reached >= 0  # what errs must fit; what does not yet may overflow
        self.points = torch.where(hit[:, None], fitting, self.points)
        self.costs = torch.where(hit, self.costs + extra, self.costs)
        return reached

    def _charged(self, points: Tensor) -> Tensor:
        """(..., n): multipliers of the caps at points (R, n) or (R, S, n), raised in proportion to what overflows there."""
        if self.cap == inf:
            return torch.zeros_like(points)
        prices, rate = self.prices, (self.worth / self.x.amax(1))[:, None]
        if points.dim() == 3:
            prices, rate = prices[:, None], rate[:, None]
        return (prices + rate * (points - self.cap)).clamp(min=0.0)

    def _penalty(self, points: Tensor) -> Tensor:
        """(R, S): the term of the augmented Lagrangian at points (R, S, n)."""
        if self.cap == inf:
            return torch.zeros_like(points[..., 0])
        rate = (self.worth / self.x.amax(1))[:, None].clamp(min=1e-300)
        return self._charged(points).square().sum(2) / (2 * rate)

    def _shrink(self, hit: Tensor) -> None:
        """The first error on the way from the image to a point that is one becomes the nearest, and the ball a little smaller than that."""
        shares = torch.tensor(SHARES, dtype=self.x.dtype, device=self.x.device)
        rows = torch.nonzero(hit).flatten()
        way = self.x[rows, None] + shares[:, None] * (self.points - self.x)[rows, None]
        wrong = self.margins(way, rows) >= 0
        wrong[:, -1] = True
        first = wrong.to(torch.uint8).argmax(1)
        index = torch.arange(len(rows), device=rows.device)
        cost = self.costs[rows] * shares[first]
        closer = cost < self.nearest[rows]
        self.best[rows] = torch.where(closer[:, None], way[index, first], self.best[rows])
        self.nearest[rows] = torch.minimum(cost, self.nearest[rows])
        self.failures[rows] = 0.0
        inner = shares[first] * (1 - self.margin[rows])
        self.points[rows] = self.x[rows] + inner[:, None] * (self.points - self.x)[rows]
        self.costs[rows] *= inner
        self.radius[rows] = self.nearest[rows] * (1 - self.margin[rows])
        self._pull_in()

    def _aim(self, values: Tensor, costs: Tensor, multiplier: Tensor) -> None:
        """Set the radius at which margins of `values` (R,) at points of these costs (R,) would be 0 if they went on as steeply (Newton).

        The largest linear margin is concave in the radius: Newton's step falls short of its root from either side, and is exact in the end.
        """
        needed = (costs - values / multiplier.clamp(min=1e-300)) * BEYOND
        inner, outer = self.nearest * (1 - self.margin), self.nearest * (1 - AIM * self.margin)
        lower = torch.where(values >= 0, inner, self.radius)
        self.radius = torch.where((needed < outer) & self.nearest.isfinite(), torch.maximum(needed, lower), self.radius)

    def _retreat(self, rows: Tensor, *, narrower: bool = False) -> None:
        """Back to the nearest error, drawn into a ball a little smaller than its distance, for the rows (R,) that are true."""
        if narrower:
            self.margin = torch.where(rows, NARROWER * self.margin, self.margin)
        inner = (1 - self.margin)[:, None]
        self.points = torch.where(rows[:, None], self.x + inner * (self.best - self.x), self.points)
        self.costs = torch.where(rows, self.nearest * inner[:, 0], self.costs)
        self.radius = torch.where(rows, self.nearest * inner[:, 0], self.radius)
        self.failures = torch.where(rows, 0.0, self.failures)
        self._pull_in()

    def _pull_in(self) -> None:
        """Points that cost more than the radius go back towards their image until they do not: the cost of a mixed plan is linear."""
        share = torch.where(self.costs > self.radius, self.radius / self.costs.clamp(min=1e-300), 1.0)
        self.points = self.x + share[:, None] * (self.points - self.x)
        self.costs = self.costs * share


def spill(points: Tensor, cap: float, grid: Grid, rounds: int = 64) -> tuple[Tensor, Tensor]:
    """(points (B, n), cost (B,)): what lies above the cap flows to neighbours, in equal parts, until no pixel overflows.

    The cost is the mass that flows times the distance, 1. What a few rounds leave above the cap stays there.
    """
    image = points.reshape(len(points), *grid.shape).clone()
    cost = torch.zeros_like(points[:, 0])
    neighbours = torch.zeros_like(image[:1])
    for axis in (2, 3):
        for side in (1, -1):
            neighbours += _shifted(torch.ones_like(neighbours), axis, side)
    for _ in range(rounds):
        excess = (image - cap).clamp(min=0.0)
        if not bool((excess > 0).any()):
            break
        cost += excess.flatten(1).sum(1)
        part = excess / neighbours.clamp(min=1.0)
        image = torch.where(excess > 0, cap, image)
        for axis in (2, 3):
            for side in (1, -1):
                image = image + _shifted(part, axis, side)
    return image.reshape(points.shape), cost


def _shifted(image: Tensor, axis: int, side: int) -> Tensor:
    """The image (B, C, H, W) one pixel further along an axis; what leaves the grid is lost, zero comes in."""
    moved = torch.zeros_like(image)
    size = image.shape[axis]
    if size > 1:
        moved.narrow(axis, max(side, 0), size - 1).copy_(image.narrow(axis, max(-side, 0), size - 1))
    return moved

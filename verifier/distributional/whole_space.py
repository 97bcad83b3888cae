"""phi_i on regions without bounds, by the cells of the region (W1, W2): what `inner.maximise` does by search on bounded ones.

On the cell of pattern D the competitor k has the margin g.x + b. For p = 1 a pair (D, k) with ‖g‖_s <= lam is left out: from a point of it
the segment towards x_i loses nothing until it reaches another piece, and in the end x_i itself (W2). For every other pair any multipliers
mu >= 0 of the rows a_j.x + c_j >= 0 of cell and region bound

    sup over the cell of g.x + b - lam ‖x - x_i‖^p  <=  g.x_i + b + sum_j mu_j (a_j.x_i + c_j) + sup_d w.d - lam ‖d‖^p,

w = g + sum_j mu_j a_j, where the last supremum is 0 if ‖w‖_s <= lam and infinite otherwise for p = 1, ‖w‖_s^2 / (4 lam) for p = 2, and
lam ‖w‖_s for p = inf, lam then being the radius. The best mu is a linear, conic or quadratic program; what is reported is recomputed from
its mu with all roundings, so
that no solver is trusted. The dual point of that program is x - x_i, a witness wherever it may lie: its loss is evaluated on the network.
Unbounded cells need nothing further, and lam > kappa* makes every supremum finite (T4).
"""

import time
from dataclasses import dataclass
from math import inf

import numpy as np

from problems.maps import Array
from verifier.bounds.rounding import UNIT
from verifier.bracket import Status
from verifier.distributional import penalised_entropy
from verifier.distributional.inner import Inner, Setting, Task
from verifier.distributional.losses import CrossEntropy
from verifier.distributional.penalised_cell import Piece, dual, repaired
from verifier.distributional.witnesses import inside, transport_costs
from verifier.recession.networks import with_bias_input
from verifier.recession.rows import linear_parts
from verifier.recession.slope import dual_norm
from verifier.recession.space import Cells, _sides
from verifier.search.budget import Budget, bytes_of


@dataclass(frozen=True, eq=False)
class Everywhere:
    """All cells of a region: rows (M, m, n + 1) with rows (x, 1) >= 0 on the cell, logits (M, K, n + 1) over (x, 1), with errors.

    complete: no cell is missing. Cells that are not proved empty are among them.
    """

    setting: Setting
    rows: Array
    row_errors: Array
    logits: Array
    logit_errors: Array
    complete: bool
    direction: Array | None = None  # along which some loss grows at the rate kappa*

    def __len__(self) -> int:
        return len(self.rows)

    def steepness(self, label: int) -> Array:
        """(M, K) upper bounds of ‖J_D^T (e_k - e_label)‖_s."""
        g, error = self._differences(label)
        return dual_norm(g[..., :-1], error[..., :-1], self.setting.norm)[1]

    def _differences(self, label: int) -> tuple[Array, Array]:
        g = self.logits - self.logits[:, label : label + 1]
        error = self.logit_errors + self.logit_errors[:, label : label + 1]
        return g, np.where(error > 0, error * (1 + 1e-12) + 4 * UNIT * np.abs(g), 0.0)

    def piece(self, cell: int, label: int, k: int, x: Array) -> Piece:
        """The pair (cell, k) seen from x (n,)."""
        g, error = self._differences(label)
        return Piece.seen(self.rows[cell], self.row_errors[cell], g[cell, k], error[cell, k], x, self.setting.norm)

    def part(self, cell: int, label: int, k: int, x: Array) -> "penalised_entropy.Part":
        """The part of the cell where k is the top competitor, seen from x (n,)."""
        others = [j for j in range(self.logits.shape[1]) if j not in (label, k)]
        forms = [self.logits[cell, k] - self.logits[cell, label], *(self.logits[cell, j] - self.logits[cell, k] for j in others)]
        sizes = [self.logit_errors[cell, k] + self.logit_errors[cell, label]]
        sizes += [self.logit_errors[cell, j] + self.logit_errors[cell, k] for j in others]
        v, errors = np.array(forms), np.array(sizes)
        errors = np.where(errors > 0, errors * (1 + 1e-12) + 4 * UNIT * np.abs(v), 0.0)
        rows = np.concatenate([self.rows[cell], -v[1:]])
        return penalised_entropy.Part(
            rows, np.concatenate([self.row_errors[cell], errors[1:]]), v, errors, x, self.setting.norm
        )  # fmt: skip


def cells_of(setting: Setting, budget: Budget) -> Everywhere:
    """All cells of the setting's region, as far as the budget reaches."""
    network, region = setting.network, setting.region
    cells = Cells(network, region, budget)
    found = [seen.cells.patterns for seen in cells]
    patterns = np.unique(np.concatenate([np.zeros((0, network.neurons), np.int8), *found]), axis=0)
    if network.neurons == 0:
        patterns = np.zeros((1, 0), np.int8)
    parts = linear_parts(with_bias_input(network), patterns)
    sides = _sides(region)
    rows = np.concatenate([parts.rows * np.sign(parts.patterns)[..., None], np.broadcast_to(sides, (len(patterns), *sides.shape))], axis=1)
    errors = np.concatenate([parts.row_errors, np.zeros((len(patterns), *sides.shape))], axis=1)
    return Everywhere(setting, rows, errors, parts.jacobian, parts.jacobian_errors, cells.complete)


def maximise(everywhere: Everywhere, task: Task, interrupt: object = None) -> Inner:
    """As `inner.maximise`, on the cells. Where the time ends, the bounds not yet proved are inf."""
    began = time.monotonic()
    limits = [limit for limit in (task.timeout, task.until - time.time()) if limit is not None and limit < inf]
    budget = Budget(max(min(limits), 0.0) if limits else None, bytes_of(everywhere.setting.memory))
    if interrupt is not None:
        budget.interrupt = interrupt  # type: ignore[assignment]
    work = _Work(everywhere, task, budget)
    upper = np.full(len(task.rates), inf)
    if everywhere.complete:
        # From the smallest rate on: multipliers that hold at one rate hold at larger ones (order inf: any multipliers at any radius).
        for place in sorted(range(len(task.rates)), key=lambda r: task.rates[r]):
            upper[place] = work.bound(task.rates[place], task.tolerances[place])
    work.offer_far()
    stopped = budget.exceeded() or (None if everywhere.complete else Status.UNDECIDED)
    lower = np.array([work.value(rate) for rate in task.rates])
    status = stopped or (Status.CLOSED if (upper - lower <= np.array(task.tolerances)).all() else Status.UNDECIDED)
    return Inner(
        task.sample, upper, lower, work.points, work.losses, work.costs, status, time.monotonic() - began, work.programs
    )  # fmt: skip


def far_out(point: Array, direction: Array) -> Array:
    """(A, n) points on the ray from `point` along the steepest direction at infinity: what approaches a worst case out there (W3)."""
    size = max(1.0, float(np.abs(point).max(initial=0.0)))
    return point + size * np.power(10.0, np.arange(0, 8))[:, None] * direction


class _Work:
    """One sample: witnesses so far, and multipliers of the pieces."""

    def __init__(self, everywhere: Everywhere, task: Task, budget: Budget) -> None:
        self.everywhere, self.task, self.budget = everywhere, task, budget
        setting = everywhere.setting
        self.setting, self.loss = setting, setting.loss
        self.steepness = everywhere.steepness(task.label)
        self.base = float(self.loss.at_most(setting.network, task.x[None], task.label)[0])
        self.points, self.losses, self.costs = np.zeros((0, len(task.x))), np.zeros(0), np.zeros(0)
        self.multipliers: dict[tuple[int, int], Array] = {}
        self.programs = 0
        self.offer(np.concatenate([task.x[None], task.starts.reshape(-1, len(task.x))]))

    def within(self, displacement: Array, radius: float) -> Array:
        """x + displacement, drawn back so that its cost, rounded up, is at most the radius."""
        x = self.task.x
        for share in (1.0, 1 - 1e-13, 1 - 1e-9, 1 - 1e-6):
            cost = float(transport_costs((x + displacement)[None], x, self.setting.norm, inf)[0])
            if cost <= radius:
                break
            displacement = displacement * min(1.0, radius / cost) * share
        return x + displacement

    def offer(self, points: Array) -> None:
        """Take in points of the region as witnesses."""
        points = inside(self.setting.region, points[np.isfinite(points).all(axis=1)])
        if len(points):
            self.points = np.concatenate([self.points, points])
            self.losses = np.append(self.losses, self.loss.at_least(self.setting.network, points, self.task.label))
            self.costs = np.append(self.costs, transport_costs(points, self.task.x, self.setting.norm, self.setting.order))

    def offer_displaced(self, displacement: Array | None, rate: float) -> None:
        """Take in what a program suggests; solvers differ in the signs of their duals."""
        if displacement is None:
            return
        if self.setting.order == inf:
            self.offer(self.within(displacement, rate)[None])
        else:
            self.offer(self.task.x + np.stack([displacement, -displacement]))

    def offer_far(self) -> None:
        """Points far out, beyond the best points so far."""
        direction = self.everywhere.direction
        if direction is not None:
            best = [self.points[int((self.losses - rate * self.costs).argmax())] for rate in self.task.rates]
            for point in np.unique(np.array(best), axis=0):
                self.offer(far_out(point, direction))

    def value(self, rate: float) -> float:
        """phi_i(rate) from below, about."""
        if self.setting.order == inf:
            return float(self.losses[self.costs <= rate].max())
        return float((self.losses - rate * self.costs).max())

    def bound(self, rate: float, tolerance: float) -> float:
        """phi_i(rate) from above."""
        result = self.base
        steep = self.steepness > rate if self.setting.order == 1 else np.ones(self.steepness.shape, dtype=bool)
        for cell in np.flatnonzero(steep.any(axis=1)).tolist():
            if self.budget.exceeded() is not None:
                return inf
            bound = self._cell(cell, np.flatnonzero(steep[cell]).tolist(), rate, tolerance)
            result = max(result, bound)
            if result == inf:
                return inf
        return result

    def _cell(self, cell: int, competitors: list[int], rate: float, tolerance: float) -> float:
        if isinstance(self.loss, CrossEntropy):
            return max(self._entropy(cell, k, rate, tolerance) for k in range(self.setting.network.output_size) if k != self.task.label)
        result = -inf
        for k in competitors:
            if k != self.task.label:
                result = max(result, self._pair(cell, k, rate, tolerance))
        return result

    def _pair(self, cell: int, k: int, rate: float, tolerance: float) -> float:
        piece = self.everywhere.piece(cell, self.task.label, k, self.task.x)
        known = self.multipliers.get((cell, k), np.zeros(piece.count))
        bound = piece.bound(known, rate, self.setting.order)
        if bound <= self.value(rate) + 0.1 * tolerance:
            return bound
        self.programs += 1
        multipliers, displacement = dual(piece, rate, self.setting.order, solver=self.setting.solver)
        if self.setting.order == 1:
            multipliers = repaired(piece, multipliers, rate)
        self.offer_displaced(displacement, rate)
        better = piece.bound(multipliers, rate, self.setting.order)
        if better < bound:
            self.multipliers[cell, k], bound = multipliers, better
        return bound

    def _entropy(self, cell: int, k: int, rate: float, tolerance: float) -> float:
        part = self.everywhere.part(cell, self.task.label, k, self.task.x)

        def offer(displacement: Array) -> None:
            self.offer_displaced(displacement, rate)

        value, programs = penalised_entropy.bound(
            part, rate, self.setting.order, offer=offer, goal=lambda: self.value(rate) + 0.5 * tolerance, stopped=self.budget.exceeded,
            solver=self.setting.solver,
        )  # fmt: skip
        self.programs += programs
        return value

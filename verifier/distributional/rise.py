"""lambda_0, the steepest rise of the loss from a sample (T5), by Dinkelbach's method on the phi_i.

(loss(x) - loss(x_i)) / ‖x - x_i‖ > lam for some x iff phi_i(lam) > loss(x_i). So lam starts at the steepest witness (and kappa*), every
sample is asked at the same lam, a witness found there that is steeper raises lam, and samples that were settled at a smaller lam stay so.

A proven bound phi_i(lam) <= loss(x_i) + delta allows (loss(x) - loss(x_i)) / ‖x - x_i‖ <= lam + delta / ‖x - x_i‖, which says nothing near
x_i. There, within a radius rho in which no neuron changes its sign, the slope is bounded by the gradient itself. Both together:

    lambda_0 <= max_i max(lam + delta_i / rho_i, the slope within rho_i of x_i).

Within rho the shares p_j of cross-entropy's gradient sum_j p_j grad(z_j - z_y) change by at most a factor exp(2 G rho), with
G = max_j ‖grad(z_j - z_y)‖_s; for the margin only competitors that can be on top there count. In a box, directions that leave it are none.
"""

import time
from dataclasses import dataclass, replace
from math import expm1, inf, nextafter
from typing import Any

import numpy as np

from problems.data import Dataset
from problems.maps import Array
from problems.network import Network
from problems.regions import Box, Polytope
from problems.regions.base import Region
from verifier.bounds.rounding import gamma
from verifier.distributional.fan import Fan
from verifier.distributional.inner import Setting, Task
from verifier.distributional.losses import CrossEntropy, Margin
from verifier.distributional.refinement import Item, Refinement
from verifier.recession.networks import with_bias_input
from verifier.recession.rows import linear_parts
from verifier.recession.slope import dual_norm
from verifier.recession.tight import steepest
from verifier.search.budget import Budget
from verifier.witness import enclose

# Neurons times inputs up to which the cell around a sample is looked at.
MOST_ENTRIES = 4_000_000
# Rates beyond the steepest witness by this share are asked about; suprema are settled to this share of the loss's size.
STEP, SETTLED, SETTLED_ENTROPY = 1e-6, 1e-11, 1e-8


def steepest_rise(state: Refinement, fan: Fan, budget: Budget, *, least: float, most: float, tolerance: float) -> tuple[float, float]:
    """(lower, upper) of lambda_0 from a state of order 1: witnessed, and proved as far as the budget reaches.

    least: kappa*, from below; most: an upper bound (L).
    """
    assert state.order == 1
    step = max(STEP, tolerance)
    local = [local_slope(state, item) for item in state.items]
    lower = max(least, witnessed(state))
    asked = 0.0
    while budget.exceeded() is None:
        rate = max(lower, state.least) * (1.0 + step) + 1e-300
        asked = rate
        open_items = [i for i, item in enumerate(state.items) if _excess(state, item, rate) > _settled(state, item)]
        if not open_items:
            break
        left = inf if budget.timeout is None else budget.remaining
        until = time.time() + left
        tasks = []
        for i in open_items:
            item = state.items[i]
            front = state.fronts[item.place]
            seconds = None if left == inf else max(left * fan.count / len(open_items), 0.02)
            goal = (0.5 * _settled(state, item),)
            tasks.append(Task(i, state.data.x[item.place], item.label, (rate,), goal, front.points, seconds, until))
        for result in fan.results(tasks):
            state.absorb(state.items[result.sample], np.array([rate]), result)
        lower = max(lower, witnessed(state))
        if lower <= rate:
            break
    upper = max((_above(state, item, asked, near) for item, near in zip(state.items, local, strict=True)), default=inf) if asked else most
    return lower, max(min(upper, most), lower)


def rise_of(
    network: Network, data: Dataset, region: Region, norm: float, *, budget: Budget, most: float, kappa: tuple[float, float],
    tolerance: float, workers: int = 1,
) -> tuple[float, float] | None:  # fmt: skip
    """(lower, upper) of lambda_0 for the margin; None where the region is no box and no polytope, or its cells are not all to be had.

    most: an upper bound (L); kappa: the bracket of kappa*.
    """
    from verifier.distributional import inner, whole_space

    if not isinstance(region, Box | Polytope):
        return None
    setting = Setting(network, norm, 1.0, region, Margin())
    count = network.output_size
    state = Refinement(
        setting, data, [0.0], tolerance, slopes=np.full(count, most), ceilings=np.full(count, inf), least=kappa[1] * (1 + 1e-8)
    )  # fmt: skip
    for item in state.items:
        state.witness(item.place, item.label, uphill(state, item))
    work: Any = inner.maximise
    context: Any = setting
    if not all(np.isfinite(side).all() for side in region.bounding_box()):
        cells = whole_space.cells_of(setting, budget)
        if not cells.complete:
            return None
        work, context = whole_space.maximise, cells
    with Fan(work, context, workers, None, budget) as fan:
        return steepest_rise(state, fan, budget, least=kappa[0], most=most, tolerance=tolerance)


def uphill(state: Refinement, item: Item) -> Array:
    """(A, n) points on the ray along the steepest direction of the sample's own gradient, near and far."""
    network, x = state.setting.network, state.data.x[item.place]
    if network.neurons * network.input_size > MOST_ENTRIES:
        return x[None]
    values = network.values(x[None])
    before = [values[network.nodes[i].parent][0] for i in network.relus]  # type: ignore[union-attr]
    pattern = np.where(np.concatenate([np.zeros(0), *before]) > 0, 1, -1).astype(np.int8)
    logits = values[-1][0].copy()
    logits[item.label] = -inf
    g, error = linear_parts(network, pattern[None]).gradients(np.array([(item.label, int(logits.argmax()))]))
    g, error = _inward(state.setting, x, g[0], error[0])
    direction = steepest(g, error, state.setting.norm, np.zeros(len(x), dtype=bool))[0][0]
    size = float(np.abs(direction).max())
    return x[None] if size == 0 else x + np.power(10.0, np.arange(-6, 1))[:, None] * (direction / size)


def witnessed(state: Refinement) -> float:
    """The steepest rise among the witnesses, rounded down."""
    best = 0.0
    for item in state.items:
        front = state.fronts[item.place]
        far = front.costs > 0
        if far.any():
            rises = (front.losses[far] - item.envelope.base) / front.costs[far]
            best = max(best, float(rises.max()))
    return best * (1.0 - 4 * gamma(4)) if best > 0 else 0.0


def _settled(state: Refinement, item: Item) -> float:
    # Cross-entropy is settled by ever smaller boxes, and its slope near the samples known in a larger ball.
    share = SETTLED_ENTROPY if isinstance(state.setting.loss, CrossEntropy) else SETTLED
    return share * max(1.0, abs(item.envelope.base))


def _excess(state: Refinement, item: Item, rate: float) -> float:
    """How far the bound of phi_i(rate) lies above the loss of the sample."""
    return float(item.envelope.at(np.array([rate]))[0]) - float(state.fronts[item.place].losses[0])


@dataclass(frozen=True)
class Near:
    """Within `radius` of the sample the loss rises at most at `slope`."""

    radius: float
    slope: float


def _above(state: Refinement, item: Item, rate: float, near: Near) -> float:
    if near.radius <= 0:
        return inf
    excess = max(nextafter(_excess(state, item, rate), inf), 0.0)
    return max(nextafter(rate + nextafter(excess / near.radius, inf), inf), near.slope)


def local_slope(state: Refinement, item: Item) -> Near:
    """The slope near a sample, in a ball where no neuron changes its sign."""
    setting, x = state.setting, state.data.x[item.place]
    network = setting.network
    if network.neurons * network.input_size > MOST_ENTRIES:
        return Near(0.0, inf)
    values = network.values(x[None])
    before = [values[network.nodes[i].parent][0] for i in network.relus]  # type: ignore[union-attr]
    pattern = np.where(np.concatenate([np.zeros(0), *before]) > 0, 1, -1).astype(np.int8)
    parts = linear_parts(with_bias_input(network), pattern[None])
    point = np.append(x, 1.0)
    rows, errors = parts.rows[0] * pattern[:, None], parts.row_errors[0]
    slack = rows @ point - (errors + gamma(len(point) + 4) * np.abs(rows)) @ np.abs(point) * (1 + 1e-9)
    sizes = dual_norm(rows[:, :-1], errors[:, :-1], setting.norm)[1]
    still = (rows == 0).all(axis=1) & (errors == 0).all(axis=1)
    with np.errstate(divide="ignore", invalid="ignore"):
        reach = np.where(still, inf, slack / sizes)
    radius = float(reach.min(initial=inf)) * (1 - 1e-12)
    if not radius > 0:
        return Near(0.0, inf)
    pairs = np.array([(item.label, k) for k in range(network.output_size) if k != item.label])
    g, error = (part[0][:, :-1] for part in parts.gradients(pairs))
    slopes = dual_norm(g, error, setting.norm)[1]
    steep = float(slopes.max())
    if steep == 0.0:
        return Near(radius, 0.0)
    low, high = _margins(network, x, item.label)
    if isinstance(setting.loss, CrossEntropy):
        radius = min(radius, 1e-4 / steep)
        most = np.exp(np.minimum(high - setting.loss.at_least(network, x[None], item.label)[0], 0.0)) * (1 + 1e-12)
        least = np.exp(low - setting.loss.at_most(network, x[None], item.label)[0]) * (1 - 1e-12)
        whole = (most[:, None] * g).sum(axis=0), (most[:, None] * (error + 1e-14 * np.abs(g))).sum(axis=0)
        slope = float(dual_norm(*_inward(setting, x, *whole), setting.norm)[1])
        slope += float((most * slopes).sum()) * expm1(2 * steep * radius) + float(((most - least) * slopes).sum())
        return Near(radius, slope * (1 + 1e-12))
    behind = float(low.max()) - high  # how far each competitor is behind for certain; not positive for those that may be on top
    wide = behind > 1e-6 * max(1.0, abs(float(low.max())))
    if wide.any():  # within this radius they stay behind
        radius = min(radius, float(behind[wide].min()) / (2 * steep * (1 + 1e-9)))
    inward = dual_norm(*_inward(setting, x, g, error), setting.norm)[1]
    return Near(radius, float(inward[~wide].max()))


def _margins(network: Network, x: Array, label: int) -> tuple[Array, Array]:
    """Enclosures (K - 1,) of z_k - z_label at x (n,), k != label in order."""
    low, high = (part[0] for part in enclose(network, x[None]))
    return np.nextafter(np.delete(low, label) - high[label], -inf), np.nextafter(np.delete(high, label) - low[label], inf)


def _inward(setting: Setting, x: Array, g: Array, error: Array) -> tuple[Array, Array]:
    """The gradients without what only directions out of the box could use: max <g, u> over u in the box's tangent cone is its dual norm."""
    if not isinstance(setting.region, Box):
        return g, error
    lower, upper = setting.region.lower, setting.region.upper
    out = ((x <= lower) & (g + error <= 0)) | ((x >= upper) & (g - error >= 0)) | (lower == upper)
    # A coordinate of uncertain sign stays; one that points outward is of no use (u_j = 0 is best).
    return np.where(out, 0.0, g), np.where(out, 0.0, error)


def of_order_one(state: Refinement) -> Refinement:
    """The same data and region with order 1, with the witnesses found so far."""
    setting = replace(state.setting, order=1)
    count = setting.network.output_size
    slopes, ceilings = np.full(count, inf), np.full(count, inf)
    for item in state.items:
        slopes[item.label], ceilings[item.label] = item.envelope.slope, item.envelope.ceiling
    fresh = Refinement(setting, state.data, [0.0], state.tolerance, slopes=slopes, ceilings=ceilings)
    for item in fresh.items:
        fresh.witness(item.place, item.label, state.fronts[item.place].points)
    return fresh

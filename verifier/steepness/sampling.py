"""Lower ends early: gradients at random points, at corners, and where a climb over cells leads."""

import time

import numpy as np

from problems.maps import Array
from problems.regions.base import Region
from verifier.search.question import Witness
from verifier.steepness.judge import Judge

STARTS, FEW, SURVIVORS, ROUNDS = 1024, 32, 12, 12


def sample(judge: Judge, *, seed: int = 0) -> Witness | None:
    """The best verified witness among a few points: enough where all cells will be gone through."""
    points = _starts(judge.region, np.random.default_rng(seed), FEW)
    return judge.best(points, -np.inf)


def climb(judge: Judge, *, seed: int = 0, seconds: float = 1.0) -> Witness | None:
    """The best verified witness found by random points, corners of the bounding box and random moves from the best of them.

    Norms are constant on cells, so there is no gradient to follow: each round moves every survivor in random directions, by random shares
    of the region's width, and keeps the steepest.
    """
    generator, end = np.random.default_rng(seed), time.monotonic() + seconds
    points = _starts(judge.region, generator, STARTS)
    values = judge.norms_at(points)
    width = _width(judge.region)
    for _ in range(ROUNDS):
        points, values = _survivors(points, values)
        if time.monotonic() >= end:
            break
        steps = (
            width
            * generator.uniform(-1.0, 1.0, (32, len(points), points.shape[1]))
            * 2.0 ** -generator.integers(0, 8, (32, len(points), 1))
        )
        sparse = generator.random(steps.shape) < 2.0 ** -generator.integers(0, 4, (32, len(points), 1))
        moved = judge.region.clip((points + steps * sparse).reshape(-1, points.shape[1]))
        new = judge.norms_at(moved)
        points, values = np.concatenate([points, moved]), np.concatenate([values, new])
    return judge.best(points[_order(values)], -np.inf)


def _starts(region: Region, generator: np.random.Generator, count: int) -> Array:
    lower, upper = region.bounding_box()
    n = len(lower)
    low, high = np.where(np.isfinite(lower), lower, -1.0), np.where(np.isfinite(upper), upper, 1.0)
    low, high = (
        np.where(np.isfinite(upper) & ~np.isfinite(lower), upper - 2.0, low),
        np.where(np.isfinite(lower) & ~np.isfinite(upper), lower + 2.0, high),
    )
    inside = generator.uniform(low, high, (count, n))
    corners = np.where(generator.random((count, n)) < 0.5, low, high)
    parts = [(0.5 * low + 0.5 * high)[None], inside, corners]
    if not (np.isfinite(lower).all() and np.isfinite(upper).all()):
        # Cells reach to infinity: look at several scales.
        parts.append(generator.standard_normal((count, n)) * 10.0 ** generator.uniform(-2, 3, (count, 1)))
    return region.clip(np.concatenate(parts))


def _width(region: Region) -> Array:
    lower, upper = region.bounding_box()
    with np.errstate(invalid="ignore"):
        width = upper - lower
    return np.where(np.isfinite(width), width, 10.0)


def _order(values: Array) -> Array:
    return np.argsort(-values, kind="stable")[: 4 * SURVIVORS]


def _survivors(points: Array, values: Array) -> tuple[Array, Array]:
    """The best points, at most a few of the same value: those lie in one cell."""
    order = np.argsort(-values, kind="stable")
    _, first = np.unique(-values[order], return_index=True)
    chosen = order[first[:SURVIVORS]]
    if len(chosen) < SURVIVORS:
        chosen = np.concatenate([chosen, order[: SURVIVORS - len(chosen)]])
    return points[chosen], values[chosen]

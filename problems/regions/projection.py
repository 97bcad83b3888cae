"""Projection on a norm ball cut by a box, landing in the exact set.

With the center in the box, projecting e = x - center keeps the form of a one-parameter family: l2 clip(t e, low, high), t <= 1; l1
sign(e) min(max(|e| - mu, 0), room) (without a box: Duchi, Shalev-Shwartz, Singer, Chandra 2008). The parameter is found in plain
floats. Then the step is shrunk until its norm, rounded up, is at most the radius, and center + step is rounded toward the center.
"""

from math import inf
from typing import TYPE_CHECKING

import numpy as np

from problems.regions.compiled import strict
from problems.regions.euclidean import step_length
from problems.rounding import UNIT, add_toward

if TYPE_CHECKING:
    from problems.regions.ball import Ball

Array = np.ndarray


def project(ball: "Ball", x: Array) -> Array:
    """x (..., n) -> the point of the ball that `Ball.clip` promises. NaN stays NaN."""
    if ball.radius == inf:
        return ball.limits.clip(x)
    center, radius = ball.center, ball.radius
    inner_lower, inner_upper = ball.limits.inner
    if ball.norm == inf:
        step = np.full_like(center, radius)
        lower, upper = np.maximum(inner_lower, add_toward(center, -step)), np.minimum(inner_upper, add_toward(center, step))
        return np.minimum(np.maximum(x, lower), upper)
    points = np.ascontiguousarray(x.reshape(-1, len(center)))
    steps = np.subtract(points, center)
    inside = _norms_above(steps, ball.norm) <= radius
    if not inside.all():
        moved = steps[~inside]
        kernel = _euclidean if ball.norm == 2 else _taxicab
        kernel(moved, radius, inner_lower - center, inner_upper - center)
        # Below this many roundings of the radius the norm rounded up stays <= radius, so that clipping again changes nothing.
        goal = radius * (1.0 - (8.0 * len(center) + 200.0) * UNIT)
        size = _norms_above(moved, ball.norm)
        factor = np.where(size > goal, goal / np.where(size > 0.0, size, 1.0), 1.0)
        moved *= factor[:, None]
        if radius < 1e-280:  # products may underflow and round away from 0
            moved[:] = 0.0
        points = points.copy()
        points[~inside] = add_toward(center, moved)
    return np.minimum(np.maximum(points, inner_lower), inner_upper).reshape(x.shape)


def _norms_above(steps: Array, norm: float) -> Array:
    """Upper bounds on the norms of rows that carry a relative error u in every entry."""
    size = np.abs(steps).max(axis=1, initial=0.0)
    shares = np.abs(steps) / np.where(size > 0.0, size, 1.0)[:, None]
    total = shares.sum(axis=1) if norm == 1 else np.sqrt((shares * shares).sum(axis=1))
    return size * total * (1.0 + (2.0 * steps.shape[1] + 40.0) * UNIT)


@strict
def _euclidean(steps: Array, radius: float, low: Array, high: Array) -> None:
    """Projects every row of steps (m, n) on the ball and the box around 0, in place."""
    for k in range(steps.shape[0]):
        step = steps[k]
        t = min(1.0, step_length(step, low, high, radius * radius, False))
        for i in range(step.shape[0]):
            step[i] = min(max(t * step[i], low[i]), high[i])


@strict
def _taxicab(steps: Array, radius: float, low: Array, high: Array) -> None:
    """The same for l1: the norm is nonincreasing and piecewise linear in the threshold, solved on the piece or bisected."""
    for k in range(steps.shape[0]):
        step = steps[k]
        below = 0.0
        above = 0.0
        for i in range(step.shape[0]):
            above = max(above, abs(step[i]))
        threshold = 0.0
        for _ in range(200):
            total = 0.0
            free = 0
            for i in range(step.shape[0]):
                room = high[i] if step[i] > 0.0 else -low[i]
                size = abs(step[i]) - threshold
                if size >= room:
                    total += room
                elif size > 0.0:
                    total += size
                    free += 1
            if total <= radius:
                above = threshold
            else:
                below = threshold
            if threshold == 0.0 and total <= radius:
                break
            target = threshold + (total - radius) / free if free > 0 else -1.0
            if abs(target - threshold) <= 4e-16 * threshold:
                break
            threshold = target if below < target < above else 0.5 * (below + above)
            if not below < threshold < above:
                break
        for i in range(step.shape[0]):
            room = high[i] if step[i] > 0.0 else -low[i]
            size = min(max(abs(step[i]) - threshold, 0.0), room)
            step[i] = size if step[i] > 0.0 else -size

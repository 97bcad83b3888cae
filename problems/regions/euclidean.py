"""The l2 ball cut by boxes: support and distance. See `duality` for what is proved and why the search needs no care.

With d = x - center, the best point is d = clip(t c, low, high) for one t = 1/multiplier >= 0, and the best split of c is g = d / t, which
is c itself where nothing is clamped. ||d||^2 and c.d are nondecreasing in t, with breakpoints where a coordinate meets its box.
"""

import numpy as np

from problems.regions.compiled import search, strict
from problems.regions.duality import ITERATIONS, Array, base_gain, distance_bound, place, scale_row, support_bound


@search
def _clamped(c: Array, low: Array, high: Array, t: float, products: bool) -> tuple[float, float]:
    """(sum of d_i^2, or c_i d_i for products, over clamped i; sum of c_i^2 over the others) with d = clip(t c, low, high)."""
    squares = 0.0
    gains = 0.0
    free = 0.0
    for i in range(c.shape[0]):
        v = t * c[i]
        d = low[i] if v < low[i] else v
        d = high[i] if d > high[i] else d
        is_free = d == v
        free += c[i] * c[i] if is_free else 0.0
        squares += 0.0 if is_free else d * d
        gains += 0.0 if is_free else c[i] * d
    return gains if products else squares, free


@search
def _reach(c: Array, low: Array, high: Array) -> tuple[float, float, float]:
    """(limit of ||d||^2, limit of c.d) for t to infinity, and ||c||^2."""
    reach = 0.0
    gain = 0.0
    squares = 0.0
    for i in range(c.shape[0]):
        d = 0.0 if low[i] < 0.0 else low[i]
        d = d if d < high[i] else high[i]
        d = high[i] if c[i] > 0.0 else d
        d = low[i] if c[i] < 0.0 else d
        reach += d * d
        gain += c[i] * d
        squares += c[i] * c[i]
    return reach, gain, squares


@strict
def step_length(c: Array, low: Array, high: Array, goal: float, products: bool) -> float:
    """t >= 0 at which ||clip(t c, low, high)||^2 (or, for products, c.clip(t c, low, high)) reaches the goal; inf if it never does.

    Between breakpoints the function is fixed + t^2 free (or fixed + t free): solve on the piece, and bisect where that leaves
    the bracket.
    """
    reach, gain, squares = _reach(c, low, high)
    if (gain if products else reach) <= goal:
        return np.inf
    t = goal / squares if products else np.sqrt(goal / squares)
    if not 0.0 < t < np.inf:
        t = 1.0
    below = 0.0
    above = np.inf
    for _ in range(ITERATIONS):
        target = -1.0
        fixed, free = _clamped(c, low, high, t, products)
        if products:
            value = fixed + t * free
            if free > 0.0:
                target = (goal - fixed) / free
        else:
            value = fixed + t * t * free
            if free > 0.0 and goal > fixed:
                target = np.sqrt((goal - fixed) / free)
        if abs(target - t) <= 1e-11 * t:  # the piece is known, and its root exact
            return target
        if value <= goal:
            below = max(below, t)
        else:
            above = min(above, t)
        if below < target < above:
            t = target
        elif above == np.inf:
            t = 4.0 * t
        else:
            middle = 0.5 * (below + above)
            if not below < middle < above:
                break
            t = middle
    return t


@strict
def _split(c: Array, scale: float, low: Array, high: Array, t: float, g: Array, d: Array) -> None:
    """The g and d of the step t, which belongs to the scaled row: c scale."""
    step = t * scale
    multiplier = 1.0 / step
    for i in range(c.shape[0]):
        v = step * c[i]
        inner = low[i] if v < low[i] else v
        inner = high[i] if inner > high[i] else inner
        d[i] = inner
        g[i] = c[i] if inner == v else inner * multiplier


@strict
def _corner(c: Array, low: Array, high: Array, g: Array, d: Array) -> None:
    """The limit of `_split` for t to infinity, and for c = 0."""
    for i in range(c.shape[0]):
        d[i] = min(max(0.0, low[i]), high[i])
        if c[i] > 0.0:
            d[i] = high[i]
        elif c[i] < 0.0:
            d[i] = low[i]
        g[i] = 0.0


@strict
def support(
    c: Array, center: Array, radius: float, lower: Array, upper: Array, low: Array, high: Array, value: Array, point: Array
) -> None:
    """c (B or 1, S, n); node boxes lower, upper and low, high = those less the center (B or 1, n); fills value, point (B, S, n)."""
    nodes, rows, n = point.shape
    scaled = np.empty(n)
    terms = np.empty(2 * n)
    g = np.empty(n)
    d = np.empty(n)
    for b in range(nodes):
        node = b if lower.shape[0] > 1 else 0
        for s in range(rows):
            full = c[b if c.shape[0] > 1 else 0, s]
            row, scale = scale_row(full, scaled)
            if not scale > 0.0:
                value[b, s] = 0.0 if scale == 0.0 else np.inf
                _corner(row, low[node], high[node], g, d)
                place(center, d, lower[node], upper[node], point[b, s])
                continue
            t = step_length(row, low[node], high[node], radius * radius, False)
            if t < np.inf:
                _split(full, scale, low[node], high[node], t, g, d)
            else:
                _corner(full, low[node], high[node], g, d)
            place(center, d, lower[node], upper[node], point[b, s])
            bound = support_bound(full, g, center, lower[node], upper[node], radius, 2, terms)
            # A box that nearly misses the ball makes 1/t huge, and a radius whose square leaves the floats makes it wrong.
            if bound == np.inf or not t > 1e-6 * radius or not 1e-280 < radius * radius < 1e280:
                bound = min(bound, support_bound(full, full, center, lower[node], upper[node], radius, 2, terms))
                g[:] = 0.0
                bound = min(bound, support_bound(full, g, center, lower[node], upper[node], radius, 2, terms))
            value[b, s] = bound


@strict
def _saturation(row: Array, low: Array, high: Array) -> float:
    """The t from which on every coordinate is clamped, or 0 if some never is."""
    t = 0.0
    for i in range(row.shape[0]):
        if row[i] != 0.0:
            side = high[i] if row[i] > 0.0 else low[i]
            t = max(t, side / row[i])
    return t if t < np.inf else 0.0


@strict
def _nearest(low: Array, high: Array, d: Array) -> None:
    """The point of the box closest to 0."""
    for i in range(d.shape[0]):
        d[i] = min(max(0.0, low[i]), high[i])


@strict
def distance(
    c: Array, offset: Array, center: Array, lower: Array, upper: Array, low: Array, high: Array, nearest: Array, value: Array, point: Array
) -> None:
    """offset (B or 1, S); nearest (B or 1): proven lower bounds on the distance from the center to the box. Fills value and point."""
    nodes, rows, n = point.shape
    scaled = np.empty(n)
    terms = np.empty(2 * n)
    g = np.empty(n)
    d = np.empty(n)
    for b in range(nodes):
        node = b if lower.shape[0] > 1 else 0
        for s in range(rows):
            full = c[b if c.shape[0] > 1 else 0, s]
            shift = offset[b if offset.shape[0] > 1 else 0, s]
            row, scale = scale_row(full, scaled)
            bound = 0.0
            _nearest(low[node], high[node], d)
            if scale == 0.0:
                bound = np.inf if shift < 0.0 else 0.0
            elif scale > 0.0:
                constant, gain = base_gain(row, center, shift, scale, low[node], high[node])
                if gain < 0.0:
                    t = step_length(row, low[node], high[node], -constant, True)
                    if t < np.inf:
                        _split(full, scale, low[node], high[node], t, g, d)
                    else:
                        _corner(full, low[node], high[node], g, d)
                    bound = distance_bound(full, g, center, lower[node], upper[node], shift, 2, terms)
                    if t == np.inf and bound == 0.0:  # the half-space touches the box within rounding
                        t = _saturation(row, low[node], high[node])
                        if t > 0.0:
                            _split(full, scale, low[node], high[node], t * (1.0 + 1e-15), g, d)
                            bound = distance_bound(full, g, center, lower[node], upper[node], shift, 2, terms)
            place(center, d, lower[node], upper[node], point[b, s])
            value[b, s] = max(bound, nearest[node])

"""The linf ball cut by boxes: distance. (Its support is that of a box.) See `duality` for what is proved.

With d = x - center, a ball of radius t lets each coordinate move to t or to its side of the box, whichever comes first. The gain
sum_i c_i d_i(t) is concave and piecewise linear in t from the distance of the box on, so Newton's method from the left ends at the
root after finitely many steps. The best split of c is c_i where the ball stops the coordinate and 0 where the box does.
"""

import numpy as np

from problems.regions.compiled import search, strict
from problems.regions.duality import ITERATIONS, Array, distance_bound, place, scale_row


@search
def _gain(row: Array, center: Array, low: Array, high: Array, t: float) -> tuple[float, float]:
    """(gain of the coordinates that the box stops, slope of the others); row.center is added to the first."""
    fixed = 0.0
    slope = 0.0
    for i in range(row.shape[0]):
        size = abs(row[i])
        side = high[i] if row[i] > 0.0 else -low[i]
        is_free = t < side
        slope += size if is_free else 0.0
        fixed += row[i] * center[i] + (0.0 if is_free else size * side)
    return fixed, slope


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
        start = 0.0
        for i in range(n):
            start = max(start, low[node, i], -high[node, i])
        for s in range(rows):
            full = c[b if c.shape[0] > 1 else 0, s]
            shift = offset[b if offset.shape[0] > 1 else 0, s]
            row, scale = scale_row(full, scaled)
            bound = 0.0
            t = start
            if scale == 0.0:
                bound = np.inf if shift < 0.0 else 0.0
            elif scale > 0.0:
                for _ in range(ITERATIONS):
                    fixed, slope = _gain(row, center, low[node], high[node], t)
                    if not scale * shift + fixed + t * slope < 0.0:
                        break
                    target = -(scale * shift + fixed) / slope if slope > 0.0 else np.inf
                    if not target > t:
                        break
                    t = target
                    if t == np.inf:
                        break
                if t > start:
                    bound = _bound(full, center, shift, lower[node], upper[node], low[node], high[node], t, g, terms)
                    if t == np.inf and bound == 0.0:  # the half-space touches the box within rounding
                        t = _last_side(row, low[node], high[node])
                        bound = _bound(full, center, shift, lower[node], upper[node], low[node], high[node], t * (1.0 - 1e-15), g, terms)
            for i in range(n):
                d[i] = min(max(0.0, low[node, i]), high[node, i])
                if row[i] > 0.0:
                    d[i] = min(t, high[node, i])
                elif row[i] < 0.0:
                    d[i] = max(-t, low[node, i])
            place(center, d, lower[node], upper[node], point[b, s])
            value[b, s] = max(bound, nearest[node])


@strict
def _bound(
    c: Array, center: Array, offset: float, lower: Array, upper: Array, low: Array, high: Array, t: float, g: Array, terms: Array
) -> float:
    """The proven bound of the split that the ball of radius t suggests."""
    for i in range(c.shape[0]):
        side = high[i] if c[i] > 0.0 else -low[i]
        g[i] = c[i] if t <= side and t < np.inf else 0.0
    return distance_bound(c, g, center, lower, upper, offset, 1, terms)


@strict
def _last_side(row: Array, low: Array, high: Array) -> float:
    """The largest side that a coordinate can move to."""
    t = 0.0
    for i in range(row.shape[0]):
        if row[i] != 0.0:
            t = max(t, high[i] if row[i] > 0.0 else -low[i])
    return t

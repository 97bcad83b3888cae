"""Linear functions less a price for the distance from the center, maximised over boxes by one-dimensional duality, compiled.

With sigma the support function of the box and ||.||_* the dual norm (see `duality`), for EVERY vector g

    max {c.x - rate ||x - center|| : x in box}     <=  g.center + sigma(c - g)                         if ||g||_* <= rate
    max {c.x - rate ||x - center||^2 : x in box}   <=  g.center + sigma(c - g) + ||g||_*^2 / (4 rate)

because c.x = g.x + (c - g).x, g.(x - center) <= ||g||_* ||x - center||, and ||g||_* t - rate t^2 <= ||g||_*^2 / (4 rate). Both are
equalities at the best g, which depends on one number: the multiplier of the norm, or the distance t of the maximiser. The search for it
proves nothing; the right-hand side is evaluated with the a-priori error of `duality`.

In l1 the best g is c clipped to [-m, m] with m = rate (power 1) or m = 2 rate t. In l2 the maximiser is d = clip(t c, box) and g = d / t,
for the t at which ||g|| = rate (power 1), or t = 1 / (2 rate). In linf the maximiser moves every coordinate to t or to its side, whichever
comes first, for the t from which on less than the price is gained; g is c where the box does not stop the coordinate.

Source: textbook duality (conjugates of norms and of their squares).
"""

import numpy as np

from problems.regions.compiled import search, strict
from problems.regions.duality import ITERATIONS, SMALLEST, Array, _split_value, absolute_error, dual_norm, place, relative_error, scale_row
from problems.regions.euclidean import _clamped
from problems.regions.euclidean import _split as euclidean_split
from problems.regions.taxicab import _split as taxicab_split
from problems.regions.taxicab import critical_key
from problems.rounding import UNIT

HALVINGS = 64
ATTEMPTS = 40


@strict
def _bound(c: Array, g: Array, center: Array, lower: Array, upper: Array, rate: float, power: int, dual: int, terms: Array) -> float:
    """The right-hand side for this g, rounded up; inf where ||g||_* <= rate is not certain (power 1) or it overflows."""
    n = c.shape[0]
    norm = dual_norm(g, dual, terms)
    paid = 0.0
    if power == 1:
        if not norm <= rate:
            return np.inf
    elif norm > 0.0:
        # four roundings, and what underflow of the quotient or the product may lose
        paid = norm * (norm / (4.0 * rate)) * (1.0 + 8.0 * UNIT) + SMALLEST * (norm + 2.0)
    total, absolute = _split_value(c, g, center, lower, upper, terms)
    error = relative_error(n) * (absolute + paid) + absolute_error(n)
    value = np.nextafter(total + paid + error, np.inf)
    return np.inf if np.isnan(value) else value


@strict
def _shrink(c: Array, g: Array, lower: Array, upper: Array, rate: float, dual: int, terms: Array) -> None:
    """Scale g down until ||g||_* <= rate is certain, leaving it where the box is infinite on the side that c - g would meet."""
    stride = 1.0
    for _ in range(ATTEMPTS):
        norm = dual_norm(g, dual, terms)
        if norm <= rate:
            return
        factor = max(1.0 - (norm / rate - 1.0 + 4.0 * UNIT) * stride, 0.0)
        stride *= 2.0  # where few coordinates may shrink they have to shrink by more
        for i in range(g.shape[0]):
            side = upper[i] if g[i] > 0.0 else lower[i]
            if abs(side) < np.inf:
                g[i] *= factor


@search
def _rooms(row: Array, low: Array, high: Array, key: float) -> float:
    """How far the coordinates with |c_i| > key can move along c, in all."""
    total = 0.0
    for i in range(row.shape[0]):
        start = 0.0 if low[i] < 0.0 else low[i]
        start = start if start < high[i] else high[i]
        room = high[i] - (start if start > 0.0 else 0.0)
        other = (start if start < 0.0 else 0.0) - low[i]
        room = room if row[i] > 0.0 else other
        total += room if abs(row[i]) > key and room > 0.0 else 0.0
    return total


@strict
def _taxicab(c: Array, row: Array, scale: float, rate: float, power: int, low: Array, high: Array, g: Array, d: Array) -> None:
    """g and d for l1."""
    start = 0.0
    largest = 0.0
    for i in range(row.shape[0]):
        start += abs(min(max(0.0, low[i]), high[i]))
        largest = max(largest, abs(row[i]))
    multiplier = rate * scale
    below = multiplier
    if power == 2:
        below = 0.0
        multiplier = max(largest, 2.0 * rate * scale * start)
        for _ in range(HALVINGS):
            middle = 0.5 * (below + multiplier)
            if start + _rooms(row, low, high, middle) <= middle / (2.0 * rate * scale):
                multiplier = middle
            else:
                below = middle
        room = _rooms(row, low, high, multiplier)
        if room == _rooms(row, low, high, below):  # no key lies in between: the root itself, however small
            multiplier = min(max(2.0 * rate * scale * (start + room), below), multiplier)
    rest = max(multiplier / (2.0 * rate * scale) - start - _rooms(row, low, high, multiplier), 0.0) if power == 2 else 0.0
    taxicab_split(c, rate if power == 1 else multiplier / scale, low, high, g)
    for i in range(row.shape[0]):
        d[i] = min(max(0.0, low[i]), high[i])
        side = high[i] if row[i] > 0.0 else low[i]
        if abs(row[i]) > multiplier:
            d[i] = side
        elif abs(row[i]) > below:
            room = min(abs(side - d[i]), rest)
            rest -= room
            d[i] += room if row[i] > 0.0 else -room


@strict
def _step(row: Array, rate: float, low: Array, high: Array) -> float:
    """t at which ||clip(t c, low, high)|| = rate t: the left side over t falls, so Newton's steps are kept in a bracket.

    Where the maximiser is the center, the smallest t of use, 2^-600.
    """
    least = 2.0**-600
    inside = True
    for i in range(row.shape[0]):
        inside = inside and low[i] <= 0.0 <= high[i]
    t = 1.0
    below = 0.0
    above = np.inf
    for _ in range(ITERATIONS):
        fixed, free = _clamped(row, low, high, t, False)
        left = rate - free / rate  # squares of the rate could overflow
        if inside and fixed == 0.0 and left >= 0.0:
            return least
        target = np.sqrt(fixed / rate) / np.sqrt(left) if left > 0.0 else np.inf
        if abs(target - t) <= 1e-12 * t:
            return target
        if target > t:
            below = max(below, t)
        else:
            above = min(above, t)
        if below < target < above:
            t = target
        elif above == np.inf:
            t = 16.0 * t
        else:
            middle = np.sqrt(below) * np.sqrt(above) if below > 0.0 else above / 16.0
            if not below < middle < above:
                break
            t = middle
    return t


@search
def _slope(row: Array, low: Array, high: Array, t: float) -> float:
    """What the coordinates that the box does not stop before t gain per unit of t."""
    total = 0.0
    for i in range(row.shape[0]):
        side = high[i] if row[i] > 0.0 else -low[i]
        total += abs(row[i]) if t < side else 0.0
    return total


@strict
def _chebyshev_length(
    row: Array, price: float, power: int, low: Array, high: Array, start: float, keys: Array, weights: Array
) -> tuple[float, float]:
    """(below, t): t >= start is the least from which on the slope is at most the price (power 1) or 2 price t (power 2), below just
    before it. Beyond 1e300 there is none.
    """
    if _slope(row, low, high, start) <= (price if power == 1 else 2.0 * price * start):
        return start, start
    largest = 0.0
    for i in range(row.shape[0]):
        side = high[i] if row[i] > 0.0 else -low[i]
        moves = side > start and row[i] != 0.0
        keys[i] = side if moves else 0.0
        weights[i] = abs(row[i]) if moves else 0.0
        largest = max(largest, keys[i])
    if power == 1 and largest < np.inf:  # the sides are the only places where the slope falls: a weighted selection
        t = max(critical_key(keys, weights, price)[0], start)
        return t * (1.0 - 1e-15), t
    below = start
    t = largest if largest < np.inf else max(start, 1.0)
    while t < 1e300 and _slope(row, low, high, t) > (price if power == 1 else 2.0 * price * t):
        below = t
        t = 4.0 * t
    for _ in range(HALVINGS):
        middle = 0.5 * (below + t)
        if _slope(row, low, high, middle) > (price if power == 1 else 2.0 * price * middle):
            below = middle
        else:
            t = middle
    slope = _slope(row, low, high, t)
    if power == 2 and slope == _slope(row, low, high, below):  # no side lies in between: the root itself, however small
        t = min(max(slope / (2.0 * price), below), t)
    return below, t


@strict
def _chebyshev(
    c: Array, row: Array, scale: float, rate: float, power: int, low: Array, high: Array, g: Array, d: Array, keys: Array, weights: Array
) -> None:
    """g and d for linf."""
    n = row.shape[0]
    start = 0.0
    nearest = -1  # the coordinate that keeps the box away from the center
    for i in range(n):
        if max(low[i], -high[i]) > start:
            start = max(low[i], -high[i])
            nearest = i
    price = rate * scale
    below, t = _chebyshev_length(row, price, power, low, high, start, keys, weights)
    allowed = price if power == 1 else 2.0 * price * t
    within = 0.0
    for i in range(n):
        side = high[i] if row[i] > 0.0 else -low[i]
        g[i] = c[i] if t < side else 0.0
        allowed -= abs(row[i]) if t < side else 0.0
        within += abs(row[i]) if below < side <= t else 0.0
        d[i] = min(max(0.0, low[i]), high[i])
        if row[i] > 0.0:
            d[i] = min(t, high[i])
        elif row[i] < 0.0:
            d[i] = max(-t, low[i])
    allowed = max(allowed, 0.0)
    if t > start and within > 0.0:  # the coordinates whose sides are met at t share what is left of the price
        share = min(allowed / within, 1.0)
        for i in range(n):
            side = high[i] if row[i] > 0.0 else -low[i]
            if below < side <= t:
                g[i] = c[i] * share
    elif t == start and nearest >= 0:
        g[nearest] += allowed / scale if low[nearest] > 0.0 else -allowed / scale


@strict
def maximise(
    c: Array, center: Array, rate: float, power: int, norm: int, lower: Array, upper: Array, low: Array, high: Array, value: Array,
    point: Array,
) -> None:  # fmt: skip
    """c (B or 1, S, n); boxes lower, upper and low, high = those less the center (B or 1, n); norm 1, 2 or 0 (infinity); rate > 0.

    Fills value (B, S) and point (B, S, n).
    """
    nodes, rows, n = point.shape
    dual = 0 if norm == 1 else (2 if norm == 2 else 1)
    scaled = np.empty(n)
    terms = np.empty(2 * n)
    g = np.empty(n)
    d = np.empty(n)
    keys = np.empty(n)
    weights = np.empty(n)
    for b in range(nodes):
        node = b if lower.shape[0] > 1 else 0
        for s in range(rows):
            full = c[b if c.shape[0] > 1 else 0, s]
            row, scale = scale_row(full, scaled)
            if np.isnan(scale):
                value[b, s] = np.inf
                g[:] = 0.0
                for i in range(n):
                    d[i] = min(max(0.0, low[node, i]), high[node, i])
                place(center, d, lower[node], upper[node], point[b, s])
                continue
            if scale == 0.0:
                scale = 1.0
            if norm == 1:
                _taxicab(full, row, scale, rate, power, low[node], high[node], g, d)
            elif norm == 2:
                t = _step(row, rate * scale, low[node], high[node]) if power == 1 else 1.0 / (2.0 * rate * scale)
                euclidean_split(full, scale, low[node], high[node], t, g, d)
            else:
                _chebyshev(full, row, scale, rate, power, low[node], high[node], g, d, keys, weights)
            if power == 1:
                _shrink(full, g, lower[node], upper[node], rate, dual, terms)
            place(center, d, lower[node], upper[node], point[b, s])
            bound = _bound(full, g, center, lower[node], upper[node], rate, power, dual, terms)
            if bound == np.inf:
                g[:] = 0.0
                bound = _bound(full, g, center, lower[node], upper[node], rate, power, dual, terms)
            value[b, s] = bound

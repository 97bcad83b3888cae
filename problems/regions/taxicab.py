"""The l1 ball cut by boxes: support and distance. See `duality` for what is proved and why the search needs no care.

With d = x - center, the best point leaves the point of the box that is closest to 0 along the coordinates of largest |c_i|
first, each up to its side of the box, until the budget is spent (support) or the half-space is reached (distance): a fractional
knapsack. The critical |c_i| is the multiplier of the norm, and the best split of c is c clipped to [-multiplier, multiplier].
"""

import numpy as np

from problems.regions.compiled import search, strict
from problems.regions.duality import Array, base_gain, distance_bound, place, scale_row, support_bound

HALVINGS = 7


@search
def _above(keys: Array, weights: Array, threshold: float) -> float:
    """What the entries of larger keys weigh."""
    total = 0.0
    for i in range(keys.shape[0]):
        total += weights[i] if keys[i] > threshold else 0.0
    return total


@strict
def critical_key(keys: Array, weights: Array, budget: float) -> tuple[float, float]:
    """(key, rest): the smallest key such that the entries of larger keys weigh at most the budget; rest is what they leave of it.

    (0, rest) if everything fits. Keys and weights are >= 0 and get reordered. Halving the range of keys by vectorised sums
    leaves few entries for `_select`, which is exact on any distribution.
    """
    everything = _above(keys, weights, 0.0)
    if everything <= budget:
        return 0.0, budget - everything
    low = 0.0
    high = 0.0
    for i in range(keys.shape[0]):
        high = keys[i] if keys[i] > high else high
    for _ in range(HALVINGS):
        middle = 0.5 * (low + high)
        if _above(keys, weights, middle) <= budget:
            high = middle
        else:
            low = middle
    budget -= _above(keys, weights, high)
    count = 0
    for i in range(keys.shape[0]):
        if low < keys[i] <= high:
            keys[count] = keys[i]
            weights[count] = weights[i]
            count += 1
    return _select(keys, weights, count, budget)


@strict
def _select(keys: Array, weights: Array, count: int, budget: float) -> tuple[float, float]:
    """`critical_key` among the first `count` entries: a weighted quickselect in place."""
    first = 0
    last = count
    while first < last:
        a, b, c = keys[first], keys[(first + last) // 2], keys[last - 1]
        pivot = max(min(a, b), min(max(a, b), c))
        greater = first  # [first, greater) > pivot, [greater, i) == pivot, [less, last) < pivot
        less = last
        i = first
        above = 0.0
        equal = 0.0
        while i < less:
            key = keys[i]
            weight = weights[i]
            if key > pivot:
                above += weight
                keys[i], weights[i] = keys[greater], weights[greater]
                keys[greater], weights[greater] = key, weight
                greater += 1
                i += 1
            elif key < pivot:
                less -= 1
                keys[i], weights[i] = keys[less], weights[less]
                keys[less], weights[less] = key, weight
            else:
                equal += weight
                i += 1
        if above > budget:
            last = greater
        elif above + equal > budget:
            return pivot, budget - above
        else:
            budget -= above + equal
            first = less
    return 0.0, budget


@strict
def _knapsack(row: Array, low: Array, high: Array, gains: bool, keys: Array, weights: Array) -> None:
    """Fills keys = |c_i| and weights = the room to move along c_i, times |c_i| for gains."""
    for i in range(row.shape[0]):
        start = 0.0 if low[i] < 0.0 else low[i]
        start = start if start < high[i] else high[i]
        room = high[i] - (start if start > 0.0 else 0.0)
        other = (start if start < 0.0 else 0.0) - low[i]
        room = room if row[i] > 0.0 else other
        room = room if room > 0.0 and row[i] != 0.0 else 0.0
        size = abs(row[i])
        keys[i] = size
        weights[i] = room * size if gains and room > 0.0 else room


@strict
def _split(c: Array, multiplier: float, low: Array, high: Array, g: Array) -> None:
    """The best split of c for the multiplier: see `duality`; where the box excludes 0, g has the sign of d."""
    for i in range(c.shape[0]):
        if low[i] > 0.0:
            g[i] = multiplier
        elif high[i] < 0.0:
            g[i] = -multiplier
        else:
            g[i] = min(max(c[i], -multiplier), multiplier)


@strict
def _fill(row: Array, key: float, rest: float, low: Array, high: Array, gains: bool, d: Array) -> None:
    """The knapsack's point: coordinates above the key to their side, those at the key as far as the rest goes."""
    for i in range(row.shape[0]):
        start = 0.0 if low[i] < 0.0 else low[i]
        start = start if start < high[i] else high[i]
        side = high[i] if row[i] > 0.0 else low[i]
        d[i] = side if abs(row[i]) > key else start
    if not 0.0 < key < np.inf:
        return
    for i in range(row.shape[0]):
        if abs(row[i]) == key:
            side = high[i] if row[i] > 0.0 else low[i]
            room = max(min(abs(side - d[i]), rest / key if gains else rest), 0.0)
            rest -= room * key if gains else room
            d[i] += room if row[i] > 0.0 else -room


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
    keys = np.empty(n)
    weights = np.empty(n)
    for b in range(nodes):
        node = b if lower.shape[0] > 1 else 0
        start = 0.0
        for i in range(n):
            start += abs(min(max(0.0, low[node, i]), high[node, i]))
        budget = max(radius - start, 0.0)
        for s in range(rows):
            full = c[b if c.shape[0] > 1 else 0, s]
            row, scale = scale_row(full, scaled)
            if not scale > 0.0:
                value[b, s] = 0.0 if scale == 0.0 else np.inf
                row[:] = 0.0
                _fill(row, np.inf, 0.0, low[node], high[node], False, d)
                place(center, d, lower[node], upper[node], point[b, s])
                continue
            _knapsack(row, low[node], high[node], False, keys, weights)
            key, rest = critical_key(keys, weights, budget)
            _fill(row, key, rest, low[node], high[node], False, d)
            place(center, d, lower[node], upper[node], point[b, s])
            _split(full, key / scale, low[node], high[node], g)
            bound = support_bound(full, g, center, lower[node], upper[node], radius, 0, terms)
            if bound == np.inf or start > 0.0:
                bound = min(bound, support_bound(full, full, center, lower[node], upper[node], radius, 0, terms))
                g[:] = 0.0
                bound = min(bound, support_bound(full, g, center, lower[node], upper[node], radius, 0, terms))
            value[b, s] = bound


@strict
def _smallest(keys: Array, weights: Array) -> float:
    """The smallest key > 0 that has weight."""
    smallest = np.inf
    for i in range(keys.shape[0]):
        if weights[i] > 0.0 and keys[i] < smallest:
            smallest = keys[i]
    return smallest


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
    keys = np.empty(n)
    weights = np.empty(n)
    for b in range(nodes):
        node = b if lower.shape[0] > 1 else 0
        for s in range(rows):
            full = c[b if c.shape[0] > 1 else 0, s]
            shift = offset[b if offset.shape[0] > 1 else 0, s]
            row, scale = scale_row(full, scaled)
            bound = 0.0
            key = np.inf
            rest = 0.0
            if scale == 0.0:
                bound = np.inf if shift < 0.0 else 0.0
            elif scale > 0.0:
                _, gain = base_gain(row, center, shift, scale, low[node], high[node])
                if gain < 0.0:
                    _knapsack(row, low[node], high[node], True, keys, weights)
                    key, rest = critical_key(keys, weights, -gain)
                    _split(full, key / scale, low[node], high[node], g)
                    bound = distance_bound(full, g, center, lower[node], upper[node], shift, 0, terms)
                    if key == 0.0 and bound == 0.0:  # the half-space touches the box within rounding
                        _split(full, _smallest(keys, weights) / scale, low[node], high[node], g)
                        bound = distance_bound(full, g, center, lower[node], upper[node], shift, 0, terms)
            _fill(row, key, rest, low[node], high[node], True, d)
            place(center, d, lower[node], upper[node], point[b, s])
            value[b, s] = max(bound, nearest[node])

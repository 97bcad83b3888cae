"""Balls cut by boxes: support and distance by one-dimensional duality, compiled.

Write sigma(b) = sum_i max(b_i lower_i, b_i upper_i) for the support function of a box, and ||.||_* for the dual norm. For EVERY
vector g, whatever way it was found,

    max {c.x : ||x - center|| <= r, x in box}             <=  g.center + sigma(c - g) + r ||g||_*                  (support)
    min {||x - center|| : x in box, c.x + offset >= 0}    >= -(offset + g.center + sigma(c - g)) / ||g||_*         (distance)

because c.x = g.x + (c - g).x, and ||x - center|| >= g.(x - center) / ||g||_*. Both are equalities at the best g, and the best g
depends on one number only: the multiplier of the norm. So the search for that number (Newton's method on a piecewise
function, or a weighted selection) is heuristic and needs no care, while the right-hand sides are evaluated with care.

Rounding. g is data: it carries no error. b = c - g is computed with relative error u = 2^-53 and keeps its sign, zero included
(subtraction does not underflow), so an infinite side meets a zero b exactly and is skipped. The 2n products are added in blocks of
64, in any order within a block, and the block sums one after the other: a term passes through at most 63 + n/32 + 1 additions and
2 roundings of its own. With A the sum of absolute values, the sum is off by at most gamma_k A + 2n 2^-1074, k = min(2n, 64) + n/32 + 2; a
norm has a smaller relative error; the last additions and the evaluation of the error bound itself are paid by taking 24 for the 2 and
the factor 1.001 (n < 2^28), underflow by (4n + 40) 2^-1074.

Source: textbook duality (infimal convolution of support functions); Higham, Accuracy and Stability, section 4.2, for blocked sums.
"""

import numpy as np

from problems.regions.compiled import any_order, search, strict
from problems.rounding import UNIT

Array = np.ndarray

SMALLEST = 2.0**-1074
BLOCK = 64
ITERATIONS = 300


# --- evaluation with error bounds -----------------------------------------------------------------------------------------------


@strict
def relative_error(n: int) -> float:
    """The a-priori error of a computed sum, norm or bound in dimension n, relative to the sum of absolute values."""
    return (min(2.0 * n, 64.0) + 24.0 + n / 32.0) * 1.001 * UNIT


@strict
def absolute_error(n: int) -> float:
    """What underflow may add to it."""
    return (4.0 * n + 40.0) * SMALLEST


@any_order
def _block(values: Array, start: int, stop: int) -> tuple[float, float]:
    total = 0.0
    absolute = 0.0
    for i in range(start, stop):
        total += values[i]
        absolute += abs(values[i])
    return total, absolute


@strict
def sums(values: Array) -> tuple[float, float]:
    """(sum, sum of absolute values) in blocks."""
    total = 0.0
    absolute = 0.0
    for start in range(0, values.shape[0], BLOCK):
        part, absolute_part = _block(values, start, min(start + BLOCK, values.shape[0]))
        total += part
        absolute += absolute_part
    return total, absolute


@strict
def dual_norm(g: Array, exponent: int, terms: Array) -> float:
    """An upper bound on ||g||_exponent, exponent 1, 2 or 0 (for infinity). terms: room for 2n floats."""
    n = g.shape[0]
    upward = 1.0 + relative_error(n)
    if exponent == 1:
        return sums(g)[1] * upward
    largest = 0.0
    if exponent == 2:
        for i in range(n):
            terms[i] = g[i] * g[i]
        total = sums(terms[:n])[0]
        if 1e-250 < total < 1e300:  # what underflowed is below n 2^-1074: nothing beside 1e-250 u
            return np.sqrt(total) * upward
    for i in range(n):
        size = abs(g[i])
        largest = size if size > largest else largest
    if exponent == 0 or largest == 0.0 or not largest < np.inf:
        return largest
    if largest < 1e-290:
        return np.sqrt(float(n)) * largest * upward  # crude, sound, beyond every practical scale
    for i in range(n):
        terms[i] = (g[i] / largest) * (g[i] / largest)
    return largest * np.sqrt(sums(terms[:n])[0]) * upward


@strict
def _split_value(c: Array, g: Array, center: Array, lower: Array, upper: Array, terms: Array) -> tuple[float, float]:
    """(g.center + sigma(c - g), the same sum over absolute values), both as computed."""
    n = c.shape[0]
    for i in range(n):
        rest = c[i] - g[i]
        side = upper[i] if rest > 0.0 else lower[i]
        terms[i] = g[i] * center[i]
        terms[n + i] = rest * side if rest != 0.0 else 0.0
    return sums(terms)


@strict
def support_bound(c: Array, g: Array, center: Array, lower: Array, upper: Array, radius: float, exponent: int, terms: Array) -> float:
    """The right-hand side of (support), rounded up; inf where it overflows."""
    n = c.shape[0]
    total, absolute = _split_value(c, g, center, lower, upper, terms)
    ball = radius * dual_norm(g, exponent, terms)
    error = relative_error(n) * (absolute + ball) + absolute_error(n)
    value = np.nextafter(total + ball + error, np.inf)
    return np.inf if np.isnan(value) else value


@strict
def distance_bound(c: Array, g: Array, center: Array, lower: Array, upper: Array, offset: float, exponent: int, terms: Array) -> float:
    """The right-hand side of (distance), rounded down and at least 0; inf if the set is proved empty (g = 0)."""
    n = c.shape[0]
    total, absolute = _split_value(c, g, center, lower, upper, terms)
    error = relative_error(n) * (absolute + abs(offset)) + absolute_error(n)
    gap = -(total + offset) - error
    if not gap > 0.0:  # NaN lands here
        return 0.0
    norm = dual_norm(g, exponent, terms)
    if norm == 0.0:
        return np.inf
    value = gap / norm * (1.0 - 8.0 * UNIT)
    return max(0.0, np.nextafter(value, -np.inf)) if value < np.inf else 0.0


@strict
def box_support(c: Array, lower: Array, upper: Array, neutral: Array, value: Array, point: Array) -> None:
    """Boxes alone. c (B or 1, S, n); lower, upper, neutral (B or 1, n), neutral a finite point; fills value (B, S), point (B, S, n)."""
    nodes, rows, n = point.shape
    relative = relative_error(n)
    terms = np.empty(n)
    for b in range(nodes):
        node = b if lower.shape[0] > 1 else 0
        for s in range(rows):
            row = c[b if c.shape[0] > 1 else 0, s]
            place = point[b, s]
            for i in range(n):
                side = upper[node, i] if row[i] > 0.0 else lower[node, i]
                side = neutral[node, i] if row[i] == 0.0 else side
                terms[i] = row[i] * side
                place[i] = side if abs(side) < np.inf else neutral[node, i]
            total, absolute = sums(terms)
            underflow = 0.0
            if absolute < 1e-290:
                for i in range(n):
                    if row[i] != 0.0 and place[i] != 0.0:
                        underflow = absolute_error(n)
            error = relative * absolute + underflow
            bound = np.nextafter(total + error, np.inf) if absolute > 0.0 else underflow
            value[b, s] = np.inf if np.isnan(bound) or np.isnan(absolute) else bound


# --- shared by the searches -----------------------------------------------------------------------------------------------------


@search
def _size(c: Array) -> float:
    """Sum of absolute values: not finite if an entry is not."""
    total = 0.0
    for i in range(c.shape[0]):
        total += abs(c[i])
    return total


@strict
def scale_row(c: Array, row: Array) -> tuple[Array, float]:
    """(row, scale): c itself and 1, or where its size is extreme c times a power of two, written to `row`.

    The scale is 0 for c = 0 and NaN if c is not finite; the row returned is then 0.
    """
    size = _size(c)
    if 1e-90 < size < 1e90:
        return c, 1.0
    if size > 0.0 and size < np.inf:
        scale = 2.0 ** -np.floor(np.log2(size))
        if scale < np.inf:
            for i in range(c.shape[0]):
                row[i] = c[i] * scale
            return row, scale
        return c, 1.0
    row[:] = 0.0
    return row, 0.0 if size == 0.0 else np.nan


@search
def base_gain(row: Array, center: Array, offset: float, scale: float, low: Array, high: Array) -> tuple[float, float]:
    """(constant, gain): scaled offset + row.center, and that plus row.d for the d of the box closest to 0. Plain floats: a start."""
    constant = 0.0
    moved = 0.0
    for i in range(row.shape[0]):
        d = 0.0 if low[i] < 0.0 else low[i]
        d = d if d < high[i] else high[i]
        constant += row[i] * center[i]
        moved += row[i] * d
    constant += scale * offset
    return constant, constant + moved


@strict
def place(center: Array, d: Array, lower: Array, upper: Array, point: Array) -> None:
    """point = center + d, within the box; finite, even where d is not."""
    for i in range(center.shape[0]):
        x = center[i] + (d[i] if abs(d[i]) < np.inf else 0.0)
        x = x if x > lower[i] else lower[i]
        point[i] = x if x < upper[i] else upper[i]

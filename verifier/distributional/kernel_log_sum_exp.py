"""log(1 + sum_j exp(m_j)), proved without a mathematical library, and its linear upper bounds over boxes, compiled.

Exponential. x = k ln 2 + r with |r| <= 0.36: k times the leading 32 bits of ln 2 is exact, so r is off by at most 3u (u = 2^-53), and the
Taylor polynomial of degree 17 by less than 1e-23 and 36u e^|r| (Horner, coefficients rounded). Relative error below 100u < EXP_ERROR;
multiplying by 2^k is exact, for below LEAST nothing is computed.

Logarithm. y = math.log(w) is a guess. As log t <= t - 1 and log t >= 1 - 1/t for all t > 0, t = w exp(-y) makes
    y + 1 - 1/t  <=  log w = y + log t  <=  y + t - 1,
where t is about 1: a wrong guess costs tightness, never soundness.

Envelope. In the coordinates of one competitor, v_0 = z_k - z_y and v_j = z_j - z_k <= 0 for the others, cross-entropy is
    F(v) = log(1 + exp(v_0) (1 + sum_{j>0} exp(v_j))).
F is convex, so F(v) - r.v is at most its largest value at a vertex of a box [low, high], for EVERY real r:
    F(v) <= r.v + c(r) on the box,  c(r) = max over vertices of F - r.v.                                            (envelope)
Where r_j <= 0 that vertex has v_j = high_j, as F grows. The others are enumerated, with factors exp(-r_j (v_j - low_j)) in (0, 1] in
place of the linear term: one logarithm for all of them.
"""

import math
from pathlib import Path

import numpy as np

from problems.regions.compiled import discard_outdated, kept_on_disk

Array = np.ndarray

UNIT = 2.0**-53
EXP_ERROR = 2.0**-46
LEAST = -700.0  # exp(LEAST) < NOTHING
NOTHING = 1e-300
LOG2_LEADING, LOG2_REST = 0.69314718036912381649, 1.90821492927058770002e-10  # their sum is ln 2 up to 2e-26
# Coordinates whose vertices are enumerated, at most.
WIDEST = 10

discard_outdated(Path(__file__).parent, "kernel*")

strict = kept_on_disk()


@strict
def exponential(x: float) -> float:
    """exp(x) for x <= 1, with relative error below EXP_ERROR; 0 below LEAST (and for NaN: NaN)."""
    if x < LEAST:
        return 0.0
    k = np.floor(x * 1.4426950408889634 + 0.5)
    r = (x - k * LOG2_LEADING) - k * LOG2_REST
    total = 1.0
    for i in range(17, 0, -1):
        total = 1.0 + total * r / i
    return math.ldexp(total, int(k)) if x == x else x


@strict
def exponential_up(x: float) -> float:
    """An upper bound of exp(x), x <= 1."""
    return exponential(x) * (1.0 + 2.0 * EXP_ERROR) + NOTHING


@strict
def exponential_down(x: float) -> float:
    """A lower bound of exp(x), x <= 1."""
    return exponential(x) * (1.0 - 2.0 * EXP_ERROR)


@strict
def log_up(w: float) -> float:
    """An upper bound of log(w), w >= 1/2 (inf included)."""
    if not w < np.inf:
        return np.inf
    y = math.log(w)
    ratio = w * exponential_up(-y) * (1.0 + 4.0 * UNIT)
    value = y + (ratio - 1.0)
    return value + 4.0 * UNIT * abs(value)


@strict
def log_down(w: float) -> float:
    """A lower bound of log(w), w >= 1/2 and finite."""
    y = math.log(w)
    ratio = w * exponential_down(-y) * (1.0 - 4.0 * UNIT)
    value = y + (1.0 - 1.0 / ratio) - 4.0 * UNIT
    return value - 4.0 * UNIT * abs(value)


@strict
def log_sum_exp(low: Array, high: Array, lower: Array, upper: Array) -> None:
    """Enclose log(1 + sum_j exp(m_j)) for every m in [low, high], (B, R) -> (B,); ends that are NaN count as no bound."""
    for b in range(low.shape[0]):
        top_low, top_high = 0.0, 0.0
        for j in range(low.shape[1]):
            top_low = max(top_low, low[b, j]) if low[b, j] == low[b, j] else top_low
            top_high = max(top_high, high[b, j])
            if high[b, j] != high[b, j]:
                top_high = np.inf
        below, above = exponential_down(np.nextafter(-top_low, -np.inf)), exponential_up(-top_high)
        for j in range(low.shape[1]):
            if low[b, j] > -np.inf and top_low < np.inf:
                below += exponential_down(np.nextafter(low[b, j] - top_low, -np.inf))
            if top_high < np.inf and high[b, j] > -np.inf:
                above += exponential_up(np.nextafter(high[b, j] - top_high, np.inf))
        slack = 2.0 * (low.shape[1] + 2) * UNIT
        if top_low < np.inf:
            value = top_low + log_down(max(below * (1.0 - slack), 0.5))
            lower[b] = max(value - 4.0 * UNIT * abs(value), 0.0)
        else:
            lower[b] = 0.0
        value = top_high + log_up(above * (1.0 + slack)) if top_high < np.inf else np.inf
        upper[b] = value + 4.0 * UNIT * abs(value)


@strict
def envelope(r: Array, low: Array, high: Array, value: Array, vertex: Array) -> None:
    """c(r) of (envelope), rounded up. r, low, high (B, R), high[:, 1:] <= 0; fills value (B,) and the vertex (B, R) that gives it.

    high[:, 0] may be inf (then c(r) is finite only for r_0 >= 1), low may be -inf (only for r_j <= 0). An empty box gives a bound too.
    """
    batch, rows = r.shape
    chosen = np.empty(WIDEST, np.int64)
    sums = np.empty(1 << WIDEST)
    factors = np.empty(1 << WIDEST)
    for b in range(batch):
        count = _widest(r[b], low[b], high[b], chosen)
        base, linear, size = 1.0, 0.0, 0.0  # 1 + sum of what is fixed; -r.v and the sum of its absolute terms
        for j in range(1, rows):
            enumerated = False
            for i in range(count):
                enumerated |= chosen[i] == j
            side = low[b, j] if r[b, j] > 0.0 else high[b, j]
            term = r[b, j] * side if r[b, j] != 0.0 else 0.0
            linear -= term
            size += abs(term)
            vertex[b, j] = high[b, j]
            if not enumerated:
                base += exponential_up(high[b, j])
        sums[0], factors[0] = base, 1.0  # all enumerated coordinates at their low ends: their sums are added below
        for i in range(count):
            sums[0] += exponential_up(low[b, chosen[i]])
        filled = 1
        for i in range(count):
            j = chosen[i]
            gain = exponential_up(high[b, j]) - exponential_down(low[b, j])
            factor = exponential_up(np.nextafter(-r[b, j] * np.nextafter(high[b, j] - low[b, j], -np.inf), np.inf))
            for s in range(filled):
                sums[filled + s] = sums[s] + gain
                factors[filled + s] = factors[s] * factor
            filled *= 2
        best = -np.inf
        for end in range(2):
            if end == 1 and r[b, 0] <= 0.0:
                break
            place = high[b, 0] if end == 0 else low[b, 0]
            found, which = _largest(place, r[b, 0], sums[:filled], factors[:filled], 8.0 * (rows + 4) * UNIT)
            error = 2.0 * (rows + 8) * UNIT * (size + abs(found))
            found = np.nextafter(found + linear + error, np.inf)
            if found != found:
                found = np.inf
            if found > best:
                best = found
                vertex[b, 0] = place
                for i in range(count):
                    vertex[b, chosen[i]] = high[b, chosen[i]] if (which >> i) & 1 else low[b, chosen[i]]
        value[b] = best


@strict
def _widest(r: Array, low: Array, high: Array, chosen: Array) -> int:
    """Choose the coordinates j > 0 with the largest r_j (high_j - low_j) > 0, at most WIDEST, and return how many."""
    count = 0
    for _ in range(WIDEST):
        best, which = 0.0, 0
        for j in range(1, len(r)):
            gain = r[j] * (high[j] - low[j])
            if gain > best:
                taken = False
                for i in range(count):
                    taken |= chosen[i] == j
                if not taken:
                    best, which = gain, j
        if which == 0:
            break
        chosen[count] = which
        count += 1
    return count


@strict
def _largest(v: float, r: float, sums: Array, factors: Array, slack: float) -> tuple[float, int]:
    """(upper bound of max_s log((1 + exp(v) sums_s) factors_s) - r v, the s that gives it)."""
    if v == np.inf:
        if r < 1.0:
            return np.inf, 0
        if r > 1.0:
            return -np.inf, 0
    top = max(v, 0.0) if v < np.inf else 0.0
    rest = exponential_up(-top) if v < np.inf else 0.0
    share = exponential_up(np.nextafter(v - top, np.inf)) if v < np.inf else 1.0
    best, which = 0.0, 0
    for s in range(len(sums)):
        value = (rest + share * sums[s]) * factors[s]
        if value > best:
            best, which = value, s
    # All low ends have factor 1: best >= 1 up to rounding, and log_up may be asked. The other terms are charged by their sizes.
    term = r * v if v < np.inf and r != 0.0 else 0.0
    total = top - term + log_up(max(best, 1.0) * (1.0 + slack))
    return total + 8.0 * UNIT * (top + abs(term) + abs(total)), which

"""Multipliers for the programs of leaves in l2, compiled: a semismooth Newton method on the dual.

The program is max a.d - rate ||d||_2^power over rows d + offsets >= 0 and low <= d <= high. Its dual, over y >= 0, is to minimise
g(a + y rows) + y.offsets with g(c) = max over the box of c.d - rate ||d||^power. The maximiser is d = clip(t c), t = 1 / (2 rate) for
power 2, and the t with ||d|| = rate t for power 1; its derivative by c is t times the identity on the coordinates that the box does not
hold, plus, for power 1, a multiple of c c^T there. Each step solves the system of the rows that are active or most violated, and is cut
back until the dual falls; null directions become long steps.

Nothing is proved here: any y >= 0 gives a bound, which the caller evaluates with care.
Source: Qi & Sun, A quadratically convergent Newton method for computing the nearest correlation matrix, SIAM J. Matrix Anal. Appl. 28,
2006.
"""

from pathlib import Path

import numpy as np

from problems.regions.compiled import discard_outdated, kept_on_disk

Array = np.ndarray

STEPS, BACKTRACKS, HALVINGS = 60, 60, 50
NEW_ROWS = 8  # violated rows that may join the active ones in one step
TOLERANCE = 1e-9

discard_outdated(Path(__file__).parent, "kernel_leaf")
fused = kept_on_disk(fastmath={"contract", "reassoc"})


@fused
def _respond(c: Array, rate: float, power: int, low: Array, high: Array, d: Array, weight: Array, along: Array) -> tuple[float, float]:
    """Fills the maximiser d, the diagonal `weight` and the vector `along` of its derivative; (g, the factor of along along^T)."""
    n = c.shape[0]
    for i in range(n):
        weight[i], along[i], d[i] = 0.0, 0.0, 0.0
    t, factor = 0.5 / rate, 0.0
    if power == 1:
        squares = 0.0
        for i in range(n):
            side = high[i] if c[i] > 0.0 else -low[i]
            squares += c[i] * c[i] if side > 0.0 else 0.0
        if squares <= rate * rate:
            return 0.0, 0.0
        lowest, highest = -100.0, 100.0  # of log t: ||d|| / t falls
        for _ in range(HALVINGS):
            middle = 0.5 * (lowest + highest)
            t = 2.0**middle
            squares = 0.0
            for i in range(n):
                v = min(max(t * c[i], low[i]), high[i])
                squares += v * v
            if squares > rate * rate * t * t:
                lowest = middle
            else:
                highest = middle
        fixed, left = 0.0, rate * rate
        for i in range(n):
            v = t * c[i]
            if v <= low[i] or v >= high[i]:
                fixed += min(max(v, low[i]), high[i]) ** 2
            else:
                left -= c[i] * c[i]
        if left > 0.0:
            t = np.sqrt(fixed / left)
            factor = t / left
    gain, squares = 0.0, 0.0
    for i in range(n):
        v = t * c[i]
        d[i] = min(max(v, low[i]), high[i])
        gain += c[i] * d[i]
        squares += d[i] * d[i]
        if low[i] < v < high[i]:
            weight[i], along[i] = t, c[i]
    return gain - rate * (squares if power == 2 else np.sqrt(squares)), factor


@fused
def _push(a: Array, rows: Array, y: Array, pushed: Array) -> None:
    """pushed = a + y rows."""
    for j in range(a.shape[0]):
        pushed[j] = a[j]
    for i in range(rows.shape[0]):
        if y[i] != 0.0:
            for j in range(a.shape[0]):
                pushed[j] += y[i] * rows[i, j]


@fused
def _slack(rows: Array, offsets: Array, d: Array, slack: Array) -> None:
    for i in range(rows.shape[0]):
        total = offsets[i]
        for j in range(d.shape[0]):
            total += rows[i, j] * d[j]
        slack[i] = total


@fused
def _cholesky(matrix: Array, count: int, b: Array) -> bool:
    """Solve matrix x = b for the leading block, in place."""
    for i in range(count):
        for j in range(i + 1):
            total = matrix[i, j]
            for k in range(j):
                total -= matrix[i, k] * matrix[j, k]
            if i == j:
                if not total > 0.0:
                    return False
                matrix[i, i] = np.sqrt(total)
            else:
                matrix[i, j] = total / matrix[j, j]
    for i in range(count):
        total = b[i]
        for k in range(i):
            total -= matrix[i, k] * b[k]
        b[i] = total / matrix[i, i]
    for i in range(count - 1, -1, -1):
        total = b[i]
        for k in range(i + 1, count):
            total -= matrix[k, i] * b[k]
        b[i] = total / matrix[i, i]
    return True


@fused
def descend(
    a: Array, rows: Array, offsets: Array, rate: float, power: int, low: Array, high: Array, floor: float, y: Array, d: Array
) -> bool:
    """Improve y (M,) >= 0 from where it is, until the dual is <= floor, or optimal; leaves the maximiser in d (n,). Whether either is so.

    rows (M, n) of length about 1; low <= 0 <= high.
    """
    m, n = rows.shape
    pushed, weight, along, trial = np.empty(n), np.empty(n), np.empty(n), np.empty(m)
    slack, working, direction = np.empty(m), np.empty(m, np.int64), np.empty(m)
    matrix, across = np.empty((m, m)), np.empty(m)
    _push(a, rows, y, pushed)
    value, factor = _respond(pushed, rate, power, low, high, d, weight, along)
    for i in range(m):
        value += y[i] * offsets[i]
    for _ in range(STEPS):
        if value <= floor:
            return True
        _slack(rows, offsets, d, slack)
        count = 0
        for i in range(m):
            if y[i] > 0.0:
                working[count] = i
                count += 1
        worst = 0.0
        for c in range(count):
            worst = max(worst, abs(slack[working[c]]))
        for _ in range(NEW_ROWS):
            most, chosen = -TOLERANCE, -1
            for i in range(m):
                if y[i] == 0.0 and slack[i] < most:
                    fresh = True
                    for c in range(count):
                        fresh = fresh and working[c] != i
                    if fresh:
                        most, chosen = slack[i], i
            if chosen < 0:
                break
            worst = max(worst, -most)
            working[count] = chosen
            count += 1
        if worst <= TOLERANCE or count == 0:
            return True
        heaviest = 0.0
        for p in range(count):
            i = working[p]
            total = 0.0
            for j in range(n):
                total += rows[i, j] * along[j]
            across[p] = total
        for p in range(count):
            i = working[p]
            for q in range(p + 1):
                k = working[q]
                total = factor * across[p] * across[q]
                for j in range(n):
                    total += rows[i, j] * weight[j] * rows[k, j]
                matrix[p, q] = total
            heaviest = max(heaviest, matrix[p, p])
            direction[p] = -slack[i]
        for p in range(count):
            matrix[p, p] += 1e-8 * heaviest + 1e-10
        if not _cholesky(matrix, count, direction):
            return False
        length, moved = 1.0, False
        for _ in range(BACKTRACKS):
            decrease = 0.0
            for i in range(m):
                trial[i] = y[i]
            for p in range(count):
                i = working[p]
                trial[i] = max(y[i] + length * direction[p], 0.0)
                decrease += slack[i] * (trial[i] - y[i])
            _push(a, rows, trial, pushed)
            new, factor = _respond(pushed, rate, power, low, high, d, weight, along)
            for i in range(m):
                new += trial[i] * offsets[i]
            if new <= value + 1e-4 * decrease + 1e-14 * abs(value):
                moved = True
                break
            length *= 0.4
        if not moved:
            _push(a, rows, y, pushed)
            _respond(pushed, rate, power, low, high, d, weight, along)
            return False
        for i in range(m):
            y[i] = trial[i]
        value = new
    return False

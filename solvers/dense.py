"""The sign of the largest value of an affine function on a small dense polytope, compiled: for very many tiny linear programs.

The polytope is {v : lower <= v <= upper, rows v + offsets >= 0}, its box finite, and a point strictly inside it is known. Asked is
whether max c.v + constant is positive. A bounded dual simplex method with bound flips starts from the optimum over the box; after each
pivot it looks whether the sign is settled:
- CLOSED, proved: the safe dual bound at the current multipliers y >= 0,
      max c.v + constant <= constant + y.offsets + sum_j max {(c + rows^T y)_j t : lower_j <= t <= upper_j},
  is <= 0 with all its rounding errors and with those of the data (each function is off by at most errors[i] on the box).
- OPEN: on the segment from the inner point to the current vertex the function becomes positive before a side is reached; the point of
  that segment with the largest smallest slack is handed back, for the caller to verify.
- UNDECIDED: the maximum is too near to zero for floats, or pivots are too small.

A basis is held in the space of the variables: for each basic variable a row of `table`, its derivatives by the nonbasic ones. Slacks are
computed from the data at each pivot, so that errors do not pile up where decisions are made.

Sources: Koberstein, The dual simplex method, techniques for a fast and stable implementation (2005), chapters 3 and 6 (bound
flipping); Neumaier & Shcherbina, Safe bounds in linear and mixed-integer linear programming, Math. Program. 99 (2004), section 3.
"""

from typing import NamedTuple

import numpy as np

from solvers.dense_compiled import Array, add_row, dot, dot_row, fused, inlined

CLOSED, UNDECIDED, OPEN = -1, 0, 1

_UNIT = 2.0**-53
_TINY = 1e-280
_PIVOT = 1e-9
# A segment is taken before the optimum is reached if this share of it lies inside and has the sign.
_ENOUGH = 0.05


class Polytope(NamedTuple):
    """rows (M, N), offsets (M,), of which callers use the first m; lower, upper (N,); reach (N,) = max(|lower|, |upper|).

    errors (M,): how far rows[i].v + offsets[i] may be from the exact function on the box. sizes (M,) >= |rows[i]|.reach + |offsets[i]|.
    """

    rows: Array
    offsets: Array
    errors: Array
    sizes: Array
    lower: Array
    upper: Array
    reach: Array


class Room(NamedTuple):
    """Scratch for N variables and M rows; `point` (N,) is where results are left, `basis` (N,) the final basis: a variable j or ~row."""

    table: Array
    alpha: Array
    reduced: Array
    vertex: Array
    point: Array
    slack: Array
    basis: Array
    upper: Array
    basic: Array
    column: Array


def room_for(variables: int, rows: int) -> Room:
    """Scratch for polytopes of at most that size."""
    n, m = variables, max(rows, 1)
    return Room(
        np.zeros((n, n)), np.zeros(n), np.zeros(n), np.zeros(n), np.zeros(n), np.zeros(m),
        np.zeros(n, np.int64), np.zeros(n, np.bool_), np.zeros(n, np.int64), np.zeros(m, np.int64),
    )  # fmt: skip


@inlined
def dual_bound(polytope: Polytope, c: Array, constant: float, error: float, size: float, room: Room) -> float:
    """A proven upper bound of the maximum from the reduced costs: those of slack columns, where negative, are minus the multipliers.

    Terms of the sum go through at most N + 2 k + 8 roundings each, k the number of multipliers.
    """
    n = c.shape[0]
    r = room.alpha
    for j in range(n):
        r[j] = c[j]
    total, spread, weight, used = constant, error, size, 0
    for j in range(n):
        if room.basis[j] < 0 and room.reduced[j] < 0.0:
            i, y = ~room.basis[j], -room.reduced[j]
            add_row(r, y, polytope.rows, i)
            total += y * polytope.offsets[i]
            spread += y * polytope.errors[i]
            weight += y * polytope.sizes[i]
            used += 1
    for j in range(n):
        total += r[j] * (polytope.upper[j] if r[j] > 0.0 else polytope.lower[j])
    operations = (n + 2 * used + 16) * _UNIT
    return total + (operations * weight * 1.01 + spread) * 1.0000001 + _TINY


@inlined
def box_bound(
    matrix: Array, i: int, sign: float, constant: float, error: float, size: float, lower: Array, upper: Array
) -> float:  # fmt: skip
    """A proven upper bound of sign (matrix[i].v + constant) over a box; error, size as in Polytope."""
    n, total = lower.shape[0], sign * constant
    for k in range(n):
        c = sign * matrix[i, k]
        total += c * (upper[k] if c > 0.0 else lower[k])
    return total + ((n + 16) * _UNIT * size * 1.01 + error) * 1.0000001 + _TINY


@fused
def settle(
    polytope: Polytope, m: int, c: Array, constant: float, error: float, size: float, inner: Array, inner_slack: Array, value: float,
    room: Room,
) -> int:  # fmt: skip
    """The sign of max c.v + constant over the polytope of the first m rows: CLOSED, OPEN or UNDECIDED (see the module).

    error, size: of this function, as Polytope.errors and sizes. inner (N,): strictly inside; inner_slack (m,): its slacks; value: the
    function there. For OPEN, room.point holds a point of the segment from `inner` where function and slacks are positive in floats.
    """
    n, vertex = c.shape[0], room.vertex
    _begin(polytope, m, c, room)
    count = 0
    for _ in range(40 + 6 * (n + m)):
        objective = dot(c, vertex) + constant
        if objective <= 0.0 and dual_bound(polytope, c, constant, error, size, room) <= 0.0:
            return CLOSED
        leaving, share = _price(polytope, m, count, inner, inner_slack, room)
        if objective > error + 32.0 * _UNIT * size:
            first = max(0.0, -value / (objective - value))
            if share - first > (_ENOUGH if leaving >= 0 else 0.0):
                best_point(polytope, m, inner, inner_slack, value, objective, room)
                return OPEN
        if leaving < 0:
            return UNDECIDED
        count = _pivot(polytope, m, leaving, count, room)
        if count < 0:
            return UNDECIDED
    return UNDECIDED


@fused
def maximise(polytope: Polytope, m: int, c: Array, room: Room) -> bool:
    """Leaves a maximiser of c.v over the polytope of the first m rows in room.vertex, up to rounding; False where pivots fail."""
    _begin(polytope, m, c, room)
    count = 0
    for _ in range(40 + 6 * (c.shape[0] + m)):
        leaving, _ = _price(polytope, m, count, polytope.lower, polytope.offsets, room)
        if leaving < 0:
            return True
        count = _pivot(polytope, m, leaving, count, room)
        if count < 0:
            return False
    return False


@fused
def multipliers(polytope: Polytope, m: int, c: Array, room: Room, y: Array) -> int:
    """Leaves in y (m,) >= 0 multipliers of the first m rows for max c.v: OPEN, optimal up to rounding, the maximiser in room.vertex.

    CLOSED: no pivot was left, and y is a guess at a Farkas ray: y.(rows v + offsets) < 0 on the whole box. UNDECIDED: neither was reached;
    y then is what the last basis has. Nothing is proved: any y >= 0 gives a dual bound.
    """
    n = c.shape[0]
    for i in range(m):
        y[i] = 0.0
    _begin(polytope, m, c, room)
    count, result, direction, leaving = 0, UNDECIDED, 1.0, -1
    for _ in range(40 + 6 * (n + m)):
        leaving, _ = _price(polytope, m, count, polytope.lower, polytope.offsets, room)
        if leaving < 0:
            result = OPEN
            break
        if leaving >= m:
            j = room.basic[leaving - m]
            direction = 1.0 if room.vertex[j] < polytope.lower[j] else -1.0
        else:
            direction = 1.0
        count = _pivot(polytope, m, leaving, count, room)
        if count < 0:
            result = CLOSED
            break
    for j in range(n):
        if room.basis[j] < 0:
            value = -direction * room.alpha[j] if result == CLOSED else -room.reduced[j]
            y[~room.basis[j]] = max(value, 0.0)
    if result == CLOSED and leaving < m:
        y[leaving] = 1.0
    return result


@inlined
def _begin(polytope: Polytope, m: int, c: Array, room: Room) -> None:
    """The optimum over the box: every variable is nonbasic at the side its cost prefers."""
    for j in range(c.shape[0]):
        room.basis[j] = j
        room.upper[j] = c[j] > 0.0
        room.vertex[j] = polytope.upper[j] if room.upper[j] else polytope.lower[j]
        room.reduced[j] = c[j]
    for i in range(m):
        room.column[i] = -1


@inlined
def _price(polytope: Polytope, m: int, count: int, inner: Array, inner_slack: Array, room: Room) -> tuple[int, float]:
    """(the most violated row i < m or basic variable m + q, -1 if there is none; the share of the segment from `inner` that is inside).

    Leaves the slacks of the rows at the vertex in room.slack.
    """
    vertex, lower, upper, slack = room.vertex, polytope.lower, polytope.upper, room.slack
    worst, leaving, share = 0.0, -1, 1.0
    for i in range(m):
        if room.column[i] >= 0:
            slack[i] = 0.0
            continue
        s = dot_row(polytope.rows, i, vertex) + polytope.offsets[i]
        slack[i] = s
        if s < 0.0:
            share = min(share, inner_slack[i] / (inner_slack[i] - s))
            if -s > worst + polytope.errors[i] + 32.0 * _UNIT * polytope.sizes[i]:
                worst, leaving = -s, i
    for q in range(count):
        j = room.basic[q]
        out = max(lower[j] - vertex[j], vertex[j] - upper[j])
        if out > 0.0:
            gap = inner[j] - lower[j] if vertex[j] < lower[j] else upper[j] - inner[j]
            share = min(share, gap / (gap + out))
            if out > worst + 32.0 * _UNIT * polytope.reach[j]:
                worst, leaving = out, m + q
    return leaving, share


@inlined
def _pivot(polytope: Polytope, m: int, leaving: int, count: int, room: Room) -> int:
    """One step of the dual simplex method: row `leaving` < m, or basic variable leaving - m, goes to its violated side.

    Returns the number of basic variables, or -1 where no pivot is large enough.
    """
    n = room.alpha.shape[0]
    rows, lower, upper = polytope.rows, polytope.lower, polytope.upper
    table, alpha, reduced, vertex = room.table, room.alpha, room.reduced, room.vertex
    basis, at_upper, basic, column = room.basis, room.upper, room.basic, room.column
    # alpha: the derivatives of the leaving quantity by the nonbasic ones.
    if leaving < m:
        for j in range(n):
            alpha[j] = rows[leaving, basis[j]] if basis[j] >= 0 else 0.0
        for q in range(count):
            add_row(alpha, rows[leaving, basic[q]], table, q)
        now, goal = dot_row(rows, leaving, vertex) + polytope.offsets[leaving], 0.0
    else:
        q = leaving - m
        for j in range(n):
            alpha[j] = table[q, j]
        now = vertex[basic[q]]
        goal = lower[basic[q]] if now < lower[basic[q]] else upper[basic[q]]
    direction = 1.0 if goal > now else -1.0
    largest = 0.0
    for j in range(n):
        largest = max(largest, abs(alpha[j]))
    # Ratio test: nonbasic variables that would become too cheap are flipped to their other side as long as the violation remains.
    entering, rest = -1, abs(goal - now)
    while True:
        entering, ratio = -1, np.inf
        for j in range(n):
            step = direction * alpha[j] if not at_upper[j] else -direction * alpha[j]
            if step > _PIVOT * largest:
                r = abs(reduced[j]) / step
                # among equal ratios the largest pivot
                if entering < 0 or r < ratio * (1.0 - 1e-12) or (r <= ratio * (1.0 + 1e-12) and step > abs(alpha[entering])):
                    entering, ratio = j, r
        if entering < 0:
            return -1
        if basis[entering] < 0:
            break
        width = (upper[basis[entering]] - lower[basis[entering]]) * abs(alpha[entering])
        if width > rest * 0.999999:
            break
        rest -= width
        _flip(entering, count, lower, upper, room)
    pivot = alpha[entering]
    now = dot_row(rows, leaving, vertex) + polytope.offsets[leaving] if leaving < m else vertex[basic[leaving - m]]
    _move(entering, (goal - now) / pivot, count, room)
    ratio = reduced[entering] / pivot
    for j in range(n):
        reduced[j] -= ratio * alpha[j]
    reduced[entering] = ratio
    for q in range(count):
        factor = table[q, entering] / pivot
        if factor != 0.0:
            for j in range(n):
                table[q, j] -= factor * alpha[j]
        table[q, entering] = factor
    arrived = basis[entering]
    if leaving < m:
        basis[entering] = ~leaving
        column[leaving] = entering
        at_upper[entering] = False
        if arrived >= 0:
            new, count = count, count + 1
        else:
            column[~arrived] = -1
            return count
    else:
        q = leaving - m
        vertex[basic[q]] = goal
        basis[entering] = basic[q]
        at_upper[entering] = goal == upper[basic[q]]
        if arrived >= 0:
            new = q
        else:
            column[~arrived] = -1
            count -= 1
            basic[q] = basic[count]
            for j in range(n):
                table[q, j] = table[count, j]
            return count
    basic[new] = arrived
    for j in range(n):
        table[new, j] = -alpha[j] / pivot
    table[new, entering] = 1.0 / pivot
    return count


@inlined
def _flip(entering: int, count: int, lower: Array, upper: Array, room: Room) -> None:
    j = room.basis[entering]
    goal = lower[j] if room.upper[entering] else upper[j]
    _move(entering, goal - room.vertex[j], count, room)
    room.vertex[j] = goal
    room.upper[entering] = not room.upper[entering]


@inlined
def _move(entering: int, step: float, count: int, room: Room) -> None:
    """The nonbasic quantity of a column changes by `step`, and the basic variables with it."""
    if room.basis[entering] >= 0:
        room.vertex[room.basis[entering]] += step
    for q in range(count):
        room.vertex[room.basic[q]] += step * room.table[q, entering]


@fused
def best_point(polytope: Polytope, m: int, inner: Array, inner_slack: Array, value: float, objective: float, room: Room) -> None:
    """room.point: the point of the segment from `inner` to room.vertex at which the smallest of slacks, function and gaps is about largest.

    Along the segment that smallest one is concave and piecewise linear: the next point is where the pieces at both ends meet, until it is
    within a tenth of what the two pieces allow.
    """
    low, high, t = 0.0, 1.0, 0.0
    low_value, low_slope = _smallest(0.0, polytope, m, inner, inner_slack, value, objective, room)
    high_value, high_slope = _smallest(1.0, polytope, m, inner, inner_slack, value, objective, room)
    if high_slope >= 0.0:
        t = 1.0
    elif low_slope > 0.0:
        for _ in range(50):
            t = (high_value - low_value + low_slope * low - high_slope * high) / (low_slope - high_slope)
            t = min(max(t, low), high)
            possible = low_value + low_slope * (t - low)
            least, slope = _smallest(t, polytope, m, inner, inner_slack, value, objective, room)
            if least >= 0.9 * possible:
                break
            if slope > 0.0:
                low, low_value, low_slope = t, least, slope
            else:
                high, high_value, high_slope = t, least, slope
    for j in range(inner.shape[0]):
        room.point[j] = inner[j] + t * (room.vertex[j] - inner[j])


@inlined
def _smallest(
    t: float, polytope: Polytope, m: int, inner: Array, inner_slack: Array, value: float, objective: float, room: Room
) -> tuple[float, float]:
    """(value, slope) of the smallest function at the share t of the segment."""
    least, slope = value + t * (objective - value), objective - value
    for i in range(m):
        s = inner_slack[i] + t * (room.slack[i] - inner_slack[i])
        if s < least:
            least, slope = s, room.slack[i] - inner_slack[i]
    for j in range(inner.shape[0]):
        move = room.vertex[j] - inner[j]
        x = inner[j] + t * move
        if x - polytope.lower[j] < least:
            least, slope = x - polytope.lower[j], move
        if polytope.upper[j] - x < least:
            least, slope = polytope.upper[j] - x, -move
    return least, slope

"""A proof from a basis that a linear function is nowhere positive on a cone, compiled: where the maximum is zero, at the apex.

On a cone {v : rows v >= 0} the largest value of c.v is 0 whenever it is not infinite, so that no bound with a rounding error can prove it
to be <= 0. Proved is instead that exact multipliers y* >= 0 with c + rows^T y* = 0 exist near the computed ones y: with B the active rows
restricted to the basic variables, R its computed inverse and E = I - B R,

    B^T (y* - y) = -(c_B + B^T y) =: -d,   |y* - y| <= max |R^T d| / (1 - |E^T|)   in the maximum norm, if |E^T| < 1,

all with the errors of the data and of rounding. It holds if every y exceeds that.

Source: Rump, Verification methods, Acta Numerica 19 (2010), section 10 (linear systems); Applegate, Cook, Dash & Espinoza, Exact
solutions to linear programming problems, Oper. Res. Lett. 35 (2007), for the proof from a basis.
"""

from solvers.dense import Polytope, Room
from solvers.dense_compiled import Array, fused

_UNIT = 2.0**-53


@fused
def proves_nowhere_positive(polytope: Polytope, c: Array, error: float, room: Room, free: bool) -> bool:
    """Whether the final basis in `room` proves c.v <= 0 on the cone of the exact rows.

    The cone is cut by the box [-1, 1]^(N-1) x [0, 1] around its apex 0; all offsets and the constant are exactly zero. error: as in
    Polytope. free: nothing depends on the last variable.
    """
    n = c.shape[0]
    basis, basic, table, reduced = room.basis, room.basic, room.table, room.reduced
    count = 0
    for j in range(n):
        if basis[j] < 0:
            count += 1
            if not reduced[j] < 0.0:
                return False
        elif basis[j] != n - 1 or room.upper[j]:
            return False
    gamma = (n + 2 * count + 16) * _UNIT
    # The residual d, in room.alpha, and max |R^T d|.
    spread = error
    for j in range(n):
        if basis[j] < 0:
            spread += -reduced[j] * polytope.errors[~basis[j]]
    for q in range(count):
        total = c[basic[q]]
        size = abs(total)
        for j in range(n):
            if basis[j] < 0:
                term = -reduced[j] * polytope.rows[~basis[j], basic[q]]
                total += term
                size += abs(term)
        room.alpha[q] = abs(total) + gamma * size + spread * 1.0000001
    largest, worst = 0.0, 0.0
    for b in range(n):
        if basis[b] >= 0:
            continue
        moved, column, weight = 0.0, 0.0, 0.0
        for q in range(count):
            moved += abs(table[q, b]) * room.alpha[q]
            weight += abs(table[q, b])
        for a in range(n):
            if basis[a] >= 0:
                continue
            total, size = 1.0 if a == b else 0.0, 1.0
            for q in range(count):
                term = polytope.rows[~basis[a], basic[q]] * table[q, b]
                total -= term
                size += abs(term)
            column += abs(total) + gamma * size + polytope.errors[~basis[a]] * weight * 1.0000001
        largest, worst = max(largest, moved), max(worst, column)
    if not worst < 0.5:
        return False
    delta = largest / (1.0 - worst) * (1.0 + 8.0 * gamma) + 1e-280
    total, size, moved = c[n - 1], abs(c[n - 1]), error
    nonbasic = False
    for j in range(n):
        if basis[j] >= 0:
            nonbasic = True
            continue
        i = ~basis[j]
        if not -reduced[j] > delta * (1.0 + 1e-12):
            return False
        term = -reduced[j] * polytope.rows[i, n - 1]
        total += term
        size += abs(term)
        moved += delta * abs(polytope.rows[i, n - 1]) + (delta - reduced[j]) * polytope.errors[i]
    return free or not nonbasic or total + gamma * size + moved * 1.0000001 < 0.0

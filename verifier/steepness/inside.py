"""Whether some point of a box satisfies a few affine inequalities, by the compiled dual simplex: asked once per piece of a search."""

import numpy as np

from problems.maps import Array
from solvers import dense
from verifier.bounds.rounding import SMALLEST, UNIT, gamma


def inside(matrix: Array, offsets: Array, lower: Array, upper: Array) -> tuple[bool, Array | None]:
    """(proved that there is none, a point (n,) or None) for matrix x + offsets > 0, matrix (m, n), lower <= x <= upper finite.

    It is the sign of the largest t with matrix x + offsets >= t size, size the largest value of each row: at t = -2 any x will do.
    """
    wide = lower < upper
    rows, n = matrix[:, wide], int(wide.sum())
    part = matrix[:, ~wide] * lower[~wide]
    fixed = offsets + part.sum(axis=1)
    lost = 2.0 * gamma(len(lower) + 4) * (np.abs(offsets) + np.abs(part).sum(axis=1))
    reach = np.maximum(np.abs(lower[wide]), np.abs(upper[wide]))
    size = (np.abs(rows) @ reach + np.abs(fixed)) * (1.0 + gamma(n + 8)) + lost
    if not np.isfinite(size).all():
        return False, None
    idle = size == 0.0
    if idle.any():  # such rows say 0 > 0, and come from neurons that are constantly 0: they decide nothing
        rows, fixed, lost, size = rows[~idle], fixed[~idle], lost[~idle], size[~idle]
    # Divided by powers of two, so that sizes lie between 1/2 and 1 and the pivots' tolerances mean something.
    scale = np.ldexp(1.0, -np.clip(np.frexp(size)[1], -1000, 1000))
    size = size * scale
    low, high = np.append(lower[wide], -2.0), np.append(upper[wide], 1.0)
    matrix = np.ascontiguousarray(np.column_stack([rows * scale[:, None], -size]))
    errors = (lost * scale + SMALLEST) * (1.0 + 4.0 * UNIT)
    polytope = dense.Polytope(matrix, fixed * scale, errors, 4.0 * size, low, high, np.maximum(np.abs(low), np.abs(high)))
    middle = np.append(0.5 * low[:-1] + 0.5 * high[:-1], -1.75)
    slack = polytope.rows @ middle + polytope.offsets
    room, objective = dense.room_for(n + 1, len(rows)), np.append(np.zeros(n), 1.0)
    answer = dense.settle(polytope, len(rows), objective, 0.0, 0.0, 4.0, middle, slack, -1.75, room)
    if answer == dense.CLOSED:
        return True, None
    point = np.clip(lower, lower, upper).copy()
    point[wide] = (room.point if answer == dense.OPEN else room.vertex)[:-1]
    return False, np.clip(point, lower, upper)

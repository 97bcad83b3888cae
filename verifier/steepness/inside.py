"""A box cut by a few affine inequalities: has it a point, and what signs can further functions have there? By the compiled dual simplex.

Asked once per piece of a search, with a handful of functions each time: a general solver would spend its time on being called.
"""

import numpy as np

from problems.maps import Array
from solvers import dense
from verifier.bounds.rounding import SMALLEST, UNIT, gamma


class Inside:
    """{x : matrix x + offsets > 0, lower <= x <= upper}, matrix (m, n), the box finite.

    empty: proved to have no point. point (n,): one of it, up to rounding, or None where floats found none. Emptiness is the sign of the
    largest t with matrix x + offsets >= t size, size the largest value of each row: at t = -2 any x will do.
    """

    def __init__(self, matrix: Array, offsets: Array, lower: Array, upper: Array) -> None:
        self.lower, self.upper, self.wide = lower, upper, lower < upper
        self.empty = False
        self.point: Array | None = None
        self.polytope: dense.Polytope | None = None
        rows, fixed, lost, size = self._restricted(matrix, offsets)
        idle = size == 0.0  # such rows say 0 > 0, and come from neurons that are constantly 0: they decide nothing
        rows, fixed, lost, size = rows[~idle], fixed[~idle], lost[~idle], size[~idle]
        if not np.isfinite(size).all() or not np.isfinite(lower).all() or not np.isfinite(upper).all():
            return
        # Divided by powers of two, so that sizes lie between 1/2 and 1 and the pivots' tolerances mean something.
        scale = _powers(size)
        rows, fixed, size = rows * scale[:, None], fixed * scale, size * scale
        self._settle(rows, fixed, (lost * scale + SMALLEST) * (1.0 + 4.0 * UNIT), size)

    def _restricted(self, matrix: Array, offsets: Array) -> tuple[Array, Array, Array, Array]:
        """(coefficients of the free inputs, constants with the fixed ones put in, the error of that, the largest absolute values)."""
        part = matrix[:, ~self.wide] * self.lower[~self.wide]
        fixed = offsets + part.sum(axis=1)
        lost = 2.0 * gamma(len(self.lower) + 4) * (np.abs(offsets) + np.abs(part).sum(axis=1))
        reach = np.maximum(np.abs(self.lower), np.abs(self.upper))[self.wide]
        rows = matrix[:, self.wide]
        size = (np.abs(rows) @ reach + np.abs(fixed)) * (1.0 + gamma(len(reach) + 8)) + lost
        return rows, fixed, lost, size

    def _settle(self, rows: Array, fixed: Array, errors: Array, size: Array) -> None:
        low, high = self.lower[self.wide], self.upper[self.wide]
        n = len(low)
        lifted = _polytope(np.column_stack([rows, -size]), fixed, errors, 4.0 * size, np.append(low, -2.0), np.append(high, 1.0))
        middle = np.append(0.5 * low + 0.5 * high, -1.75)
        slack = lifted.rows @ middle + lifted.offsets
        room, objective = dense.room_for(n + 1, len(rows)), np.append(np.zeros(n), 1.0)
        answer = dense.settle(lifted, len(rows), objective, 0.0, 0.0, 4.0, middle, slack, -1.75, room)
        self.empty = answer == dense.CLOSED
        if self.empty:
            return
        found = (room.point if answer == dense.OPEN else room.vertex)[:n]
        point = self.lower.copy()
        point[self.wide] = np.clip(found, low, high)
        self.point = point
        if answer == dense.OPEN and n:
            self.polytope = _polytope(rows, fixed, errors, size, low, high)
            self._inner = found.copy()
            self._slack = rows @ found + fixed
            self._room = dense.room_for(n, len(rows))

    def at_most_zero(self, matrix: Array, offsets: Array) -> Array:
        """(k,) bool: functions matrix x + offsets, matrix (k, n), that are proved to be nowhere above 0 here."""
        result = np.zeros(len(offsets), dtype=bool)
        if self.polytope is None:
            return result
        rows, fixed, lost, size = self._restricted(matrix, offsets)
        usable = np.isfinite(size) & (size > 0.0)
        scale = _powers(np.where(usable, size, 1.0))
        values = rows @ self._inner + fixed
        for i in np.flatnonzero(usable & (values < 0.0)):
            c, constant, error = rows[i] * scale[i], float(fixed[i] * scale[i]), float(lost[i] * scale[i]) * (1.0 + 4.0 * UNIT) + SMALLEST
            answer = dense.settle(
                self.polytope, len(self._slack), c, constant, error, float(size[i] * scale[i]), self._inner, self._slack,
                float(values[i] * scale[i]), self._room,
            )  # fmt: skip
            result[i] = answer == dense.CLOSED
        return result


def _polytope(rows: Array, offsets: Array, errors: Array, sizes: Array, lower: Array, upper: Array) -> dense.Polytope:
    reach = np.maximum(np.abs(lower), np.abs(upper))
    return dense.Polytope(np.ascontiguousarray(rows), offsets, errors, sizes, lower, upper, reach)


def _powers(size: Array) -> Array:
    return np.ldexp(1.0, -np.clip(np.frexp(size)[1], -1000, 1000))

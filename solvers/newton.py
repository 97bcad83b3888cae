"""A dual Newton method for strictly convex separable quadratic objectives: the projection onto a polytope in a box.

The dual  g(y) = sum_i y_i side_i + sum_j min {r_j t + 1/2 q_j t^2 : l_j <= t <= u_j},  r = cost - matrix^T y,  is concave and piecewise
quadratic, and its inner minimum has a closed form. Each step solves the small dense system of the rows that are active (or violated) on
the columns that are strictly between their bounds; it usually ends after a few steps with the active set found, exact to rounding. Edits
start from the last multipliers. Where it does not converge, Clarabel takes over; proofs never depend on either.

Sources: Bertsekas, Projected Newton methods for optimization problems with simple constraints, SIAM J. Control Optim. 20 (1982);
Qi & Sun, A quadratically convergent Newton method for projections (semismooth Newton), SIAM J. Matrix Anal. Appl. 28 (2006).
"""

from dataclasses import dataclass
from math import inf
from time import perf_counter
from typing import ClassVar

import numpy as np
from scipy.linalg import cho_factor, cho_solve
from scipy.sparse import csr_matrix

from solvers.program import Array, Capability
from solvers.session import Limits, Outcome, Session
from solvers.solution import Status

# Where it works it needs ten or twenty steps; past these, an interior-point method is quicker.
_STEPS = 40
_BACKTRACKS = 20
# Violated rows that may join the active ones in one step.
_NEW_ROWS = 8
# Largest violation of a normalised row, relative to the sizes in it, that counts as none.
_TOLERANCE = 1e-11


@dataclass(frozen=True, eq=False)
class _Dense:
    """The program with dense rows of norm 1."""

    matrix: Array
    low: Array
    high: Array
    cost: Array
    quadratic: Array
    lower: Array
    upper: Array

    def point(self, y: Array) -> tuple[Array, Array, Array]:
        """(r, the minimiser x of the inner problem, matrix x)."""
        slope = self.cost - y @ self.matrix
        x = np.clip(-slope / self.quadratic, self.lower, self.upper)
        return slope, x, self.matrix @ x

    def value(self, y: Array, slope: Array, x: Array) -> float:
        """g(y)."""
        used = np.flatnonzero(y)
        side = np.where(y[used] > 0, self.low[used], self.high[used])
        return float(y[used] @ side + slope @ x + 0.5 * (self.quadratic * x) @ x)

    def ascent(self, y: Array, rows: Array) -> Array:
        """The least subgradient of g that the sign of y allows: zero where no move along the axis helps."""
        up, down = self.low - rows, self.high - rows
        return np.where(y > 0, up, np.where(y < 0, down, np.where(up > 0, up, np.where(down < 0, down, 0.0))))

    def projected(self, y: Array, step: Array) -> Array:
        """y + step, stopped at zero on the way to a sign without a side, or to the other side of an inequality."""
        moved = y + step
        stopped = (y * moved < 0) & (self.low != self.high)
        stopped |= ((moved > 0) & (self.low == -inf)) | ((moved < 0) & (self.high == inf))
        return np.where(stopped, 0.0, moved)


class NewtonSession(Session):
    """Hot starts keep the multipliers; added rows start at zero."""

    name = "newton"
    capabilities: ClassVar[frozenset[Capability]] = frozenset(
        {Capability.STRICTLY_CONVEX, Capability.HOT_START, Capability.RAY, Capability.INTERRUPT}
    )

    def _load(self) -> None:
        self._scaled: tuple[Array, Array, csr_matrix] | None = None
        self._multipliers = np.zeros(self._program.rows)

    def _rows_added(self, matrix: csr_matrix, lower: Array, upper: Array) -> None:
        self._multipliers = np.concatenate([self._multipliers, np.zeros(len(lower))])

    def _rows_deleted(self, first: int, last: int) -> None:
        self._multipliers = self._multipliers[:first]

    def _dense(self) -> tuple[_Dense, Array]:
        """The dense program and the norms (m,) of its rows."""
        program = self._program
        if self._scaled is None or self._scaled[2] is not program.matrix:
            matrix = program.matrix.toarray()
            norms = np.linalg.norm(matrix, axis=1)
            norms[(norms == 0) | ~np.isfinite(norms)] = 1.0
            self._scaled = matrix / norms[:, None], norms, program.matrix
        matrix, norms, _ = self._scaled
        dense = _Dense(
            matrix, program.row_lower / norms, program.row_upper / norms, program.cost, program.quadratic, program.lower, program.upper
        )
        return dense, norms

    def _solve(self, limits: Limits) -> Outcome:
        deadline = perf_counter() + limits.time_limit
        dense, norms = self._dense()
        with np.errstate(all="ignore"):
            y, status, word, steps = _maximise(dense, self._start(dense, norms), limits, deadline)
        if status is Status.NUMERICAL_TROUBLE:
            from solvers.clarabel import ClarabelSession

            with ClarabelSession(self._program) as other:
                seconds = max(0.0, deadline - perf_counter())
                return Outcome.repeated(other.solve(time_limit=seconds, interrupt=limits.interrupt), "newton, then clarabel")
        duals = y / norms
        if status is Status.INFEASIBLE:
            return Outcome(status=status, raw_status=word, ray=duals, cone_ray=(), claimed_bound=inf, iterations=steps)
        self._multipliers = duals
        slope, x, _ = dense.point(y)
        value = dense.value(y, slope, x) + self._program.offset
        claimed = value if status is Status.OPTIMAL else -inf
        return Outcome(
            status=status, raw_status=word, x=x, objective=self._objective(x), row_duals=duals, claimed_bound=claimed, iterations=steps
        )

    def _start(self, dense: _Dense, norms: Array) -> Array:
        """The last multipliers, zero where their side has become infinite."""
        y = self._multipliers * norms
        return np.where(np.isfinite(np.where(y > 0, dense.low, dense.high)), y, 0.0)

    def _objective(self, x: Array) -> float:
        program = self._program
        return float(program.cost @ x + 0.5 * (program.quadratic * x) @ x + program.offset)


def _maximise(dense: _Dense, y: Array, limits: Limits, deadline: float) -> tuple[Array, Status, str, int]:
    """(multipliers of the normalised rows, status, word, steps); a ray where infeasible."""
    highest = _highest(dense)
    slope, x, rows = dense.point(y)
    value = dense.value(y, slope, x)
    for step in range(_STEPS):
        if perf_counter() > deadline:
            return y, Status.TIME_LIMIT, "time limit", step
        if limits.interrupt is not None and limits.interrupt():
            return y, Status.INTERRUPTED, "interrupted", step
        ascent = dense.ascent(y, rows)
        tolerance = _TOLERANCE * (1 + np.abs(rows))
        if np.all(np.abs(ascent) <= tolerance):
            return y, Status.OPTIMAL, "converged", step
        direction = _direction(dense, y, x, ascent, tolerance)
        length = 1.0
        for _ in range(_BACKTRACKS):
            moved = dense.projected(y, length * direction)
            new_slope, new_x, new_rows = dense.point(moved)
            new_value = dense.value(moved, new_slope, new_x)
            if new_value >= value + 1e-4 * float(ascent @ (moved - y)) - 1e-15 * (1 + abs(value)):
                break
            length *= 0.3
        else:
            return y, Status.NUMERICAL_TROUBLE, "no ascent", step
        if new_value > highest:
            return moved, Status.INFEASIBLE, "dual unbounded", step
        y, slope, x, rows, value = moved, new_slope, new_x, new_rows, new_value
    return y, Status.NUMERICAL_TROUBLE, "no convergence", _STEPS


def _highest(dense: _Dense) -> float:
    """More than the objective can be on the box: a dual value above it shows that no point is feasible. inf for unbounded boxes."""
    ends = [dense.cost * side + 0.5 * dense.quadratic * side * side for side in (dense.lower, dense.upper)]
    total = float(np.sum(np.maximum(*ends)))
    return total + 1e-6 * (1 + abs(total)) if np.isfinite(total) else inf


def _direction(dense: _Dense, y: Array, x: Array, ascent: Array, tolerance: Array) -> Array:
    """The Newton step on the rows in use, with a little regularisation: null directions become long steps, cut back by the line search."""
    working = np.flatnonzero(y)
    violated = np.flatnonzero((y == 0) & (np.abs(ascent) > tolerance))
    if len(violated) > _NEW_ROWS:  # all at once would be more rows than columns, and most are not active in the end
        violated = violated[np.argpartition(-np.abs(ascent[violated]), _NEW_ROWS)[:_NEW_ROWS]]
    working = np.concatenate([working, violated])
    free = np.flatnonzero((x > dense.lower) & (x < dense.upper))
    block = dense.matrix[np.ix_(working, free)] if len(free) < len(x) else dense.matrix[working]
    system = (block / dense.quadratic[free]) @ block.T
    diagonal = np.einsum("ii->i", system)
    weight = float(np.max(1 / dense.quadratic))
    diagonal += 1e-10 * weight
    direction = np.zeros(len(y))
    try:
        direction[working] = cho_solve(cho_factor(system, lower=True, check_finite=False), ascent[working], check_finite=False)
    except np.linalg.LinAlgError:
        diagonal += 1e-6 * weight
        direction[working] = np.linalg.solve(system, ascent[working])
    return direction

"""Clarabel: an interior-point method for second-order cones and quadratic objectives.

The program is written as  minimise 1/2 x.Px + q.x  subject to  Gx + s = b, s in K;  its multipliers z satisfy q + Px + G^T z = 0.
While edits leave the pattern of finite and equal bounds alone, only q and b are sent again.
"""

from math import inf
from typing import Any, ClassVar

import clarabel
import numpy as np
from scipy.sparse import csc_matrix, csr_matrix, diags_array, eye_array, vstack

from solvers.program import Array, Capability, Program
from solvers.session import Limits, Outcome, Session
from solvers.solution import Status

_TOLERANCE = 1e-9

_STATUS = {
    "Solved": Status.OPTIMAL,
    "AlmostSolved": Status.NUMERICAL_TROUBLE,
    "PrimalInfeasible": Status.INFEASIBLE,
    "AlmostPrimalInfeasible": Status.INFEASIBLE,
    "DualInfeasible": Status.UNBOUNDED,
    "AlmostDualInfeasible": Status.UNBOUNDED,
    "MaxIterations": Status.ITERATION_LIMIT,
    "MaxTime": Status.TIME_LIMIT,
    "CallbackTerminated": Status.INTERRUPTED,
}


class _Layout:
    """Which rows of G stand for which bound: fixed as long as the same bounds are finite and equal."""

    def __init__(self, program: Program) -> None:
        row_fixed, fixed = program.row_lower == program.row_upper, program.lower == program.upper
        self.pattern = _pattern(program)
        self.equal = np.flatnonzero(row_fixed)
        self.above = np.flatnonzero(~row_fixed & np.isfinite(program.row_upper))
        self.below = np.flatnonzero(~row_fixed & np.isfinite(program.row_lower))
        self.fixed = np.flatnonzero(fixed)
        self.upper = np.flatnonzero(~fixed & np.isfinite(program.upper))
        self.lower = np.flatnonzero(~fixed & np.isfinite(program.lower))
        self.zero = len(self.equal) + len(self.fixed)
        self.nonnegative = len(self.above) + len(self.below) + len(self.upper) + len(self.lower)

    def matrix(self, program: Program) -> csc_matrix:
        """G."""
        rows, unit = program.matrix, csr_matrix(eye_array(program.variables, format="csr"))
        blocks = [rows[self.equal], unit[self.fixed], rows[self.above], -rows[self.below], unit[self.upper], -unit[self.lower]]
        for cone in program.cones:
            blocks += [csr_matrix((1, program.variables)), -unit[cone.indices]]
        return csc_matrix(vstack(blocks, format="csc"))

    def sides(self, program: Program) -> Array:
        """b."""
        parts = [
            program.row_upper[self.equal],
            program.upper[self.fixed],
            program.row_upper[self.above],
            -program.row_lower[self.below],
            program.upper[self.upper],
            -program.lower[self.lower],
        ]
        for cone in program.cones:
            parts += [np.array([cone.limit]), -cone.shift]
        return np.concatenate(parts)

    def cones(self, program: Program) -> list[Any]:
        """K."""
        cones: list[Any] = [clarabel.ZeroConeT(self.zero)] if self.zero else []
        cones += [clarabel.NonnegativeConeT(self.nonnegative)] if self.nonnegative else []
        return cones + [clarabel.SecondOrderConeT(len(cone.indices) + 1) for cone in program.cones]

    def duals(self, program: Program, z: Array) -> tuple[Array, list[Array]]:
        """Multipliers of the rows (m,) and of the cones from z: with q + Px + G^T z = 0, a row at its upper side counts negative."""
        rows = np.zeros(program.rows)
        rows[self.equal] = -z[: len(self.equal)]
        start = self.zero
        rows[self.above] -= z[start : start + len(self.above)]
        start += len(self.above)
        rows[self.below] += z[start : start + len(self.below)]
        start = self.zero + self.nonnegative
        cones = []
        for cone in program.cones:
            end = start + 1 + len(cone.indices)
            cones.append(z[start + 1 : end])
            start = end
        return rows, cones


class ClarabelSession(Session):
    """One Clarabel solver on one thread. Interior-point methods start cold each time; edits of numbers only skip the set-up."""

    name = "clarabel"
    capabilities: ClassVar[frozenset[Capability]] = frozenset(
        {
            Capability.LINEAR, Capability.STRICTLY_CONVEX, Capability.QUADRATIC, Capability.CONES, Capability.RAY, Capability.INTERRUPT,
        }
    )  # fmt: skip

    def _load(self) -> None:
        self._layout: _Layout | None = None
        self._solver: Any = None
        self._matrix: Any = None
        self._time_limit = inf

    def _prepare(self, time_limit: float) -> tuple[Any, _Layout]:
        program = self._program
        layout = self._layout
        same = layout is not None and self._matrix is program.matrix and np.array_equal(layout.pattern, _pattern(program))
        if same and layout is not None and time_limit == self._time_limit:
            self._solver.update(q=program.cost, b=layout.sides(program))
            return self._solver, layout
        if layout is None or not same:
            layout = _Layout(program)
            self._constraints = layout.matrix(program)
        settings = clarabel.DefaultSettings()
        settings.verbose = False
        settings.max_threads = 1
        settings.presolve_enable = False  # it would forbid to change the data
        settings.time_limit = time_limit
        settings.tol_gap_abs = settings.tol_gap_rel = settings.tol_feas = _TOLERANCE
        quadratic = csc_matrix(diags_array(program.quadratic, format="csc"))
        self._solver = clarabel.DefaultSolver(
            quadratic, program.cost, self._constraints, layout.sides(program), layout.cones(program), settings
        )
        self._layout, self._matrix, self._time_limit = layout, program.matrix, time_limit
        return self._solver, layout

    def _solve(self, limits: Limits) -> Outcome:
        program = self._program
        solver, layout = self._prepare(limits.time_limit)
        caught: list[BaseException] = []

        def asked(_: Any) -> bool:
            try:
                return limits.interrupt is not None and limits.interrupt()
            except BaseException as error:  # raised again below: an exception must not cross the solver's own code
                caught.append(error)
                return True

        if limits.interrupt is None:
            result = solver.solve()
        else:
            solver.set_termination_callback(asked)
            try:
                result = solver.solve()
            finally:
                solver.unset_termination_callback()
        if caught:
            raise caught[0]
        word = str(result.status)
        status = _STATUS.get(word, Status.NUMERICAL_TROUBLE)
        rows, cones = layout.duals(program, np.asarray(result.z))
        if status is Status.INFEASIBLE:
            return Outcome(status=status, raw_status=word, ray=rows, cone_ray=cones, claimed_bound=inf, iterations=result.iterations)
        if status is Status.UNBOUNDED:
            return Outcome(status=status, raw_status=word, iterations=result.iterations)
        return Outcome(
            status=status,
            raw_status=word,
            x=result.x,
            objective=result.obj_val + program.offset,
            row_duals=rows,
            cone_duals=cones,
            claimed_bound=result.obj_val_dual + program.offset if status is Status.OPTIMAL else -inf,
            iterations=result.iterations,
        )

    def close(self) -> None:
        self._solver = None
        self._layout = None


def _pattern(program: Program) -> Array:
    """What the layout depends on, besides the matrix and the cones: 2(m + n) bool, and which are equal."""
    return np.concatenate(
        [
            np.isfinite(program.row_lower), np.isfinite(program.row_upper), program.row_lower == program.row_upper,
            np.isfinite(program.lower), np.isfinite(program.upper), program.lower == program.upper,
        ]
    )  # fmt: skip

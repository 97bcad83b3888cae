"""SciPy's linprog and milp: a plain reference, solved from scratch each time (HiGHS inside, but none of our session code)."""

from math import inf
from typing import Any, ClassVar

import numpy as np
from scipy.optimize import Bounds, LinearConstraint, linprog, milp
from scipy.sparse import csr_matrix, vstack

from solvers.program import Capability
from solvers.session import Limits, Outcome, Session
from solvers.solution import Status

_STATUS = {0: Status.OPTIMAL, 1: Status.ITERATION_LIMIT, 2: Status.INFEASIBLE, 3: Status.UNBOUNDED, 4: Status.NUMERICAL_TROUBLE}


class ScipySession(Session):
    """No state is kept between solves."""

    name = "scipy"
    capabilities: ClassVar[frozenset[Capability]] = frozenset({Capability.LINEAR, Capability.INTEGER})

    def _load(self) -> None:
        """Nothing to load."""

    def _solve(self, limits: Limits) -> Outcome:
        return self._milp(limits) if self._program.integer.any() else self._linprog(limits)

    def _milp(self, limits: Limits) -> Outcome:
        program = self._program
        result = milp(
            program.cost,
            integrality=program.integer.astype(int),
            bounds=Bounds(program.lower, program.upper),
            constraints=LinearConstraint(program.matrix, program.row_lower, program.row_upper) if program.rows else None,
            options={"mip_rel_gap": 1e-9} | _time(limits),
        )
        status = _status(result, limits)
        bound = inf if status is Status.INFEASIBLE else getattr(result, "mip_dual_bound", None)
        return Outcome(
            status=status,
            raw_status=str(result.message),
            x=result.x,
            objective=None if result.fun is None else result.fun + program.offset,
            claimed_bound=-inf if bound is None else bound + program.offset,
        )

    def _linprog(self, limits: Limits) -> Outcome:
        program = self._program
        equal = np.flatnonzero(program.row_lower == program.row_upper)
        above = np.flatnonzero((program.row_lower != program.row_upper) & np.isfinite(program.row_upper))
        below = np.flatnonzero((program.row_lower != program.row_upper) & np.isfinite(program.row_lower))
        rows = program.matrix
        result = linprog(
            program.cost,
            A_ub=csr_matrix(vstack([rows[above], -rows[below]])),
            b_ub=np.concatenate([program.row_upper[above], -program.row_lower[below]]),
            A_eq=rows[equal],
            b_eq=program.row_upper[equal],
            bounds=np.column_stack([program.lower, program.upper]),
            method="highs",
            options=_time(limits),
        )
        status = _status(result, limits)
        if status is not Status.OPTIMAL:
            return Outcome(status=status, raw_status=str(result.message), claimed_bound=inf if status is Status.INFEASIBLE else -inf)
        duals = np.zeros(program.rows)
        duals[equal] = result.eqlin.marginals
        duals[above] += result.ineqlin.marginals[: len(above)]
        duals[below] -= result.ineqlin.marginals[len(above) :]
        value = result.fun + program.offset
        return Outcome(status=status, raw_status=str(result.message), x=result.x, objective=value, row_duals=duals, claimed_bound=value)


def _time(limits: Limits) -> dict[str, Any]:
    return {"time_limit": limits.time_limit} if limits.time_limit < inf else {}


def _status(result: Any, limits: Limits) -> Status:
    status = _STATUS.get(result.status, Status.NUMERICAL_TROUBLE)
    if status is Status.ITERATION_LIMIT and limits.time_limit < inf:
        return Status.TIME_LIMIT
    if status is Status.NUMERICAL_TROUBLE and "unbounded or infeasible" in str(result.message).lower():
        return Status.INFEASIBLE_OR_UNBOUNDED
    return status

"""CVXPY: the cross-check. It takes every program, canonicalises it by its own code, and is slow."""

import warnings
from math import inf
from typing import Any, ClassVar

import cvxpy
import numpy as np

from solvers.errors import SolverUnavailableError
from solvers.program import Capability, Program
from solvers.session import Limits, Outcome, Session
from solvers.solution import Status

_STATUS = {
    cvxpy.OPTIMAL: Status.OPTIMAL,
    cvxpy.OPTIMAL_INACCURATE: Status.NUMERICAL_TROUBLE,
    cvxpy.INFEASIBLE: Status.INFEASIBLE,
    cvxpy.INFEASIBLE_INACCURATE: Status.INFEASIBLE,
    cvxpy.UNBOUNDED: Status.UNBOUNDED,
    cvxpy.UNBOUNDED_INACCURATE: Status.UNBOUNDED,
    "infeasible_or_unbounded": Status.INFEASIBLE_OR_UNBOUNDED,
    cvxpy.USER_LIMIT: Status.TIME_LIMIT,
}


class CvxpySession(Session):
    """No state is kept between solves. HiGHS solves linear programs and integer ones, Clarabel the continuous rest, SCIP or Gurobi both."""

    name = "cvxpy"
    capabilities: ClassVar[frozenset[Capability]] = frozenset(
        {
            Capability.LINEAR, Capability.INTEGER, Capability.STRICTLY_CONVEX, Capability.QUADRATIC, Capability.CONES,
            Capability.INTEGER_QUADRATIC,
        }
    )  # fmt: skip

    def _load(self) -> None:
        """Each solve builds the problem anew; only whether a solver for it is installed is known now."""
        if Capability.INTEGER_QUADRATIC in self._program.needs and not _integer_quadratic_solver(self._program):
            problem = "it finds no solver for integer variables with a quadratic objective or cones of this size."
            raise SolverUnavailableError("solver cvxpy", problem, "Install pyscipopt, or gurobipy with a licence that is large enough.")

    def _solve(self, limits: Limits) -> Outcome:
        program = self._program
        x, rows, cones, problem = _problem(program)
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # that a solution is inaccurate stands in the status
                problem.solve(**_solver(program, limits.time_limit))
        except cvxpy.SolverError as error:
            status = Status.TIME_LIMIT if limits.time_limit < inf else Status.NUMERICAL_TROUBLE
            return Outcome(status=status, raw_status=f"SolverError: {error}")
        status = _STATUS.get(problem.status, Status.NUMERICAL_TROUBLE)
        if status is Status.INFEASIBLE:
            return Outcome(status=status, raw_status=problem.status, claimed_bound=inf)
        if x.value is None:
            return Outcome(status=status, raw_status=problem.status)
        value = float(problem.value)
        if program.integer.any():
            return Outcome(status=status, raw_status=problem.status, x=x.value, objective=value)
        duals = np.zeros(program.rows)
        for which, sign, constraint in rows:
            if constraint.dual_value is not None:
                duals[which] += sign * np.asarray(constraint.dual_value).reshape(-1)
        return Outcome(
            status=status,
            raw_status=problem.status,
            x=x.value,
            objective=value,
            row_duals=duals,
            cone_duals=[np.asarray(cone.dual_value[1]).reshape(-1) for cone in cones],
            claimed_bound=value if status is Status.OPTIMAL else -inf,
        )


def _integer_quadratic_solver(program: Program) -> str:
    """SCIP, GUROBI (where its licence takes the program), or "" where neither does."""
    installed = cvxpy.installed_solvers()
    if "SCIP" in installed or "GUROBI" not in installed:
        return "SCIP" if "SCIP" in installed else ""
    from solvers.gurobi import GurobiSession, too_large

    return "" if GurobiSession.complaint() or too_large(program) else "GUROBI"


def _problem(program: Program) -> tuple[Any, list[Any], list[Any], Any]:
    """(variable, [(rows, sign of their duals, constraint)], cones, problem); cvxpy's multiplier of an inequality is >= 0."""
    integers = np.flatnonzero(program.integer)
    x = cvxpy.Variable(program.variables, integer=[tuple(integers.tolist())] if len(integers) else False)
    equal = np.flatnonzero(program.row_lower == program.row_upper)
    above = np.flatnonzero((program.row_lower != program.row_upper) & np.isfinite(program.row_upper))
    below = np.flatnonzero((program.row_lower != program.row_upper) & np.isfinite(program.row_lower))
    rows: list[Any] = []
    if len(equal):
        rows.append((equal, -1.0, program.matrix[equal] @ x == program.row_upper[equal]))
    if len(above):
        rows.append((above, -1.0, program.matrix[above] @ x <= program.row_upper[above]))
    if len(below):
        rows.append((below, 1.0, program.matrix[below] @ x >= program.row_lower[below]))
    bounds = []
    lower, upper = np.flatnonzero(np.isfinite(program.lower)), np.flatnonzero(np.isfinite(program.upper))
    if len(lower):
        bounds.append(x[lower] >= program.lower[lower])
    if len(upper):
        bounds.append(x[upper] <= program.upper[upper])
    cones = [cvxpy.SOC(cvxpy.Constant(cone.limit), x[cone.indices] - cone.shift) for cone in program.cones]
    objective: Any = program.cost @ x + program.offset
    if program.has_quadratic:
        objective = objective + 0.5 * cvxpy.sum(cvxpy.multiply(program.quadratic, cvxpy.square(x)))
    return x, rows, cones, cvxpy.Problem(cvxpy.Minimize(objective), [row[2] for row in rows] + bounds + cones)


def _solver(program: Program, time_limit: float) -> dict[str, Any]:
    limited = time_limit < inf
    if Capability.INTEGER_QUADRATIC in program.needs:
        if _integer_quadratic_solver(program) == "GUROBI":
            return {"solver": "GUROBI", "Threads": 1} | ({"TimeLimit": time_limit} if limited else {})
        return {"solver": "SCIP"} | ({"scip_params": {"limits/time": time_limit}} if limited else {})
    if program.has_quadratic or program.cones:
        return {"solver": "CLARABEL"} | ({"time_limit": time_limit} if limited else {})
    options: dict[str, Any] = {"threads": 1} | ({"time_limit": time_limit} if limited else {})
    if program.integer.any():
        options |= {"mip_rel_gap": 1e-9}
    return {"solver": "HIGHS"} | options

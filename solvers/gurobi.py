"""Gurobi, where it starts. The restricted licence of the package takes 2000 variables and rows; past it, another backend goes on.

A row with two different finite sides gets a slack variable (a.x - s = 0, row_lower <= s <= row_upper) and keeps it.
"""

import logging
from functools import cache
from math import inf
from typing import Any, ClassVar

import gurobipy
import numpy as np
from scipy.sparse import csr_matrix

from solvers.errors import SolverUnavailableError
from solvers.program import Array, Capability, Program
from solvers.session import Limits, Outcome, Session
from solvers.solution import Status

logger = logging.getLogger("solvers")

_TOO_LARGE = 10010  # "Model too large for size-limited license"
_SMALL = 2000

_STATUS = {
    gurobipy.GRB.OPTIMAL: ("OPTIMAL", Status.OPTIMAL),
    gurobipy.GRB.INFEASIBLE: ("INFEASIBLE", Status.INFEASIBLE),
    gurobipy.GRB.INF_OR_UNBD: ("INF_OR_UNBD", Status.INFEASIBLE_OR_UNBOUNDED),
    gurobipy.GRB.UNBOUNDED: ("UNBOUNDED", Status.UNBOUNDED),
    gurobipy.GRB.CUTOFF: ("CUTOFF", Status.ABOVE_LIMIT),
    gurobipy.GRB.USER_OBJ_LIMIT: ("USER_OBJ_LIMIT", Status.BELOW_LIMIT),
    gurobipy.GRB.ITERATION_LIMIT: ("ITERATION_LIMIT", Status.ITERATION_LIMIT),
    gurobipy.GRB.NODE_LIMIT: ("NODE_LIMIT", Status.ITERATION_LIMIT),
    gurobipy.GRB.MEM_LIMIT: ("MEM_LIMIT", Status.ITERATION_LIMIT),
    gurobipy.GRB.TIME_LIMIT: ("TIME_LIMIT", Status.TIME_LIMIT),
    gurobipy.GRB.INTERRUPTED: ("INTERRUPTED", Status.INTERRUPTED),
    gurobipy.GRB.NUMERIC: ("NUMERIC", Status.NUMERICAL_TROUBLE),
    gurobipy.GRB.SUBOPTIMAL: ("SUBOPTIMAL", Status.NUMERICAL_TROUBLE),
}


@cache
def environment() -> Any:
    """One quiet Gurobi environment per process. Raises SolverUnavailableError where no licence is found."""
    try:
        empty = gurobipy.Env(empty=True)
        empty.setParam("OutputFlag", 0)
        empty.start()
    except gurobipy.GurobiError as error:
        raise SolverUnavailableError("solver gurobi", f"it does not start ({error}).", "Check its licence.") from error
    return empty


@cache
def restricted() -> bool:
    """Whether the licence refuses models of more than 2000 variables: found out by asking it to solve one."""
    with gurobipy.Model(env=environment()) as model:
        model.addMVar(_SMALL + 1)
        try:
            model.optimize()
        except gurobipy.GurobiError as error:
            return bool(error.errno == _TOO_LARGE)
    return False


def too_large(program: Program) -> bool:
    """Whether the licence refuses a program of this size. Raises SolverUnavailableError where there is no licence."""
    return max(program.variables, program.rows) > _SMALL and restricted()


class GurobiSession(Session):
    """One Gurobi model on one thread. When edits make it too large for the licence, another session continues, with one warning."""

    name = "gurobi"
    capabilities: ClassVar[frozenset[Capability]] = frozenset(Capability)

    @staticmethod
    def complaint() -> str:
        """Why Gurobi cannot be used here, or ""."""
        try:
            environment()
        except SolverUnavailableError as reason:
            return str(reason)
        return ""

    def _load(self) -> None:
        program = self._program
        if too_large(program):
            raise SolverUnavailableError(
                "solver gurobi", f"its restricted licence takes {_SMALL} variables and rows, not {program.variables} and {program.rows}."
            )
        self._other: Session | None = None
        self._only_costs = False
        self._model = gurobipy.Model(env=environment())
        parameters: dict[str, Any] = {"Threads": 1, "InfUnbdInfo": 1, "QCPDual": 1, "MIPGap": 1e-9, "MIPGapAbs": 1e-9, "DualReductions": 0}
        parameters |= {"FeasibilityTol": 1e-9, "OptimalityTol": 1e-9, "IntFeasTol": 1e-9, "BarConvTol": 1e-10, "BarQCPConvTol": 1e-9}
        for name, value in parameters.items():
            self._model.setParam(name, value)
        kinds = np.where(program.integer, "I", "C")
        self._x: Any = self._model.addMVar(program.variables, lb=_bounded(program.lower), ub=_bounded(program.upper), vtype=kinds)
        self._rows: list[Any] = []
        self._slacks: list[Any] = []
        self._append(program.matrix, program.row_lower, program.row_upper)
        self._cones = []
        for cone in program.cones:
            inner = self._x[cone.indices]
            side = cone.limit**2 - float(cone.shift @ cone.shift)
            self._cones.append(self._model.addConstr(inner @ inner - 2 * cone.shift @ inner <= side))
        self._cost_changed()

    def _append(self, matrix: csr_matrix, lower: Array, upper: Array) -> None:
        if not matrix.shape[0]:
            return
        senses = np.where(lower == upper, "=", np.where(np.isfinite(upper), "<", np.where(np.isfinite(lower), ">", "<")))
        added = self._model.addMConstr(matrix, self._x, senses, _bounded(np.where(senses == ">", lower, upper))).tolist()
        first = len(self._rows)
        self._rows += added
        self._slacks += [None] * len(added)
        ranges = np.flatnonzero(np.isfinite(lower) & np.isfinite(upper) & (lower != upper))
        if len(ranges):
            self._model.update()
            self._set_sides(first + ranges, lower[ranges], upper[ranges])

    def _set_sides(self, indices: Array, lower: Array, upper: Array) -> None:
        """Rows keep a sense and a right-hand side until they need two sides: then a slack variable carries both."""
        for index, low, high in zip(indices.tolist(), _bounded(lower).tolist(), _bounded(upper).tolist(), strict=True):
            row, slack = self._rows[index], self._slacks[index]
            if slack is not None:
                slack.LB, slack.UB = low, high
            elif low == high:
                row.Sense, row.RHS = "=", high
            elif low == -gurobipy.GRB.INFINITY:
                row.Sense, row.RHS = "<", high
            elif high == gurobipy.GRB.INFINITY:
                row.Sense, row.RHS = ">", low
            else:
                column = gurobipy.Column(-1.0, row)
                self._slacks[index] = self._model.addVar(lb=low, ub=high, column=column)
                row.Sense, row.RHS = "=", 0.0

    def _bounds_changed(self, indices: Array, lower: Array, upper: Array) -> None:
        self._only_costs = False
        if self._other is not None:
            self._other.set_bounds(indices, lower, upper)
        elif len(indices):
            part: Any = self._x[indices]
            part.LB, part.UB = _bounded(lower), _bounded(upper)

    def _row_bounds_changed(self, indices: Array, lower: Array, upper: Array) -> None:
        self._only_costs = False
        if self._other is not None:
            self._other.set_row_bounds(indices, lower, upper)
        else:
            self._model.update()
            self._set_sides(indices, lower, upper)

    def _rows_added(self, matrix: csr_matrix, lower: Array, upper: Array) -> None:
        self._only_costs = False
        if self._other is not None:
            self._other.add_rows(matrix, lower, upper)
        else:
            self._append(matrix, lower, upper)

    def _rows_deleted(self, first: int, last: int) -> None:
        self._only_costs = False
        if self._other is not None:
            self._other.delete_rows(first)
            return
        self._model.update()
        self._model.remove(self._rows[first:])
        self._model.remove([slack for slack in self._slacks[first:] if slack is not None])
        del self._rows[first:], self._slacks[first:]

    def _cost_changed(self) -> None:
        program = self._program
        if self._other is not None:
            self._other.set_cost(program.cost, program.offset)
        elif program.has_quadratic:
            squares = 0.5 * (program.quadratic * self._x) @ self._x
            self._model.setObjective(squares + program.cost @ self._x + program.offset)
        else:
            self._x.Obj = program.cost
            self._model.ObjCon = program.offset

    def _solve(self, limits: Limits) -> Outcome:
        if self._other is None:
            try:
                return self._optimize(limits)
            except gurobipy.GurobiError as error:
                if error.errno != _TOO_LARGE:
                    return Outcome(status=Status.NUMERICAL_TROUBLE, raw_status=f"error {error.errno}: {error}")
                self._other = _successor(self._program)
        other = self._other.solve(time_limit=limits.time_limit, interrupt=limits.interrupt, objective_limit=limits.objective_limit)
        return Outcome.repeated(other, self._other.name)

    def _optimize(self, limits: Limits) -> Outcome:
        model, program = self._model, self._program
        integer = bool(program.integer.any())
        model.setParam("TimeLimit", min(limits.time_limit, gurobipy.GRB.INFINITY))
        limited = limits.objective_limit if integer else None  # a continuous solve that is cut off would leave no duals
        model.setParam("Cutoff", gurobipy.GRB.INFINITY if limited is None else limited)
        model.setParam("BestObjStop", -gurobipy.GRB.INFINITY if limited is None else limited)
        if program.has_quadratic or program.cones:
            model.setParam("Method", -1 if integer else 2)
        elif integer:
            model.setParam("Method", -1)
        else:
            model.setParam("Method", 0 if self._only_costs else 1)
        if integer:
            model.reset()  # else Gurobi resumes the tree of the last solve, pruned by the limit of that solve
        caught: list[BaseException] = []

        def asked(running: Any, _: int) -> None:
            try:
                if limits.interrupt is not None and (caught or limits.interrupt()):
                    running.terminate()
            except BaseException as error:  # raised again below: an exception must not cross the solver's own code
                caught.append(error)
                running.terminate()

        model.optimize(asked if limits.interrupt is not None else None)
        if caught:
            raise caught[0]
        word, status = _STATUS.get(model.Status, (f"status {model.Status}", Status.NUMERICAL_TROUBLE))
        self._only_costs = status is Status.OPTIMAL
        return self._outcome(status, word, integer, limited)

    def _outcome(self, status: Status, word: str, integer: bool, limited: float | None) -> Outcome:
        model = self._model
        found: dict[str, Any] = {"iterations": int(model.NodeCount if integer else model.IterCount)}
        if model.SolCount:
            found |= {"x": self._x.X, "objective": model.ObjVal}
        if integer:
            bound = inf if status is Status.INFEASIBLE else model.ObjBound
            if status is Status.ABOVE_LIMIT and limited is not None:
                bound = limited
            found["claimed_bound"] = float(bound) if abs(bound) < gurobipy.GRB.INFINITY or status is Status.INFEASIBLE else -inf
        elif status is Status.INFEASIBLE:
            found["claimed_bound"] = inf
            if not self._cones and not self._program.has_quadratic:
                # Gurobi's certificate is for rows read as "<=": the opposite sign.
                found["ray"] = -np.array(model.getAttr("FarkasDual", self._rows)) if self._rows else np.zeros(0)
        elif status is Status.OPTIMAL:
            found["claimed_bound"] = model.ObjVal
            found["row_duals"] = np.array(model.getAttr("Pi", self._rows)) if self._rows else np.zeros(0)
            if self._cones:
                x = np.asarray(self._x.X)
                weights = [-float(np.asarray(cone.QCPi).item()) for cone in self._cones]
                pairs = zip(self._program.cones, weights, strict=True)
                found["cone_duals"] = [-2 * weight * (x[cone.indices] - cone.shift) for cone, weight in pairs]
        return Outcome(status=status, raw_status=word, **found)

    def close(self) -> None:
        self._model.dispose()
        if self._other is not None:
            self._other.close()


def _bounded(values: Array) -> Array:
    return np.clip(values, -gurobipy.GRB.INFINITY, gurobipy.GRB.INFINITY)


def _successor(program: Program) -> Session:
    from solvers.registry import session_class, without_gurobi

    other = without_gurobi(program)
    logger.warning("gurobi is not used any longer: its restricted licence is too small for this program. Falling back to %s.", other)
    return session_class(other)(program)

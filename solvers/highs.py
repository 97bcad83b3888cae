"""HiGHS: the default for linear programs and programs with integer variables. The basis is kept through every edit.

The solver's copy differs from the program in two ways, both harmless because proofs use the program itself: rows with tiny or huge
coefficients are scaled by powers of two, and entries below 1e-12 of such a row's scale, which HiGHS would reject, are left out.
Apart from that, any warning of HiGHS while a program is loaded or edited is an error.
"""

from collections.abc import Callable
from math import inf
from typing import Any, ClassVar

import highspy
import numpy as np
from scipy.sparse import csr_matrix

from solvers.errors import SolverError
from solvers.program import Array, Capability
from solvers.session import Limits, Outcome, Session
from solvers.solution import Level, Status

_DROP = 1e-12  # the least small_matrix_value that HiGHS takes
_DUAL, _PRIMAL = 1, 4  # values of simplex_strategy

_Word = highspy.HighsModelStatus
_STATUS = {
    _Word.kOptimal: Status.OPTIMAL,
    _Word.kModelEmpty: Status.OPTIMAL,
    _Word.kInfeasible: Status.INFEASIBLE,
    _Word.kUnbounded: Status.UNBOUNDED,
    _Word.kUnboundedOrInfeasible: Status.INFEASIBLE_OR_UNBOUNDED,
    _Word.kObjectiveBound: Status.ABOVE_LIMIT,
    _Word.kObjectiveTarget: Status.BELOW_LIMIT,
    _Word.kTimeLimit: Status.TIME_LIMIT,
    _Word.kInterrupt: Status.INTERRUPTED,
    _Word.kIterationLimit: Status.ITERATION_LIMIT,
    _Word.kSolutionLimit: Status.ITERATION_LIMIT,
    _Word.kMemoryLimit: Status.ITERATION_LIMIT,
}
_CUT_SHORT = (Status.ABOVE_LIMIT, Status.BELOW_LIMIT)


class HighsSession(Session):
    """One HiGHS model on one thread. Primal simplex after changes of the cost only, dual simplex after changes of rows or bounds."""

    name = "highs"
    capabilities: ClassVar[frozenset[Capability]] = frozenset(
        {Capability.LINEAR, Capability.INTEGER, Capability.HOT_START, Capability.RAY, Capability.OBJECTIVE_LIMIT, Capability.INTERRUPT}
    )

    def _load(self) -> None:
        program = self._program
        self._highs: Any = highspy.Highs()
        self._integer = bool(program.integer.any())
        options: dict[str, Any] = {
            "output_flag": False,
            "threads": 1,
            "parallel": "off",
            # Presolve would throw away the basis that hot starts and rays come from.
            "presolve": "on" if self._integer else "off",
            "small_matrix_value": _DROP,
            "primal_feasibility_tolerance": 1e-9,
            "dual_feasibility_tolerance": 1e-9,
            "mip_feasibility_tolerance": 1e-9,
            "mip_rel_gap": 1e-9,
            "mip_abs_gap": 1e-9,
        }
        if not self._integer:
            options["solver"] = "simplex"
        for name, value in options.items():
            self._accepted(self._highs.setOptionValue(name, value), f"option {name}")
        self._scale = _row_scale(program.matrix)
        model = highspy.HighsLp()
        model.num_col_, model.num_row_ = program.variables, program.rows
        model.col_cost_, model.offset_ = program.cost, program.offset
        model.col_lower_, model.col_upper_ = program.lower, program.upper
        model.row_lower_, model.row_upper_ = program.row_lower * self._scale, program.row_upper * self._scale
        matrix = _copy_for_solver(program.matrix, self._scale)
        model.a_matrix_.format_ = highspy.MatrixFormat.kRowwise
        model.a_matrix_.start_, model.a_matrix_.index_, model.a_matrix_.value_ = matrix.indptr, matrix.indices, matrix.data
        if self._integer:
            kinds = (highspy.HighsVarType.kContinuous, highspy.HighsVarType.kInteger)
            model.integrality_ = [kinds[int(flag)] for flag in program.integer]
        self._accepted(self._highs.passModel(model), "the program")
        self._only_costs = False

    def _bounds_changed(self, indices: Array, lower: Array, upper: Array) -> None:
        if len(indices):
            self._only_costs = False
            where = indices.astype(np.int32)
            self._accepted(self._highs.changeColsBounds(len(where), where, lower, upper), "bounds of variables")

    def _row_bounds_changed(self, indices: Array, lower: Array, upper: Array) -> None:
        if len(indices):
            self._only_costs = False
            where, scale = indices.astype(np.int32), self._scale[indices]
            self._accepted(self._highs.changeRowsBounds(len(where), where, lower * scale, upper * scale), "bounds of rows")

    def _rows_added(self, matrix: csr_matrix, lower: Array, upper: Array) -> None:
        if matrix.shape[0]:
            self._only_costs = False
            scale = _row_scale(matrix)
            rows = _copy_for_solver(matrix, scale)
            starts, columns = rows.indptr[:-1].astype(np.int32), rows.indices.astype(np.int32)
            status = self._highs.addRows(len(lower), lower * scale, upper * scale, rows.nnz, starts, columns, rows.data)
            self._accepted(status, "added rows")
            self._scale = np.concatenate([self._scale, scale])

    def _rows_deleted(self, first: int, last: int) -> None:
        self._only_costs = False
        self._accepted(self._highs.deleteRows(last - first, np.arange(first, last, dtype=np.int32)), "deleted rows")
        self._scale = self._scale[:first]

    def _cost_changed(self) -> None:
        count = self._program.variables
        self._accepted(self._highs.changeColsCost(count, np.arange(count, dtype=np.int32), self._program.cost), "the cost")
        self._accepted(self._highs.changeObjectiveOffset(self._program.offset), "the constant of the objective")

    def _solve(self, limits: Limits) -> Outcome:
        highs = self._highs
        # HiGHS counts the time of all runs of a model together.
        highs.setOptionValue("time_limit", highs.getRunTime() + limits.time_limit)
        limit = inf if limits.objective_limit is None else limits.objective_limit
        highs.setOptionValue("objective_bound", limit)
        if self._integer:
            highs.setOptionValue("objective_target", -inf if limits.objective_limit is None else limit)
        else:
            highs.setOptionValue("simplex_strategy", _PRIMAL if self._only_costs else _DUAL)
        status, word = self._run(limits, limit)
        if status is Status.NUMERICAL_TROUBLE and not self._integer:
            highs.clearSolver()  # the basis may be to blame: once more from scratch
            highs.setOptionValue("simplex_strategy", _DUAL)
            status, word = self._run(limits, limit)
        self._only_costs = status is Status.OPTIMAL
        return self._outcome(status, word, limits)

    def _run(self, limits: Limits, limit: float) -> tuple[Status, str]:
        """Run with the callbacks that the limits need; exceptions of the caller's callback end the solve and pass through."""
        interrupt = limits.interrupt
        caught: list[BaseException] = []

        def asked(event: Any) -> None:
            try:
                if interrupt is not None and (caught or interrupt()):
                    event.interrupt()
            except BaseException as error:  # raised again below: an exception must not cross the solver's own code
                caught.append(error)
                event.interrupt()

        def decided(event: Any) -> None:
            if event.data_out.mip_dual_bound > limit:
                event.interrupt()

        used: list[tuple[str, Callable[[Any], None]]] = []
        if interrupt is not None:
            used += [("cbMipInterrupt", asked)] if self._integer else [("cbSimplexInterrupt", asked)]
        if self._integer and limit < inf:
            used.append(("cbMipInterrupt", decided))
        for name, callback in used:
            getattr(self._highs, name).subscribe(callback)
        try:
            ran = self._highs.run()
        finally:
            for name, callback in used:
                getattr(self._highs, name).unsubscribe(callback)
        if caught:
            raise caught[0]
        word = self._highs.getModelStatus()
        status = _STATUS.get(word, Status.NUMERICAL_TROUBLE)
        # A warning is HiGHS's way to say that a limit was reached; with any other status it doubts its own result.
        doubtful = ran == highspy.HighsStatus.kWarning and status.level is Level.ANSWERED and status not in _CUT_SHORT
        if ran == highspy.HighsStatus.kError or doubtful:
            status = Status.NUMERICAL_TROUBLE
        return status, self._highs.modelStatusToString(word)

    def _outcome(self, status: Status, word: str, limits: Limits) -> Outcome:
        solution, information = self._highs.getSolution(), self._highs.getInfo()
        has_point = solution.value_valid and information.primal_solution_status == 2
        point: dict[str, Any] = {}
        if has_point:
            point = {"x": solution.col_value, "objective": information.objective_function_value}
        if self._integer:
            bound = information.mip_dual_bound
            limit = limits.objective_limit
            # The limit is HiGHS's cutoff: no better point exists, or the callback saw the bound pass the limit.
            if limit is not None and (status is Status.INFEASIBLE or (status is Status.INTERRUPTED and bound > limit)):
                status, bound = Status.ABOVE_LIMIT, max(bound, limit) if bound < inf else limit
            bound = inf if status is Status.INFEASIBLE else bound if bound < inf else -inf
            return Outcome(status=status, raw_status=word, claimed_bound=bound, iterations=max(0, information.mip_node_count), **point)
        if solution.dual_valid and status is not Status.INFEASIBLE:
            point["row_duals"] = np.array(solution.row_dual) * self._scale
        if status is Status.INFEASIBLE:
            _, exists, ray = self._highs.getDualRay()
            if exists:
                point["ray"] = np.asarray(ray) * self._scale
        bound = {Status.OPTIMAL: information.objective_function_value, Status.INFEASIBLE: inf}.get(status, -inf)
        if status is Status.ABOVE_LIMIT and limits.objective_limit is not None:
            bound = limits.objective_limit
        return Outcome(status=status, raw_status=word, claimed_bound=bound, iterations=max(0, information.simplex_iteration_count), **point)

    def _accepted(self, status: highspy.HighsStatus, what: str) -> None:
        if status != highspy.HighsStatus.kOk:
            raise SolverError(
                f"solver highs, {what}",
                f"HiGHS answered {status.name[1:]}.",
                "Rescale the variables (powers of two are exact), or use another solver.",
            )

    def close(self) -> None:
        self._highs.clear()


def _row_scale(matrix: csr_matrix) -> Array:
    """Powers of two (m,) that bring rows whose largest entry is far from 1 near to it; 1 for the others."""
    largest = np.zeros(matrix.shape[0])
    filled = np.flatnonzero(np.diff(matrix.indptr))
    if len(filled):
        largest[filled] = np.maximum.reduceat(np.abs(matrix.data), matrix.indptr[filled])
    _, exponents = np.frexp(largest)
    far = (largest != 0) & ((exponents < -10) | (exponents > 40))
    return np.where(far, np.ldexp(1.0, np.clip(-exponents, -1000, 1000)), 1.0)


def _copy_for_solver(matrix: csr_matrix, scale: Array) -> csr_matrix:
    data = matrix.data * np.repeat(scale, np.diff(matrix.indptr))
    data[np.abs(data) <= _DROP] = 0.0
    result = csr_matrix((data, matrix.indices.copy(), matrix.indptr.copy()), shape=matrix.shape)
    result.eliminate_zeros()
    return result

"""A persistent session: a program that stays loaded in a solver while its bounds, rows and costs change."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from math import inf
from time import perf_counter
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import ArrayLike
from scipy.sparse import csr_matrix, vstack

from solvers.errors import ProgramError, SolverError, SolverUnavailableError
from solvers.program import Array, Capability, Program, finite, ordered, sparse_rows
from solvers.solution import Solution, Status

Interrupt = Callable[[], bool]


@dataclass(frozen=True, eq=False, kw_only=True)
class Outcome:
    """What a backend reports, before the base class checks it; the fields are those of Solution."""

    status: Status
    raw_status: str
    x: Any = None
    objective: float | None = None
    row_duals: Any = None
    cone_duals: Any = None
    ray: Any = None
    cone_ray: Any = None
    claimed_bound: float = -inf
    iterations: int = 0

    @staticmethod
    def repeated(solution: Solution, solver: str) -> "Outcome":
        """What another session found, for a session that passes it on; `solver` is named in the raw word."""
        values = {name: getattr(solution, name) for name in Outcome.__dataclass_fields__}
        return Outcome(**values | {"raw_status": f"{solver}: {solution.raw_status}"})


@dataclass(frozen=True, eq=False, kw_only=True)
class Limits:
    """What may end a solve early."""

    time_limit: float = inf
    interrupt: Interrupt | None = None
    objective_limit: float | None = None


class Session(ABC):
    """Solves one program again and again while it is edited. Not safe for threads; not picklable (pickle `program`).

    Edits take effect at the next `solve`. `program` always is the current program, so that the safe bound of a solution
    refers to exactly the data that were solved. Backends implement `_load`, `_solve`, and what they can of the `_changed` hooks.
    """

    name: ClassVar[str]
    capabilities: ClassVar[frozenset[Capability]]

    def __init__(self, program: Program) -> None:
        missing = program.needs - self.capabilities
        if missing:
            lacks = ", ".join(sorted(need.value for need in missing))
            raise SolverUnavailableError(f"solver {self.name}", f"cannot take {lacks}.", "Use solver='auto' to choose one that can.")
        self._program = program
        self._load()

    @property
    def program(self) -> Program:
        """The current program, edits included."""
        return self._program

    def set_bounds(self, indices: ArrayLike | None, lower: ArrayLike, upper: ArrayLike) -> None:
        """New bounds of the variables `indices` (k,) (None: all). Raises ProgramError for NaN, lower > upper, wrong indices."""
        where = self._indices("variables", indices, self._program.variables)
        where, low, high = _ordered("bounds of the variables", where, lower, upper)
        new_lower, new_upper = self._program.lower.copy(), self._program.upper.copy()
        new_lower[where], new_upper[where] = low, high
        self._program = self._program.replaced(lower=new_lower, upper=new_upper)
        self._bounds_changed(where, low, high)

    def set_row_bounds(self, indices: ArrayLike | None, lower: ArrayLike, upper: ArrayLike) -> None:
        """New sides of the rows `indices` (k,) (None: all). Raises ProgramError."""
        where = self._indices("rows", indices, self._program.rows)
        where, low, high = _ordered("bounds of the rows", where, lower, upper)
        new_lower, new_upper = self._program.row_lower.copy(), self._program.row_upper.copy()
        new_lower[where], new_upper[where] = low, high
        self._program = self._program.replaced(row_lower=new_lower, row_upper=new_upper)
        self._row_bounds_changed(where, low, high)

    def add_rows(self, matrix: Any, lower: ArrayLike, upper: ArrayLike) -> int:
        """Append rows lower <= matrix x <= upper, matrix (k, n); returns the index of the first. Raises ProgramError."""
        first = self._program.rows
        added = sparse_rows("added rows", matrix, self._program.variables)
        _, low, high = _ordered("bounds of the added rows", np.arange(added.shape[0]), lower, upper)
        self._program = self._program.replaced(
            matrix=csr_matrix(vstack([self._program.matrix, added], format="csr")),
            row_lower=np.concatenate([self._program.row_lower, low]),
            row_upper=np.concatenate([self._program.row_upper, high]),
        )
        self._rows_added(added, low, high)
        return first

    def delete_rows(self, from_index: int) -> None:
        """Delete the rows from_index, from_index + 1, ... to the end. Raises ProgramError."""
        rows = self._program.rows
        if not 0 <= from_index <= rows:
            raise ProgramError("rows to delete", f"{from_index} is not between 0 and {rows}.")
        if from_index == rows:
            return
        self._program = self._program.replaced(
            matrix=self._program.matrix[:from_index],
            row_lower=self._program.row_lower[:from_index],
            row_upper=self._program.row_upper[:from_index],
        )
        self._rows_deleted(from_index, rows)

    def set_cost(self, cost: ArrayLike, offset: float | None = None) -> None:
        """A new linear cost (n,), and a new constant if `offset` is given. Raises ProgramError."""
        new = finite("cost", cost, self._program.variables)
        constant = self._program.offset if offset is None else float(finite("offset", [offset])[0])
        self._program = self._program.replaced(cost=new, offset=constant)
        self._cost_changed()

    def solve(
        self, *, time_limit: float | None = None, interrupt: Interrupt | None = None, objective_limit: float | None = None
    ) -> Solution:
        """Solve the current program.

        time_limit: seconds. interrupt: called now and then by backends with Capability.INTERRUPT; the solve ends when it returns True.
        objective_limit: the solve may end once the minimum is known to lie above it (ABOVE_LIMIT), or, with integer variables, once a
        point at or below it is found (BELOW_LIMIT); others ignore it and solve to the end. Raises SolverError.
        """
        if objective_limit is not None and np.isnan(objective_limit):
            raise SolverError("objective_limit", "NaN is no limit.")
        limits = Limits(time_limit=_seconds(time_limit), interrupt=interrupt, objective_limit=objective_limit)
        start = perf_counter()
        outcome = self._solve(limits)
        return self._checked(outcome, perf_counter() - start)

    def close(self) -> None:  # noqa: B027
        """Free what the backend holds; the session cannot be used afterwards."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _checked(self, outcome: Outcome, seconds: float) -> Solution:
        """Shapes and numbers of what a backend claims, and the check of its ray; a wrong shape is a fault of the backend."""
        program = self._program
        solution = Solution(
            status=outcome.status,
            raw_status=outcome.raw_status,
            program=program,
            x=_vector(self.name, "x", outcome.x, program.variables),
            objective=None if outcome.objective is None or np.isnan(outcome.objective) else float(outcome.objective),
            row_duals=_vector(self.name, "row duals", outcome.row_duals, program.rows),
            cone_duals=_vectors(self.name, "cone duals", outcome.cone_duals, program),
            ray=_vector(self.name, "ray", outcome.ray, program.rows),
            cone_ray=_vectors(self.name, "ray of the cones", outcome.cone_ray, program),
            claimed_bound=-inf if np.isnan(outcome.claimed_bound) else float(outcome.claimed_bound),
            seconds=seconds,
            iterations=outcome.iterations,
        )
        if solution.status is Status.INFEASIBLE and not solution.proves_infeasible:
            object.__setattr__(solution, "status", Status.CLAIMED_INFEASIBLE)
        return solution

    @staticmethod
    def _indices(place: str, indices: ArrayLike | None, size: int) -> Array:
        if indices is None:
            return np.arange(size)
        where = np.atleast_1d(np.asarray(indices))
        if where.size == 0:
            return np.empty(0, dtype=np.int64)
        if where.ndim != 1 or not np.issubdtype(where.dtype, np.integer):
            raise ProgramError(place, "indices are not a vector of integers.")
        if where.min() < 0 or where.max() >= size:
            raise ProgramError(place, f"an index lies outside 0..{size - 1}.")
        return where.astype(np.int64)

    @abstractmethod
    def _load(self) -> None:
        """Hand self._program to the solver."""

    @abstractmethod
    def _solve(self, limits: Limits) -> Outcome:
        """Solve self._program."""

    # Backends that read self._program anew at each solve need none of these hooks.
    def _bounds_changed(self, indices: Array, lower: Array, upper: Array) -> None:  # noqa: B027
        """The bounds of distinct, ascending `indices` changed."""

    def _row_bounds_changed(self, indices: Array, lower: Array, upper: Array) -> None:  # noqa: B027
        """The sides of distinct, ascending `indices` changed."""

    def _rows_added(self, matrix: csr_matrix, lower: Array, upper: Array) -> None:  # noqa: B027
        """Rows were appended."""

    def _rows_deleted(self, first: int, last: int) -> None:  # noqa: B027
        """The rows first..last-1, the last ones, were deleted."""

    def _cost_changed(self) -> None:  # noqa: B027
        """self._program.cost or offset changed."""


def _ordered(place: str, where: Array, lower: ArrayLike, upper: ArrayLike) -> tuple[Array, Array, Array]:
    """Distinct ascending indices (the last mention counts) with their checked bounds; scalars are broadcast."""
    low, high = (np.broadcast_to(np.asarray(side), where.shape) if np.ndim(side) == 0 else side for side in (lower, upper))
    low, high = ordered(place, low, high, len(where), where)
    if len(where) > 1 and not np.all(where[1:] > where[:-1]):
        distinct, last = np.unique(where[::-1], return_index=True)
        chosen = len(where) - 1 - last
        return distinct, low[chosen], high[chosen]
    return where, low, high


def _seconds(time_limit: float | None) -> float:
    if time_limit is None:
        return inf
    if np.isnan(time_limit) or time_limit < 0:
        raise SolverError("time_limit", f"{time_limit!r} is not a number of seconds.")
    return float(time_limit)


def _vector(solver: str, what: str, values: Any, size: int) -> Array | None:
    if values is None:
        return None
    array = np.array(values, dtype=np.float64)
    if array.shape != (size,):
        problem = f"{what} of shape {array.shape} where ({size},) is needed."
        raise SolverError(f"solver {solver}", problem, "This is a fault of the backend.")
    # A NaN or infinite entry says that the solver has no such vector.
    return array if np.isfinite(array).all() else None


def _vectors(solver: str, what: str, values: Any, program: Program) -> tuple[Array, ...] | None:
    if values is None:
        return None
    vectors = [_vector(solver, what, value, len(cone.indices)) for value, cone in zip(values, program.cones, strict=True)]
    return tuple(vector for vector in vectors if vector is not None) if all(vector is not None for vector in vectors) else None

"""A convex program, optionally with integer variables, as plain arrays.

    minimise    cost.x + 1/2 sum_i quadratic_i x_i^2 + offset
    subject to  row_lower <= matrix x <= row_upper,   lower <= x <= upper,
                ‖x[indices] - shift‖_2 <= limit  for each cone,   x_i integer where `integer`.

A Program is immutable; sessions replace it when they are edited, so that a Solution keeps the very data it was computed for.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import Enum
from functools import cached_property
from math import fsum
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.sparse import csr_matrix, issparse

from solvers.errors import ProgramError

Array = NDArray[Any]


class Capability(Enum):
    """What a program can ask of a backend, or a caller of a session."""

    LINEAR = "linear objective"
    INTEGER = "integer variables"
    STRICTLY_CONVEX = "quadratic objective with a term for every variable, over rows and bounds"
    QUADRATIC = "separable convex quadratic objective"
    CONES = "second-order cones"
    INTEGER_QUADRATIC = "integer variables together with a quadratic objective or cones"
    HOT_START = "edits keep the basis"
    RAY = "Farkas rays of infeasible continuous programs"
    OBJECTIVE_LIMIT = "stops once the minimum is decided against a limit"
    INTERRUPT = "asks a callback whether to stop"


@dataclass(frozen=True, eq=False)
class Cone:
    """‖x[indices] - shift‖_2 <= limit. indices (k,) distinct, shift (k,), limit a finite number >= 0."""

    indices: Array
    shift: Array
    limit: float


@dataclass(frozen=True, eq=False)
class Transposed:
    """The matrix by columns, prepared once per matrix for the safe bounds: (n, m) sparse, its absolute values, entries per column (n,),
    and the smallest absolute value of an entry."""

    matrix: Any
    absolute: Any
    counts: Array
    smallest: float


@dataclass(frozen=True, eq=False, kw_only=True)
class Program:
    """See the module. n variables, m rows; cost (n,), matrix (m, n), row_lower, row_upper (m,), lower, upper (n,), quadratic (n,) >= 0.

    Arrays are copied as float64 and must not be NaN; bounds may be infinite, everything else is finite. `matrix` may be dense or
    sparse; it is held as csr_matrix (duplicates of a sparse matrix are added up in float64). Cones may be any objects with the
    fields of `Cone`.
    Raises ProgramError.
    """

    cost: Array
    matrix: Any = None
    row_lower: Array = field(default_factory=lambda: np.empty(0))
    row_upper: Array = field(default_factory=lambda: np.empty(0))
    lower: Array
    upper: Array
    integer: Array = None  # type: ignore[assignment]  # None: no integer variables; an array after construction
    quadratic: Array = None  # type: ignore[assignment]  # None: linear; an array after construction
    cones: Sequence[Any] = ()
    offset: float = 0.0

    def __post_init__(self) -> None:
        put = self.__dict__.__setitem__
        put("cost", finite("cost", self.cost))
        n = len(self.cost)
        if n == 0:
            raise ProgramError("cost", "no variables.", "Give a program at least one.")
        put("matrix", sparse_rows("matrix", np.empty((0, n)) if self.matrix is None else self.matrix, n))
        lower, upper = ordered("bounds of the variables", self.lower, self.upper, n)
        row_lower, row_upper = ordered("bounds of the rows", self.row_lower, self.row_upper, self.matrix.shape[0])
        put("lower", lower)
        put("upper", upper)
        put("row_lower", row_lower)
        put("row_upper", row_upper)
        integer = np.zeros(n, dtype=bool) if self.integer is None else np.array(self.integer, dtype=bool)
        if integer.shape != (n,):
            raise ProgramError("integer", f"the mask has shape {integer.shape}, the program {n} variables.")
        put("integer", integer)
        quadratic = np.zeros(n) if self.quadratic is None else finite("quadratic", self.quadratic, n)
        if np.any(quadratic > 1e300):
            raise ProgramError("quadratic", "entries above 1e300.", "Rescale the variables.")
        if np.any(quadratic < 0):
            raise ProgramError("quadratic", "negative entries: the objective is not convex.", "Give a convex objective.")
        put("quadratic", quadratic)
        put("cones", tuple(_cone(number, cone, n) for number, cone in enumerate(self.cones)))
        put("offset", float(finite("offset", [self.offset])[0]))

    @property
    def variables(self) -> int:
        """n."""
        return len(self.cost)

    @property
    def rows(self) -> int:
        """m."""
        return int(self.matrix.shape[0])

    @cached_property
    def has_quadratic(self) -> bool:
        """Whether the objective is not linear."""
        return bool(np.any(self.quadratic))

    @cached_property
    def needs(self) -> frozenset[Capability]:
        """What a backend must be able to do to solve this program."""
        if strictly_convex(self):
            return frozenset({Capability.STRICTLY_CONVEX})
        needs = {Capability.QUADRATIC if self.has_quadratic else Capability.LINEAR}
        if self.cones:
            needs.add(Capability.CONES)
        if self.integer.any():
            needs.add(Capability.INTEGER)
            if self.cones or self.has_quadratic:
                needs.add(Capability.INTEGER_QUADRATIC)
        return frozenset(needs)

    @cached_property
    def transposed(self) -> Transposed:
        """The matrix by columns; shared by programs that differ in bounds and costs only."""
        counts = np.bincount(self.matrix.indices, minlength=self.variables).astype(np.float64)
        absolute = csr_matrix((np.abs(self.matrix.data), self.matrix.indices, self.matrix.indptr), shape=self.matrix.shape)
        return Transposed(self.matrix.T, absolute.T, counts, float(absolute.data.min(initial=1.0)))

    def replaced(self, **changes: Any) -> Self:
        """The same program with some fields replaced. For sessions: `changes` are NOT validated again."""
        copy = object.__new__(type(self))
        values = dict(self.__dict__)
        for name in _DERIVED:
            if name != "transposed" or "matrix" in changes:
                values.pop(name, None)
        values.update(changes)
        copy.__dict__.update(values)
        return copy

    def relaxed(self) -> Self:
        """The continuous relaxation: the same program without integer variables."""
        return self.replaced(integer=np.zeros(self.variables, dtype=bool))


_MOST_DENSE = 1_000_000
_DERIVED = {"has_quadratic", "needs", "transposed", "implied_bounds"}


def strictly_convex(program: Program) -> bool:
    """Whether every variable has a quadratic term, with rows and bounds only, few enough for a dense matrix."""
    plain = not program.cones and not program.integer.any()
    return plain and bool(np.all(program.quadratic > 0)) and program.rows * program.variables <= _MOST_DENSE


def projection(
    center: ArrayLike, *, matrix: Any = None, row_lower: ArrayLike = (), row_upper: ArrayLike = (), lower: ArrayLike, upper: ArrayLike
) -> Program:
    """The program whose minimum is 1/2 ‖x - center‖_2^2 over the rows and bounds; center (n,).

    The constant 1/2 ‖center‖^2 is rounded down, so that a lower bound of the program's minimum is one of 1/2 ‖x - center‖^2.
    """
    point = finite("center", center)
    offset = max(0.0, np.nextafter(fsum(np.nextafter(0.5 * point * point, -np.inf).tolist()), -np.inf))
    return Program(
        cost=-point, matrix=matrix, row_lower=np.asarray(row_lower), row_upper=np.asarray(row_upper), lower=np.asarray(lower),
        upper=np.asarray(upper), quadratic=np.ones(len(point)), offset=float(offset),
    )  # fmt: skip


def numbers(place: str, values: ArrayLike, size: int | None = None) -> Array:
    """A fresh float64 vector without NaN, of the given size. Raises ProgramError."""
    try:
        array = np.array(values, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise ProgramError(place, f"not a vector of numbers ({error}).") from error
    if array.ndim != 1 or (size is not None and len(array) != size):
        expected = "one dimension" if size is None else f"shape ({size},)"
        raise ProgramError(place, f"shape {array.shape} where {expected} is needed.")
    if np.isnan(array).any():
        raise ProgramError(place, f"NaN at position {int(np.flatnonzero(np.isnan(array))[0])}.")
    return array


def finite(place: str, values: ArrayLike, size: int | None = None) -> Array:
    """A fresh finite float64 vector. Raises ProgramError."""
    array = numbers(place, values, size)
    if not np.isfinite(array).all():
        raise ProgramError(place, f"infinite at position {int(np.flatnonzero(~np.isfinite(array))[0])}.", "Only bounds may be infinite.")
    return array


def ordered(place: str, lower: ArrayLike, upper: ArrayLike, size: int, indices: Array | None = None) -> tuple[Array, Array]:
    """Fresh bounds lower <= upper, (size,) each, lower < +inf and upper > -inf, of the variables or rows `indices` (all if None).

    Raises ProgramError.
    """
    low, high = numbers(place, lower, size), numbers(place, upper, size)
    wrong = ~(low <= high) | (low == np.inf) | (high == -np.inf)
    if wrong.any():
        at = int(np.flatnonzero(wrong)[0])
        position = at if indices is None else int(indices[at])
        raise ProgramError(
            place, f"lower {float(low[at])!r} and upper {float(high[at])!r} at position {position} leave nothing between them."
        )
    return low, high


def sparse_rows(place: str, matrix: Any, columns: int) -> csr_matrix:
    """A fresh finite csr_matrix (m, columns) of float64 without duplicates or stored zeros. Raises ProgramError."""
    try:
        result = csr_matrix(matrix, dtype=np.float64, copy=True) if issparse(matrix) else csr_matrix(np.array(matrix, dtype=np.float64))
    except (TypeError, ValueError) as error:
        raise ProgramError(place, f"not a matrix of numbers ({error}).") from error
    if result.shape[1] != columns:
        raise ProgramError(place, f"shape {result.shape} where {columns} columns are needed.")
    result.sum_duplicates()
    result.eliminate_zeros()
    if not np.isfinite(result.data).all():
        raise ProgramError(place, "NaN or infinite entries.")
    return result


def _cone(number: int, cone: Any, variables: int) -> Cone:
    place = f"cone {number}"
    indices = np.array(cone.indices)
    if indices.ndim != 1 or not np.issubdtype(indices.dtype, np.integer):
        raise ProgramError(place, "indices are not a vector of integers.")
    if len(np.unique(indices)) != len(indices) or (len(indices) and not (indices.min() >= 0 and indices.max() < variables)):
        raise ProgramError(place, f"indices repeat or lie outside the {variables} variables.")
    limit = float(finite(place + ", limit", [cone.limit])[0])
    if limit < 0:
        raise ProgramError(place, f"limit {limit!r} is negative: no point satisfies the cone.")
    return Cone(indices.astype(np.int64), finite(place + ", shift", cone.shift, len(indices)), limit)

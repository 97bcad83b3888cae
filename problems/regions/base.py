"""What every input region offers to the engine.

A region is closed and convex. The engine cuts it with boxes (one per search node), so methods take optional `lower` and
`upper`, shape (B, n); the set meant is then the region intersected with that box. Floats that leave here as bounds are
rounded outward by their a-priori error: they hold for real numbers.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field
from fractions import Fraction

import numpy as np
import scipy.sparse as sparse

from problems.errors import RegionError

Array = np.ndarray


@dataclass(frozen=True, eq=False)
class Cone:
    """The second-order cone constraint ||v[indices] - shift||_2 <= limit."""

    indices: Array
    shift: Array
    limit: float


@dataclass(frozen=True, eq=False)
class Lift:
    """A region as variables and rows of a program, over v = (x, auxiliary) of length n + extra.

    lower <= v <= upper, row_lower <= matrix v <= row_upper, and the cones. For a ball, ||x - center||^power is the minimum
    over the auxiliary variables of cost.v + 1/2 sum_i quadratic_i v_i^2 + offset.
    """

    extra: int
    lower: Array
    upper: Array
    matrix: sparse.csr_matrix
    row_lower: Array
    row_upper: Array
    cones: tuple[Cone, ...] = ()
    cost: Array | None = None
    quadratic: Array | None = None
    offset: float = 0.0
    power: int = field(default=1)


@dataclass(frozen=True, eq=False)
class Recession:
    """The directions in which a region is unbounded: {v : v[fixed] = 0, matrix v >= 0}; the rows of matrix (m, n) are exact.

    `still` (n,) marks the coordinates in which the region has no width at all, `flat` that it has none in some other direction.
    """

    fixed: Array
    matrix: Array
    still: Array
    flat: bool = False

    @property
    def bounded(self) -> bool:
        """Whether all coordinates are fixed: then the region is bounded."""
        return bool(self.fixed.all())


class Region(ABC):
    """A closed convex set of inputs in R^dimension."""

    dimension: int

    @property
    def is_box(self) -> bool:
        """Whether the region is its bounding box, so that intervals bound linear functions as well as `support` does."""
        return False

    @abstractmethod
    def bounding_box(self) -> tuple[Array, Array]:
        """(lower (n,), upper (n,)): a box that contains the region; entries may be infinite."""

    @abstractmethod
    def support(self, c: Array, lower: Array | None = None, upper: Array | None = None) -> tuple[Array, Array]:
        """Largest value of c.x over the region and the node boxes.

        c (B, S, n), lower and upper (B, n) -> (value (B, S), maximiser (B, S, n)). The value is a proven upper bound, tight to
        rounding; the maximiser is a float point that attains it up to rounding.
        """

    @abstractmethod
    def contains(self, x: Sequence[float | Fraction] | Array) -> bool:
        """Whether the point x (n,) belongs to the region, decided in exact rational arithmetic."""

    @abstractmethod
    def clip(self, x: Array) -> Array:
        """A float point of the region near x (..., n), which passes `contains` wherever a float64 point can."""

    @abstractmethod
    def lift(self, *, with_norm: bool = True) -> Lift:
        """The region as variables and rows of a program; with_norm=False leaves out what only the cost (a ball's norm) needs."""

    def recession(self) -> Recession:
        """The recession cone, from the rows of the lift. Raises RegionError for an unbounded region whose lift needs further variables."""
        lower, upper = self.bounding_box()
        still = lower == upper
        if np.isfinite(lower).all() and np.isfinite(upper).all():
            return Recession(np.ones(self.dimension, dtype=bool), np.zeros((0, self.dimension)), still)
        lift = self.lift(with_norm=False)
        if lift.extra:
            raise RegionError("region", "is unbounded, and its directions are not known here.", "Give a box, a ball or a polytope.")
        fixed = np.isfinite(lift.lower) & np.isfinite(lift.upper)
        for cone in lift.cones:
            fixed[cone.indices] |= cone.limit < np.inf
        eye, rows = np.eye(self.dimension), lift.matrix.toarray()
        sides = (
            eye[np.isfinite(lift.lower) & ~fixed],
            -eye[np.isfinite(lift.upper) & ~fixed],
            rows[np.isfinite(lift.row_lower)],
            -rows[np.isfinite(lift.row_upper)],
        )
        return Recession(fixed, np.concatenate(sides), still, bool((lift.row_lower == lift.row_upper).any()))

"""Polytopes: a box and rows a.x + b >= 0. Their support is bounded through multipliers, any of which is sound."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from math import isfinite

import numpy as np
import scipy.sparse as sparse

from problems.errors import RegionError
from problems.regions.base import Array, Lift, Region
from problems.regions.box import Box, coefficients, points
from problems.rounding import UNIT, sum_up

# Steps of the search for multipliers, and passes of the projection onto the rows.
_STEPS, _PASSES = 60, 200


@dataclass(frozen=True, eq=False)
class Polytope(Region):
    """{x in box : matrix x + offsets >= 0}, matrix (S, n), offsets (S,) float64, taken as exact numbers; it may be unbounded.

    Raises RegionError for numbers that are not finite or shapes that do not fit. Whether it is empty is not checked.
    """

    box: Box
    matrix: Array
    offsets: Array
    dimension: int = field(init=False)

    def __post_init__(self) -> None:
        matrix, offsets = np.array(self.matrix, dtype=np.float64), np.array(self.offsets, dtype=np.float64)
        if matrix.ndim != 2 or matrix.shape[1] != self.box.dimension or offsets.shape != (len(matrix),):
            raise RegionError(
                "polytope", f"rows of shape {matrix.shape} with {offsets.shape} offsets in dimension {self.box.dimension}.",
                "Give one row of coefficients and one offset per constraint.",
            )  # fmt: skip
        if not np.isfinite(matrix).all() or not np.isfinite(offsets).all():
            raise RegionError("polytope", "holds numbers that are not finite.", "Put infinite bounds into the box.")
        for name, value in (("matrix", matrix), ("offsets", offsets), ("dimension", self.box.dimension)):
            object.__setattr__(self, name, value)

    def bounding_box(self) -> tuple[Array, Array]:
        return self.box.bounding_box()

    def support(self, c: Array, lower: Array | None = None, upper: Array | None = None) -> tuple[Array, Array]:
        """See Region.support, with a value that is proved but not always tight.

        max c.x over the rows <= y.offsets + max over the box of (c + matrix^T y).x for any y >= 0: the best y of some subgradient steps.
        The maximiser is that of the box at this y, and need not satisfy the rows.
        """
        c = coefficients(c, self.dimension)
        value, point = self.box.support(c, lower, upper)
        if not len(self.offsets):
            return value, point
        nodes, rows = value.shape
        y = np.zeros((nodes, rows, len(self.offsets)))
        norms = np.maximum((self.matrix**2).sum(axis=1), 1e-300)
        trial_value, trial_point = value, point
        with np.errstate(invalid="ignore", over="ignore"):
            size = np.linalg.norm(c, axis=2, keepdims=True)
            for step in range(1, _STEPS):
                slack = trial_point @ self.matrix.T + self.offsets
                y = np.maximum(y - size / np.sqrt(norms * step) * slack / np.maximum(np.abs(slack).max(axis=2, keepdims=True), 1e-300), 0.0)
                trial_value, trial_point = self._at(c, y, lower, upper)
                better = trial_value < value
                value = np.where(better, trial_value, value)
                point = np.where(better[:, :, None], trial_point, point)
        return value, point

    def _at(self, c: Array, y: Array, lower: Array | None, upper: Array | None) -> tuple[Array, Array]:
        """The proven bound at multipliers y (B, S', S); errors of c + matrix^T y are charged to the sides of the box."""
        slope = c + y @ self.matrix
        size = np.abs(c) + y @ np.abs(self.matrix)
        value, point = self.box.support(slope, lower, upper)
        low = self.box.lower if lower is None else np.maximum(self.box.lower, lower)
        high = self.box.upper if upper is None else np.minimum(self.box.upper, upper)
        reach = np.maximum(np.abs(low), np.abs(high)).reshape(-1, 1, self.dimension)
        operations = (len(self.offsets) + self.dimension + 8) * 2.0 * UNIT
        error = (size * reach).sum(axis=2) + y @ np.abs(self.offsets)
        total = sum_up(sum_up(value, y @ self.offsets), operations * error)
        return np.where(np.isnan(total), np.inf, total), point

    def contains(self, x: Sequence[float | Fraction] | Array) -> bool:
        if not self.box.contains(x) or not all(isfinite(v) for v in x):
            return False
        values = [Fraction(v) for v in (x.tolist() if isinstance(x, np.ndarray) else x)]
        return all(
            sum((Fraction(a) * v for a, v in zip(row, values, strict=True) if a), Fraction(b)) >= 0
            for row, b in zip(self.matrix.tolist(), self.offsets.tolist(), strict=True)
        )

    def clip(self, x: Array) -> Array:
        """Projections onto the rows and the box in turn: a point near x, inside up to rounding where the interior is not tiny."""
        x = self.box.clip(points(x, self.dimension))
        norms = np.maximum((self.matrix**2).sum(axis=1), 1e-300)
        for _ in range(_PASSES):
            moved = x
            for row, b, norm in zip(self.matrix, self.offsets, norms, strict=True):
                moved = moved + np.maximum(-(moved @ row + b), 0.0)[..., None] * (1.0 + 1e-12) / norm * row
            moved = self.box.clip(moved)
            if np.array_equal(moved, x):
                break
            x = moved
        return x

    def lift(self, *, with_norm: bool = True) -> Lift:
        """The rows themselves, without auxiliary variables."""
        return Lift(0, self.box.lower, self.box.upper, sparse.csr_matrix(self.matrix), -self.offsets, np.full(len(self.offsets), np.inf))

"""Balls in any metric: what a question about distances from a center needs of a region."""

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field
from fractions import Fraction

import numpy as np
import scipy.sparse as sparse

from problems.regions.base import Array, Region
from problems.regions.box import Box


@dataclass(frozen=True, eq=False)
class Moves:
    """Displacements d = x - center as a program over v (k,): lower <= v <= upper, row_lower <= rows v <= row_upper, d = matrix v.

    ||d||^power / power is the least cost.v + 1/2 sum_i quadratic_i v_i^2 (or below it). matrix (n, k): None where d is the first n entries
    of v; rows (R, k): None where there are none. All their entries are exact.
    """

    lower: Array
    upper: Array
    cost: Array
    quadratic: Array | None = None
    matrix: sparse.csr_matrix | None = None
    rows: sparse.csr_matrix | None = None
    row_lower: Array = field(default_factory=lambda: np.zeros(0))
    row_upper: Array = field(default_factory=lambda: np.zeros(0))

    def displacement(self, v: Array, n: int) -> Array:
        """d (n,) of v (k,)."""
        return v[:n] if self.matrix is None else self.matrix @ v


class MetricBall(Region):
    """{x in limits : distance(center, x) <= radius}; radius may be inf."""

    center: Array
    radius: float
    power: int = 1  # 2 where only the square of the distance is rational

    @property
    @abstractmethod
    def limits(self) -> Box:
        """A box in which all points of balls around the center lie, whatever their radius."""

    @abstractmethod
    def with_radius(self, radius: float) -> "MetricBall":
        """The same ball with another radius."""

    @abstractmethod
    def closest(self, a: Array, offset: Array, lower: Array | None = None, upper: Array | None = None) -> tuple[Array, Array]:
        """(proven lower bounds (B, S) on the distance from the center to {a.x + offset >= 0}, whatever the radius, points (B, S, n))."""

    @abstractmethod
    def norm_upper(self, x: Sequence[float | Fraction] | Array) -> float:
        """The distance of x (n,) from the center, rounded up from an exact number."""

    @abstractmethod
    def outward(self, x: Array, steps: Array) -> Array:
        """Float points (B K, n) of the space that the ball lies in, near the points x (B, n) moved by the relative steps (K,) away
        from the center."""

    @abstractmethod
    def moves(self, low: Array, high: Array, unit: float) -> Moves:
        """Displacements of points of the ball, divided by `unit` (a power of two), low <= d <= high (n,) with low <= 0 <= high."""


def shifted(center: Array, x: Array, steps: Array) -> Array:
    """(B K, n): x (B, n) moved away from the center (n,) by each of the relative steps (K,)."""
    tried = center + (x[:, None, :] - center) * (1.0 + steps)[None, :, None]
    return np.asarray(tried).reshape(-1, len(center))

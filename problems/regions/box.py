"""Boxes: a lower and an upper bound for every coordinate, infinite sides and sides of width zero allowed."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from functools import cached_property
from math import isfinite

import numpy as np
import scipy.sparse as sparse

from problems.errors import RegionError
from problems.regions.base import Array, Lift, Region
from problems.rounding import round_down, round_up

Exact = tuple[Fraction | float, ...]


@dataclass(frozen=True, eq=False)
class Box(Region):
    """{x : lower <= x <= upper}, lower and upper (n,) float64.

    `exact` holds the sides as written where float64 cannot: (lower, upper) of n fractions or infinite floats each. `lower` is then
    that rounded down and `upper` that rounded up; `contains` and `clip` go by the exact sides, everything that bounds by the floats.
    Raises RegionError for NaN, lower > upper, shapes that differ, or floats that cut the exact box.
    """

    lower: Array
    upper: Array
    exact: tuple[Exact, Exact] | None = None
    dimension: int = field(init=False)

    def __post_init__(self) -> None:
        lower, upper = vector(self.lower, "the box's lower bounds"), vector(self.upper, "the box's upper bounds")
        if len(lower) != len(upper):
            raise RegionError("box", f"{len(lower)} lower but {len(upper)} upper bounds.", "Give one of each for every input.")
        object.__setattr__(self, "lower", lower)
        object.__setattr__(self, "upper", upper)
        object.__setattr__(self, "dimension", len(lower))
        for name, side, forbidden in (("lower", lower, np.inf), ("upper", upper, -np.inf)):
            _refuse(np.isnan(side), f"the {name} bound is NaN.")
            _refuse(side == forbidden, f"the {name} bound is {forbidden}.")
        _refuse(lower > upper, "the lower bound is larger than the upper bound: the region is empty.")
        if self.exact is not None:
            object.__setattr__(self, "exact", (tuple(self.exact[0]), tuple(self.exact[1])))
            self._check_exact(*self.exact)

    def _check_exact(self, lower: Sequence[Fraction | float], upper: Sequence[Fraction | float]) -> None:
        if not len(lower) == len(upper) == self.dimension:
            raise RegionError("box", "the exact bounds are not one per input.", "Give as many as there are float bounds.")
        for i, (low, high) in enumerate(zip(lower, upper, strict=True)):
            if not low <= high:
                raise RegionError(f"input {i} of the box", "the lower bound is larger than the upper bound: the region is empty.")
            if not (self.lower[i] <= low and high <= self.upper[i]):
                raise RegionError(
                    f"input {i} of the box", "the float bounds cut the exact ones.", "Use Box.from_exact, which rounds outward."
                )

    @classmethod
    def from_exact(cls, lower: Sequence[Fraction | float], upper: Sequence[Fraction | float]) -> "Box":
        """The box with these sides; its float bounds are the sides rounded outward."""
        floats = np.array([round_down(v) for v in lower]), np.array([round_up(v) for v in upper])
        return cls(*floats, exact=(tuple(lower), tuple(upper)))

    @classmethod
    def whole_space(cls, dimension: int) -> "Box":
        """R^dimension."""
        return cls(np.full(dimension, -np.inf), np.full(dimension, np.inf))

    @property
    def is_box(self) -> bool:
        return True

    def bounding_box(self) -> tuple[Array, Array]:
        return self.lower, self.upper

    def support(self, c: Array, lower: Array | None = None, upper: Array | None = None) -> tuple[Array, Array]:
        """See Region.support. inf where c.x is unbounded (the maximiser is then some finite point of the set), -inf for an empty set."""
        from problems.regions.duality import box_support  # compiled: loaded when first used

        c = coefficients(c, self.dimension)
        low, high = intersect(self.lower, self.upper, *(one_row(side) for side in (lower, upper)))
        value, point = outputs(c, low)
        box_support(c, low, high, _neutral(low, high), value, point)
        mark(value, np.any(low > high, axis=1), -np.inf)
        return value, point

    def contains(self, x: Sequence[float | Fraction] | Array) -> bool:
        values = point_values(x, self.dimension)
        if isinstance(values, np.ndarray):  # for a float, being within the inner floats is the same as being within the exact sides
            inner_lower, inner_upper = self.inner
            return bool(np.all(np.isfinite(values)) and np.all(inner_lower <= values) and np.all(values <= inner_upper))
        lower, upper = self.exact if self.exact is not None else (self.lower.tolist(), self.upper.tolist())
        return all(isfinite(v) and low <= v <= high for v, low, high in zip(values, lower, upper, strict=True))

    @cached_property
    def inner(self) -> tuple[Array, Array]:
        """(smallest, largest) float64 of every side; crossed where a side holds no float64."""
        if self.exact is None:
            return self.lower, self.upper
        lower = np.array([round_up(v) if isfinite(v) else v for v in self.exact[0]])
        upper = np.array([round_down(v) if isfinite(v) else v for v in self.exact[1]])
        return lower, upper

    def clip(self, x: Array) -> Array:
        """The nearest point (..., n). A side that holds no float64 gets the float just below it, and `contains` is then False."""
        return np.minimum(np.maximum(points(x, self.dimension), self.inner[0]), self.inner[1])

    def lift(self, *, with_norm: bool = True) -> Lift:
        """Bounds of x alone; `with_norm` changes nothing, a box has no center."""
        rows = np.zeros(0)
        return Lift(0, self.lower, self.upper, sparse.csr_matrix((0, self.dimension)), rows, rows)


def vector(values: Array | Sequence[float], place: str) -> Array:
    """A read-only float64 copy (n,), or RegionError."""
    try:
        result = np.array(values, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise RegionError(place, "these are not numbers.", "Give one float for every input.") from error
    if result.ndim != 1:
        raise RegionError(place, f"the shape is {result.shape}.", "Give one number for every input, flattened.")
    result.setflags(write=False)
    return result


def coefficients(c: Array, dimension: int) -> Array:
    """c as a contiguous float64 array (B, S, dimension), or RegionError."""
    c = np.require(c, np.float64, ["C", "W"])  # the compiled kernels know writable contiguous arrays only
    if c.ndim != 3 or c.shape[2] != dimension:
        raise RegionError("linear functions", f"the shape is {c.shape}.", f"It has to be (nodes, rows, {dimension}).")
    return c


def intersect(low: Array, high: Array, lower: Array | None, upper: Array | None) -> tuple[Array, Array]:
    """The box [low, high] (n,) cut by the node boxes: (B, n) each, or (1, n) without any. Raises RegionError for other shapes."""
    for bound in (lower, upper):
        if bound is not None and (np.ndim(bound) != 2 or np.shape(bound)[1] != len(low)):
            raise RegionError("node boxes", f"the shape is {np.shape(bound)}.", f"It has to be (nodes, {len(low)}).")
    low = low[None] if lower is None else np.maximum(low, np.asarray(lower, dtype=np.float64))
    high = high[None] if upper is None else np.minimum(high, np.asarray(upper, dtype=np.float64))
    low, high = np.broadcast_arrays(low, high)
    return np.array(low, order="C"), np.array(high, order="C")


def one_row(side: Array | None) -> Array | None:
    """A single row where all rows are one and the same array, repeated by broadcasting."""
    return side[:1] if side is not None and np.ndim(side) == 2 and side.strides[0] == 0 else side


def outputs(c: Array, low: Array) -> tuple[Array, Array]:
    """Empty arrays for (value (B, S), point (B, S, n)), with B from c or the node boxes: one of them may be 1 and serves all.

    Raises RegionError.
    """
    nodes = max(len(c), len(low)) if min(len(c), len(low)) else 0
    if len(c) not in (1, nodes) or len(low) not in (1, nodes):
        raise RegionError("node boxes", f"{len(low)} boxes for {len(c)} sets of linear functions.", "Give one box for each.")
    return np.empty((nodes, c.shape[1])), np.empty((nodes, *c.shape[1:]))


def mark(value: Array, nodes: Array | np.bool_, result: float) -> None:
    """Sets the rows of value (B, S) where nodes (B or 1,) is true."""
    value[np.broadcast_to(nodes, len(value))] = result


def point_values(x: Sequence[float | Fraction] | Array, dimension: int) -> Array | list[float | Fraction]:
    """x as a float64 array where that is exact, else as a list; RegionError for another shape."""
    floats = (isinstance(x, np.ndarray) and x.dtype.kind in "fb") or all(isinstance(v, float) for v in x)
    values: Array | list[float | Fraction] = np.asarray(x, dtype=np.float64) if floats else list(x)
    if len(values) != dimension or (isinstance(values, np.ndarray) and values.ndim != 1):
        raise RegionError("point", f"it has {len(values)} coordinates.", f"The region lives in dimension {dimension}.")
    return values


def points(x: Array, dimension: int) -> Array:
    """x as float64 (..., dimension), or RegionError."""
    x = np.asarray(x, dtype=np.float64)
    if x.ndim == 0 or x.shape[-1] != dimension:
        raise RegionError("points", f"the shape is {x.shape}.", f"The last axis has to have length {dimension}.")
    return x


def _neutral(low: Array, high: Array) -> Array:
    """A finite point of each box: the middle, or the point closest to 0 where a side is infinite."""
    with np.errstate(invalid="ignore"):
        middle = 0.5 * low + 0.5 * high
    nearest = np.minimum(np.maximum(0.0, low), high)
    return np.where(np.isfinite(middle), np.minimum(np.maximum(middle, low), high), nearest)


def _refuse(wrong: Array, problem: str) -> None:
    if wrong.any():
        raise RegionError(f"input {int(np.argmax(wrong))} of the box", problem, "Check the bounds of the region.")

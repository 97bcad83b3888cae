"""Norm balls in l1, l2 and linf, cut by a box: the region used everywhere. Support and distance are exact by `duality`."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from fractions import Fraction
from functools import cached_property
from math import inf, isfinite
from numbers import Real

import numpy as np
import scipy.sparse as sparse

from problems.errors import RegionError
from problems.exact import integers
from problems.regions.base import Array, Cone, Lift, Recession
from problems.regions.box import Box, coefficients, intersect, mark, one_row, outputs, point_values, points, vector
from problems.regions.metric import MetricBall, Moves, shifted
from problems.rounding import UNIT, root_down, root_up, round_down, round_up, sum_down, sum_up

_NORMS: dict[object, float] = {1: 1, 2: 2, inf: inf, "1": 1, "2": 2, "inf": inf, "l1": 1, "l2": 2, "linf": inf}


def exponent(norm: object, place: str = "norm") -> float:
    """The exponent 1, 2 or inf of a norm, or of an order named by `place`, given as a number or by its name. Raises RegionError."""
    known = _NORMS.get(norm) if isinstance(norm, str | Real) else None
    if known is None:
        raise RegionError(place, f"{norm!r} is not supported.", "Use 1, 2 or inf.")
    return known


@dataclass(frozen=True, eq=False)
class Ball(MetricBall):
    """{x in box : ||x - center||_norm <= radius}: center (n,) float64 in the box, radius >= 0 (may be inf), norm 1, 2 or inf.

    Without a box it is the ball in R^n. Center and radius are taken as exact numbers. Raises RegionError for NaN, a negative
    radius, another norm, another dimension than the box, or a center outside it.
    """

    center: Array
    radius: float
    norm: float
    box: Box | None = None
    dimension: int = field(init=False)
    _limits: Box = field(init=False)

    def __post_init__(self) -> None:
        center = vector(self.center, "the ball's center")
        if not np.all(np.isfinite(center)):
            raise RegionError(
                "the ball's center", f"coordinate {int(np.argmin(np.isfinite(center)))} is not finite.", "Give finite numbers."
            )
        norm = exponent(self.norm, "the ball's norm")
        radius = float(self.radius)
        if not radius >= 0.0:
            raise RegionError("the ball's radius", f"{radius} is not a radius.", "Give a number >= 0.")
        limits = Box.whole_space(len(center)) if self.box is None else self.box
        if limits.dimension != len(center):
            raise RegionError("ball", f"the center has {len(center)} coordinates, the box {limits.dimension}.", "They have to agree.")
        if not limits.contains(center):
            raise RegionError(
                "the ball's center",
                f"coordinate {_outside(limits, center)} lies outside the box.",
                "Widen the box, or clip the data to it first.",
            )
        for name, value in (("center", center), ("norm", norm), ("radius", radius), ("dimension", len(center)), ("_limits", limits)):
            object.__setattr__(self, name, value)

    @property
    def limits(self) -> Box:
        """The box, or the whole space."""
        return self._limits

    @property
    def power(self) -> int:  # type: ignore[override]
        """2 for the l2 norm, whose square is rational; else 1."""
        return 2 if self.norm == 2 else 1

    @property
    def dual(self) -> float:
        """The exponent s of the dual norm, 1/norm + 1/s = 1."""
        return {1: inf, 2: 2, inf: 1}[self.norm]

    def with_radius(self, radius: float) -> "Ball":
        """The same ball with another radius."""
        return replace(self, radius=radius)

    @property
    def is_box(self) -> bool:
        return self.norm == inf or self.radius == inf

    def bounding_box(self) -> tuple[Array, Array]:
        return self._bounds

    @cached_property
    def _bounds(self) -> tuple[Array, Array]:
        radius = np.full(self.dimension, self.radius)
        lower = np.maximum(self.limits.lower, sum_down(self.center, -radius))
        return lower, np.minimum(self.limits.upper, sum_up(self.center, radius))

    @cached_property
    def _cut(self) -> Box:
        return Box(*self._bounds)

    def support(self, c: Array, lower: Array | None = None, upper: Array | None = None) -> tuple[Array, Array]:
        """See Region.support. Where a node box misses the ball: -inf if proved (and a point without meaning), else any sound value."""
        from problems.regions import euclidean, taxicab  # compiled: loaded when first used

        if self.norm == inf or self.radius == inf:
            return self._cut.support(c, lower, upper)
        c = coefficients(c, self.dimension)
        low, high = intersect(*self._bounds, lower, upper)
        value, point = outputs(c, low)
        kernel = euclidean.support if self.norm == 2 else taxicab.support
        kernel(c, self.center, self.radius, low, high, low - self.center, high - self.center, value, point)
        mark(value, np.any(low > high, axis=1) | (self._nearest(low, high) > self.radius), -inf)
        return value, point

    def distance(self, a: Array, offset: Array, lower: Array | None = None, upper: Array | None = None) -> Array:
        """Proven lower bounds on min {||x - center|| : x in the box and the node box, a.x + offset >= 0}, whatever the radius.

        a (B, S, n), offset (B, S), lower and upper (B, n) -> (B, S); inf where the set is proved empty. Tight to rounding.
        """
        return self.closest(a, offset, lower, upper)[0]

    def closest(self, a: Array, offset: Array, lower: Array | None = None, upper: Array | None = None) -> tuple[Array, Array]:
        """(`distance` (B, S), a float point that attains it up to rounding (B, S, n)).

        Where the half-space misses the box the point is the one of the box that comes closest to it, or near it.
        """
        from problems.regions import chebyshev, euclidean, taxicab

        a = coefficients(a, self.dimension)
        low, high = intersect(self.limits.lower, self.limits.upper, lower, upper)
        value, point = outputs(a, low)
        shifts = np.array(np.broadcast_to(np.asarray(offset, dtype=np.float64), a.shape[:2]), order="C")
        kernel = {1: taxicab, 2: euclidean, inf: chebyshev}[self.norm].distance
        kernel(a, shifts, self.center, low, high, low - self.center, high - self.center, self._nearest(low, high), value, point)
        mark(value, np.any(low > high, axis=1), inf)
        return value, point

    def penalised(
        self, c: Array, rate: float, power: int = 1, lower: Array | None = None, upper: Array | None = None
    ) -> tuple[Array, Array]:
        """Largest value of c.x - rate ||x - center||^power over the box and the node boxes, whatever the radius.

        c (B, S, n), lower and upper (B, n), rate >= 0 finite, power 1 or 2 -> (value (B, S): proven upper bounds, tight to rounding;
        maximiser (B, S, n): float points that attain them up to rounding). inf where the value is unbounded, -inf for an empty box.
        """
        from problems.regions import penalised  # compiled: loaded when first used

        if not 0.0 <= rate < inf or power not in (1, 2):
            raise RegionError("price of distance", f"rate {rate}, power {power}.", "Give a finite rate >= 0 and the power 1 or 2.")
        if rate == 0.0:
            return self.limits.support(c, lower, upper)
        c = coefficients(c, self.dimension)
        low, high = intersect(self.limits.lower, self.limits.upper, one_row(lower), one_row(upper))
        value, point = outputs(c, low)
        norm = 0 if self.norm == inf else int(self.norm)
        penalised.maximise(c, self.center, float(rate), power, norm, low, high, low - self.center, high - self.center, value, point)
        mark(value, np.any(low > high, axis=1), -inf)
        return value, point

    def _nearest(self, low: Array, high: Array) -> Array:
        """Proven lower bounds (B,) on the distance from the center to the boxes [low, high] (B, n).

        Every gap has relative error u, every norm of gaps (n + 2) u; gaps are scaled by the largest, so that no square underflows.
        """
        gaps = np.maximum(np.maximum(low - self.center, self.center - high), 0.0)
        largest = gaps.max(axis=1, initial=0.0)
        if self.norm == inf or not largest.any():
            size = largest
        else:
            shares = gaps / np.where(largest > 0.0, largest, 1.0)[:, None]
            size = largest * (shares.sum(axis=1) if self.norm == 1 else np.sqrt((shares * shares).sum(axis=1)))
        return np.maximum(np.nextafter(size * (1.0 - (self.dimension + 16) * 1.001 * UNIT), -inf), 0.0)

    def distance_exact(self, x: Sequence[float | Fraction] | Array) -> Fraction:
        """||x - center||^power as an exact number, x (n,) of finite floats or fractions."""
        values = point_values(x, self.dimension)
        numerators, denominator = integers([*(values.tolist() if isinstance(values, np.ndarray) else values), *self.center.tolist()])
        gaps = [abs(a - b) for a, b in zip(numerators[: self.dimension], numerators[self.dimension :], strict=True)]
        if self.norm == 2:
            return Fraction(sum(gap * gap for gap in gaps), denominator**2)
        return Fraction(sum(gaps) if self.norm == 1 else max(gaps, default=0), denominator)

    def norm_upper(self, x: Sequence[float | Fraction] | Array) -> float:
        """||x - center|| in the ball's norm, x (n,) finite, rounded up from its exact value."""
        return root_up(self.distance_exact(x)) if self.power == 2 else round_up(self.distance_exact(x))

    def norm_lower(self, x: Sequence[float | Fraction] | Array) -> float:
        """||x - center|| in the ball's norm, x (n,) finite, rounded down from its exact value."""
        return root_down(self.distance_exact(x)) if self.power == 2 else round_down(self.distance_exact(x))

    def contains(self, x: Sequence[float | Fraction] | Array) -> bool:
        values = point_values(x, self.dimension)
        if not self.limits.contains(values) or not all(isfinite(v) for v in values):
            return False
        return self.radius == inf or self.distance_exact(values) <= Fraction(self.radius) ** self.power

    def clip(self, x: Array) -> Array:
        """The Euclidean projection of x (..., n), moved toward the center by roundings where needed, so that `contains` holds."""
        from problems.regions.projection import project

        return project(self, points(x, self.dimension))

    def outward(self, x: Array, steps: Array) -> Array:
        """See MetricBall.outward; within the box."""
        lower, upper = self.limits.inner
        return np.clip(shifted(self.center, x, steps), lower, upper)

    def moves(self, low: Array, high: Array, unit: float) -> Moves:
        """See MetricBall.moves. l2: d itself, squared; linf: (d, t) with -t <= d <= t; l1: d = p - q over (p, q) >= 0."""
        n, eye = self.dimension, sparse.identity(self.dimension, format="csr")
        if self.norm == 2:
            return Moves(low, high, np.zeros(n), quadratic=np.ones(n))
        if self.norm == 1:
            upper = np.concatenate([np.maximum(high, 0.0), np.maximum(-low, 0.0)])
            return Moves(np.zeros(2 * n), upper, np.ones(2 * n), matrix=sparse.hstack([eye, -eye]).tocsr())
        ones, unbounded = np.ones((n, 1)), np.full(n, inf)
        return Moves(
            np.append(low, 0.0),
            np.append(high, max(float(np.maximum(-low, high).max(initial=0.0)), 0.0)),
            np.append(np.zeros(n), 1.0),
            rows=sparse.csr_matrix(sparse.vstack([sparse.hstack([eye, -ones]), sparse.hstack([eye, ones])])),
            row_lower=np.concatenate([-unbounded, np.zeros(n)]),
            row_upper=np.concatenate([np.zeros(n), unbounded]),
        )

    def recession(self) -> Recession:
        return self.limits.recession() if self.radius == inf else super().recession()

    def lift(self, *, with_norm: bool = True) -> Lift:
        """The ball over v = (x, auxiliary variables); all data are exact, only the bounds of variables are rounded (outward).

        l1: x - p + q = center, p, q >= 0, sum p + q <= radius. l2: x - d = center and the cone ||d|| <= radius, cost d.d.
        linf: bounds of x and, with the norm, t >= |x_i - center_i|. with_norm=False leaves out what only the cost needs.
        """
        lower, upper = self._bounds
        n, eye = self.dimension, sparse.identity(self.dimension, format="csr")
        if self.norm == 1:
            matrix = sparse.vstack([sparse.hstack([eye, -eye, eye]), sparse.hstack([sparse.csr_matrix((1, n)), np.ones((1, 2 * n))])])
            cost = np.concatenate([np.zeros(n), np.ones(2 * n)])
            return Lift(
                2 * n,
                np.concatenate([lower, np.zeros(2 * n)]),
                np.concatenate([upper, np.maximum(sum_up(upper, -self.center), 0.0), np.maximum(sum_up(self.center, -lower), 0.0)]),
                matrix.tocsr(),
                np.append(self.center, -inf),
                np.append(self.center, self.radius),
                cost=cost,
                quadratic=np.zeros(3 * n),
            )
        empty = np.zeros(0)
        cones: tuple[Cone, ...] = ()
        if self.norm == 2 and not with_norm:
            cones = (Cone(np.arange(n), self.center, self.radius),) if self.radius < inf else ()
            return Lift(0, lower, upper, sparse.csr_matrix((0, n)), empty, empty, cones)
        if self.norm == 2:
            cones = (Cone(np.arange(n, 2 * n), np.zeros(n), self.radius),) if self.radius < inf else ()
            return Lift(
                n,
                np.concatenate([lower, sum_down(lower, -self.center)]),
                np.concatenate([upper, sum_up(upper, -self.center)]),
                sparse.hstack([eye, -eye]).tocsr(),
                self.center,
                self.center,
                cones,
                cost=np.zeros(2 * n),
                quadratic=np.concatenate([np.zeros(n), np.full(n, 2.0)]),
                power=2,
            )
        if not with_norm:
            return Lift(0, lower, upper, sparse.csr_matrix((0, n)), empty, empty)
        column = np.ones((n, 1))
        return Lift(
            1,
            np.append(lower, 0.0),
            np.append(upper, self.radius),
            sparse.vstack([sparse.hstack([eye, -column]), sparse.hstack([eye, column])]).tocsr(),
            np.concatenate([np.full(n, -inf), self.center]),
            np.concatenate([self.center, np.full(n, inf)]),
            cost=np.append(np.zeros(n), 1.0),
            quadratic=np.zeros(n + 1),
        )


def _outside(box: Box, x: Array) -> int:
    lower, upper = box.inner
    return int(np.argmax((x < lower) | (x > upper)))

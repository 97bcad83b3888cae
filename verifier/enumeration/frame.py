"""A region as the enumeration sees it: variables in a finite box, some rows, and how inputs follow from the variables.

The cells of X are those of {v : lower <= v <= upper, rows v + offsets >= 0} under x = matrix v + shift. Sides of width zero are taken
out (cells are full relative to X). All of R^n, and every unbounded X, is homogenised: v = (y, t) with -1 <= y <= 1, 0 <= t <= 1 and
x = y / t, so that rows have no constants. A cell of X is full iff its cone is, and the cone is cut by the box around its apex only.
"""

from dataclasses import dataclass, replace
from fractions import Fraction
from math import inf

import numpy as np

from problems.errors import RegionError
from problems.maps import Array
from problems.regions.ball import Ball
from problems.regions.base import Cone, Region
from problems.regions.box import Box
from problems.regions.polytope import Polytope
from problems.rounding import round_down, round_up

Exact = Fraction


@dataclass(frozen=True, eq=False)
class Frame:
    """See the module. lower, upper (N,), N >= 1: the exact sides or floats outside them; exact_lower, exact_upper the exact ones.

    rows (S, N), offsets (S,): exact as they stand. matrix (n, N) of 0, 1, -1; shift (n,), off the exact one by at most shift_error (n,).
    cone: the last variable is t. ball: x must lie in this l2 ball besides.
    """

    region: Region
    lower: Array
    upper: Array
    exact_lower: tuple[Exact, ...]
    exact_upper: tuple[Exact, ...]
    rows: Array
    offsets: Array
    matrix: Array
    shift: Array
    exact_shift: tuple[Exact, ...]
    cone: bool = False
    ball: Ball | None = None

    @property
    def variables(self) -> int:
        return len(self.lower)

    @property
    def shift_error(self) -> Array:
        return np.array([round_up(abs(Fraction(float(f)) - e)) for f, e in zip(self.shift, self.exact_shift, strict=True)])

    def inputs(self, v: Array) -> Array:
        """The inputs x (..., n) of variables v (..., N), in float64."""
        x = v @ self.matrix.T
        return x / v[..., -1:] if self.cone else x + self.shift

    def distance_inside(self, x: Array) -> Array:
        """How far the region reaches around its points x (m, n), in float64 and relative to sides of width zero: (m,)."""
        free = self.matrix.any(axis=1)

        def sides(lower: Array, upper: Array) -> Array:
            return np.minimum((x - lower)[:, free].min(axis=1, initial=inf), (upper - x)[:, free].min(axis=1, initial=inf))

        ball = self.region
        if isinstance(ball, Polytope):
            norms = np.linalg.norm(ball.matrix[:, free], axis=1)
            rows = (x @ ball.matrix.T + ball.offsets)[:, norms > 0.0] / norms[norms > 0.0]
            return np.minimum(sides(*ball.bounding_box()), rows.min(axis=1, initial=inf))
        if not isinstance(ball, Ball) or ball.norm == inf or ball.radius == inf:
            return sides(*ball.bounding_box())
        gap = ball.radius - np.linalg.norm(x - ball.center, ball.norm, axis=1)
        return np.minimum(sides(ball.limits.lower, ball.limits.upper), gap / np.sqrt(free.sum()) if ball.norm == 1 else gap)

    def gap(self, v: Array) -> float:
        """How far the l2 ball reaches around v (N,), less all rounding errors; inf without one."""
        if self.ball is None:
            return inf
        distance = float(np.linalg.norm(v @ self.matrix.T + self.shift - self.ball.center))
        return self.ball.radius - distance * (1.0 + 1e-12) - 1e-14 * float(np.abs(self.ball.center).max(initial=0.0))

    def cones(self) -> tuple[Cone, ...]:
        """The l2 ball as a cone of a program in the variables; sides of width zero, at the centre, take nothing of its radius."""
        if self.ball is None:
            return ()
        free = self.matrix.any(axis=1)
        return (Cone(np.arange(self.variables), self.ball.center[free], self.ball.radius),) if free.any() else ()

    def start(self) -> Array:
        """A point (N,) strictly inside the box and the rows, in float64."""
        middle = 0.5 * self.lower + 0.5 * self.upper
        if self.ball is not None and self.matrix.any():
            centre = self.ball.center[self.matrix.any(axis=1)]
            # The centre may lie on sides of the box: a little towards the middle, and still deep inside the ball.
            share = 0.1 * self.ball.radius / max(0.1 * self.ball.radius, float(np.linalg.norm(middle - centre)))
            return centre + share * (middle - centre)
        return middle if not len(self.offsets) else _inside(self, middle)


def _inside(frame: Frame, middle: Array) -> Array:
    """A point that maximises the smallest slack of the rows, then is moved a little to the middle of the box."""
    from solvers import Program, open_session

    norms = np.linalg.norm(frame.rows, axis=1)
    width = float((frame.upper - frame.lower).max())
    program = Program(
        cost=np.append(np.zeros(frame.variables), -1.0),
        matrix=np.vstack([
            np.column_stack([frame.rows, -norms]),
            np.column_stack([np.eye(frame.variables), -np.ones(frame.variables)]),
            np.column_stack([-np.eye(frame.variables), -np.ones(frame.variables)]),
        ]),
        row_lower=np.concatenate([-frame.offsets, frame.lower, -frame.upper]),
        row_upper=np.full(len(norms) + 2 * frame.variables, inf),
        lower=np.append(frame.lower, -width),
        upper=np.append(frame.upper, width),
    )  # fmt: skip
    with open_session(program) as session:
        point = session.solve().x
    if point is None or not point[-1] > 0.0:
        raise RegionError("region", "has no interior.", "Give a region that is wider than one of its inputs' rounding.")
    return point[:-1]


def frame_of(region: Region) -> Frame:
    """The frame of a region. Raises RegionError for a kind of region that has none."""
    if isinstance(region, Box):
        return _box(region, region, None)
    if isinstance(region, Ball):
        cut = _cut(region)
        if region.norm == inf or region.radius == 0.0 or region.radius == inf:
            return _box(cut, region, None)
        if region.norm == 2:
            return _box(cut, region, region)
        return _taxicab(region)
    if isinstance(region, Polytope):
        return _polytope(region)
    raise RegionError("region", f"cells of a {type(region).__name__} cannot be enumerated.", "Give a box or a norm ball.")


def _cut(ball: Ball) -> Box:
    """The ball's bounding box with its exact sides."""
    lower, upper = _exact_sides(ball.limits)
    center, radius = [Fraction(c) for c in ball.center.tolist()], ball.radius
    if radius == inf:
        return ball.limits
    return Box.from_exact(
        [max(low, c - Fraction(radius)) for low, c in zip(lower, center, strict=True)],
        [min(high, c + Fraction(radius)) for high, c in zip(upper, center, strict=True)],
    )


def _exact_sides(box: Box) -> tuple[list[Fraction | float], list[Fraction | float]]:
    lower, upper = box.exact if box.exact is not None else (box.lower.tolist(), box.upper.tolist())

    def exact(side: Fraction | float) -> Fraction | float:
        return side if side in (inf, -inf) else Fraction(side)

    return [exact(v) for v in lower], [exact(v) for v in upper]


def _box(box: Box, region: Region, ball: Ball | None) -> Frame:
    lower, upper = _exact_sides(box)
    free = [i for i, (low, high) in enumerate(zip(lower, upper, strict=True)) if low < high]
    fixed = set(range(box.dimension)) - set(free)
    if any(lower[i] == -inf or upper[i] == inf for i in free):
        return _cone(lower, upper, region)
    shift = tuple(Fraction(lower[i]) if i in fixed else Fraction(0) for i in range(box.dimension))
    matrix = np.zeros((box.dimension, max(len(free), 1)))  # a region that is one point: a variable that nothing depends on
    matrix[free, np.arange(len(free))] = 1.0
    low = tuple(Fraction(lower[i]) for i in free) or (Fraction(-1),)
    high = tuple(Fraction(upper[i]) for i in free) or (Fraction(1),)
    return _frame(region, low, high, np.zeros((0, len(low))), np.zeros(0), matrix, shift, ball=ball)


def _cone(lower: list, upper: list, region: Region) -> Frame:
    n = len(lower)
    rows: list[Array] = []
    for i in range(n):
        for sign, side in ((1.0, lower[i]), (-1.0, upper[i])):
            if side in (inf, -inf):
                continue
            if lower[i] == upper[i] or Fraction(float(side)) != side:
                raise RegionError(f"input {i}", "is bounded by a number that is no float64, or fixed, in an unbounded region.",
                                  "Give a bounded region, or sides that are float64 numbers.")  # fmt: skip
            row = np.zeros(n + 1)
            row[i], row[n] = sign, -sign * float(side)
            rows.append(row)
    matrix = np.concatenate([np.eye(n), np.zeros((n, 1))], axis=1)
    low, high = (Fraction(-1),) * n + (Fraction(0),), (Fraction(1),) * (n + 1)
    zero = (Fraction(0),) * n
    return _frame(region, low, high, np.array(rows).reshape(-1, n + 1), np.zeros(len(rows)), matrix, zero, cone=True)


def _polytope(region: Polytope) -> Frame:
    """The frame of the box, with rows. Fixed inputs have to be free of them, or their share of a row is no float64 number."""
    frame = _box(region.box, region, None)
    matrix = region.matrix @ frame.matrix
    if frame.cone:
        matrix[:, -1] = region.offsets
        return replace(frame, rows=np.concatenate([frame.rows, matrix]), offsets=np.zeros(len(frame.rows) + len(matrix)))
    offsets = []
    for row, b in zip(region.matrix.tolist(), region.offsets.tolist(), strict=True):
        exact = sum((Fraction(a) * s for a, s in zip(row, frame.exact_shift, strict=True) if a), Fraction(b))
        if Fraction(float(exact)) != exact:
            raise RegionError("polytope", "a row with a fixed input has no float64 offset.", "Take the fixed input out of the row.")
        offsets.append(float(exact))
    kept = [i for i in range(len(offsets)) if matrix[i].any() or offsets[i] < 0.0]
    return replace(frame, rows=matrix[kept].reshape(-1, frame.variables), offsets=np.array(offsets)[kept])


def _taxicab(ball: Ball) -> Frame:
    """x = center + p - q with 0 <= p <= upper - center, 0 <= q <= center - lower and sum p + q <= radius: the ball cut by its box."""
    lower, upper = _exact_sides(_cut(ball))
    center = tuple(Fraction(c) for c in ball.center.tolist())
    columns, high = [], []
    for i, c in enumerate(center):
        for sign, reach in ((1.0, Fraction(upper[i]) - c), (-1.0, c - Fraction(lower[i]))):
            if reach > 0:
                column = np.zeros(len(center))
                column[i] = sign
                columns.append(column)
                high.append(reach)
    matrix = np.array(columns).T
    low = (Fraction(0),) * len(high)
    return _frame(ball, low, tuple(high), -np.ones((1, len(high))), np.array([ball.radius]), matrix, center)


def _frame(
    region: Region, low: tuple[Exact, ...], high: tuple[Exact, ...], rows: Array, offsets: Array, matrix: Array, shift: tuple[Exact, ...],
    *, cone: bool = False, ball: Ball | None = None,
) -> Frame:  # fmt: skip
    return Frame(
        region, np.array([round_down(v) for v in low]), np.array([round_up(v) for v in high]), low, high, rows, offsets, matrix,
        np.array([float(v) for v in shift]), shift, cone, ball,
    )  # fmt: skip

"""Transport balls: the images reached from one image by moving mass, at a cost of at most the radius.

{nu >= 0 [nu <= 1] : the mass of the center in every channel, W1(center, nu) <= radius}, a polytope whose support function and distances to
half-spaces are exact by one-dimensional duality (`transport_kernel`). Radii are costs of the image as it stands, mass times distance:
divide by its mass for the distance between images of mass 1 (THEORY.md section 6).
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from fractions import Fraction
from functools import cached_property
from math import inf, isfinite

import numpy as np
import scipy.sparse as sparse

from problems.errors import RegionError
from problems.regions.base import Array, Lift
from problems.regions.box import Box, coefficients, outputs, point_values, points
from problems.regions.metric import MetricBall, Moves, shifted
from problems.rounding import round_down, round_up
from problems.transport.dyadic import settled
from problems.transport.flows import Distance, distance
from problems.transport.grid import PIXELS, Grid, all_lengths, neighbourhoods

OUTWARD = 1.0 + 1e-12  # more than any sum of pixels is rounded by


@dataclass(frozen=True, eq=False)
class TransportBall(MetricBall):
    """center (n,) an image on the grid, radius >= 0 (may be inf) in mass times distance, pixels "simplex" (nu >= 0) or
    "image" (0 <= nu <= 1).

    Raises DataError for an image that is none (see Grid.check_image), RegionError for a bad radius, or a center with pixels above 1.
    Node boxes are ignored by `support` and `closest`, whose bounds hold all the same.
    """

    center: Array
    radius: float
    grid: Grid
    pixels: str = "simplex"
    dimension: int = field(init=False)

    def __post_init__(self) -> None:
        center = self.grid.check_image(self.center, "the ball's center").copy()
        radius = float(self.radius)
        if not radius >= 0.0:
            raise RegionError("the ball's radius", f"{radius} is not a radius.", "Give a number >= 0.")
        if self.pixels not in PIXELS:
            raise RegionError("pixels", f"{self.pixels!r} is not known.", "Use simplex (pixels >= 0) or image (pixels in [0, 1]).")
        if self.pixels == "image" and (center > 1.0).any():
            raise RegionError("the ball's center", f"pixel {int(center.argmax())} is above 1.", "Scale the images, or use pixels simplex.")
        center.setflags(write=False)
        for name, value in (("center", center), ("radius", radius), ("dimension", self.grid.size)):
            object.__setattr__(self, name, value)

    @property
    def cap(self) -> float:
        """The largest value of a pixel."""
        return 1.0 if self.pixels == "image" else inf

    @cached_property
    def masses(self) -> Array:
        """(channels,): the mass of every channel, rounded up."""
        return np.array([round_up(mass) for mass in self.grid.masses(self.center)])

    @cached_property
    def limits(self) -> Box:
        """The box of all images of this mass."""
        most = np.minimum(np.repeat(self.masses, self.grid.pixels), self.cap)
        return Box(np.zeros(self.dimension), most)

    def with_radius(self, radius: float) -> "TransportBall":
        """The same ball with another radius."""
        other = replace(self, radius=radius)
        for name in ("masses", "limits", "_turned"):
            if name in self.__dict__:
                other.__dict__[name] = self.__dict__[name]
        return other

    def bounding_box(self) -> tuple[Array, Array]:
        return self._bounds

    @cached_property
    def _bounds(self) -> tuple[Array, Array]:
        """Mass leaves a pixel over distances of at least 1, and comes from the nearest first."""
        if self.radius == inf:
            return self.limits.bounding_box()
        lower = np.maximum(self.center - self.radius * OUTWARD, 0.0) * (2.0 - OUTWARD)
        order, lengths = neighbourhoods(self.grid)
        upper = np.empty(self.dimension)
        for channel in range(self.grid.channels):
            part = slice(channel * self.grid.pixels, (channel + 1) * self.grid.pixels)
            nearby = self.center[part][order]
            before = np.zeros_like(nearby)  # what the nearer pixels cost: sums of positive terms, off by few units in the last place
            np.cumsum((nearby * lengths)[:, :-1], axis=1, out=before[:, 1:])
            rest = self.radius * OUTWARD - before * (2.0 - OUTWARD)
            with np.errstate(divide="ignore", invalid="ignore"):
                affordable = np.where(lengths > 0, np.maximum(rest, 0.0) / lengths, inf)
            upper[part] = np.minimum(nearby, affordable).sum(axis=1) * OUTWARD
        return lower, np.minimum(np.nextafter(upper, inf), self.limits.upper)

    def support(self, c: Array, lower: Array | None = None, upper: Array | None = None) -> tuple[Array, Array]:
        """See Region.support; node boxes are ignored."""
        return self._rows(c, lower, np.full((1, 1), self.radius), reaches=False)

    def distance(self, a: Array, offset: Array, lower: Array | None = None, upper: Array | None = None) -> Array:
        """Proven lower bounds on min {W1(center, nu) : nu an image of the same mass, a.nu + offset >= 0}, whatever the radius.

        a (B, S, n), offset (B, S) -> (B, S); inf where there is no such image. Tight to rounding for pixels "simplex".
        """
        return self.closest(a, offset, lower, upper)[0]

    def closest(self, a: Array, offset: Array, lower: Array | None = None, upper: Array | None = None) -> tuple[Array, Array]:
        """(`distance` (B, S), a float point that attains it up to rounding (B, S, n))."""
        return self._rows(a, lower, np.atleast_2d(np.asarray(offset, dtype=np.float64)), reaches=True)

    def _rows(self, c: Array, lower: Array | None, limits: Array, *, reaches: bool) -> tuple[Array, Array]:
        from problems.regions import transport_kernel  # compiled: loaded when first used

        c = coefficients(c, self.dimension)
        value, point = outputs(c, np.zeros((1, 1)) if lower is None or len(c) > 1 else lower)
        if not reaches and self.radius == inf:
            limits = np.full((1, 1), float(self.masses.sum()) * OUTWARD * (self.grid.height + self.grid.width))
        euclidean = self.grid.ground == "l2"
        transport_kernel.rows(
            c, self.center, self._turned, float(self.masses.sum()) * OUTWARD, self.grid.shape, euclidean,
            all_lengths(self.grid) if euclidean else np.zeros((0, 0)), reaches, np.require(limits, np.float64, ["C", "W"]),
            self.cap, value, point,
        )  # fmt: skip
        return value, point

    @cached_property
    def _turned(self) -> Array:
        """The center with every channel transposed."""
        return np.ascontiguousarray(self.center.reshape(self.grid.shape).transpose(0, 2, 1)).ravel()

    # Points and their distances, exactly.

    def moved(self, x: Sequence[float | Fraction] | Array) -> Distance:
        """The bracket of W1(center, x) in exact arithmetic, and the flow of its upper end. Raises DataError where masses differ."""
        return distance(self.center, np.asarray(point_values(x, self.dimension), dtype=float), self.grid)

    def norm_upper(self, x: Sequence[float | Fraction] | Array) -> float:
        """W1(center, x), x (n,) of exactly the center's mass, rounded up from the exact cost of an explicit flow."""
        return round_up(self.moved(x).upper)

    def norm_lower(self, x: Sequence[float | Fraction] | Array) -> float:
        """W1(center, x), x (n,) of exactly the center's mass, rounded down from the exact value of a 1-Lipschitz potential."""
        return round_down(self.moved(x).lower)

    def contains(self, x: Sequence[float | Fraction] | Array) -> bool:
        """Whether x (n,) has the center's masses, allowed pixels, and a flow from the center that costs at most the radius, all exactly.

        For Euclidean ground distance, lengths are irrational and a cost within a rounding of the radius counts as outside.
        """
        values = point_values(x, self.dimension)
        if not all(isfinite(v) and 0 <= v <= self.cap for v in values):
            return False
        x = np.asarray(values, dtype=float)
        if any(Fraction(a) != Fraction(b) for a, b in zip(values, x.tolist(), strict=True)):
            return False  # not a float64 image: flows are found for those
        if self.grid.masses(x) != self.grid.masses(self.center):
            return False
        return self.radius == inf or self.moved(x).upper <= Fraction(self.radius)

    def clip(self, x: Array) -> Array:
        """An image of the ball near x (..., n): negative pixels cut, mass restored, and pulled toward the center as far as needed."""
        x = points(x, self.dimension)
        flat = settled(x.reshape(-1, self.dimension), self.center, self.grid, self.cap)
        for index, image in enumerate(flat):
            for _ in range(4):
                cost = self.norm_upper(flat[index])
                if cost <= self.radius:
                    break
                share = self.radius / cost * (1.0 - 1e-9)
                flat[index] = settled((self.center + share * (image - self.center))[None], self.center, self.grid, self.cap)[0]
                image = flat[index]
            else:
                flat[index] = self.center
        return flat.reshape(x.shape)

    def outward(self, x: Array, steps: Array) -> Array:
        """Float images (B K, n) of exactly the center's masses, near the points x (B, n) moved by the relative steps (K,) away from it."""
        return settled(shifted(self.center, x, steps), self.center, self.grid, self.cap)

    # Programs.

    def _most(self) -> Array:
        """(E,): more than an optimal flow ever carries along an edge; flows have no cycles, and each unit of cost is counted."""
        tail, _, length = self.grid.edges
        carried = np.repeat(self.masses, self.grid.pixels)[tail] * OUTWARD
        return np.minimum(carried, self.radius / length * OUTWARD)

    def lift(self, *, with_norm: bool = True) -> Lift:
        """The ball over v = (x, flow forth (E,), flow back (E,)): x - A (forth - back) = center, its cost at most the radius."""
        lower, upper = self._bounds
        incidence = self.grid.incidence
        length = np.tile(self.grid.edges[2] * (1.0 if self.grid.ground == "l1" else 1.0 - 1e-15), 2)
        count = len(length)
        balance = sparse.hstack([sparse.identity(self.dimension, format="csr"), -incidence, incidence])
        cost = np.concatenate([np.zeros(self.dimension), length])
        return Lift(
            count,
            np.concatenate([lower, np.zeros(count)]),
            np.concatenate([upper, np.tile(self._most(), 2)]),
            sparse.vstack([balance, sparse.csr_matrix(cost)]).tocsr(),
            np.append(self.center, -inf),
            np.append(self.center, self.radius),
            cost=cost,
            quadratic=np.zeros(len(cost)),
        )

    def moves(self, low: Array, high: Array, unit: float) -> Moves:
        """See MetricBall.moves: v = (d, flow forth, flow back), d - A (forth - back) = 0, at the cost of the flow."""
        incidence = self.grid.incidence
        count = incidence.shape[1]
        lengths = self.grid.edges[2] * (1.0 if self.grid.ground == "l1" else 1.0 - 1e-15)
        eye = sparse.identity(self.dimension, format="csr")
        return Moves(
            np.concatenate([low, np.zeros(2 * count)]),
            np.concatenate([high, np.tile(self._most(), 2) / unit]),
            np.concatenate([np.zeros(self.dimension), lengths, lengths]),
            rows=sparse.hstack([eye, -incidence, incidence]).tocsr(),
            row_lower=np.zeros(self.dimension),
            row_upper=np.zeros(self.dimension),
        )

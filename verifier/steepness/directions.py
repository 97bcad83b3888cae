"""The directions in which a region extends: the linear space T parallel to it.

On a region of lower dimension only the slope along T counts (THEORY.md section 2): ||g||_s becomes max {<g, u> : u in T, ||u||_r <= 1},
which by duality is min {||g - e||_s : e orthogonal to T}. For coordinates that are fixed that drops their entries; for groups of
coordinates whose sum is fixed (a simplex) it subtracts from the group the midrange (s = inf), the mean (s = 2) or the median (s = 1).
"""

from dataclasses import dataclass
from math import inf

import numpy as np

from problems.maps import Array
from problems.regions.ball import Ball
from problems.regions.base import Region
from verifier.bounds.rounding import gamma


@dataclass(frozen=True, eq=False)
class Directions:
    """T = {u : u_j = 0 where not free, sum of u over each group = 0}. free (n,) bool; groups: disjoint index arrays of free coordinates."""

    free: Array
    groups: tuple[Array, ...] = ()

    @classmethod
    def everywhere(cls, dimension: int) -> "Directions":
        """All of R^dimension."""
        return cls(np.ones(dimension, dtype=bool))

    @classmethod
    def of(cls, region: Region) -> "Directions":
        """The directions of a box or of a ball cut by a box: sides of width zero are fixed, a ball of radius zero is a point."""
        lower, upper = region.bounding_box()
        free = lower < upper
        if isinstance(region, Ball):
            # The bounding box is rounded outward: a side is fixed by the box that cuts the ball, or by the radius.
            free = region.limits.lower < region.limits.upper if region.radius > 0 else np.zeros(region.dimension, dtype=bool)
        return cls(free)

    @property
    def dimension(self) -> int:
        """The dimension of T."""
        return int(self.free.sum()) - len(self.groups)

    def reduced(self, gradients: Array, errors: Array, dual: float) -> tuple[Array, Array]:
        """Gradients (..., n) and their entrywise errors (..., n), replaced by vectors whose plain s-norm is the norm along T; s = dual."""
        gradients, errors = np.where(self.free, gradients, 0.0), np.where(self.free, errors, 0.0)
        for group in self.groups:
            part = gradients[..., group]
            if dual == inf:
                shift = 0.5 * part.max(axis=-1, keepdims=True) + 0.5 * part.min(axis=-1, keepdims=True)
            else:
                shift = part.mean(axis=-1, keepdims=True) if dual == 2 else np.median(part, axis=-1, keepdims=True)
            largest = np.abs(part).max(axis=-1, keepdims=True)
            gradients[..., group] = part - shift
            # Entries that err by e move the shift by at most the largest e; the arithmetic adds its own rounding.
            errors[..., group] += errors[..., group].max(axis=-1, keepdims=True) + 4.0 * gamma(len(group) + 4) * largest
        return gradients, errors

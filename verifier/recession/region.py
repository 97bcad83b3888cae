"""The directions of the input region that the cones live in, ready for the batched checks."""

from dataclasses import dataclass, replace
from fractions import Fraction

import numpy as np

from problems.errors import RegionError
from problems.maps import Array
from problems.regions.base import Recession, Region
from verifier.recession.rational import exactly


@dataclass(frozen=True, eq=False)
class Directions:
    """rec(X) (`cone`) and T, the linear space parallel to X: {u : u_j = 0 where `cone.still`} (THEORY section 1)."""

    cone: Recession

    @property
    def bounded(self) -> bool:
        """Whether rec(X) = {0}."""
        return self.cone.bounded

    @property
    def free(self) -> Array:
        """Indices of the coordinates in which a direction of rec(X) may move."""
        return np.flatnonzero(~self.cone.fixed)

    @property
    def still(self) -> Array:
        """(n,) bool: the coordinates without any width, in which no direction of T moves."""
        return self.cone.still

    def rows(self) -> list[list[Fraction]]:
        """The rows w with w . u >= 0 that say u in rec(X), as fractions."""
        n = len(self.cone.fixed)
        sides = [[Fraction(sign * (i == j)) for i in range(n)] for j in np.flatnonzero(self.cone.fixed).tolist() for sign in (1, -1)]
        return sides + [[Fraction(v) for v in row] for row in self.cone.matrix.tolist()]


def directions(region: Region) -> Directions:
    """The directions of a region. RegionError where it is unbounded and flat in a direction that is no coordinate axis."""
    cone = region.recession()
    if cone.flat and not cone.bounded:
        advice = "Write the network and the region in coordinates of that plane."
        raise RegionError("region", "is unbounded and lies in a plane that is not parallel to the axes.", advice)
    free = np.flatnonzero(~cone.fixed)
    if len(free) and not exactly([[Fraction(v) for v in row] for row in cone.matrix[:, free].tolist()]):
        cone = replace(cone, fixed=np.ones(len(cone.fixed), dtype=bool))  # bounded by its rows
    return Directions(cone)

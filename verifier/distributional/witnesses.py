"""Points as witnesses: inside the region for certain, at a cost that is bounded from above."""

from math import inf

import numpy as np

from problems.maps import Array
from problems.regions.base import Region
from problems.regions.box import Box
from verifier.bounds.rounding import TINY, gamma


def inside(region: Region, points: Array) -> Array:
    """Those of the points (A, n), each moved into the region where it lies outside, that then belong to it in exact arithmetic."""
    if not len(points):
        return points
    clipped = region.clip(points)
    if isinstance(region, Box) and region.exact is None:
        return clipped[((clipped >= region.lower) & (clipped <= region.upper)).all(axis=1)]
    return clipped[np.array([region.contains(point) for point in clipped], dtype=bool)]


def transport_costs(points: Array, x: Array, norm: float, order: float) -> Array:
    """(A,) upper bounds of ‖points - x‖_norm^order, of the distance itself for order inf; 0 at x."""
    shift = np.abs(points - x)
    size = {1: shift.sum, inf: shift.max}[norm](axis=1) if norm != 2 else np.sqrt((shift * shift).sum(axis=1))
    # Each difference is rounded once; what underflows in a square is below TINY^(1/2).
    size = np.where((shift == 0).all(axis=1), 0.0, size * (1 + gamma(points.shape[1] + 8)) + TINY**0.5)
    return size * size * (1 + gamma(4)) if order == 2 else size

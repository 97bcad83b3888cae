"""The cells of a network in a window of a plane: what the pictures show. The plane is the input space where that has two dimensions."""

from dataclasses import dataclass
from math import inf

import numpy as np

from problems.errors import InputError
from problems.maps import Array
from problems.network import Network
from problems.regions import Box
from verifier.enumeration import cell_rows, stream_batches
from verifier.recession.networks import preceded
from verifier.recession.region import Directions
from verifier.recession.rows import LinearParts, linear_parts
from verifier.recession.slope import dual_norm
from verifier.recession.space import Cells
from verifier.recession.tight import steepest, tightness
from verifier.recession.unbounded import unbounded
from verifier.search.budget import Budget

# xmin, xmax, ymin, ymax
Window = tuple[float, float, float, float]
# More cells than this make no picture.
MOST = 20_000


@dataclass(frozen=True, eq=False)
class Plane:
    """{origin + axes t : t in R^2}, origin (n,), axes (n, 2)."""

    origin: Array
    axes: Array

    @classmethod
    def inputs(cls) -> "Plane":
        """The inputs of a network of two."""
        return cls(np.zeros(2), np.eye(2))

    @classmethod
    def through(cls, points: Array) -> "Plane":
        """The plane through three points (3, n), with orthonormal axes; the first point is its origin. Raises InputError for a line."""
        first = points[1] - points[0]
        first = first / max(float(np.linalg.norm(first)), 1e-300)
        second = points[2] - points[0]
        second = second - (second @ first) * first
        if not (np.linalg.norm(first) > 0.5 and np.linalg.norm(second) > 1e-9):
            raise InputError("slice", "the three points lie on a line.", "Choose three samples that differ.")
        return cls(points[0], np.stack([first, second / np.linalg.norm(second)], axis=1))

    def coordinates(self, x: Array) -> Array:
        """t (..., 2): of the points of the plane nearest to x (..., n)."""
        return self.along(x - self.origin)

    def along(self, u: Array) -> Array:
        """(..., 2): the part of directions u (..., n) within the plane."""
        return u @ np.linalg.pinv(self.axes).T


@dataclass(frozen=True, eq=False)
class PlaneCells:
    """The cells that meet the window (xmin, xmax, ymin, ymax): polygons, each (v, 2), in the plane's coordinates; and for each cell in the
    whole input space: slopes (m,), its steepest gradient over the pairs, in the dual norm; tight and unbounded (m,) bool; directions
    (m, 2), along the plane, of the steepest tight pair where it is tight, else of the steepest; `complete`: all cells are there."""

    window: Window
    polygons: tuple[Array, ...]
    slopes: Array
    tight: Array
    tight_slopes: Array
    unbounded: Array
    directions: Array
    complete: bool


def cells_in_plane(
    network: Network, pairs: Array, norm: float, where: Directions, plane: Plane, window: Window, *, budget: Budget
) -> PlaneCells:
    """The cells of a network that meet a window of a plane, with their verdicts over the pairs (P, 2) of (y, k)."""
    flat = preceded(network, plane.axes, plane.origin)
    corners = np.array(window).reshape(2, 2)
    stream = stream_batches(flat, Box(corners[:, 0], corners[:, 1]), budget=budget)
    polygons: list[Array] = []
    found: list[tuple[Array, ...]] = []
    complete = True
    for batch in stream:
        shapes = [_polygon(flat, pattern, window) for pattern in batch.patterns]
        kept = np.array([len(shape) > 2 for shape in shapes], dtype=bool)
        polygons += [shape for shape, keep in zip(shapes, kept, strict=True) if keep]
        found.append(_verdicts(network, linear_parts(network, batch.patterns[kept]), pairs, norm, where, plane))
        if len(polygons) > MOST:
            complete = False
            break
    if not found:  # no time for any
        nothing = np.zeros(0)
        return PlaneCells(window, (), nothing, nothing.astype(bool), nothing, nothing.astype(bool), np.zeros((0, 2)), False)
    slopes, tight, tight_slopes, free, directions = (np.concatenate(part) for part in zip(*found, strict=True))
    return PlaneCells(window, tuple(polygons), slopes, tight, tight_slopes, free, directions, complete and stream.complete)


def window_of(network: Network, plane: Plane, points: Array | None = None, *, budget: Budget) -> Window:
    """A window that shows what happens: most places where cells are nearest to the origin, and all of the points (m, n)."""
    flat = preceded(network, plane.axes, plane.origin)
    everything = [np.zeros((1, 2)) if points is None else plane.coordinates(points)]
    if points is None:
        for seen in Cells(flat, Box.whole_space(2), budget):
            places = seen.cells.points[seen.counts]
            everything.append(places[np.abs(places).max(axis=1) < 1e6])
            if sum(map(len, everything)) > MOST:
                break
    places = np.concatenate(everything)
    low, high = (np.quantile(places, q, axis=0) for q in ((0.05, 0.95) if points is None else (0.0, 1.0)))
    middle, half = (low + high) / 2, max(float((high - low).max()) / 2 * 1.25, 1e-9)
    if points is None and half < 1e-6:
        half = 1.0
    return middle[0] - half, middle[0] + half, middle[1] - half, middle[1] + half


def _verdicts(network: Network, parts: LinearParts, pairs: Array, norm: float, where: Directions, plane: Plane) -> tuple[Array, ...]:
    g, error = parts.gradients(pairs)
    g, error = np.where(where.still, 0.0, g), np.where(where.still, 0.0, error)
    slopes = dual_norm(g, error, norm)[0]
    tight = np.zeros(slopes.shape, dtype=bool) if where.bounded else tightness(network, parts, pairs, norm, where).tight
    tight_slopes = np.where(tight, slopes, -inf)
    best = np.where(tight.any(axis=1), tight_slopes.argmax(axis=1), slopes.argmax(axis=1))
    u = plane.along(steepest(g, error, norm, where.still)[0][np.arange(len(parts)), best])
    lengths = np.linalg.norm(u, axis=1, keepdims=True)
    directions = u / np.where(lengths > 0, lengths, 1.0)
    tops = slopes.max(axis=1), tight.any(axis=1), np.maximum(tight_slopes.max(axis=1), 0.0)
    return *map(np.asarray, tops), unbounded(network, parts, where), directions


def _polygon(network: Network, pattern: Array, window: Window) -> Array:
    """(v, 2): the vertices of the cell within the window, in order; none where it is empty. Cut by one half-plane after the other."""
    xmin, xmax, ymin, ymax = window
    corners = np.array([[xmin, ymin], [xmax, ymin], [xmax, ymax], [xmin, ymax]])
    rows, offsets = cell_rows(network, pattern)
    for row, offset in zip(rows, offsets, strict=True):
        values = corners @ row + offset
        if (values >= 0).all():
            continue
        kept = []
        for i, value in enumerate(values):
            j = (i + 1) % len(values)
            if value >= 0:
                kept.append(corners[i])
            if (value < 0) != (values[j] < 0):
                kept.append(corners[i] + value / (value - values[j]) * (corners[j] - corners[i]))
        corners = np.array(kept).reshape(-1, 2)
        if len(corners) < 3:
            return np.zeros((0, 2))
    return corners

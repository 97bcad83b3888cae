"""Condition (T2): does the steepest direction of a margin lie in the recession cone of the cell?

M_r(g) = argmax {<g, u> : u in T, ‖u‖_r <= 1} meets rec(C_D) iff along some such u, from any point of the cell, the margin grows at its
full slope for ever without leaving the cell. For r = 2, and for r = 1 and inf where g fixes u, that is the sign of every row at u:
decided for whole batches in float64 with its a-priori error, and in rational arithmetic where the error is too large to tell. Where M_r
is a face, an exact linear program decides.
"""

from dataclasses import dataclass
from fractions import Fraction
from math import inf

import numpy as np

from problems.exact import homogeneous
from problems.maps import Array
from problems.network import Network
from verifier.bounds.rounding import TINY, gamma
from verifier.recession.rational import grows
from verifier.recession.region import Directions
from verifier.recession.rows import Exact, LinearParts, exact_parts

# Signs of rows that are held at once.
_AT_ONCE = 2_000_000


@dataclass(frozen=True, eq=False)
class Tightness:
    """For B cells and P pairs: tight (B, P), and depth (B, P): in how many layers, from the first on, all rows hold at a u of M_r(g).

    depth is -1 where the gradient is zero. `decided` counts the (cell, pair)s that took exact arithmetic.
    """

    tight: Array
    depth: Array
    decided: int


def tightness(network: Network, parts: LinearParts, pairs: Array, norm: float, where: Directions) -> Tightness:
    """(T2) for every cell of `parts` and every pair (P, 2) of (y, k). rec(X) counts for `tight`, not for `depth`."""
    step = max(1, _AT_ONCE // max(1, len(pairs) * network.neurons))
    found = [_tightness(network, parts.select(slice(i, i + step)), pairs, norm, where) for i in range(0, max(len(parts), 1), step)]
    tight, depth = (np.concatenate([getattr(part, name) for part in found]) for name in ("tight", "depth"))
    return Tightness(tight, depth, sum(part.decided for part in found))


def _tightness(network: Network, parts: LinearParts, pairs: Array, norm: float, where: Directions) -> Tightness:
    g, error = parts.gradients(pairs)
    g, error = np.where(where.still, 0.0, g), np.where(where.still, 0.0, error)
    u, u_error, zero, fixed = steepest(g, error, norm, where.still)
    # About 1 in size, so that no product with it underflows; a power of two rounds nothing.
    scale = -np.frexp(np.abs(u).max(axis=-1, keepdims=True, initial=0.0))[1]
    u, u_error = np.ldexp(u, scale), np.ldexp(u_error, scale)
    holds, fails = _signs(parts, u, u_error)
    depth, unsure = _depth(network, holds, fails)
    inside, outside = _in_region(where, u, u_error)
    layers = len(network.relus)
    tight = (depth == layers) & inside
    unsure = (unsure | ((depth == layers) & ~inside & ~outside) | ~fixed) & ~zero
    depth[zero], tight[zero] = -1, False
    for b in np.flatnonzero(unsure.any(axis=1)):
        rows, jacobian = exact_parts(network, parts.patterns[b])
        for p in np.flatnonzero(unsure[b]):
            label, other = pairs[p]
            gradient = [a - c for a, c in zip(jacobian[other], jacobian[label], strict=True)]
            tight[b, p], depth[b, p] = _exactly(network, parts.patterns[b], rows, gradient, norm, where)
    return Tightness(tight, depth, int(unsure.sum()))


def steepest(g: Array, error: Array, norm: float, still: Array) -> tuple[Array, Array, Array, Array]:
    """(u (..., n), its error, zero (...), fixed (...)): a multiple of the one point of M_r(g), where it is one point for certain (`fixed`).

    g (..., n) with its error; `zero`: g is exactly zero.
    """
    zero = ((g == 0) & (error == 0)).all(axis=-1)
    size = np.abs(g)
    certain = size > error
    if norm == 2:
        return g, error, zero, certain.any(axis=-1)
    if norm == inf:
        return np.sign(g), np.zeros_like(g), zero, (certain | still).all(axis=-1)
    first = size.argmax(axis=-1)[..., None]
    axis = np.zeros(g.shape, dtype=bool)
    np.put_along_axis(axis, first, True, axis=-1)
    rest = np.where(axis, -1.0, np.nextafter(size + error, inf)).max(axis=-1, initial=-1.0)
    low = np.nextafter(np.take_along_axis(size - error, first, axis=-1), -inf)[..., 0]
    return np.where(axis, np.sign(g), 0.0), np.zeros_like(g), zero, low > np.maximum(rest, 0.0)


def _signs(parts: LinearParts, u: Array, u_error: Array) -> tuple[Array, Array]:
    """(holds, fails) (B, P, h): whether each row of the cell is certainly >= 0, certainly < 0 at u."""
    signs = np.sign(parts.patterns)[:, None, :]
    # Contiguous, or matrix products fall back to loops.
    u, columns, doubt = (np.ascontiguousarray(part) for part in (u, parts.rows.transpose(0, 2, 1), parts.row_errors.transpose(0, 2, 1)))
    size = np.abs(columns)
    values = signs * (u @ columns)
    reach = np.abs(u)
    error = reach @ (doubt + gamma(u.shape[-1] + 4) * size)
    if u_error.any():
        error += np.ascontiguousarray(u_error) @ (size + doubt)
    error = np.where(error > 0, error * (1 + 1e-12) + TINY, 0.0)
    return values >= error, values < -error


def _depth(network: Network, holds: Array, fails: Array) -> tuple[Array, Array]:
    """(depth (B, P), unsure (B, P)): layers that hold from the first on; unsure where a row in doubt decides it."""
    depth = np.zeros(holds.shape[:2], dtype=np.int64)
    going, unsure = np.ones(holds.shape[:2], dtype=bool), np.zeros(holds.shape[:2], dtype=bool)
    start = 0
    for index in network.relus:
        layer = slice(start, start + network.nodes[index].size)
        start = layer.stop
        unsure |= going & ~holds[..., layer].all(axis=-1) & ~fails[..., layer].any(axis=-1)
        going &= holds[..., layer].all(axis=-1)
        depth += going
    return depth, unsure


def _in_region(where: Directions, u: Array, u_error: Array) -> tuple[Array, Array]:
    """(inside, outside) (B, P): whether u is certainly, certainly not in rec(X)."""
    fixed, matrix = where.cone.fixed, where.cone.matrix
    moves = np.abs(u) > u_error
    inside = ~((np.abs(u) > 0) | (u_error > 0))[..., fixed].any(axis=-1)
    outside = moves[..., fixed].any(axis=-1)
    if len(matrix):
        values = u @ matrix.T
        error = (u_error + gamma(u.shape[-1] + 4) * np.abs(u)) @ np.abs(matrix.T)
        # A product with one factor +-1 (a side of a box) is exact, and zero where u is.
        error = np.where((np.abs(u) @ np.abs(matrix.T) == 0) & (u_error @ np.abs(matrix.T) == 0), 0.0, error * (1 + 1e-12) + TINY)
        inside &= (values >= error).all(axis=-1)
        outside |= (values < -error).any(axis=-1)
    return inside, outside


def _exactly(network: Network, pattern: Array, rows: list[Exact], g: Exact, norm: float, where: Directions) -> tuple[bool, int]:
    """(tight, depth) of one cell and pair in rational arithmetic."""
    g = [Fraction(0) if still else v for v, still in zip(g, where.still, strict=True)]
    if not any(g):
        return False, -1
    if norm == 2:
        rows = [[v] for v in homogeneous(network, pattern, g)[0]]
        region = [[sum((a * b for a, b in zip(row, g, strict=True)), Fraction(0))] for row in where.rows()]
        face = Face.point()
    else:
        region, face = where.rows(), Face.of(g, norm, where.still)
    needed: list[Exact] = []
    depth = start = 0
    for index in network.relus:
        layer = range(start, start + network.nodes[index].size)
        start = layer.stop
        needed = needed + [rows[i] if pattern[i] > 0 else [-v for v in rows[i]] for i in layer]
        if not face.meets(needed):
            return False, depth
        depth += 1
    return face.meets(needed + region), depth


@dataclass(frozen=True)
class Face:
    """The cone over M_r(g), {sum_i w_i generators[i] : w >= 0, caps . w <= 0}: generators in R^n, each cap a row in the weights w."""

    generators: tuple[tuple[Fraction, ...], ...]
    caps: tuple[tuple[Fraction, ...], ...] = ()

    @classmethod
    def point(cls) -> "Face":
        """One direction, in coordinates of its own: rows are then the values along it."""
        return cls(((Fraction(1),),))

    @classmethod
    def of(cls, g: Exact, norm: float, still: Array) -> "Face":
        """M_r(g) for r = 1: convex combinations of the signed axes where |g_j| is largest. For r = inf: sign(g_j), and any number in
        [-1, 1] where g_j = 0 (w_j = u_j + 1 <= 2 then, over the weight 1 of the corner where these are -1)."""
        n, one = len(g), Fraction(1)
        if norm == 1:
            largest = max(abs(v) for v in g)
            axes = [j for j, v in enumerate(g) if abs(v) == largest]
            return cls(tuple(tuple(one * (1 if g[j] > 0 else -1) * (i == j) for i in range(n)) for j in axes))
        open_axes = [j for j, v in enumerate(g) if v == 0 and not still[j]]
        corner = tuple(one * ((v > 0) - (v < 0) - (j in open_axes)) for j, v in enumerate(g))
        moves = tuple(tuple(one * (i == j) for i in range(n)) for j in open_axes)
        caps = tuple((-2 * one, *(one * (i == k) for i in range(len(open_axes)))) for k in range(len(open_axes)))
        return cls((corner, *moves), caps)

    def meets(self, rows: list[Exact]) -> bool:
        """Whether the face holds a u with row . u >= 0 for all rows."""
        along = [[sum((a * b for a, b in zip(row, e, strict=True)), Fraction(0)) for e in self.generators] for row in rows]
        if len(self.generators) == 1:
            return all(values[0] >= 0 for values in along)
        # r = 1 asks for any nonzero weights, r = inf for a positive weight of the corner: caps make the others vanish without it.
        return grows([Fraction(1)] * len(self.generators), along + [[-v for v in cap] for cap in self.caps])

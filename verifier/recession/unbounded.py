"""Is a cell unbounded? A closed convex set is, iff its recession cone {u : rows u >= 0} holds more than the origin.

Both answers are proved. Let q be the point of least norm in the convex hull of the normalised rows (Wolfe 1976; found by non-negative
least squares). If q != 0, every row is positive at q: a direction, checked with the rounding errors of the rows. If q = 0 = sum l_i rows_i,
l >= 0 (Gordan), then any u of the cone has

    sum_i l_i |rows_i u| = (sum_i l_i rows_i) u <= ‖residual‖ ‖u‖,  and the left side is at least  sigma_min(diag(l) rows) ‖u‖,

so that u = 0 once the residual is smaller than the least singular value. What neither settles (cones without interior, in the main) is
decided by a linear program in rational arithmetic.
"""

from fractions import Fraction

import numpy as np

from problems.maps import Array
from problems.network import Network
from verifier.bounds.rounding import TINY, UNIT, gamma
from verifier.recession.rational import exactly
from verifier.recession.region import Directions
from verifier.recession.rows import Exact, LinearParts, exact_parts

# Far above the error of a singular value computed by LAPACK, p(m, n) 2^-53 times the largest with a modest p.
_SINGULAR = 2.0**-40


def unbounded(network: Network, parts: LinearParts, where: Directions) -> Array:
    """(B,) bool: whether rec(C_D) != {0}, proved either way."""
    free = where.free
    result = np.zeros(len(parts), dtype=bool)
    if not len(free):
        return result
    rows, errors = cone_rows(parts, where)
    scaled, lengths = normalised(rows)
    empty = lengths == 0
    hull = np.concatenate([scaled, np.where(empty, 0.0, 1.0)[..., None]], axis=2)
    weights = hull_weights(hull)
    q = (weights[:, None, :] @ scaled)[:, 0]
    margin = (rows @ q[..., None])[..., 0]
    reach = np.abs(q)[..., None]
    error = (errors @ reach + gamma(len(free) + 4) * (np.abs(rows) @ reach))[..., 0] * (1 + 1e-12)
    result = ((margin > error + TINY) | (empty & (errors == 0).all(axis=2))).all(axis=1)
    closed = _closed(rows, errors, weights / np.where(empty, 1.0, lengths))
    for b in np.flatnonzero(~result & ~closed):
        result[b] = exactly(exact_rows(network, parts.patterns[b], where))
    return result


def cone_rows(parts: LinearParts, where: Directions) -> tuple[Array, Array]:
    """(rows (B, m, d), errors): {u : rows u >= 0} are the recession cones, in the d free coordinates. Errors bound each entry's."""
    free = where.free
    rows = np.sign(parts.patterns)[..., None] * parts.rows[..., free]
    region = np.broadcast_to(where.cone.matrix[:, free], (len(parts), len(where.cone.matrix), len(free)))
    return np.concatenate([rows, region], axis=1), np.concatenate([parts.row_errors[..., free], np.zeros(region.shape)], axis=1)


def normalised(rows: Array) -> tuple[Array, Array]:
    """(rows of length 1 or 0, lengths (B, m)), up to rounding."""
    lengths = np.sqrt((rows * rows).sum(axis=2))
    return rows / np.where(lengths == 0, 1.0, lengths)[..., None], lengths


def exact_rows(network: Network, pattern: Array, where: Directions) -> list[Exact]:
    """The rows of the recession cone of one pattern in the free coordinates, as fractions."""
    free = where.free.tolist()
    rows = [row if sign > 0 else [-v for v in row] for row, sign in zip(exact_parts(network, pattern)[0], pattern, strict=True)]
    region = [[Fraction(v) for v in row] for row in where.cone.matrix.tolist()]
    return [[row[j] for j in free] for row in rows + region]


def hull_weights(hull: Array) -> Array:
    """(B, m): weights of the point of least norm in each convex hull, times a positive number; hull (B, m, d + 1): the points, a 1 behind.

    They are the non-negative least squares for the target (0, ..., 0, 1). Rows of zeros are no points.
    """
    from solvers.nonnegative import least_squares_batch

    target = np.zeros((len(hull), hull.shape[2]))
    target[:, -1] = 1.0
    return least_squares_batch(np.ascontiguousarray(hull), target)


def _closed(rows: Array, errors: Array, weights: Array) -> Array:
    """(B,) bool: whether the weights (B, m) >= 0 prove that the cone is the origin."""
    d = rows.shape[2]
    if rows.shape[1] < d + 1:
        return np.zeros(len(rows), dtype=bool)
    chosen = np.argsort(-weights * np.sqrt((rows * rows).sum(axis=2)), axis=1, kind="stable")[:, : d + 1]
    picked, doubt = (np.take_along_axis(part, chosen[..., None], axis=1) for part in (rows, errors))
    share = np.take_along_axis(weights, chosen, axis=1)[..., None]
    products, doubt = share * picked, share * doubt * (1 + 4 * UNIT) + 2 * UNIT * np.abs(share * picked) + TINY
    residual = np.abs(products.sum(axis=1)) + doubt.sum(axis=1) * (1 + 1e-12) + gamma(d + 4) * np.abs(products).sum(axis=1)
    singular = np.linalg.svd(products, compute_uv=False)
    least = singular[:, -1] - _SINGULAR * singular[:, 0] - np.sqrt((doubt * doubt).sum(axis=(1, 2))) * (1 + 1e-12)
    return np.sqrt((residual * residual).sum(axis=1)) * (1 + 1e-12) < least

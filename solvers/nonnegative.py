"""Non-negative least squares for very many tiny systems: min ‖target - sum_i x_i rows_i‖_2 over x >= 0, by active sets, compiled.

It projects onto cones, for the residual of the minimum is the projection of the target onto {v : rows v <= 0} (Moreau). Nothing is proved
here: x is a guess that the caller checks. Few coordinates (up to some dozens) and up to some hundreds of rows are what it is for.

Source: Lawson & Hanson, Solving Least Squares Problems (1974), chapter 23.
"""

import numba
import numpy as np

Array = np.ndarray

# A row joins the active set when its product with the residual exceeds this; rows have length about 1.
_TOLERANCE = 1e-12


@numba.njit(cache=True, nogil=True)
def least_squares(rows: Array, target: Array, x: Array) -> None:
    """x (m,), overwritten: the minimiser for rows (m, d), of length about 1 or zero, and target (d,), of length about 1."""
    m, d = rows.shape
    chosen = np.empty(d, np.int64)  # the active set, in the order of its basis
    count = 0
    inside = np.zeros(m, np.bool_)
    refused = np.zeros(m, np.bool_)
    basis = np.empty((d, d))
    triangle = np.zeros((d, d))
    z = np.empty(d)
    residual = target.copy()
    x[:] = 0.0
    for _ in range(10 * (d + 5)):
        best, entering = _TOLERANCE, -1
        for i in range(m):
            if not inside[i] and not refused[i]:
                product = 0.0
                for c in range(d):
                    product += rows[i, c] * residual[c]
                if product > best:
                    best, entering = product, i
        if entering < 0 or count == d:
            return
        chosen[count] = entering
        if not _orthogonal(rows, chosen, count, basis, triangle):
            refused[entering] = True  # dependent on the active rows, to rounding
            continue
        inside[entering] = True
        count += 1
        _solve(basis, triangle, target, count, z)
        if z[count - 1] <= 0.0:  # rounding: this row does not help
            count -= 1
            inside[entering] = False
            refused[entering] = True
            continue
        while True:
            step, leaving = 1.0, -1
            for k in range(count):
                if z[k] <= 0.0:
                    share = x[chosen[k]] / (x[chosen[k]] - z[k]) if x[chosen[k]] > 0.0 else 0.0
                    if share < step or leaving < 0:
                        step, leaving = share, k
            if leaving < 0:
                break
            for k in range(count):
                x[chosen[k]] += step * (z[k] - x[chosen[k]])
            x[chosen[leaving]] = 0.0
            kept = 0
            for k in range(count):
                if x[chosen[k]] > 0.0:
                    chosen[kept] = chosen[k]
                    kept += 1
                else:
                    x[chosen[k]] = 0.0
                    inside[chosen[k]] = False
            count = kept
            for k in range(count):
                _orthogonal(rows, chosen, k, basis, triangle)
            _solve(basis, triangle, target, count, z)
        for k in range(count):
            x[chosen[k]] = z[k]
        before = 0.0
        after = 0.0
        for c in range(d):
            total = target[c]
            for k in range(count):
                total -= z[k] * rows[chosen[k], c]
            before += residual[c] * residual[c]
            after += total * total
            residual[c] = total
        if after < before:
            refused[:] = False
        else:
            refused[entering] = True


@numba.njit(cache=True, nogil=True)
def _orthogonal(rows: Array, chosen: Array, k: int, basis: Array, triangle: Array) -> bool:
    """Column k of the factors: Gram-Schmidt, twice. False where rows[chosen[k]] depends on those before it."""
    d = rows.shape[1]
    basis[k] = rows[chosen[k]]
    length = np.sqrt(np.dot(basis[k], basis[k]))
    triangle[: k + 1, k] = 0.0
    for _ in range(2):
        for i in range(k):
            share = 0.0
            for c in range(d):
                share += basis[i, c] * basis[k, c]
            triangle[i, k] += share
            for c in range(d):
                basis[k, c] -= share * basis[i, c]
    rest = np.sqrt(np.dot(basis[k], basis[k]))
    triangle[k, k] = rest
    if rest <= 1e-11 * length:
        return False
    basis[k] /= rest
    return True


@numba.njit(cache=True, nogil=True)
def _solve(basis: Array, triangle: Array, target: Array, count: int, z: Array) -> None:
    """z (count,): the unconstrained minimiser over the active rows, by back substitution."""
    for i in range(count - 1, -1, -1):
        total = np.dot(basis[i], target)
        for k in range(i + 1, count):
            total -= triangle[i, k] * z[k]
        z[i] = total / triangle[i, i]


@numba.njit(cache=True, nogil=True)
def least_squares_batch(rows: Array, targets: Array) -> Array:
    """(B, m): the minimisers for rows (B, m, d) and targets (B, d), as `least_squares`."""
    x = np.empty(rows.shape[:2])
    for b in range(len(rows)):
        least_squares(rows[b], targets[b], x[b])
    return x

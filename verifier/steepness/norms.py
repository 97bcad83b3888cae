"""Norms of gradients and Jacobians of cells, each as an interval that holds for the exact numbers.

Inputs are measured in the r-norm, so a gradient counts with its dual norm, 1/r + 1/s = 1; a Jacobian with its operator norm from r to
q, max {||J u||_q : ||u||_r <= 1} (THEORY.md section 2). Exact up to rounding: r = 1 (largest column), q = inf (largest row), 2 -> 2 (a
singular value, verified), and whenever the vertices of one of the cubes involved are few enough to try. Elsewhere (inf -> 2 is NP-hard)
the interval is wide.
"""

from itertools import product
from math import inf

import numpy as np

from problems.maps import Array
from verifier.bounds.eigenvalues import largest_eigenvalues
from verifier.bounds.rounding import TINY, UNIT, gamma
from verifier.steepness.directions import Directions

# All sign vectors of this many entries are tried: 2^11 of them, half by symmetry.
MOST_SIGNS = 12
_ASCENTS = 20


def dual_exponent(norm: float) -> float:
    """s with 1/norm + 1/s = 1, for norm 1, 2 or inf."""
    return {1: inf, 2: 2, inf: 1}[norm]


def gradient_norms(
    gradients: Array, errors: Array | float = 0.0, *, input_norm: float, directions: Directions | None = None
) -> tuple[Array, Array]:
    """(lower (...,), upper (...,)): max {<g, u> : u in T, ||u||_r <= 1} for the exact gradients g within errors of gradients (..., n).

    errors (..., n) or a number: entrywise bounds on what the given floats lack; input_norm: r; directions: T (default: all of R^n).
    """
    dual = dual_exponent(input_norm)
    errors = np.broadcast_to(np.asarray(errors, dtype=float), gradients.shape)
    if directions is not None:
        gradients, errors = directions.reduced(gradients, errors, dual)
    return vector_norms(gradients, errors, dual)


def vector_norms(vectors: Array, errors: Array, exponent: float, axis: int = -1) -> tuple[Array, Array]:
    """(lower, upper): the norms along an axis of the exact vectors that lie within errors, entry by entry, of `vectors`."""
    value, slack = _norm(vectors, exponent, axis), _norm(errors, exponent, axis)
    relative = 2.0 * gamma(vectors.shape[axis] + 8)
    with np.errstate(invalid="ignore", over="ignore"):
        spread = value * relative + slack * (1.0 + relative) + TINY
        upper = np.where((value == 0.0) & (slack == 0.0), 0.0, _number(value + spread))
        return np.maximum(_down(value - spread), 0.0), upper


def operator_norms(
    jacobians: Array, errors: Array | float = 0.0, *, input_norm: float, output_norm: float, directions: Directions | None = None
) -> tuple[Array, Array]:
    """(lower (B,), upper (B,)): the operator norms from input_norm to output_norm of the exact J within errors of jacobians (B, K, n).

    directions: T, coordinates only for input norms other than 2 unless output_norm is inf. See the module for when both ends agree.
    """
    errors = np.broadcast_to(np.asarray(errors, dtype=float), jacobians.shape)
    if directions is not None:
        if directions.groups and input_norm != 2 and output_norm != inf:
            raise NotImplementedError("operator norms along a simplex are known for input norm 2 and for output norm inf only")
        jacobians, errors = directions.reduced(jacobians, errors, dual_exponent(input_norm))
    if not jacobians.shape[1] * jacobians.shape[2]:
        return np.zeros(len(jacobians)), np.zeros(len(jacobians))
    if output_norm == inf:
        lower, upper = vector_norms(jacobians, errors, dual_exponent(input_norm))
    elif input_norm == 1:
        lower, upper = vector_norms(jacobians, errors, output_norm, axis=1)
    elif input_norm == output_norm == 2:
        return spectral_norms(jacobians, errors)
    else:
        return _by_signs(jacobians, errors, input_norm, output_norm)
    return lower.max(axis=1, initial=0.0), upper.max(axis=1, initial=0.0)


def spectral_norms(matrices: Array, errors: Array | float = 0.0) -> tuple[Array, Array]:
    """(lower (B,), upper (B,)): the largest singular values of the exact matrices within errors, entry by entry, of matrices (B, K, n).

    Verified, whatever the eigenvalue routine did: from above by `largest_eigenvalues` of J J^T, from below by any vector.
    """
    errors = np.broadcast_to(np.asarray(errors, dtype=float), matrices.shape)
    _, slack = vector_norms(errors.reshape(len(errors), -1), np.zeros(1), 2)
    if matrices.shape[1] > matrices.shape[2]:
        matrices = np.swapaxes(matrices, 1, 2)
    size = np.abs(matrices).max(axis=(1, 2), initial=0.0)
    # Divided by powers of two, so that no square overflows and those that underflow do not count.
    unit = np.ldexp(1.0, np.clip(np.frexp(np.where(size > 0, size, 1.0))[1], -1000, 1000))
    scaled = np.where(np.isfinite(matrices), matrices, 0.0) / unit[:, None, None]
    rows, columns = scaled.shape[1:]
    frobenius = np.sqrt((scaled**2).sum(axis=(1, 2))) * (1.0 + gamma(rows * columns + 8))
    highest, top = largest_eigenvalues(scaled @ np.swapaxes(scaled, 1, 2), 2.0 * gamma(columns + 4) * frobenius**2)
    upper = np.minimum(np.sqrt(highest) * (1.0 + 4.0 * UNIT), frobenius)
    image = np.matmul(top[:, None, :], scaled)[:, 0]
    short, _ = vector_norms(image, gamma(rows + 4) * np.matmul(np.abs(top)[:, None, :], np.abs(scaled))[:, 0], 2)
    _, long = vector_norms(top, np.zeros(1), 2)
    lower = short / np.maximum(long, 0.5) * (1.0 - 8.0 * UNIT)
    with np.errstate(invalid="ignore", over="ignore"):
        low = np.maximum(_down(lower * unit - slack), 0.0)
        high = np.where((size == 0.0) & (slack == 0.0), 0.0, _number(np.nextafter(upper * unit + slack, inf) + TINY))
    finite = np.isfinite(size)
    return np.where(finite, low, 0.0), np.where(finite, high, inf)


def _by_signs(jacobians: Array, errors: Array, input_norm: float, output_norm: float) -> tuple[Array, Array]:
    """The norms whose maximiser is a vertex of a cube: inf -> q maximises over signs u of the inputs, r -> 1 over signs t of the outputs
    (||J u||_1 = max_t t.J u), which turns it into the largest ||J^T t||_s. All signs where one of the cubes is small."""
    _, outputs, inputs = jacobians.shape
    choices = []  # (number of signs, matrices (B, ., signs), their errors, the norm of their images)
    if output_norm == 1:
        choices.append((outputs, np.swapaxes(jacobians, 1, 2), np.swapaxes(errors, 1, 2), dual_exponent(input_norm)))
    if input_norm == inf:
        choices.append((inputs, jacobians, errors, output_norm))
    count, matrices, slack, exponent = min(choices, key=lambda choice: choice[0])
    if count <= MOST_SIGNS:
        return _all_signs(matrices, slack, exponent)
    signs = _ascend(matrices, exponent)
    image, error = _images(matrices, slack, signs)
    lower, _ = vector_norms(image, error, exponent)
    return lower, _bound_over_cube(matrices, slack, signs, exponent)


def _all_signs(matrices: Array, errors: Array, exponent: float) -> tuple[Array, Array]:
    """The largest ||M t|| over sign vectors t, up to t -> -t; M (B, m, c)."""
    count = matrices.shape[2]
    if not count:
        return np.zeros(len(matrices)), np.zeros(len(matrices))
    signs = np.array([(1.0, *rest) for rest in product((1.0, -1.0), repeat=count - 1)]).T  # (c, 2^(c-1))
    lower, upper = np.zeros(len(matrices)), np.zeros(len(matrices))
    total = np.abs(matrices).sum(axis=2)
    error = errors.sum(axis=2) * (1.0 + gamma(count + 4)) + gamma(count + 4) * total
    step = max(1, 2**22 // (matrices.shape[1] * signs.shape[1] + 1))
    for first in range(0, len(matrices), step):
        part = slice(first, first + step)
        image = matrices[part] @ signs
        low, high = vector_norms(image, np.broadcast_to(error[part, :, None], image.shape), exponent, axis=1)
        lower[part], upper[part] = low.max(axis=1), high.max(axis=1)
    return lower, upper


def _images(matrices: Array, errors: Array, signs: Array) -> tuple[Array, Array]:
    """M t for signs (B, c), and its entrywise error."""
    count = matrices.shape[2]
    image = np.matmul(matrices, signs[:, :, None])[:, :, 0]
    return image, errors.sum(axis=2) * (1.0 + gamma(count + 4)) + gamma(count + 4) * np.abs(matrices).sum(axis=2)


def _ascend(matrices: Array, exponent: float) -> Array:
    """Signs (B, c) at which ||M t|| is locally largest: t becomes the sign of the norm's gradient, from the best vertex of each row."""
    signs = np.sign(np.take_along_axis(matrices, np.abs(matrices).sum(axis=2).argmax(axis=1)[:, None, None], axis=1)[:, 0])
    signs = np.where(signs == 0, 1.0, signs)
    for _ in range(_ASCENTS):
        image = np.matmul(matrices, signs[:, :, None])[:, :, 0]
        outer = np.sign(image) if exponent == 1 else image
        back = np.matmul(outer[:, None, :], matrices)[:, 0]
        signs = np.where(back >= 0, 1.0, -1.0)
    return signs


def _bound_over_cube(matrices: Array, errors: Array, signs: Array, exponent: float) -> Array:
    """Upper bounds (B,) of max ||M t|| over the cube of t: the norm of the rows' l1 norms; and for the 2-norm, with any weights d > 0,
    sqrt(sum d) times the largest singular value of M D^(-1/2): the dual of the semidefinite relaxation, at the d of the best signs."""
    rows, row_error = vector_norms(matrices, errors, 1)[1], np.zeros(1)
    _, bound = vector_norms(rows, row_error, exponent)
    gram_signs = np.matmul(np.matmul(matrices, signs[:, :, None])[:, None, :, 0], matrices)[:, 0] * signs
    size = np.maximum(np.abs(gram_signs).max(axis=1, keepdims=True), TINY)
    weights = np.maximum(gram_signs, 1e-3 * size)
    root = np.sqrt(weights)
    scaled = matrices / root[:, None, :]
    _, spectral = spectral_norms(scaled, errors / root[:, None, :] * (1.0 + 4.0 * UNIT) + 4.0 * UNIT * np.abs(scaled))
    _, length = vector_norms(root, np.zeros(1), 2)
    factor = 1.0 if exponent == 2 else np.sqrt(matrices.shape[1]) * (1.0 + 4.0 * UNIT)
    with np.errstate(invalid="ignore", over="ignore"):
        return np.minimum(bound, _number(spectral * length * factor * (1.0 + 8.0 * UNIT)))


def _norm(vectors: Array, exponent: float, axis: int) -> Array:
    """The plain float norm; the 2-norm is scaled by a power of two, so that its squares neither overflow nor vanish."""
    size = np.abs(vectors)
    if exponent == inf:
        return size.max(axis=axis, initial=0.0)
    if exponent == 1:
        return size.sum(axis=axis)
    largest = size.max(axis=axis, initial=0.0)
    unit = np.ldexp(1.0, np.clip(np.frexp(np.where(largest > 0, largest, 1.0))[1], -1000, 1000))
    with np.errstate(invalid="ignore"):
        return np.sqrt(((size / np.expand_dims(unit, axis)) ** 2).sum(axis=axis)) * unit


def _down(value: Array) -> Array:
    return np.where(np.isnan(value), 0.0, np.nextafter(value, -inf))


def _number(value: Array) -> Array:
    """Rounded up; NaN, an overflow on the way, bounds nothing."""
    return np.where(np.isnan(value), inf, np.nextafter(value, inf))

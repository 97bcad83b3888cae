"""Largest eigenvalues of small symmetric matrices, from above and verified: whatever the eigenvalue routine did."""

import numpy as np

from problems.maps import Array
from verifier.bounds.rounding import UNIT, gamma


def largest_eigenvalues(matrices: Array, errors: Array) -> tuple[Array, Array]:
    """(upper (B,), vectors (B, m)): the exact symmetric matrices, within errors (B,) in the spectral norm of matrices (B, m, m), have no
    eigenvalue above `upper`; the vectors nearly attain it.

    For any nearly orthogonal Q, lambda_max(G) <= max(0, lambda_max(Q^T G Q)) / lambda_min(Q^T Q) (Ostrowski), and the largest absolute
    row sum bounds lambda_max(Q^T G Q). Entries that are not finite give inf.
    """
    size = matrices.shape[1]
    finite = np.isfinite(matrices).all(axis=(1, 2))
    safe = np.where(finite[:, None, None], matrices, 0.0)
    basis = np.linalg.eigh(safe)[1]
    transposed = np.swapaxes(basis, 1, 2)
    turned = transposed @ safe @ basis
    skew = np.abs(transposed @ basis - np.eye(size)).sum(axis=2).max(axis=1, initial=0.0) + 4.0 * size * gamma(size + 4)
    largest = np.abs(safe).max(axis=(1, 2), initial=0.0) * size
    # While skew <= 1, ||Q||_F^2 <= 2 size; each product errs by gamma times the product of Frobenius norms.
    error = 8.0 * size * gamma(2 * size + 8) * largest + errors * (1.0 + skew)
    highest = (np.abs(turned).sum(axis=2).max(axis=1, initial=0.0) + error) * (1.0 + (size + 8) * 2.0 * UNIT)
    upper = highest / np.maximum(1.0 - skew, 0.5) * (1.0 + 4.0 * UNIT)
    plain = np.abs(safe).sum(axis=2).max(axis=1, initial=0.0) * (1.0 + gamma(size + 4)) + errors
    bound = np.where(skew < 0.5, np.minimum(upper, plain), plain)
    return np.where(finite & ~np.isnan(bound), bound, np.inf), basis[:, :, -1]

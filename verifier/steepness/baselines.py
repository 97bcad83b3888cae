"""The bound that costs nothing, to be listed beside the exact constant: the product of the layers' norms."""

from math import inf

import numpy as np
import scipy.sparse as sparse

from problems.maps import LinearMap
from problems.network import Affine, Network, Relu
from verifier.bounds.jacobian import Jacobian
from verifier.bounds.rounding import UNIT
from verifier.steepness.directions import Directions
from verifier.steepness.norms import spectral_norms
from verifier.steepness.objective import Objective

# Larger maps are measured by norms that need no eigenvalues.
MOST_ENTRIES = 1 << 20


def norm_product(network: Network, objective: Objective) -> float:
    """The product over layers of the operator norms from r to r, r the input norm, and from r to q in the last one; over branches, sums."""
    r = objective.input_norm
    slopes: list[float] = [1.0]
    for node in network.nodes[1:-1]:
        if isinstance(node, Relu):
            slopes.append(slopes[node.parent])
            continue
        assert isinstance(node, Affine)
        slopes.append(_up(sum(_norm(linear, r) * slopes[parent] for linear, parent in zip(node.maps, node.parents, strict=True))))
    last = network.nodes[-1]
    assert isinstance(last, Affine)
    result = 0.0
    for rows in objective.rows:
        total = 0.0
        for linear, parent in zip(last.maps, last.parents, strict=True):
            jacobian = linear.transpose(rows.astype(float))
            part = Objective(rows[None], r, objective.output_norm, Directions.everywhere(jacobian.shape[1]))
            error = 4.0 * UNIT * linear.absolute().transpose(np.abs(rows).astype(float))
            total = _up(total + float(part.norms(Jacobian(jacobian[None], error[None]))[1].max()) * slopes[parent])
        result = max(result, total)
    return result


def _norm(linear: LinearMap, r: float) -> float:
    """An upper bound of the operator norm from r to r."""
    matrix, divisors = linear.rows()
    if divisors is not None:
        matrix = sparse.diags(1.0 / divisors) @ matrix
    size = abs(matrix)
    largest_row, largest_column = (_up(float(np.asarray(size.sum(axis=axis)).max(initial=0.0))) for axis in (1, 0))
    if r == inf:
        return largest_row
    if r == 1:
        return largest_column
    mixed = _up(np.sqrt(largest_row * largest_column))
    if matrix.shape[0] * matrix.shape[1] > MOST_ENTRIES:
        return mixed
    dense = matrix.toarray()
    return min(mixed, float(spectral_norms(dense[None], 4.0 * UNIT * np.abs(dense)[None])[1][0]))


def _up(value: float) -> float:
    """Rounded up by more than the sums and products before can have lost."""
    return float(np.nextafter(value * (1.0 + 1e-9), inf))

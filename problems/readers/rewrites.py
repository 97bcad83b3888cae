"""Matrix products with a constant, and leaky rectifiers and clipping: rewrites that several readers share."""

from math import prod

import numpy as np
import scipy.sparse as sparse

from problems.maps import Array
from problems.readers import exactly
from problems.readers.builder import Builder, Value


def times(builder: Builder, value: Value, weights: Array, *, left: bool = False) -> Value:
    """value @ weights, or weights @ value if `left`, weights a matrix or vector, as numpy.matmul has it; ValueError if they do not fit."""
    shape, vector = value.shape, len(value.shape) == 1
    if vector:  # a row on the left side, a column on the right side, and that axis goes away again
        shape = (*shape, 1) if left else (1, *shape)
    matrix = weights.reshape((1, -1) if left else (-1, 1)) if weights.ndim == 1 else weights
    if (shape[-2] if left else shape[-1]) != matrix.shape[1 if left else 0]:
        raise ValueError(f"shapes {value.shape} and {weights.shape} do not fit in a matrix product")
    axes = [*shape[:-2], matrix.shape[0], shape[-1]] if left else [*shape[:-1], matrix.shape[1]]
    before, after = (prod(shape[:-2]), shape[-1]) if left else (prod(shape[:-1]), 1)
    if vector:
        del axes[-1 if left else -2]
    if weights.ndim == 1:
        del axes[(-1 if vector else -2) if left else -1]
    applied = matrix if left else matrix.T
    if before == 1 and after == 1:
        return builder.dense(value, applied, tuple(axes))
    repeated = sparse.kron(sparse.kron(sparse.identity(before), sparse.csr_matrix(applied)), sparse.identity(after))
    return builder.matrix(value, sparse.csr_matrix(repeated), tuple(axes))


def leaky(builder: Builder, value: Value, slope: Array) -> Value:
    """slope x where x < 0, else x: slope x + (1 - slope) relu(x); where 1 - slope would be rounded, relu(x) - slope relu(-x)."""
    wide = np.broadcast_to(slope, value.shape)
    value = builder.settled(value)
    rest = exactly.total(np.ones_like(wide), -wide)
    if rest is not None:
        return builder.add(builder.scale(value, wide), builder.scale(builder.relu(value), rest))
    below = builder.scale(builder.relu(builder.negate(value)), -wide)
    return builder.add(builder.relu(value), below)


def clip(builder: Builder, value: Value, low: float | None, high: float | None) -> Value:
    """min(max(x, low), high) = high - relu(high - max(x, low)) with max(x, low) = low + relu(x - low)."""
    if low is not None:
        value = builder.shift(builder.relu(builder.shift(value, np.array(-low))), np.array(low))
    if high is not None:
        value = builder.shift(builder.negate(builder.relu(builder.shift(builder.negate(value), np.array(high)))), np.array(high))
    return value

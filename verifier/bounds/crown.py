"""Backward linear bound propagation (CROWN, Zhang et al. 2018), batched over pieces and rows, with a-priori rounding error.

For rows C the functional C . value(start) is pushed back to the input: at a ReLU, positive coefficients take the upper line and
negative ones the lower slope, so the result is a linear function that is never below the functional on the piece. A decided
neuron of sign s adds multiplier * s * z >= 0 (beta-CROWN, Wang et al. 2021): sound for any multiplier >= 0.

Rounding: an affine step computes fl(A W) instead of A W, which changes the functional by at most gamma |A| |W| |x|, and the
interval pass has already bounded |W| |x| + |b| by `magnitude`. So the whole error is one dot product per layer.
"""

import numpy as np

from problems.maps import Array
from problems.network import Affine, Input, Relu
from verifier.bounds import compiled
from verifier.bounds.interval import operations
from verifier.bounds.linear import Linear
from verifier.bounds.propagation import Propagation
from verifier.bounds.rounding import UNIT, gamma


def backward(
    pieces: Propagation,
    start: int,
    rows: Array,
    *,
    slopes: dict[int, Array] | None = None,
    pushes: dict[int, Array] | None = None,
    keep: bool = False,
) -> Linear:
    """A linear upper bound of rows . value(start) on each piece.

    rows (B, S, m); slopes[i] (B, S, m_i) lower slopes in [0, 1] of ReLU node i (default: the relaxation's own);
    pushes[i] (B, S, m_i) = multiplier * sign of the decided neurons of ReLU node i (sign 0 elsewhere).
    """
    nodes = pieces.network.nodes
    if pieces.packed is not None and start == len(nodes) - 1 and slopes is None and pushes is None:
        return compiled.backward(pieces, rows, keep=keep)
    pending: dict[int, Array] = {start: rows}
    constant = np.zeros(rows.shape[:2])
    error = np.zeros(rows.shape[:2])
    linear = Linear(rows, constant, error)
    for index in range(start, 0, -1):
        a = pending.pop(index, None)
        if a is None:
            continue
        node = nodes[index]
        if isinstance(node, Relu):
            if keep:
                linear.relu[index] = a
            lines = pieces.lines[index]
            slope = lines.slope[:, None, :] if slopes is None else slopes[index]
            constant += _dot(np.maximum(a, 0.0), lines.intercept)
            below = a * np.where(a > 0, lines.upper_slope[:, None, :], slope)
            if pushes is not None:
                push = pushes[index]
                # Here cancellation could hide the rounding of the products from the next affine step's |A|: charge it now.
                error += 4.0 * UNIT * _dot(np.abs(a) + np.abs(push), np.maximum(np.abs(lines.lower), np.abs(lines.upper)))
                below += push
            _accumulate(pending, node.parent, below)
        else:
            assert isinstance(node, Affine)
            # |A| magnitude also covers A . bias, the intercept product and the slope product of the ReLU above (see Lines.of).
            error += 2.0 * gamma(operations(node) + len(nodes)) * _dot(np.abs(a), pieces.magnitude[index])
            error += pieces.floors[index][:, None]
            if index in pieces.slack:
                error += np.abs(a) @ pieces.slack[index] * (1.0 + 1e-12)
            constant += a @ node.bias
            for parent, linear_map in zip(node.parents, node.maps, strict=True):
                _accumulate(pending, parent, linear_map.transpose(a))
    assert isinstance(nodes[0], Input)
    linear.coefficients = pending.get(0, np.zeros((*rows.shape[:2], nodes[0].size)))
    linear.constant, linear.error = constant, error
    return linear


def _accumulate(pending: dict[int, Array], index: int, a: Array) -> None:
    pending[index] = pending[index] + a if index in pending else a


def _dot(a: Array, vector: Array) -> Array:
    """a (B, S, m), vector (B, m) -> (B, S)."""
    return np.matmul(a, vector[:, :, None])[:, :, 0]


def upper_bound(pieces: Propagation, linear: Linear) -> tuple[Array, Array]:
    """(value (B, S), maximiser (B, S, n)): the linear bound maximised over the pieces; NaN counts as no bound."""
    value, point = pieces.region.support(linear.coefficients, pieces.lower, pieces.upper)
    with np.errstate(invalid="ignore", over="ignore"):
        total = value + (linear.constant + linear.error)
        total += 4.0 * UNIT * (np.abs(value) + np.abs(linear.constant) + linear.error)
    # A support of -inf proves that the piece is empty; any other NaN is an overflow, which bounds nothing.
    return np.where(value == -np.inf, -np.inf, np.where(np.isnan(total), np.inf, total)), point

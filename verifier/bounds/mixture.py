"""Conjunctions: a bound on the smallest of several rows by a convex combination of them.

min_i row_i(x) <= sum_i w_i row_i(x) for any weights w >= 0 of sum 1, so any mixture's maximum is a sound bound; the best mixture equals
the maximum of the smallest relaxed row (linear programming duality). The weights follow exponentiated gradient steps (Kivinen and
Warmuth 1997), whose subgradient is the vector of row values at the maximiser.
"""

import numpy as np

from problems.maps import Array
from verifier.bounds.linear import Concretise, Linear
from verifier.bounds.propagation import Propagation
from verifier.bounds.rounding import UNIT


def best_mixture(
    pieces: Propagation, linear: Linear, values: Array, concretise: Concretise, *, iterations: int = 16
) -> tuple[Array, Array, Array]:
    """(value (B,), weights (B, S), point (B, n)): the best bound among the rows alone, values (B, S), and mixtures of them."""
    batch, rows = values.shape
    weights = np.zeros((batch, rows))
    weights[np.arange(batch), values.argmin(axis=1)] = 1.0
    mixed = mix(pieces, linear, weights)
    best, point = concretise(pieces, mixed)
    best, point = np.minimum(best[:, 0], values.min(axis=1)), point[:, 0]
    if rows == 1:
        return best, weights, point
    current = np.full((batch, rows), 1.0 / rows)
    for step in range(iterations):
        value, x = concretise(pieces, mix(pieces, linear, current))
        value, x = value[:, 0], x[:, 0]
        wins = value < best
        best = np.where(wins, value, best)
        weights = np.where(wins[:, None], current, weights)
        point = np.where(wins[:, None], x, point)
        at = np.matmul(linear.coefficients, x[:, :, None])[:, :, 0] + linear.constant
        with np.errstate(invalid="ignore", over="ignore"):  # infinite rows make useless weights, replaced by equal ones
            at = at - at.min(axis=1, keepdims=True)
            spread = np.maximum(at.max(axis=1, keepdims=True), 1e-300)
            current = current * np.exp(-2.0 / np.sqrt(step + 1.0) * at / spread)
            current = current / current.sum(axis=1, keepdims=True)
        current = np.where(np.isfinite(current), current, 1.0 / rows)
    return best, weights, point


def mix(pieces: Propagation, linear: Linear, weights: Array) -> Linear:
    """sum_i weights_i row_i as one row, weights (B, S) >= 0 of sum 1 up to rounding, all rounding charged to the error."""

    def dot(terms: Array) -> Array:
        return np.einsum("bs,bs...->b...", weights, terms)[:, None]

    magnitude = np.maximum(np.abs(pieces.lower), np.abs(pieces.upper))
    size = np.matmul(np.abs(linear.coefficients), magnitude[:, :, None])[:, :, 0] + np.abs(linear.constant) + linear.error
    # Weights whose sum is off by a few units scale the mixture by as much: charged with the products and sums.
    error = dot(linear.error) + 8.0 * (weights.shape[1] + 4) * UNIT * dot(size)
    return Linear(dot(linear.coefficients), dot(linear.constant), error)

"""Interval bounds of the affine nodes, in centre-radius form, rounded outward (Gowal et al. 2018, with the error of Rump 1999)."""

import numpy as np

from problems.maps import Array
from problems.network import Affine
from verifier.bounds.rounding import TINY, UNIT, gamma


def affine_interval(node: Affine, lowers: list[Array], uppers: list[Array]) -> tuple[Array, Array, Array]:
    """Bounds of an affine node from bounds of its parents, batched.

    lowers[i], uppers[i] (B, n_i) for each parent i -> (lower (B, m), upper (B, m), magnitude (B, m)). The first two hold for the
    exact real map. The magnitude is at least sum_i |W_i| max|x_i| + |bias|: every later rounding error at this node is a small
    multiple of it.
    """
    with np.errstate(invalid="ignore", over="ignore"):
        lower, upper, magnitude = _bounds(node, lowers, uppers)
    # Infinite or overflowing parents leave NaN or the wrong infinity: no bound.
    return (
        np.where(np.isnan(lower) | (lower == np.inf), -np.inf, lower),
        np.where(np.isnan(upper) | (upper == -np.inf), np.inf, upper),
        np.where(np.isnan(magnitude), np.inf, magnitude),
    )


def _bounds(node: Affine, lowers: list[Array], uppers: list[Array]) -> tuple[Array, Array, Array]:
    middle = np.broadcast_to(node.bias, (len(lowers[0]), node.size)).copy()
    spread = np.zeros_like(middle)
    magnitude = np.abs(middle)
    for linear, lower, upper in zip(node.maps, lowers, uppers, strict=True):
        if lower.strides[0] == upper.strides[0] == 0:  # all pieces share this parent's bounds
            lower, upper = lower[:1], upper[:1]
        centre = 0.5 * lower + 0.5 * upper
        # The radius of the interval around the rounded centre, with the rounding of the differences themselves added.
        largest = np.maximum(np.abs(lower), np.abs(upper))
        radius = np.maximum(upper - centre, centre - lower) + 4 * UNIT * largest
        middle += linear.forward(centre)
        both = linear.absolute().forward(np.stack([radius, largest]))
        spread += both[0]
        magnitude += both[1]
    # forward(centre) errs by gamma |W||x|, spread and magnitude by as much again, the last sums by a few units each.
    error = 4.0 * gamma(operations(node)) * magnitude + TINY
    return middle - spread - error, middle + spread + error, magnitude * (1.0 + 2.0 * gamma(operations(node)))


def operations(node: Affine) -> int:
    """An upper bound on the roundings that one entry of a forward, transposed or bias product of this node goes through."""
    # A row pushed back through the node meets the parents' biases and intercepts, too: sums as long as the parents are wide.
    return max(node.size, *(max(linear.terms, linear.in_size) for linear in node.maps)) + len(node.maps) + 16

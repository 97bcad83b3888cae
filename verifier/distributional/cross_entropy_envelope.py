"""Cross-entropy over boxes of its rows: linear upper bounds, where to start with them, and where to cut.

Rows are those of `losses.CrossEntropy`: v_0 = z_k - z_y and v_j = z_j - z_k <= 0, of which cross-entropy is
F(v) = log(1 + exp(v_0) (1 + sum_j exp(v_j))), convex and increasing. All boxes (low, high) are (B, R), high[:, 1:] <= 0.
"""

import numpy as np

from problems.maps import Array

# Weights are multiples of 2^-24 below 2^20: sums of them, and so the rows they mix, are exact in float64.
GRAIN, LARGEST = 2.0**24, 2.0**20
# A cut at the kink is taken if it leaves at most this share of what the chord costs.
LEFT = 0.4
# A cut leaves at least this share of a row's range on either side.
SHARE = 0.05
# What a chord costs at the kink counts this much of what it costs at the point that gives the bound.
ELSEWHERE = 0.3


def grained(weights: Array) -> Array:
    """The weights as numbers whose sums are exact."""
    return np.clip(np.nan_to_num(np.rint(weights * GRAIN) / GRAIN), -LARGEST, LARGEST)


def offsets(weights: Array, low: Array, high: Array) -> tuple[Array, Array]:
    """(c (B,), vertex (B, R)): the proven least c with F(v) <= weights.v + c on the boxes, and the vertex that needs it.

    weights (B, R), any real numbers. inf where no finite c serves.
    """
    from verifier.distributional.kernel_log_sum_exp import envelope  # compiled: loaded when first used

    value, vertex = np.empty(len(weights)), np.empty(weights.shape)
    envelope(_plain(weights), _plain(low), _plain(high), value, vertex)
    return value, vertex


def _plain(a: Array) -> Array:
    return np.ascontiguousarray(a, dtype=np.float64)


def value(v: Array) -> Array:
    """F in floats, v (..., R); nothing is proved."""
    with np.errstate(over="ignore", under="ignore"):
        return np.logaddexp(0.0, v[..., 0] + np.log1p(np.exp(v[..., 1:]).sum(axis=-1)))


def raised(low: Array, high: Array, floor: Array) -> Array:
    """The boxes' low ends (B, R) with the first raised as far as F <= floor (B,) is proved below it."""
    others = np.log1p(np.exp(np.minimum(high[:, 1:], 0.0)).sum(axis=1))
    with np.errstate(divide="ignore", invalid="ignore"):
        large = floor > 30.0
        inverse = np.where(large, floor, np.log(np.expm1(np.where(large, 1.0, np.maximum(floor, 0.0)))))
    wanted = inverse - others
    wanted -= 1e-9 * (1.0 + np.abs(wanted))
    corner = high.copy()
    corner[:, 0] = np.where(np.isfinite(wanted), wanted, 0.0)
    sure = np.isfinite(wanted) & (offsets(np.zeros(high.shape), corner, corner)[0] <= floor)
    result = low.copy()
    result[:, 0] = np.where(sure, np.maximum(low[:, 0], wanted), low[:, 0])
    return result


def chords(v: Array, low: Array, high: Array) -> Array:
    """The slopes (B, R) of the chords of F along each row's range, the other rows being v (B, R), a point of the box; in floats."""
    from verifier.distributional import kernel_chords

    slopes = np.empty(v.shape)
    kernel_chords.chords(_plain(v), _plain(low), _plain(high), slopes)
    return slopes


def cuts(v: Array, low: Array, high: Array) -> tuple[Array, Array, Array]:
    """(row (B,), place (B,), promise (B,)): which row's range to cut, and where, by what its chord costs at v (B, R) or at its kink.

    A cut at the kink leaves short chords on both sides, one at v only there. Where nothing can be cut the promise is -1.
    """
    from verifier.distributional import kernel_chords

    row, place, promise = np.empty(len(v), np.int64), np.empty(len(v)), np.empty(len(v))
    kernel_chords.cuts(np.clip(v, low, high), _plain(low), _plain(high), SHARE, LEFT, ELSEWHERE, row, place, promise)
    return row, place, promise

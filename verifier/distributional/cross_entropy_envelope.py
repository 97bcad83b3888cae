"""Cross-entropy over boxes of its rows: linear upper bounds, where to start with them, and where to cut.

Rows are those of `losses.CrossEntropy`: v_0 = z_k - z_y and v_j = z_j - z_k <= 0, of which cross-entropy is
F(v) = log(1 + exp(v_0) (1 + sum_j exp(v_j))), convex and increasing. All boxes (low, high) are (B, R), high[:, 1:] <= 0.
"""

import numpy as np

from problems.maps import Array

# Weights are multiples of 2^-24 below 2^20: sums of them, and so the rows they mix, are exact in float64.
GRAIN, LARGEST = 2.0**24, 2.0**20
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


def chords(v: Array, low: Array, high: Array) -> tuple[Array, Array]:
    """(slopes, gaps), each (B, R): of the chord of F along each row's range, the other rows being v, and what it exceeds F by at v.

    v (B, R) in the boxes, whose ends are finite.
    """
    total = np.exp(v[:, 1:]).sum(axis=1)
    slopes, gaps = np.empty(v.shape), np.empty(v.shape)
    here = value(v)
    for j in range(v.shape[1]):
        ends = []
        for side in (low[:, j], high[:, j]):
            if j == 0:
                ends.append(np.logaddexp(0.0, side + np.log1p(total)))
            else:
                rest = np.maximum(total - np.exp(v[:, j]), 0.0)
                ends.append(np.logaddexp(0.0, v[:, 0] + np.log1p(rest + np.exp(side))))
        width = high[:, j] - low[:, j]
        slopes[:, j] = np.where(width > 0.0, (ends[1] - ends[0]) / np.where(width > 0.0, width, 1.0), 0.0)
        gaps[:, j] = ends[0] + slopes[:, j] * (v[:, j] - low[:, j]) - here
    return slopes, gaps


def cuts(v: Array, low: Array, high: Array) -> tuple[Array, Array, Array]:
    """(row (B,), place (B,), promise (B,)): which row's range to cut, and where, by what its chord costs at v (B, R) or at its kink."""
    width = high - low
    inside = np.clip(v, low, high)
    best = np.clip(inside, low + SHARE * width, high - SHARE * width)
    promise = _each(inside, best, low, high)
    total = np.exp(inside[:, 1:]).sum(axis=1, keepdims=True)
    kinks = np.empty(v.shape)
    kinks[:, :1] = -np.log1p(total)
    with np.errstate(over="ignore"):
        kinks[:, 1:] = np.log1p(np.maximum(total - np.exp(inside[:, 1:]), 0.0) + np.exp(-np.maximum(inside[:, :1], -500.0)))
    kinks = np.clip(kinks, low + SHARE * width, high - SHARE * width)
    there = ELSEWHERE * _each(inside, kinks, low, high)
    best, promise = np.where(there > promise, kinks, best), np.maximum(there, promise)
    promise = np.where((low < best) & (best < high), promise, -1.0)
    row = promise.argmax(axis=1)
    picked = np.arange(len(row))
    return row, best[picked, row], promise[picked, row]


def _each(v: Array, places: Array, low: Array, high: Array) -> Array:
    """(B, R): what the chord of each row costs at its place, the other rows being v."""
    result = np.empty(v.shape)
    for j in range(v.shape[1]):
        moved = v.copy()
        moved[:, j] = places[:, j]
        result[:, j] = chords(moved, low, high)[1][:, j]
    return result

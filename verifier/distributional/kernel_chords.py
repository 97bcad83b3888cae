"""Chords of cross-entropy along its rows, compiled. They choose weights and cuts and prove nothing."""

from pathlib import Path

import numpy as np

from problems.regions.compiled import discard_outdated, kept_on_disk

Array = np.ndarray

discard_outdated(Path(__file__).parent, "kernel*")

search = kept_on_disk(fastmath={"reassoc", "contract", "nsz"})


@search
def _function(first: float, total: float) -> float:
    """log(1 + exp(v_0) (1 + total)), total = sum of exp(v_j)."""
    t = first + np.log1p(total)
    return t + np.log1p(np.exp(-t)) if t > 0.0 else np.log1p(np.exp(t))


@search
def _total(v: Array) -> float:
    total = 0.0
    for j in range(1, v.shape[0]):
        total += np.exp(v[j])
    return total


@search
def _along(v: Array, total: float, row: int, place: float) -> float:
    """F where the row is at its place and the others at v."""
    if row == 0:
        return _function(place, total)
    return _function(v[0], max(total - np.exp(v[row]), 0.0) + np.exp(place))


@search
def _gap(v: Array, total: float, row: int, low: float, high: float, place: float) -> float:
    """What the chord over [low, high] exceeds F by at the place."""
    if not low < high:
        return 0.0
    first, last = _along(v, total, row, low), _along(v, total, row, high)
    return first + (last - first) / (high - low) * (place - low) - _along(v, total, row, place)


@search
def chords(v: Array, low: Array, high: Array, slopes: Array) -> None:
    """The slope of the chord of F along each row's range, the other rows being v: all (B, R)."""
    for b in range(v.shape[0]):
        total = _total(v[b])
        for j in range(v.shape[1]):
            width = high[b, j] - low[b, j]
            slopes[b, j] = 0.0
            if width > 0.0:
                slopes[b, j] = (_along(v[b], total, j, high[b, j]) - _along(v[b], total, j, low[b, j])) / width


@search
def cuts(v: Array, low: Array, high: Array, share: float, left: float, elsewhere: float, row: Array, place: Array, promise: Array) -> None:
    """See `cross_entropy_envelope.cuts`; v within the boxes."""
    for b in range(v.shape[0]):
        total = _total(v[b])
        row[b], place[b], promise[b] = 0, low[b, 0], -1.0
        for j in range(v.shape[1]):
            width = high[b, j] - low[b, j]
            least, most = low[b, j] + share * width, high[b, j] - share * width
            if not width > 0.0:
                continue
            kink = -np.log1p(total)
            if j > 0:
                kink = np.log1p(max(total - np.exp(v[b, j]), 0.0) + np.exp(-max(v[b, 0], -500.0)))
            kink = min(max(kink, least), most)
            gap = _gap(v[b], total, j, low[b, j], high[b, j], v[b, j])
            above = v[b, j] >= kink
            rest = _gap(v[b], total, j, kink if above else low[b, j], high[b, j] if above else kink, v[b, j])
            worth = elsewhere * _gap(v[b], total, j, low[b, j], high[b, j], kink)
            if rest <= left * gap:
                here, worth = kink, max(worth, gap - rest)
            else:
                here, worth = min(max(v[b, j], least), most), max(worth, gap)
            if worth > promise[b] and low[b, j] < here < high[b, j]:
                row[b], place[b], promise[b] = j, here, worth

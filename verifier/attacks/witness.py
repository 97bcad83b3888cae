"""What an attack found, decided exactly: margins, distances, and the last step onto the error set.

Distances that leave here are upper bounds on radii, so they are norms of float points whose margin is >= 0 in exact
arithmetic, rounded up. A tie is an error (THEORY section 1): the error set is closed.
"""

from fractions import Fraction
from math import inf
from time import monotonic

import numpy as np
import torch

from problems.exact import evaluate
from problems.network import Network
from problems.regions.ball import Ball
from verifier.witness import enclose

Array = np.ndarray

# Points looked at in each round of the search on a segment: the first round looks for an earlier crossing, the rest narrow it down.
PROBES = (32, *(4,) * 14)
# Relative steps past the float boundary: those at which intervals are tried, then those at which exact arithmetic is.
STEPS_PAST = (2.0**-36, 2.0**-30, 2.0**-24)
STEPS_EXACT = (0.0, 2.0**-44, 2.0**-26)


def exact_margin(network: Network, point: Array, label: int) -> Fraction:
    """max over k != label of z_k - z_label at the float point (n,), without rounding."""
    logits = evaluate(network, point)
    return max(z for k, z in enumerate(logits) if k != label) - logits[label]


def proven_margins(network: Network, points: Array, labels: Array) -> tuple[Array, Array]:
    """(lower (N,), upper (N,)): bounds of the margins at the float points (N, n), labels (N,), by interval arithmetic."""
    low, high = enclose(network, points)
    rows = np.arange(len(points))
    true_low, true_high = low[rows, labels].copy(), high[rows, labels].copy()
    low[rows, labels] = high[rows, labels] = -inf
    return np.nextafter(low.max(1) - true_high, -inf), np.nextafter(high.max(1) - true_low, inf)


def float_margins(logits: Array, labels: Array) -> Array:
    """max over k != label of z_k - z_label, rounded: logits (..., K), labels (...) -> (...)."""
    labels = np.broadcast_to(labels, logits.shape[:-1])[..., None]
    true = np.take_along_axis(logits, labels, -1)[..., 0]
    others = logits.copy()
    np.put_along_axis(others, labels, -inf, -1)
    return others.max(-1) - true


def distance_up(point: Array, origin: Array, norm: float) -> float:
    """||point - origin|| in the norm 1, 2 or inf, both float (n,): computed exactly, then rounded up."""
    return Ball(origin, inf, norm).norm_upper(point)


def first_errors(module: torch.nn.Module, origins: Array, points: Array, labels: Array, lower: Array, upper: Array, batch: int) -> Array:
    """Shares t (N,) in (0, 1]: origin + t (point - origin) is an error in float64, and t is nearly the least such share.

    module: the network in float64 on the CPU; origins, points (N, n) in the box, labels (N,); `batch` points are evaluated at once. NaN
    where the point itself is no error in float64.
    """
    shares = np.full(len(origins), np.nan)
    for begin in range(0, len(origins), max(1, batch // PROBES[0])):
        rows = slice(begin, begin + max(1, batch // PROBES[0]))
        origin, shift = origins[rows, None], (points - origins)[rows, None]

        def wrong(inputs: Array, labels: Array) -> Array:
            with torch.no_grad():
                logits = module(torch.from_numpy(inputs.reshape(-1, inputs.shape[-1]))).numpy()
            return float_margins(logits.reshape(*inputs.shape[:-1], -1), labels) >= 0

        low, high = np.zeros(len(origin)), np.ones(len(origin))
        met = wrong(np.clip(points[rows], lower, upper), labels[rows])
        for probes in PROBES:
            grid = low[:, None] + (high - low)[:, None] * np.arange(1, probes + 1) / probes
            grid[:, -1] = high
            hits = wrong(np.clip(origin + grid[..., None] * shift, lower, upper), labels[rows, None])
            hits[:, -1] = True  # known from the round before
            first = hits.argmax(1)
            index = np.arange(len(first))
            low, high = np.where(first > 0, grid[index, first - 1], low), grid[index, first]
        shares[rows] = np.where(met, high, np.nan)
    return shares


def settle(
    network: Network,
    origins: Array,
    points: Array,
    shares: Array,
    labels: Array,
    norm: float,
    lower: Array,
    upper: Array,
    deadline: float | None = None,
) -> tuple[Array, Array]:
    """(points (N, n), distances (N,)): the point at or just past share t of each segment whose margin is proved to be >= 0.

    origins, points (N, n), shares (N,) of `first_errors`. Proved by intervals where they are narrow enough, else in exact
    arithmetic. Distances are rounded up; inf (and the origin) where no point was proved to be an error, or time was up.
    """
    settled, distances = origins.copy(), np.full(len(origins), inf)
    left = np.flatnonzero(~np.isnan(shares))

    def candidates(rows: Array, step: float) -> Array:
        share = np.minimum(1.0, shares[rows] * (1 + step))[:, None]
        inner = origins[rows] + share * (points[rows] - origins[rows])
        return np.clip(np.where(share == 1.0, points[rows], inner), lower, upper)

    for step in STEPS_PAST:
        if not len(left):
            break
        tried = candidates(left, step)
        proved = proven_margins(network, tried, labels[left])[0] >= 0
        for row, point in zip(left[proved], tried[proved], strict=True):
            settled[row], distances[row] = point, distance_up(point, origins[row], norm)
        left = left[~proved]
    for row in left:
        for step in (*STEPS_EXACT, inf):
            if deadline is not None and monotonic() >= deadline:
                return settled, distances
            point = candidates(np.array([row]), step)[0]
            if exact_margin(network, point, int(labels[row])) >= 0:
                settled[row], distances[row] = point, distance_up(point, origins[row], norm)
                break
    return settled, distances

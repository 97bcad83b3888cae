"""Cross-entropy on one cell, penalised by the distance from a sample: bounded by branching over the competitors' margins.

On the part of a cell where k is the top competitor let v_0 = z_k - z_y, v_j = z_j - z_k <= 0: affine in x. On a box of v, cross-entropy
lies below r.v + c(r) for any r (`kernel_log_sum_exp.envelope`), which makes the box a penalised affine piece (`penalised_cell`) with the
box as
further rows. Boxes are halved where the affine bound is off at the maximiser; they begin as v_0 <= 0 and v_0 >= 0, all else unbounded.
"""

from collections.abc import Callable
from dataclasses import dataclass
from heapq import heappop, heappush
from math import inf, isfinite

import numpy as np

from problems.maps import Array
from problems.rounding import UNIT
from verifier.distributional.kernel_log_sum_exp import envelope
from verifier.distributional.penalised_cell import Piece, dual, repaired

# Boxes of one part that are opened before it is left as it is.
MOST = 4000


@dataclass(frozen=True, eq=False)
class Part:
    """One cell seen from x (n,), k on top: rows (m, n + 1) with errors, and v (K - 1, n + 1), functions of (x, 1), with errors."""

    rows: Array
    row_errors: Array
    v: Array
    v_errors: Array
    x: Array
    norm: float

    def piece(self, low: Array, high: Array, r: Array, constant: float) -> Piece:
        """r.v + constant on the part of the cell with low <= v <= high."""
        rows, errors = [self.rows], [self.row_errors]
        for side, sign in ((low, 1.0), (high, -1.0)):
            held = np.isfinite(side)
            extra = sign * self.v[held]
            extra[:, -1] -= sign * side[held]
            error = self.v_errors[held].copy()
            error[:, -1] += 2 * UNIT * np.abs(extra[:, -1])
            rows.append(extra)
            errors.append(error)
        g = r @ self.v
        error = np.abs(r) @ self.v_errors + (len(r) + 2) * 2 * UNIT * (np.abs(r) @ np.abs(self.v))
        g[-1] += constant
        error[-1] += 2 * UNIT * abs(g[-1])
        return Piece.seen(np.concatenate(rows), np.concatenate(errors), g, error, self.x, self.norm)


def bound(
    part: Part, rate: float, order: float, *, offer: Callable[[Array], None], goal: Callable[[], float], stopped: Callable[[], object],
    solver: str,
) -> tuple[float, int]:  # fmt: skip
    """(proven bound of the penalised supremum over the part, programs solved).

    offer(displacement (n,)) takes in a witness; goal() is what a bound has to fall to, as of now; stopped() says to give up.
    """
    count = len(part.v)
    low, high = np.full(count, -inf), np.zeros(count)
    below = low, high.copy()
    above_low, above_high = low.copy(), high.copy()
    above_low[0], above_high[0] = 0.0, inf
    heap: list[tuple[float, int, Array, Array]] = []
    number = programs = 0
    settled = -inf
    for box in (below, (above_low, above_high)):
        heappush(heap, (-inf, number, *box))
        number += 1
    while heap:
        known, _, low, high = heappop(heap)
        if -known <= goal():
            return max(settled, -known), programs
        if stopped() or programs > MOST:
            return max(settled, -known), programs
        r = slopes(low, high)
        constant, _ = _envelope(r, low, high)
        piece = part.piece(low, high, r, constant)
        multipliers, displacement = dual(piece, rate, order, solver=solver)
        programs += 1
        if order == 1:
            multipliers = repaired(piece, multipliers, rate)
        value = min(piece.bound(multipliers, rate, order), -known)
        if displacement is not None:
            offer(displacement)
        if value <= goal():
            settled = max(settled, value)
            continue
        at = None if displacement is None else part.v @ np.append(part.x + displacement, 1.0)
        children = halved(low, high, r, at)
        if children is None:
            settled = max(settled, value)
            continue
        for child in children:
            heappush(heap, (-value, number, *child))
            number += 1
    return settled, programs


def slopes(low: Array, high: Array) -> Array:
    """Slopes r (R,) of a good affine bound on the box: those of the chords, 0 or 1 where the box is unbounded."""
    r = np.zeros(len(low))
    center = np.where(np.isfinite(low), 0.5 * (low + high), high - 1.0)
    center[0] = low[0] + 1.0 if not isfinite(high[0]) else center[0]
    for j in range(len(low)):
        if not isfinite(low[j]):
            continue
        if not isfinite(high[j]):
            r[j] = 1.0
            continue
        ends = []
        for side in (low, high):
            point = center.copy()
            point[j] = side[j]
            ends.append(_cross_entropy(point))
        width = high[j] - low[j]
        r[j] = (ends[1] - ends[0]) / width if width > 0 else 0.0
    return np.clip(r, 0.0, 1.0)


def halved(low: Array, high: Array, r: Array, at: Array | None) -> list[tuple[Array, Array]] | None:
    """The box cut in two where the affine bound is worst at the point `at` (R,), or in its widest coordinate; None where it is a point."""
    weights = _weights(np.where(np.isfinite(high), high, np.where(np.isfinite(low), low + 1.0, 0.0)))
    width = high - low
    with np.errstate(invalid="ignore"):
        # An unbounded coordinate matters by what it can still add: its weight at its high end.
        score = np.where(np.isfinite(width), weights * width * width / (1 + width), 8.0 * weights)
    j = int(score.argmax())
    place = None if at is None or not isfinite(at[j]) else float(at[j])
    if isfinite(width[j]):
        if width[j] <= 4 * UNIT * (1 + abs(high[j])):
            return None
        inner = 0.5 * (low[j] + high[j]) if place is None else min(max(place, low[j] + 0.1 * width[j]), high[j] - 0.1 * width[j])
    elif isfinite(low[j]):
        inner = low[j] + 2.0 if place is None else max(place + 1.0, low[j] + 1.0)
    else:
        inner = high[j] - 2.0 if place is None else min(place - 1.0, high[j] - 1.0)
    first, second = high.copy(), low.copy()
    first[j] = second[j] = inner
    return [(low, first), (second, high)]


def _weights(v: Array) -> Array:
    """About the derivatives of cross-entropy at v (R,)."""
    logits = np.concatenate([[0.0, v[0]], v[0] + v[1:]])
    shares = np.exp(logits - logits.max())
    shares /= shares.sum()
    return np.concatenate([[shares[1:].sum() * (1 - shares[1:].sum()) + 1e-12], shares[2:] + 1e-12])


def _cross_entropy(v: Array) -> float:
    logits = np.concatenate([[0.0, v[0]], v[0] + v[1:]])
    top = float(logits.max())
    return top + float(np.log(np.exp(logits - top).sum()))


def _envelope(r: Array, low: Array, high: Array) -> tuple[float, Array]:
    value, vertex = np.empty(1), np.empty((1, len(r)))
    envelope(r[None].copy(), low[None].copy(), high[None].copy(), value, vertex)
    return float(value[0]), vertex[0]

"""Bounds of a whole layer by backward propagation, with or without optimised slopes."""

import time

import numpy as np

from problems.maps import Array
from verifier.bounds.crown import backward, upper_bound
from verifier.bounds.optimise import optimise
from verifier.bounds.propagation import Propagation


def layer_bounds(pieces: Propagation, start: int, iterations: int = 0) -> tuple[Array, Array]:
    """Bounds (lower, upper), each (B, m), of affine node `start`; only entries unstable in some piece are computed, the rest infinite.

    iterations > 0 optimises the slopes of each row by that many steps (alpha-CROWN). Past the deadline of `pieces` no more is computed.
    """
    lower, upper = pieces.lowers[start], pieces.uppers[start]
    wanted = np.flatnonzero(((lower < 0) & (upper > 0) & ~pieces.empty[:, None]).any(axis=0))
    lower, upper = np.full_like(lower, -np.inf), np.full_like(upper, np.inf)
    widest = max(node.size for node in pieces.network.nodes[: start + 1])
    if iterations:
        widest = max(widest, 4 * pieces.network.neurons)
    step = max(1, int(pieces.chunk_bytes / (16 * pieces.batch * widest)))

    def late(_: Array | None = None) -> bool:
        return time.monotonic() >= pieces.deadline

    for first in range(0, len(wanted), step):
        if late():
            break
        chunk = wanted[first : first + step]
        rows = np.zeros((2 * len(chunk), lower.shape[1]))
        rows[np.arange(len(chunk)), chunk] = 1.0
        rows[len(chunk) + np.arange(len(chunk)), chunk] = -1.0
        batch = np.broadcast_to(rows, (pieces.batch, *rows.shape))
        if iterations:
            value = optimise(pieces, start, batch, upper_bound, iterations=iterations, rate=0.5, stop=late).value
        else:
            value, _ = upper_bound(pieces, backward(pieces, start, batch))
        upper[:, chunk] = value[:, : len(chunk)]
        lower[:, chunk] = -value[:, len(chunk) :]
    return lower, upper

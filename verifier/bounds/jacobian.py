"""Interval bounds of the Jacobian: the network's chain rule with every open neuron's derivative anywhere in [0, 1].

Rows are pushed back through the graph as intervals in centre-radius form, rounding added to the radius. With all neurons decided the
radius holds nothing but the rounding errors: the same pass gives the Jacobian of a cell with its error.
"""

from dataclasses import dataclass

import numpy as np

from problems.maps import Array
from problems.network import Affine, Network, Relu
from verifier.bounds.interval import operations
from verifier.bounds.propagation import Layout
from verifier.bounds.rounding import TINY, UNIT, gamma

# Batches are cut so that one array of coefficients stays below this many entries.
CHUNK_ENTRIES = 1 << 22


@dataclass(frozen=True, eq=False)
class Jacobian:
    """Entry by entry, the exact rows.J of every point of piece b lies within radius (B, S, n) of centre (B, S, n)."""

    centre: Array
    radius: Array


def masks_of(lower: Array, upper: Array, signs: Array | None = None) -> tuple[Array, Array]:
    """(low (B, h), high (B, h)) bool: derivatives that neurons can have on full cells where pre-activations lie in [lower, upper].

    signs (B, h): decided neurons. A neuron that is identically 0 on a full cell has derivative 0 there by convention (its slope does not
    count), so upper <= 0 decides it.
    """
    high = ~(upper <= 0.0)  # a bound that overflowed to NaN decides nothing
    low = (lower >= 0.0) & high
    if signs is not None:
        low, high = np.where(signs > 0, high, low), np.where(signs < 0, False, high)
        low = low & high
    return low, high


def jacobian(network: Network, low: Array, high: Array, rows: Array) -> Jacobian:
    """The rows (S, K) or (B, S, K) of the logits, differentiated: low, high (B, h) bool say which derivatives each ReLU can have."""
    batch, size = len(low), rows.shape[-2]
    rows = np.broadcast_to(rows.astype(float), (batch, *rows.shape[-2:]))
    centre = np.empty((batch, size, network.input_size))
    radius = np.empty_like(centre)
    widest = max(node.size for node in network.nodes)
    step = max(1, CHUNK_ENTRIES // (max(1, size) * widest))
    for first in range(0, batch, step):
        part = slice(first, first + step)
        with np.errstate(invalid="ignore", over="ignore"):
            centre[part], radius[part] = _backward(network, low[part], high[part], rows[part])
    lost = ~np.isfinite(centre)
    centre[lost], radius[lost | np.isnan(radius)] = 0.0, np.inf
    return Jacobian(centre, radius)


def _backward(network: Network, low: Array, high: Array, rows: Array) -> tuple[Array, Array]:
    layout = Layout.of(network)
    parts = dict(zip(layout.relus, layout.slices, strict=True))
    pending: dict[int, tuple[Array, Array]] = {len(network.nodes) - 1: (rows, np.zeros_like(rows))}
    for index in range(len(network.nodes) - 1, 0, -1):
        if index not in pending:
            continue
        centre, radius = pending.pop(index)
        node = network.nodes[index]
        if isinstance(node, Relu):
            part = parts[index]
            _add(pending, node.parent, *_masked(centre, radius, low[:, None, part], high[:, None, part]))
            continue
        assert isinstance(node, Affine)
        relative = 2.0 * gamma(operations(node))
        # Rows of zeros stay exact.
        floor = np.where((np.abs(centre) + radius).any(axis=2, keepdims=True), TINY, 0.0)
        for parent, linear in zip(node.parents, node.maps, strict=True):
            spread = linear.absolute().transpose(radius + relative * (np.abs(centre) + radius))
            _add(pending, parent, linear.transpose(centre), spread * (1.0 + relative) + floor)
    empty = np.zeros((*rows.shape[:2], network.input_size))
    return pending.get(0, (empty, empty))


def _masked(centre: Array, radius: Array, low: Array, high: Array) -> tuple[Array, Array]:
    """The product of [centre - radius, centre + radius] with [low, high]."""
    bottom, top = np.minimum(centre - radius, 0.0), np.maximum(centre + radius, 0.0)
    middle = 0.5 * bottom + 0.5 * top
    wide = (np.maximum(top - middle, middle - bottom) + TINY) * (1.0 + 8.0 * UNIT) + 4.0 * UNIT * np.abs(middle)
    still_open = high & ~low
    return np.where(still_open, middle, np.where(high, centre, 0.0)), np.where(still_open, wide, np.where(high, radius, 0.0))


def _add(pending: dict[int, tuple[Array, Array]], index: int, centre: Array, radius: Array) -> None:
    if index in pending:
        other, spread = pending[index]
        total = centre + other
        pending[index] = total, (radius + spread) * (1.0 + 4.0 * UNIT) + 2.0 * UNIT * np.abs(total)
    else:
        pending[index] = centre, radius

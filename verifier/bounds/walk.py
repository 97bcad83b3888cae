"""The one walk over the graph that bounds every node of a batch of pieces."""

import numpy as np

from problems.maps import Array
from problems.network import Affine, Relu
from verifier.bounds import compiled
from verifier.bounds.interval import affine_interval, operations
from verifier.bounds.layers import layer_bounds
from verifier.bounds.propagation import Layout, Lines, Propagation
from verifier.bounds.rounding import SMALLEST, TINY, down, up


def walk(
    pieces: Propagation, known: tuple[Array, Array] | None = None, *, crown: bool = False, iterations: int = 0, after: int = 0
) -> Propagation:
    """Bound every node of the pieces, and return them.

    known: (lower, upper), each (B, h), pre-activation bounds that hold on the pieces (splits, parents). crown: tighten every layer by
    backward propagation, with `iterations` steps of slope optimisation; only the ReLU nodes after node `after`, where what is known
    has not changed before.
    """
    if crown and not iterations and not after and compiled.applies(pieces):
        return compiled.walk(pieces, known)
    layout = Layout.of(pieces.network)
    parts = dict(zip(layout.relus, layout.slices, strict=True))
    pieces.lowers, pieces.uppers = [pieces.lower], [pieces.upper]
    for index, node in enumerate(pieces.network.nodes[1:], start=1):
        if isinstance(node, Affine):
            bounds = affine_interval(node, [pieces.lowers[p] for p in node.parents], [pieces.uppers[p] for p in node.parents])
            slack = pieces.slack.get(index)
            pieces.lowers.append(bounds[0] if slack is None else down(bounds[0] - slack))
            pieces.uppers.append(bounds[1] if slack is None else up(bounds[1] + slack))
            pieces.magnitude[index] = bounds[2]
            pieces.floors[index] = _floor(pieces, index, node)
            continue
        assert isinstance(node, Relu)
        if known is not None:
            _tighten(pieces, node.parent, known[0][:, parts[index]], known[1][:, parts[index]])
        if crown and index > after and (pieces.lines or not pieces.region.is_box):
            steps = iterations if pieces.lines else 0  # before the first ReLU there is no slope to choose
            _tighten(pieces, node.parent, *layer_bounds(pieces, node.parent, steps))
        lines = Lines.of(pieces.lowers[node.parent], pieces.uppers[node.parent])
        pieces.lines[index] = lines
        pieces.lowers.append(np.maximum(lines.lower, 0.0))
        pieces.uppers.append(np.maximum(lines.upper, 0.0))
    return pieces


def _floor(pieces: Propagation, index: int, node: Affine) -> Array:
    """(B,): what underflow may cost a row that is pushed back through the node: each product may lose the smallest float, times the
    largest output or input that meets the coefficient."""
    reach = pieces.magnitude[index].sum(axis=1)
    for parent in node.parents:
        lower, upper = pieces.lowers[parent], pieces.uppers[parent]
        if lower.strides[0] == upper.strides[0] == 0:  # all pieces share this parent's bounds
            lower, upper = lower[:1], upper[:1]
        reach = reach + np.maximum(np.abs(lower), np.abs(upper)).sum(axis=1)
    return TINY + operations(node) * SMALLEST * reach


def _tighten(pieces: Propagation, index: int, lower: Array, upper: Array) -> None:
    lower = np.maximum(pieces.lowers[index], lower)
    upper = np.minimum(pieces.uppers[index], upper)
    crossed = lower > upper
    if crossed.any():
        pieces.empty |= crossed.any(axis=1)
        lower, upper = np.where(crossed, upper, lower), np.where(crossed, lower, upper)
    pieces.lowers[index], pieces.uppers[index] = lower, upper

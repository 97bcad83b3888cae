"""Where to cut a piece: scores of open neurons and of input axes, both by what the relaxation of open neurons costs the bound."""

import numpy as np

from problems.maps import Array
from problems.network import Affine, Relu
from verifier.bounds import Layout, Lines, Optimised, Propagation, compiled

# The share of a linear term in an axis' score: it decides only where no neuron is open on the way.
LINEAR_SHARE = 0.1


def neuron_scores(layout: Layout, pieces: Propagation, result: Optimised, weights: Array) -> Array:
    """(B, h): what deciding each open neuron promises; -1 where the neuron is decided.

    weights (B, S) says how much each row counts: the heaviest row's coefficients are used. What a neuron costs is the intercept of
    its upper line, as in BaBSR (Bunel et al. 2020), here times that line's slope: neurons that are nearly inactive gain little.
    """
    worst = weights.argmax(axis=1)
    picked = np.arange(len(worst))
    scores = np.full((len(worst), layout.neurons), -1.0)
    for i, s in zip(layout.relus, layout.slices, strict=True):
        lines = pieces.lines[i]
        cost = np.zeros_like(lines.lower)
        if i in result.linear.relu:
            cost = np.maximum(result.linear.relu[i][picked, worst], 0.0) * lines.intercept * lines.upper_slope
        scores[:, s] = np.where(lines.unstable, cost, -1.0)
    return scores


def axis_scores(pieces: Propagation, result: Optimised, weights: Array) -> Array:
    """(B, n): what halving each axis of the box promises.

    Halving axis i narrows an open neuron's range by about |dz/dx_i| width_i, and its relaxation's cost in proportion. The derivatives
    come from one forward pass of the n axes through the mean slopes of the relaxation; widths scale them.
    """
    width = pieces.upper - pieces.lower
    coefficients = result.linear.coefficients
    score = LINEAR_SHARE * np.abs(np.einsum("bs,bsn->bn", weights, coefficients)) * width
    costs = {index: _cost(pieces.lines[index], a, weights) for index, a in result.linear.relu.items()}
    if pieces.packed is not None:
        score += compiled.gains(pieces, costs)
    else:
        score += _gains(pieces, width, costs)
    idle = ~(score > 0).any(axis=1)
    if idle.any():
        # The rows that count are constant here, and halving any axis leaves them so: cut where the other rows move, or the widest side.
        movement = np.abs(coefficients[idle]).sum(axis=1) * width[idle]
        score[idle] = np.where((movement > 0).any(axis=1, keepdims=True), movement, width[idle])
    return score


def _gains(pieces: Propagation, width: Array, costs: dict[int, Array]) -> Array:
    """(B, n): sum over open neurons of their costs (B, m) times |dz/dx_i| width_i / (range of z)."""
    network = pieces.network
    score = np.zeros(width.shape)
    tangents: list[Array] = [width[:, :, None] * np.eye(network.input_size)]
    for index, node in enumerate(network.nodes[1:], start=1):
        if isinstance(node, Affine):
            parts = zip(node.parents, node.maps, strict=True)
            tangents.append(np.sum([linear.forward(tangents[parent]) for parent, linear in parts], axis=0))
            continue
        assert isinstance(node, Relu)
        lines, before = pieces.lines[index], tangents[node.parent]
        if index in costs:
            span = np.where(lines.unstable, lines.upper - lines.lower, 1.0)
            score += np.matmul(np.abs(before), (costs[index] / span)[:, :, None])[:, :, 0]
        tangents.append(before * lines.upper_slope[:, None, :])
    return score


def _cost(lines: Lines, a: Array, weights: Array) -> Array:
    """(B, m): what the relaxation of each open neuron costs the mixture of rows that have coefficients a (B, S, m) there."""
    mixed = np.einsum("bs,bsm->bm", weights, a)
    lower_gap = np.maximum((1.0 - lines.slope) * lines.upper, -lines.slope * lines.lower)
    return np.where(mixed > 0, mixed * lines.intercept, -mixed * lower_gap) * lines.unstable

"""Interval bound propagation (Gowal et al. 2018), with the last layer merged into the differences of logits."""

import numpy as np

from problems.maps import Array
from problems.network import Affine, Input, Network
from problems.regions import Box
from problems.regions.base import Region
from verifier.bounds import Propagation, backward, upper_bound, walk
from verifier.bounds.layers import layer_bounds
from verifier.certified.base import Question, Tested, propagation


class IntervalBounds(Tested):
    """Neurons that read the input alone are bounded on the ball itself, all others by intervals of the layer before."""

    name = "interval"
    title = "interval bounds"
    patience = 4.0
    meaning = "every neuron's range from the ranges of the layer before (Gowal et al. 2018)"

    def holds(self, question: Question, radius: float) -> bool:
        network, ball = question.network, question.ball(radius)
        pieces = walk(propagation(network, ball))
        if ball.norm != np.inf and network.relus:  # on a box the intervals of the first layer are exact already
            pieces = walk(propagation(network, ball), _first_layers(pieces))
        total = np.zeros(len(question.rows))
        last = network.nodes[-1]
        assert isinstance(last, Affine)
        for index, (parent, linear) in enumerate(zip(last.parents, last.maps, strict=True)):
            bias = last.bias if index == 0 else np.zeros(last.size)
            lower, upper = pieces.lowers[parent], pieces.uppers[parent]
            total += _merged(Affine((0,), (linear,), bias), Box(lower[0], upper[0]) if parent else ball, lower, upper, question.rows)
        return bool((np.nextafter(total * (1.0 + 4e-16 * len(last.maps) * np.sign(total)), np.inf) < 0).all())


def _first_layers(pieces: Propagation) -> tuple[Array, Array]:
    """(lower (1, h), upper (1, h)): what is known of neurons whose pre-activation is an affine function of the input."""
    lowers, uppers = [], []
    for relu in pieces.network.relus:
        parent = pieces.network.nodes[relu].parent  # type: ignore[union-attr]
        node = pieces.network.nodes[parent]
        assert isinstance(node, Affine)
        if node.parents == (0,):
            lower, upper = layer_bounds(pieces, parent)
        else:
            lower, upper = (np.full((1, node.size), side) for side in (-np.inf, np.inf))
        lowers.append(lower)
        uppers.append(upper)
    return np.concatenate(lowers, axis=1), np.concatenate(uppers, axis=1)


def _merged(node: Affine, region: Region, lower: Array, upper: Array, rows: Array) -> Array:
    """Upper bounds (S,) of rows (S, m) times the node's value, its only parent in the region and between lower and upper (1, n)."""
    size = lower.shape[1]
    network = Network((Input(size), node), (size,), (node.size,))
    pieces = walk(Propagation(network, region, lower, upper))
    return upper_bound(pieces, backward(pieces, 1, rows[None]))[0][0]

"""Networks made from a network: without biases, with an input for them, and on a slice. Neurons and their order stay as they are."""

from dataclasses import replace

import numpy as np

from problems.maps import Array, Dense, Sparse
from problems.network import Affine, Input, Network, Relu


def without_biases(network: Network) -> Network:
    """The network with every bias set to zero: f(t v) / t tends to its value at v as t grows."""
    nodes = tuple(replace(node, bias=np.zeros(node.size)) if isinstance(node, Affine) else node for node in network.nodes)
    return replace(network, nodes=nodes, source=None, folded={})


def preceded(network: Network, matrix: Array, offset: Array | None = None) -> Network:
    """t -> f(matrix t + offset), matrix (n, d), offset (n,): the network on a slice; its neurons, and their order, stay as they are."""
    first = Affine((0,), (Dense(matrix),), np.zeros(network.input_size) if offset is None else np.asarray(offset, dtype=np.float64))
    nodes: list = [Input(matrix.shape[1]), first]
    for node in network.nodes[1:]:
        if isinstance(node, Affine):
            nodes.append(replace(node, parents=tuple(p + 1 for p in node.parents)))
        elif isinstance(node, Relu):
            nodes.append(replace(node, parent=node.parent + 1))
    return replace(network, nodes=tuple(nodes), input_shape=(matrix.shape[1],), source=None, folded={})


def with_bias_input(network: Network) -> Network:
    """(x, t) -> t f(x / t) for t > 0: the network with every bias multiplied by a last input t, homogeneous of degree one."""
    n = network.input_size
    nodes: list = [Input(n + 1)]
    nodes.append(Affine((0,), (Dense(np.eye(n, n + 1)),), np.zeros(n)))  # x alone, node 1 in place of node 0
    for node in network.nodes[1:]:
        if isinstance(node, Relu):
            nodes.append(replace(node, parent=node.parent + 1))
            continue
        assert isinstance(node, Affine)
        parents, maps = tuple(p + 1 for p in node.parents), node.maps
        if node.bias.any():
            column = np.zeros((node.size, n + 1))
            column[:, -1] = node.bias
            parents, maps = (*parents, 0), (*maps, Sparse(column))
        nodes.append(Affine(parents, maps, np.zeros(node.size)))
    return replace(network, nodes=tuple(nodes), input_shape=(n + 1,), source=None, folded={})

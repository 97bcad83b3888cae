"""Facets, neighbours and the graph of cells."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from problems.errors import RegionError
from problems.maps import Dense
from problems.network import sequential
from problems.regions import Ball, Box
from tests.verifier.oracles import random_network
from verifier.enumeration.neighbours import facets, neighbour_graph


def test_lines_in_the_plane() -> None:
    """k lines in general position: k^2 segments and rays part the cells (THEORY 9 for the number of cells)."""
    generator = np.random.default_rng(0)
    network = sequential([Dense(generator.normal(size=(5, 2))), Dense(np.ones((1, 5)))], [generator.normal(size=5), np.zeros(1)])
    graph = neighbour_graph(network, Box.whole_space(2))
    assert (graph.number_of_nodes(), graph.number_of_edges()) == (16, 25)
    assert all(len(neurons) == 1 for _, _, neurons in graph.edges(data="neurons"))


@given(st.integers(0, 2**32 - 1))
@settings(max_examples=20)
def test_cells_of_a_box_hang_together(seed: int) -> None:
    """Every facet leads to a cell of the stream, from both sides, over the same neurons' change; and the graph is connected."""
    import networkx

    generator = np.random.default_rng(seed)
    network = random_network(generator, most_inputs=3, most_neurons=6)
    box = Box(-np.ones(network.input_size), 1.5 * np.ones(network.input_size))
    graph = neighbour_graph(network, box)
    assert networkx.is_connected(graph)
    for pattern in graph:
        behind = {tuple(facet.behind.tolist()) for facet in facets(network, box, np.array(pattern, np.int8))}
        assert behind == set(graph[pattern])


def test_neurons_that_vanish_on_one_facet_change_together() -> None:
    """relu(x), and relu(x) again with another weight behind it, and a repeated neuron: one facet at x = 0."""
    first, second = np.array([[1.0, 0.0], [2.0, 0.0]]), np.array([[1.0, -0.25]])
    network = sequential([Dense(first), Dense(second), Dense(np.ones((1, 1)))], [np.zeros(2), np.zeros(1), np.zeros(1)])
    box = Box(-np.ones(2), np.ones(2))
    (facet,) = facets(network, box, np.array([1, 1, 1], np.int8))
    assert facet.neurons == (0, 1, 2)
    assert facet.behind.tolist() == [-1, -1, -1]


def test_balls_of_the_euclidean_norm_are_refused() -> None:
    network = sequential([Dense(np.ones((1, 2))), Dense(np.ones((1, 1)))], [np.zeros(1), np.zeros(1)])
    with pytest.raises(RegionError, match="polyhedra"):
        neighbour_graph(network, Ball(np.zeros(2), 1.0, 2))

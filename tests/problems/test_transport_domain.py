"""The flow domain: incidence, the application map and its right inverse, networks composed with it."""

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from problems import exact
from problems.errors import DataError, InputError, NetworkError
from problems.maps import Conv, Dense, identity
from problems.network import Affine, Input, Network, Relu
from problems.readers import load
from problems.transport.domain import FlowDomain, check_affine_start, point_reference
from problems.transport.grid import Grid
from tests.problems.transport_oracles import grids, images


def test_the_incidence_of_a_small_grid() -> None:
    grid = Grid(1, 2, 3)
    tail, head, length = grid.edges
    pairs = {(0, 3), (1, 4), (2, 5), (0, 1), (1, 2), (3, 4), (4, 5)}
    assert set(zip(tail.tolist(), head.tolist(), strict=True)) == pairs
    assert (length == 1).all()
    assert (grid.incidence.sum(axis=0) == 0).all()
    assert Grid(3, 28, 28).incidence.shape == (3 * 784, 3 * 1512)
    assert Grid(1, 2, 2, "l2").edges[2].tolist() == [1.0, 1.0, 2**0.5, 2**0.5, 1.0, 1.0]


@settings(max_examples=40)
@given(st.data())
def test_flows_lead_exactly_from_any_reference_to_the_image(data: st.DataObject) -> None:
    grid = data.draw(grids().map(lambda grid: Grid(grid.channels, grid.height, grid.width)))
    mu = np.round(data.draw(images(grid)) * 64) / 64
    for reference in (mu, point_reference(mu, grid), mu.reshape(grid.channels, -1)[:, ::-1].ravel()):
        domain = FlowDomain(grid, reference)
        for plan in ("optimal", "sweep"):
            delta = domain.flow(mu, plan=plan)
            assert [Fraction(v) for v in domain.image(delta).tolist()] == [Fraction(v) for v in mu.tolist()]
        from problems.transport.flows import distance

        assert sum(abs(Fraction(v)) for v in domain.flow(mu).tolist()) == distance(reference, mu, grid).upper


@pytest.mark.parametrize("name", ["digits-16x2", "digits-conv"])
def test_networks_on_flows_are_the_networks(name: str) -> None:
    network, grid = load(name), Grid(1, 8, 8)
    generator = np.random.default_rng(0)
    mu = generator.integers(0, 17, 64) / 16.0
    domain = FlowDomain(grid, point_reference(mu, grid))
    composed = domain.network(network)
    assert composed.input_size == 2 * 7 * 8
    delta = domain.flow(mu)
    assert exact.evaluate(composed, delta) == exact.evaluate(network, mu)
    np.testing.assert_allclose(composed.forward(delta + 0.1), network.forward(domain.image(delta + 0.1)), atol=1e-9)


def test_bad_references_and_networks_are_named() -> None:
    grid = Grid(1, 2, 2)
    mu = np.array([0.5, 0.25, 0.25, 0.0])
    with pytest.raises(DataError, match="mass"):
        FlowDomain(grid, np.full(4, 0.5)).flow(mu)
    with pytest.raises(DataError, match="negative"):
        FlowDomain(grid, np.array([1.0, -1.0, 1.0, 0.0]))
    with pytest.raises(InputError, match="ground"):
        FlowDomain(Grid(1, 2, 2, "l2"), mu)
    with pytest.raises(InputError, match="plan"):
        FlowDomain(grid, mu).flow(mu, plan="best")
    nodes = (Input(4), Affine((0,), (identity(4),), np.zeros(4)), Relu(1, 4), Affine((2,), (Dense(np.ones((2, 4))),), np.zeros(2)))
    relu_first = Network(nodes, (4,), (2,))
    with pytest.raises(NetworkError, match="affine"):
        FlowDomain(grid, mu).network(relu_first)
    with pytest.raises(NetworkError, match="pixels"):
        FlowDomain(Grid(1, 3, 3), np.ones(9)).network(relu_first)
    conv = Conv(np.ones((1, 1, 1, 1)), (1, 2, 2))
    check_affine_start(Network((Input(4), Affine((0,), (conv,), np.ones(4)), Relu(1, 4), nodes[-1]), (1, 2, 2), (2,)))


def test_the_grid_of_a_network() -> None:
    assert Grid.of_network(load("digits-16x2")).shape == (1, 8, 8)
    assert Grid.of_network(load("digits-conv"), (1, 8, 8)).shape == (1, 8, 8)
    odd = Network((Input(7), Affine((0,), (Dense(np.ones((2, 7))),), np.zeros(2))), (7,), (2,))
    with pytest.raises(InputError, match="grid"):
        Grid.of_network(odd)

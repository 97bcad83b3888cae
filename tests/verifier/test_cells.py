"""The enumeration of cells against brute force and formulas."""

from math import comb

import numpy as np
import pytest

from problems.maps import Dense
from problems.network import Network, sequential
from problems.regions import Ball, Box
from verifier.enumeration import affine_map, cell_rows, stream_batches, stream_cells


def one_layer(generator: np.random.Generator, n: int, h: int, *, biased: bool = True) -> Network:
    bias = generator.normal(size=h) if biased else np.zeros(h)
    return sequential([Dense(generator.normal(size=(h, n))), Dense(generator.normal(size=(2, h)))], [bias, np.zeros(2)])


@pytest.mark.parametrize(("n", "h"), [(1, 4), (2, 6), (3, 5)])
def test_hyperplanes_in_general_position(n: int, h: int) -> None:
    """Zaslavsky (THEORY 9), on all of R^n."""
    network = one_layer(np.random.default_rng(h), n, h)
    cells = [cell for cell in stream_cells(network, Box.whole_space(n)) if cell.certified]
    assert len(cells) == sum(comb(h, j) for j in range(n + 1))


def test_cells_of_a_box_are_told_with_points_and_maps() -> None:
    generator = np.random.default_rng(0)
    network, box = one_layer(generator, 3, 7), Box(-np.ones(3), np.ones(3))
    cells = list(stream_cells(network, box))
    assert len({cell.pattern.tobytes() for cell in cells}) == len(cells)
    for cell in cells:
        assert cell.certified
        assert cell.inradius > 0.0
        matrix, offsets = cell_rows(network, cell.pattern)
        assert np.all(matrix @ cell.point + offsets > 0.0)
        jacobian, constant = affine_map(network, cell.pattern)
        assert np.allclose(jacobian @ cell.point + constant, network.forward(cell.point))
    points = generator.uniform(-1.0, 1.0, (2000, 3))
    seen = {np.sign(z).astype(np.int8).tobytes() for z in network.values(points)[1]}
    assert seen <= {cell.pattern.tobytes() for cell in cells}


def test_a_stream_goes_on_where_it_stopped() -> None:
    network, ball = one_layer(np.random.default_rng(1), 2, 6), Ball(np.zeros(2), 1.0, 1)
    whole = [cell.pattern.tobytes() for cell in stream_cells(network, ball)]
    first = stream_batches(network, ball, size=3, jacobians=True)
    batch = next(first)
    assert batch.jacobians is not None
    assert batch.jacobians.shape == (3, 2, 2)
    rest = stream_cells(network, ball, start=first.position)
    assert [pattern.tobytes() for pattern in batch.patterns] + [cell.pattern.tobytes() for cell in rest] == whole

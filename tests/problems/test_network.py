"""The network graph: evaluation, structure, and what its constructor refuses."""

import pickle

import numpy as np
import pytest
import scipy.sparse as sparse

from problems.errors import NetworkError
from problems.maps import Conv, Dense, Sparse, identity
from problems.network import Affine, Input, Network, Relu, sequential


def residual() -> Network:
    """y = W2 relu(W1 x) + 2 x - relu(W1 x)[0] on R^2, with an affine node of two parents."""
    hidden = Affine((0,), (Dense(np.array([[1.0, -1.0], [0.5, 2.0]])),), np.array([0.5, -1.0]))
    last = Affine(
        (2, 0), (Dense(np.array([[3.0, 1.0], [0.0, -2.0]])), Sparse(2.0 * sparse.identity(2, format="csr"))), np.array([1.0, 0.0])
    )
    return Network((Input(2), hidden, Relu(1, 2), last), (2,), (2,))


def test_residual_by_hand() -> None:
    network = residual()
    np.testing.assert_array_equal(network.forward(np.array([2.0, 1.0])), [3 * 1.5 + 1 * 2.0 + 4.0 + 1.0, -2 * 2.0 + 2.0])
    batch = np.array([[[2.0, 1.0], [-3.0, 0.0]]])
    assert network.forward(batch).shape == (1, 2, 2)
    np.testing.assert_array_equal(network.forward(batch)[0, 1], [0.0 + 0.0 - 6.0 + 1.0, 0.0])  # both neurons off
    assert [value.shape for value in network.values(batch)] == [(1, 2, 2)] * 4


def test_structure() -> None:
    network = residual()
    assert (network.input_size, network.output_size, network.relus, network.neurons) == (2, 2, (2,), 2)


def test_then_is_the_composition_and_forgets_the_file() -> None:
    network = Network(residual().nodes, (2,), (2,), source="somewhere.onnx")  # type: ignore[arg-type]
    matrix, offset = np.array([[1.0, -1.0]]), np.array([0.25])
    points = np.random.default_rng(0).standard_normal((5, 2))
    after = network.then(matrix, offset)
    np.testing.assert_allclose(after.forward(points), network.forward(points) @ matrix.T + offset, rtol=1e-14)
    assert (after.output_shape, after.source) == ((1,), None)


def test_sequential_is_the_usual_formula() -> None:
    generator = np.random.default_rng(1)
    weights = [generator.standard_normal(shape) for shape in ((4, 3), (5, 4), (2, 5))]
    biases = [generator.standard_normal(len(w)) for w in weights]
    network = sequential([Dense(w) for w in weights], biases, name="three")
    x = generator.standard_normal((7, 3))
    hidden = np.maximum(np.maximum(x @ weights[0].T + biases[0], 0) @ weights[1].T + biases[1], 0)
    np.testing.assert_allclose(network.forward(x), hidden @ weights[2].T + biases[2], rtol=1e-14)
    assert (network.name, network.neurons, network.input_shape, network.output_shape) == ("three", 9, (3,), (2,))


def test_fingerprint_names_the_numbers_and_the_structure() -> None:
    def build(weight: float = 1.0, bias: float = 0.0, divisor: float | None = None) -> Network:
        last = Sparse(sparse.csr_matrix([[2.0, 1.0]]), None if divisor is None else np.array([divisor]))
        return sequential([Dense(np.array([[weight, 2.0], [0.0, 1.0]])), last], [np.array([bias, 1.0]), np.zeros(1)])

    networks = [build(), build(weight=np.nextafter(1.0, 2.0)), build(bias=1e-300), build(divisor=3.0), build(divisor=1.0), residual()]
    assert len({network.fingerprint for network in networks}) == len(networks)
    assert build().fingerprint == build().fingerprint == pickle.loads(pickle.dumps(build())).fingerprint


def test_networks_travel_to_workers() -> None:
    network = sequential([Conv(np.ones((1, 1, 2, 2)), (1, 3, 3)), Dense(np.ones((1, 4)))], [np.zeros(4), np.zeros(1)])
    x = np.random.default_rng(0).standard_normal((2, 9))
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(network)).forward(x), network.forward(x))


AFFINE = Affine((0,), (identity(2),), np.zeros(2))


@pytest.mark.parametrize(
    ("nodes", "problem"),
    [
        ((), "begin with its input node"),
        ((Input(2),), "end with an affine node"),
        ((AFFINE,), "begin with its input node"),
        ((Input(2), Input(2), AFFINE), "second input"),
        ((Input(2), Relu(0, 3), AFFINE), "differ in size or order"),
        ((Input(2), Relu(5, 2), AFFINE), "differ in size or order"),
        ((Input(3), AFFINE), r"shape \(2, 2\) does not fit its parent 0"),
        ((Input(2), Affine((1,), (identity(2),), np.zeros(2))), "does not fit its parent 1"),
        ((Input(2), Affine((0,), (identity(2),), np.zeros(3))), r"its bias \(3\)"),
        ((Input(2), Affine((0,), (identity(2),), np.array([0.0, np.nan]))), "NaN or infinite biases"),
        ((Input(1), Affine((0,), (Sparse(sparse.csr_matrix([[1.0]]), np.array([3.0])),), np.ones(1))), "divided map needs a zero bias"),
    ],
)
def test_malformed_graphs(nodes: tuple, problem: str) -> None:
    with pytest.raises(NetworkError, match=problem):
        Network(nodes, (2,), (2,))

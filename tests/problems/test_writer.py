"""Writing and reading back gives the same function of real numbers, exactly."""

from pathlib import Path

import numpy as np
import pytest
import scipy.sparse as sparse

from problems import bundled
from problems.errors import NetworkError
from problems.exact import evaluate
from problems.maps import Conv, Dense, Sparse, identity
from problems.network import Affine, Input, Network, Relu
from problems.readers import load
from problems.readers.agreement import replay
from problems.writer import write_onnx


def everything(kind: type) -> Network:
    """All maps, several parents, divisors, a selection, a residual: (1, 4, 3) -> (2, 2)."""
    generator = np.random.default_rng(4)

    def weights(*shape: int) -> np.ndarray:
        return generator.standard_normal(shape).astype(kind).astype(np.float64)

    conv = Conv(weights(4, 1, 2, 2), (1, 4, 3), (2, 1), (1, 0, 0, 1), (1, 1))
    half = Sparse(sparse.csr_matrix(np.eye(conv.out_size)[::2]))
    divided = Sparse(sparse.csr_matrix(weights(half.out_size, conv.out_size)), weights(half.out_size))
    nodes = (
        Input(12),
        Affine((0,), (conv,), weights(conv.out_size)),
        Relu(1, conv.out_size),
        Affine((2, 2), (half, divided), np.zeros(half.out_size)),
        Relu(3, half.out_size),
        Affine((4, 4), (Dense(weights(4, half.out_size)), Dense(weights(4, half.out_size))), weights(4)),
        Affine((5,), (identity(4),), weights(4)),
    )
    return Network(nodes, (1, 4, 3), (2, 2), name="everything", precision=np.dtype(kind).name)


def same_function(first: Network, second: Network) -> None:
    assert (first.input_shape, first.output_shape) == (second.input_shape, second.output_shape)
    for x in np.random.default_rng(0).standard_normal((5, first.input_size)):
        assert evaluate(first, x) == evaluate(second, x)


@pytest.mark.parametrize("kind", [np.float32, np.float64])
def test_there_and_back(kind: type, tmp_path: Path) -> None:
    """In float64 the comparison falls to ONNX's reference evaluator: onnxruntime has no such convolution."""
    network = everything(kind)
    write_onnx(network, tmp_path / "net.onnx")
    back = load(tmp_path / "net.onnx")
    assert back.precision == network.precision
    same_function(network, back)
    x = np.random.default_rng(1).standard_normal((2, 12))
    np.testing.assert_allclose(replay(back, x), network.forward(x), rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("name", bundled.names())
def test_bundled_networks(name: str, tmp_path: Path) -> None:
    network = load(name)
    write_onnx(network, tmp_path / "copy.onnx")
    back = load(tmp_path / "copy.onnx")
    same_function(network, back)
    assert back.neurons == network.neurons


def test_float32_weights_in_float64(tmp_path: Path) -> None:
    network = load("digits-16x2")
    write_onnx(network, tmp_path / "double.onnx", precision="float64")
    back = load(tmp_path / "double.onnx")
    assert (network.precision, back.precision) == ("float32", "float64")
    same_function(network, back)


def test_a_weight_that_float32_cannot_hold(tmp_path: Path) -> None:
    network = everything(np.float64)
    with pytest.raises(NetworkError, match=r"float32 cannot hold .* exactly. Write it with precision='float64'"):
        write_onnx(network, tmp_path / "net.onnx", precision="float32")
    assert not (tmp_path / "net.onnx").exists()


def test_bad_arguments(tmp_path: Path) -> None:
    with pytest.raises(NetworkError, match="'float16' is not known"):
        write_onnx(load("digits-16x2"), tmp_path / "net.onnx", precision="float16")
    with pytest.raises(NetworkError, match="cannot be written"):
        write_onnx(load("digits-16x2"), tmp_path / "no" / "folder" / "net.onnx")

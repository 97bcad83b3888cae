"""The public benchmark networks: they load, have the shape they are known for, and agree with onnxruntime."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from problems import bundled
from problems.exact import evaluate
from problems.maps import Conv, Dense
from problems.network import Affine, Network
from problems.readers import load
from problems.readers.agreement import replay

# File below the data folder: input shape, outputs, ReLU neurons, affine nodes.
NETWORKS = {
    "vnncomp/acasxu/onnx/ACASXU_run2a_1_1_batch_2000.onnx": ((1, 1, 5), 5, 300, 7),
    "vnncomp/mnist_fc/onnx/mnist-net_256x2.onnx": ((784, 1), 10, 512, 3),
    "vnncomp/mnist_fc/onnx/mnist-net_256x4.onnx": ((784, 1), 10, 1024, 5),
    "vnncomp/mnist_fc/onnx/mnist-net_256x6.onnx": ((784, 1), 10, 1536, 7),
    "vnncomp/oval21/onnx/cifar_base_kw.onnx": ((3, 32, 32), 10, 3172, 4),
    "vnncomp/oval21/onnx/cifar_deep_kw.onnx": ((3, 32, 32), 10, 6756, 6),
    "vnncomp/oval21/onnx/cifar_wide_kw.onnx": ((3, 32, 32), 10, 6244, 4),
    "vnncomp/sri_resnet_a/onnx/resnet_3b2_bn_mixup_adv_4.0_bs128_lr-1.onnx": ((3, 32, 32), 10, 11364, 9),
    "mnist/fc_3x100.onnx": ((1, 28, 28), 10, 200, 3),
    "mnist/fc_10x20.onnx": ((1, 28, 28), 10, 180, 10),
    "mnist/conv_vanilla.onnx": ((1, 28, 28), 10, 4804, 4),
    "mnist/conv_wasserstein_adv.onnx": ((1, 28, 28), 10, 4804, 4),
    "mnist/conv_linf_certified.onnx": ((1, 28, 28), 10, 4804, 4),
    "mnist/conv_smoothing_base_0.01.onnx": ((1, 28, 28), 10, 4804, 4),
}


def agrees(network: Network, source: Path) -> None:
    points = np.random.default_rng(1).random((3, network.input_size)).astype(np.float32).astype(np.float64)
    expected = network.forward(points)
    np.testing.assert_allclose(replay(source, points), expected, rtol=1e-4, atol=1e-4 * np.abs(expected).max())


@pytest.mark.parametrize("file", NETWORKS)
def test_benchmark_network(file: str, shared_data: Path) -> None:
    network = load(shared_data / file)
    shape, outputs, neurons, affine = NETWORKS[file]
    assert (network.input_shape, network.output_shape, network.neurons) == (shape, (outputs,), neurons)
    # Normalisations fold into the first layer, flattening vanishes: nothing but the layers that were trained.
    assert sum(isinstance(node, Affine) for node in network.nodes) == affine
    assert all(isinstance(linear, Dense | Conv) for node in network.nodes if isinstance(node, Affine) for linear in node.maps)
    assert (network.precision, network.roundings, network.source) == ("float32", (), shared_data / file)
    agrees(network, shared_data / file)


def test_all_45_acasxu_networks(shared_data: Path) -> None:
    files = sorted((shared_data / "vnncomp/acasxu/onnx").glob("*.onnx"))
    assert len(files) == 45
    networks = [load(file) for file in files]
    assert {network.neurons for network in networks} == {300}
    assert len({network.fingerprint for network in networks}) == 45


def test_exact_logits_are_within_float32_rounding_of_onnxruntime(shared_data: Path) -> None:
    file = shared_data / "vnncomp/acasxu/onnx/ACASXU_run2a_3_3_batch_2000.onnx"
    x = np.array([0.6, -0.1, 0.3, 0.45, -0.45], dtype=np.float32)
    exact = np.array([float(z) for z in evaluate(load(file), x)])
    np.testing.assert_allclose(replay(file, x), exact, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("name", bundled.names())
def test_bundled_network(name: str) -> None:
    agrees(load(name), bundled.path(name))


ARCHIVES = {
    "d64_32_32_10": (64, 10, 64),
    "lb_iris_4_5_5_3": (4, 3, 10),
    "lb_sd_10_15_10_3": (10, 3, 25),
    "lb_sd_10_20_15_10_3": (10, 3, 45),
    "lb_sd_10_30x3_3": (10, 3, 90),
    "r2_16_16_2": (2, 2, 32),
    "t2_16_16_2": (2, 2, 32),
    "t4_32_32_3": (4, 3, 64),
}


@pytest.mark.parametrize("name", ARCHIVES)
def test_archive(name: str, shared_data: Path) -> None:
    path = shared_data / "lipschitz" / f"{name}.npz"
    network = load(path)
    inputs, outputs, neurons = ARCHIVES[name]
    assert (network.input_size, network.output_size, network.neurons, network.name) == (inputs, outputs, neurons, name)
    with np.load(path) as arrays:
        x = arrays["X"]
        value = x
        for i in range(int(arrays["L"])):
            value = (np.maximum(value, 0.0) if i else value) @ arrays[f"W{i}"].T + arrays[f"b{i}"]
    np.testing.assert_allclose(network.forward(x), value, rtol=1e-12, atol=1e-12)


def test_reading_onnx_imports_nothing_heavy() -> None:
    """Reading a small network takes a fraction of a second, which torch alone would double."""
    code = (
        "import sys; from problems.readers import load; network = load('digits-16x2'); "
        "print(network.neurons, *[name for name in ('torch', 'cvxpy', 'highspy', 'sklearn', 'onnx.reference') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.split() == ["32"]

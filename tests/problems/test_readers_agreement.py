"""The comparison with the runtime: it accepts every network that is right and refuses any that is wrong, however slightly."""

import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from problems import bundled
from problems.errors import NetworkError
from problems.exact import evaluate
from problems.maps import Conv, Dense, LinearMap
from problems.network import Affine, Network, sequential
from problems.readers import agreement, load
from problems.readers import onnx as onnx_reader
from problems.readers.agreement import replay, replayer
from problems.readers.onnx_call import Call, Operand


def save(path: Path, weights: list[np.ndarray], biases: list[np.ndarray]) -> Path:
    """A feed-forward ReLU network as ONNX."""
    nodes, stored, last = [], [], "x"
    for i, (weight, bias) in enumerate(zip(weights, biases, strict=True)):
        stored += [numpy_helper.from_array(weight.astype(np.float32), f"w{i}"), numpy_helper.from_array(bias.astype(np.float32), f"b{i}")]
        nodes.append(helper.make_node("Gemm", [last, f"w{i}", f"b{i}"], [f"a{i}"], transB=1))
        last = f"a{i}"
        if i < len(weights) - 1:
            nodes.append(helper.make_node("Relu", [last], [f"r{i}"]))
            last = f"r{i}"
    inputs = [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", weights[0].shape[1]])]
    graph = helper.make_graph(nodes, "graph", inputs, [helper.make_empty_tensor_value_info(last)], stored)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8), path)
    return path


def deep(path: Path, depth: int = 12, width: int = 30) -> Path:
    generator = np.random.default_rng(11)
    weights = [generator.standard_normal((width, width)) / 4 for _ in range(depth)]
    return save(path, weights, [generator.standard_normal(width) for _ in range(depth)])


def nudged(linear: LinearMap, by: float) -> LinearMap:
    """The map with its largest weight changed by a relative amount."""
    if isinstance(linear, Conv):
        kernel = linear.kernel.copy()
        kernel.flat[np.abs(kernel).argmax()] *= 1 + by
        return replace(linear, kernel=kernel)
    assert isinstance(linear, Dense)
    weights = linear.weights.copy()
    weights.flat[np.abs(weights).argmax()] *= 1 + by
    return Dense(weights)


@pytest.mark.parametrize("name", ["digits-16x2", "digits-conv"])
def test_a_weight_wrong_in_the_fourth_digit_is_noticed(name: str) -> None:
    """In any layer: the tolerance does not grow with depth."""
    network = load(name)
    model = onnx_reader.parse(bundled.path(name))
    reader = onnx_reader._Reader(model, bundled.path(name))
    same, sizes, observed = reader.network()
    assert same.fingerprint == network.fingerprint
    assert set(observed) == set(range(len(network.nodes)))  # every node is compared
    agreement.check_onnx(model, network, sizes, observed, place=name)
    for index, node in enumerate(network.nodes):
        if isinstance(node, Affine):
            for wrong in (
                replace(node, maps=(nudged(node.maps[0], 3e-4),)),
                replace(node, bias=node.bias + 1e-3 * np.abs(node.bias).max()),
            ):
                nodes = (*network.nodes[:index], wrong, *network.nodes[index + 1 :])
                with pytest.raises(NetworkError, match="rounding explains only"):
                    agreement.check_onnx(model, replace(network, nodes=nodes), sizes, observed, place=name)


def test_the_model_is_given_back_as_it_came() -> None:
    model = onnx_reader.parse(bundled.path("digits-16x2"))
    before = model.SerializeToString()
    network, sizes, observed = onnx_reader._Reader(model, bundled.path("digits-16x2")).network()
    agreement.check_onnx(model, network, sizes, observed, place="digits")
    assert model.SerializeToString() == before


def misread_gemm(call: Call) -> Operand:
    """Gemm without its bias."""
    return onnx_reader.OPERATORS["Gemm"](Call(call.builder, call.operator, call.place, call.opset, call.inputs[:2], call.attributes))


def test_a_misread_operator_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(onnx_reader.HANDLERS, "Gemm", misread_gemm)
    with pytest.raises(NetworkError, match=r"digits-16x2\.onnx: tensor .* differs from onnxruntime by"):
        load("digits-16x2")


def test_a_misread_relu_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(onnx_reader.HANDLERS, "Relu", lambda call: call.value(0))
    with pytest.raises(NetworkError, match="differs from onnxruntime"):
        load("digits-32x2")


def test_deep_networks_are_accepted(tmp_path: Path) -> None:
    assert load(deep(tmp_path / "deep.onnx")).neurons == 11 * 30


@pytest.mark.parametrize("slope", [1e6, 2.0**30])
def test_the_steep_line_is_accepted(slope: float, tmp_path: Path) -> None:
    path = save(tmp_path / "steep.onnx", [np.ones((1, 1)), np.full((1, 1), slope)], [-np.ones(1), np.zeros(1)])
    network = load(path)
    x = np.float32(1 + 2.0**-20)
    assert evaluate(network, [float(x)]) == [slope * 2.0**-20]
    assert replay(network, np.array([x], dtype=np.float64)) == np.float32(slope * 2.0**-20)


def test_numbers_beyond_float32_are_not_compared(tmp_path: Path) -> None:
    """Products past 3.4e38 are infinite in float32: no reason to refuse what is finite in real numbers."""
    load(save(tmp_path / "huge.onnx", [np.full((1, 1), 1e30), np.full((1, 1), 1e30)], [np.ones(1), np.zeros(1)]))


def test_envelope_is_not_exceeded_by_float64_summation_orders() -> None:
    """discrepancy() accepts float32 evaluation in any order of summation, and refuses twice its own envelope."""
    generator = np.random.default_rng(0)
    weights = generator.standard_normal((5, 400)).astype(np.float32)
    network = sequential([Dense(weights)], [np.zeros(5)], precision="float32")
    x = generator.standard_normal((3, 400)).astype(np.float32)
    order = generator.permutation(400)
    sums = np.zeros((3, 5), dtype=np.float32)
    for k in order:
        sums += x[:, [k]] * weights[:, k]
    values = {0: x.astype(np.float64), 1: sums.astype(np.float64)}
    assert agreement.discrepancy(network, agreement.Sizes(), values, precision="float32") is None
    envelope = 2.5 * 440 * 2.0**-24 * (np.abs(values[0]) @ np.abs(weights).T.astype(np.float64))
    values[1] = values[1] + 2 * envelope
    found = agreement.discrepancy(network, agreement.Sizes(), values, precision="float32")
    assert found is not None
    assert found[0] == 1
    assert found[1] > found[2]


def test_replay_by_onnxruntime() -> None:
    network = load("digits-conv")
    points = np.random.default_rng(0).random((2, 3, 64))
    logits = replay(network, points)
    assert (logits.shape, logits.dtype) == ((2, 3, 10), np.float32)
    np.testing.assert_array_equal(logits[1, 2], replay(bundled.path("digits-conv"), points[1, 2]))
    np.testing.assert_array_equal(logits[0, 0], replayer(network)(points[0, 0]))
    np.testing.assert_allclose(logits, network.forward(points), rtol=1e-4, atol=1e-4)


def test_replay_without_a_file_rounds_every_layer() -> None:
    third = sequential([Dense(np.array([[1.0]])), Dense(np.array([[3.0]]))], [np.array([2.0**-30]), np.zeros(1)], precision="float32")
    assert replay(third, np.array([1.0])) == np.float32(3.0)  # 1 + 2^-30 is 1 in float32
    double = sequential([Dense(np.array([[1.0]]))], [np.array([2.0**-30])])
    logits = replay(double, np.array([[1.0]]))
    assert (logits.dtype, logits.shape, logits[0, 0]) == (np.float64, (1, 1), 1 + 2.0**-30)


def test_replay_follows_the_file(tmp_path: Path) -> None:
    path = save(tmp_path / "one.onnx", [np.ones((1, 1))], [np.zeros(1)])
    network = load(path)
    assert replay(network, np.array([2.0])) == 2.0
    save(path, [np.full((1, 1), 5.0)], [np.zeros(1)])
    os.utime(path, ns=(1, 1))
    assert replay(path, np.array([2.0])) == 10.0
    path.unlink()
    with pytest.raises(NetworkError, match="has gone"):
        replay(network, np.array([2.0]))


def test_replay_needs_a_network() -> None:
    with pytest.raises(NetworkError, match="is not an ONNX file"):
        replay("weights.npz", np.zeros(3))


def test_a_network_that_goes_on_is_not_replayed_by_the_file() -> None:
    network: Network = load("digits-16x2").then(np.ones((1, 10)))
    assert replay(network, np.zeros(64)).shape == (1,)


def test_random_inputs_are_the_same_every_time() -> None:
    np.testing.assert_array_equal(agreement.random_inputs(5), agreement.random_inputs(5))
    assert np.abs(agreement.random_inputs(50)).max(axis=1)[[0, -1]].tolist() > [-1, 500]

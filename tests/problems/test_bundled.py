import subprocess
import sys

import numpy as np
import onnx
import onnxruntime
import pytest

from problems import bundled
from problems.data import load
from problems.errors import NetworkError

NEURONS = {"digits-16x2": 32, "digits-32x2": 64, "digits-conv": 128}


def session(name: str) -> onnxruntime.InferenceSession:
    return onnxruntime.InferenceSession(bundled.path(name), providers=["CPUExecutionProvider"])


def test_names() -> None:
    assert bundled.names() == tuple(NEURONS)
    assert sum(bundled.path(name).stat().st_size for name in NEURONS) < 300_000
    with pytest.raises(NetworkError, match="digits-16x2"):
        bundled.path("digits-64x2")


@pytest.mark.parametrize("name", NEURONS)
def test_plain_float32_operators(name: str) -> None:
    model = onnx.load(bundled.path(name))
    onnx.checker.check_model(model, full_check=True)
    assert {node.op_type for node in model.graph.node} <= {"Gemm", "Conv", "Relu", "Flatten"}
    assert {stored.data_type for stored in model.graph.initializer} == {onnx.TensorProto.FLOAT}
    for stored in model.graph.initializer:
        weights = onnx.numpy_helper.to_array(stored).astype(np.float64)
        assert (weights * 2**16 == np.round(weights * 2**16)).all()


@pytest.mark.parametrize("name", NEURONS)
def test_accuracy(name: str) -> None:
    data, run = load("digits:test"), session(name)
    shape = run.get_inputs()[0].shape[1:]
    (logits,) = run.run(None, {"input": data.x.astype(np.float32).reshape(-1, *shape)})
    assert logits.shape == (400, 10)
    assert (logits.argmax(axis=1) == data.y).mean() >= 0.94


@pytest.mark.parametrize("name", NEURONS)
def test_number_of_neurons(name: str) -> None:
    model = onnx.shape_inference.infer_shapes(onnx.load(bundled.path(name)))
    shapes = {value.name: [d.dim_value for d in value.type.tensor_type.shape.dim[1:]] for value in model.graph.value_info}
    assert sum(int(np.prod(shapes[node.output[0]])) for node in model.graph.node if node.op_type == "Relu") == NEURONS[name]


def test_the_script_reproduces_a_network() -> None:
    # In a process of its own: the arithmetic is chosen before torch is loaded.
    command = [sys.executable, "-m", "problems.bundled.train", "--check", "digits-16x2"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert done.stdout == "digits-16x2: reproduced byte for byte\n", done.stderr
    assert done.returncode == 0


def test_the_script_sees_a_difference(tmp_path: object) -> None:
    command = [sys.executable, "-m", "problems.bundled.train", "--check", "digits-16x2", "--folder", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert (done.stdout, done.returncode) == ("digits-16x2: differs\n", 1)

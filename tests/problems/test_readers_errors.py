"""Every kind of bad ONNX file: one typed error that names file and node, never a traceback of another kind."""

import gzip
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from problems import bundled
from problems.errors import NetworkError, UnsupportedOperatorError
from problems.network import Network
from problems.readers import load

W = np.arange(12, dtype=np.float32).reshape(6, 2)
B = np.ones(2, dtype=np.float32)


def node(operator: str, *inputs: str, to: str = "y", name: str = "layer", **attributes: Any) -> onnx.NodeProto:
    return helper.make_node(operator, list(inputs), [to], name=name, **attributes)


def build(
    nodes: Sequence[onnx.NodeProto],
    stored: dict[str, np.ndarray] | None = None,
    *,
    shape: Sequence[int | str | None] | None = ("N", 6),
    element: int = TensorProto.FLOAT,
    outputs: Sequence[str] = ("y",),
    more_inputs: Sequence[str] = (),
    opset: int = 13,
) -> onnx.ModelProto:
    inputs = [helper.make_tensor_value_info("x", element, shape)]
    inputs += [helper.make_tensor_value_info(name, element, shape) for name in more_inputs]
    tensors = [numpy_helper.from_array(array, name) for name, array in (stored or {}).items()]
    results = [helper.make_empty_tensor_value_info(name) for name in outputs]
    graph = helper.make_graph(list(nodes), "graph", inputs, results, tensors)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)


def gemm(**changes: np.ndarray) -> onnx.ModelProto:
    return build([node("Gemm", "x", "w", "b")], {"w": W, "b": B} | changes)


def refused(model: onnx.ModelProto, tmp_path: Path) -> NetworkError:
    path = tmp_path / "bad.onnx"
    path.write_bytes(model.SerializeToString())
    with pytest.raises(NetworkError) as caught:
        load(path)
    assert str(path) in caught.value.place
    assert caught.value.advice
    return caught.value


UNSUPPORTED: dict[str, tuple[onnx.ModelProto, str]] = {
    "sigmoid": (build([node("Sigmoid", "x")]), r"operator Sigmoid is not supported. .*Relu, LeakyRelu and Clip"),
    "softmax": (build([node("Softmax", "x")]), "Remove it: a softmax at the end does not change which class wins"),
    "unheard-of": (build([node("Frobnicate", "x")]), "operator Frobnicate is not supported. Supported: Abs, Add, AveragePool"),
    "other domain": (build([node("Relu", "x", domain="com.example")]), "of domain com.example is not supported"),
    "product of values": (build([node("Mul", "x", "x")]), "multiplies two values.* Supported: Mul by a constant"),
    "matrix product of values": (build([node("MatMul", "x", "x")]), "Supported: MatMul with a constant on either side"),
    "divisor from input": (build([node("Div", "c", "x")], {"c": B[:1]}), "its divisor is not a constant"),
    "training": (
        build([node("BatchNormalization", "x", *"sbmv", training_mode=1)], dict.fromkeys("sbmv", np.ones(6, np.float32)), opset=15),
        "it is in training mode.*evaluation mode",
    ),
    "dropout in training": (
        build([node("Dropout", "x", "r", "t")], {"r": np.array(0.5, np.float32), "t": np.array(True)}),
        "Dropout.*it is in training mode",
    ),
    "batched convolution": (
        build([node("Conv", "x", "w")], {"w": np.ones((1, 2, 1, 1), np.float32)}, shape=(4, 2, 3, 3)),
        r"its input has shape \(4, 2, 3, 3\).*one image",
    ),
    "3-d convolution": (
        build([node("Conv", "x", "w")], {"w": np.ones((1, 2, 1, 1, 1), np.float32)}, shape=(1, 2, 3, 3, 3)),
        "Supported: Conv on one image",
    ),
    "kernel from input": (build([node("Conv", "x", "x")], shape=(1, 2, 3, 3)), "its kernel is not a constant"),
    "reflected pad": (build([node("Pad", "x", "p", mode="reflect")], {"p": np.array([0, 1, 0, 1])}), "Pad in mode constant"),
    "pad with ones": (
        build([node("Pad", "x", "p", "v")], {"p": np.array([0, 1, 0, 1]), "v": np.array(1, np.float32)}),
        "it pads with 1.0.*value 0",
    ),
    "cast to integer": (
        build([helper.make_node("Cast", ["x"], ["y"], name="layer", to=TensorProto.INT64)]), "casts to a type that is not float"
    ),
    "indices from input": (
        build([helper.make_node("Gather", ["w", "x"], ["y"], name="layer")], {"w": W}),
        "its indices depend on the input",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", UNSUPPORTED)
def test_unsupported_operators(name: str, tmp_path: Path) -> None:
    model, expected = UNSUPPORTED[name]
    error = refused(model, tmp_path)
    assert isinstance(error, UnsupportedOperatorError)
    assert "node layer (" in error.place
    with pytest.raises(NetworkError, match=expected):
        raise error


def spoiled(model: onnx.ModelProto, change: Callable[[onnx.ModelProto], object]) -> onnx.ModelProto:
    change(model)
    return model


NAN = W.copy()
NAN[1, 1] = np.nan
INF = B * np.inf

MALFORMED: dict[str, tuple[onnx.ModelProto, str]] = {
    "nan weight": (gemm(w=NAN), r"node layer \(Gemm\).* its matrix holds NaN or infinite numbers"),
    "infinite bias": (gemm(b=INF), r"node layer \(Gemm\).* holds NaN or infinite numbers"),
    "nan kernel": (
        build([node("Conv", "x", "w")], {"w": np.full((1, 2, 1, 1), np.nan, np.float32)}, shape=(1, 2, 3, 3)),
        r"node layer \(Conv\).* its kernel holds NaN",
    ),
    "nan added": (build([node("Add", "x", "c")], {"c": INF[:1]}), r"node layer \(Add\).* holds NaN or infinite"),
    "division by zero": (build([node("Div", "x", "c")], {"c": np.zeros(6, np.float32)}), r"node layer \(Div\).* divides by zero"),
    "half precision": (gemm(w=W.astype(np.float16)), "tensor w has element type FLOAT16"),
    "integer weights": (build([node("Conv", "x", "w")], {"w": np.array([["a"]])}), "element type STRING"),
    "missing tensor": (build([node("Gemm", "x", "w", "b")], {"w": W}), r"node layer \(Gemm\).*tensor b, which no earlier node computes"),
    "wrong order": (build([node("Relu", "h"), node("Neg", "x", to="h", name="late")]), "uses tensor h, which no earlier node computes"),
    "too few bytes": (
        spoiled(gemm(), lambda m: setattr(m.graph.initializer[0], "raw_data", b"123")),
        r"node layer \(Gemm\): tensor w cannot be read",
    ),
    "shapes do not fit": (gemm(w=W[:5]), r"node layer \(Gemm\).*is malformed: .*do not fit"),
    "bias does not fit": (gemm(b=np.ones(3, np.float32)), r"node layer \(Gemm\).*is malformed"),
    "too few inputs": (build([node("Gemm", "x")]), r"node layer \(Gemm\).*its input 1 is missing"),
    "impossible reshape": (build([node("Reshape", "x", "s")], {"s": np.array([4, -1])}), r"cannot reshape \(1, 6\) to \(4, -1\)"),
    "reshape to floats": (build([node("Reshape", "x", "s")], {"s": np.array([1.0, 6.0])}), r"node layer \(Reshape\).*constant shape"),
    "impossible axis": (build([node("Concat", "x", "x", axis=7)]), r"node layer \(Concat\).*is malformed"),
    "kernel of another rank": (build([node("Conv", "x", "w")], {"w": W}, shape=(1, 2, 3, 3)), "kernel of shape .* does not fit"),
    "kernel too large": (
        build([node("Conv", "x", "w")], {"w": np.ones((1, 2, 9, 9), np.float32)}, shape=(1, 2, 3, 3)),
        r"node layer \(Conv\).*larger",
    ),
    "strides too short": (
        build([node("Conv", "x", "w", strides=[1])], {"w": np.ones((1, 2, 1, 1), np.float32)}, shape=(1, 2, 3, 3)),
        r"node layer \(Conv\).*is malformed",
    ),
    "pooling window too large": (build([node("MaxPool", "x", kernel_shape=[9, 9])], shape=(1, 2, 3, 3)), "larger than the padded image"),
    "no kernel_shape": (build([node("MaxPool", "x")], shape=(1, 2, 3, 3)), "kernel_shape None does not fit"),
    "batch statistics do not fit": (
        build([node("BatchNormalization", "x", *"sbmv")], dict.fromkeys("sbmv", np.ones(5, np.float32))),
        "parameters do not fit an input of shape",
    ),
    "negative variance": (
        build([node("BatchNormalization", "x", *"sbmv")], dict.fromkeys("sbm", np.ones(6, np.float32)) | {"v": -np.ones(6, np.float32)}),
        "variance . epsilon of channel 0 is not positive",
    ),
    "attribute of another type": (
        build([node("Conv", "x", "w", strides="wide")], {"w": np.ones((1, 2, 1, 1), np.float32)}, shape=(1, 2, 3, 3)),
        r"node layer \(Conv\).*is malformed",
    ),
    "empty result": (build([node("Slice", "x", "a", "a")], {"a": np.array([2])}), r"has shape \(0, 6\)|has shape \(1, 0\)"),
    "dynamic axis": (build([node("Relu", "x")], shape=("N", "length")), "input x: axis 1 has no fixed size. Only the first axis"),
    "dynamic vector": (build([node("Relu", "x")], shape=("N",)), "axis 0 has no fixed size"),
    "empty axis": (build([node("Relu", "x")], shape=(1, 0)), "axis 1 is empty"),
    "huge input": (build([node("Relu", "x")], shape=(1, 10**6, 10**6)), "has 1000000000000 entries"),
    "no shape": (build([node("Relu", "x")], shape=None), "input x: has no shape"),
    "scalar": (build([node("Relu", "x")], shape=()), "input x: has no shape"),
    "integer input": (build([node("Relu", "x")], element=TensorProto.INT64), "not a float32 or float64 tensor"),
    "two inputs": (build([node("Add", "x", "z")], more_inputs=["z"]), r"has 2 inputs \(x, z\)"),
    "two outputs": (build([node("Relu", "x"), node("Neg", "x", to="z")], outputs=["y", "z"]), r"has 2 outputs \(y, z\)"),
    "no input": (spoiled(gemm(), lambda m: m.graph.ClearField("input")), "has 0 inputs"),
    "output never computed": (build([node("Relu", "x", to="h")]), "uses tensor y, which no earlier node computes"),
    "no nodes": (build([]), "holds no graph"),
    "ancient opset": (build([node("Relu", "x")], opset=6), "uses opset 6. Opset 8 or newer"),
    "no opset": (spoiled(gemm(), lambda m: m.ClearField("opset_import")), "uses opset 1"),
    "onnxruntime refuses": (spoiled(gemm(), lambda m: setattr(m, "ir_version", 999)), "onnxruntime does not load it"),
}  # fmt: skip


@pytest.mark.parametrize("name", MALFORMED)
def test_malformed_graphs(name: str, tmp_path: Path) -> None:
    model, expected = MALFORMED[name]
    with pytest.raises(NetworkError, match=expected):
        raise refused(model, tmp_path)


def test_missing_file(tmp_path: Path) -> None:
    with pytest.raises(NetworkError, match=r"nowhere\.onnx.* does not exist"):
        load(tmp_path / "nowhere.onnx")


def test_a_folder_is_no_file(tmp_path: Path) -> None:
    (tmp_path / "folder.onnx").mkdir()
    with pytest.raises(NetworkError, match="cannot be read"):
        load(tmp_path / "folder.onnx")


@pytest.mark.parametrize("suffix", [".onnx", ".onnx.gz"])
def test_files_cut_short(suffix: str, tmp_path: Path) -> None:
    """Cut anywhere, a file is refused or (where only trailing bytes of no meaning went) still agrees with onnxruntime."""
    whole = bundled.path("digits-16x2").read_bytes()
    data = gzip.compress(whole) if suffix == ".onnx.gz" else whole
    path = tmp_path / f"cut{suffix}"
    path.write_bytes(data)
    assert load(path).fingerprint == load("digits-16x2").fingerprint
    for length in [0, 1, 2, 10, *np.linspace(20, len(data) - 1, 25).astype(int)]:
        path.write_bytes(data[:length])
        with pytest.raises(NetworkError, match=f"cut{suffix}"):
            load(path)


def test_flipped_bytes_never_crash(tmp_path: Path) -> None:
    """A damaged file is refused with a typed error, or is a network that onnxruntime confirms."""
    whole = bytearray(bundled.path("digits-16x2").read_bytes())
    generator = np.random.default_rng(5)
    path, outcomes = tmp_path / "damaged.onnx", set()
    # The structure of this file lies at its ends; weights fill the middle.
    places = [
        *generator.integers(0, 300, 60),
        *generator.integers(0, len(whole), 20),
        *generator.integers(len(whole) - 200, len(whole), 40),
    ]
    for place in places:
        damaged = bytearray(whole)
        damaged[place] ^= int(generator.integers(1, 256))
        path.write_bytes(bytes(damaged))
        try:
            outcomes.add(type(load(path)))
        except NetworkError as error:
            outcomes.add(NetworkError if "damaged.onnx" in error.place else Exception)
    assert outcomes == {Network, NetworkError}


def test_noise_is_no_network(tmp_path: Path) -> None:
    path = tmp_path / "noise.onnx"
    path.write_bytes(np.random.default_rng(0).bytes(5000))
    with pytest.raises(NetworkError, match="not an ONNX file, or is cut short"):
        load(path)
    (tmp_path / "noise.onnx.gz").write_bytes(b"not gzip")
    with pytest.raises(NetworkError, match="cannot be read"):
        load(tmp_path / "noise.onnx.gz")


def test_external_weights_that_are_missing(tmp_path: Path) -> None:
    path = tmp_path / "external.onnx"
    onnx.save_model(gemm(), path, save_as_external_data=True, location="weights.bin", size_threshold=0)
    assert load(path).input_size == 6
    (tmp_path / "weights.bin").unlink()
    with pytest.raises(NetworkError, match=r"external\.onnx"):
        load(path)


@pytest.mark.parametrize("source", ["digits-99x9", "network.pt", 3, None, [1, 2]])
def test_what_is_no_network(source: Any) -> None:
    with pytest.raises(NetworkError, match="bundled network \\(digits-16x2"):
        load(source)


def test_a_network_is_itself() -> None:
    network = load("digits-16x2")
    assert load(network) is network
    assert load(str(bundled.path("digits-16x2"))).fingerprint == network.fingerprint


def test_nothing_is_printed(capfd: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """Neither warnings of onnxruntime (weights listed as inputs, unused ones) nor its errors reach the user."""
    model = gemm(unused=B)
    model.graph.input.append(helper.make_tensor_value_info("w", TensorProto.FLOAT, W.shape))
    path = tmp_path / "old.onnx"
    onnx.save(model, path)
    load(path)
    refused(spoiled(gemm(), lambda m: setattr(m, "ir_version", 999)), tmp_path)
    assert capfd.readouterr() == ("", "")

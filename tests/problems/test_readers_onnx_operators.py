"""Every ONNX operator, in every opset from 8 to 21, against onnxruntime.

One table drives the tests: a case is a small graph x -> y. Reading compares each node with onnxruntime already; here the final
values are compared once more through a plain session, and so is the graph that came out.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from problems.maps import Conv, Dense, Sparse
from problems.network import Affine, Network
from problems.readers import load
from problems.readers.agreement import replay

NEWEST = 21
GENERATOR = np.random.default_rng(7)


def weights(*shape: int, kind: type = np.float32) -> np.ndarray:
    return GENERATOR.standard_normal(shape).astype(kind)


def integers(*values: int) -> np.ndarray:
    return np.array(values, dtype=np.int64)


@dataclass(frozen=True)
class Case:
    nodes: Sequence[onnx.NodeProto]
    shape: Sequence[int | str]
    stored: dict[str, np.ndarray] = field(default_factory=dict)
    opsets: tuple[int, int] = (8, NEWEST)
    double: bool = True  # whether onnxruntime has it in float64
    inputs_too: bool = False  # list the stored tensors among the graph's inputs, as old files do


def node(operator: str, *inputs: str, to: str = "y", **attributes: Any) -> onnx.NodeProto:
    return helper.make_node(operator, list(inputs), [to], **attributes)


def model(case: Case, opset: int, *, double: bool = False) -> onnx.ModelProto:
    element = TensorProto.DOUBLE if double else TensorProto.FLOAT
    wide = {name: a.astype(np.float64) if double and a.dtype == np.float32 else a for name, a in case.stored.items()}
    tensors = [numpy_helper.from_array(array, name) for name, array in wide.items()]
    inputs = [helper.make_tensor_value_info("x", element, case.shape)]
    if case.inputs_too:
        inputs = [helper.make_tensor_value_info(t.name, t.data_type, t.dims) for t in tensors] + inputs
    graph = helper.make_graph(case.nodes, "graph", inputs, [helper.make_empty_tensor_value_info("y")], tensors)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=3 if opset == 8 and case.inputs_too else 8)


IMAGE = (1, 2, 6, 5)
VECTOR = ("N", 6)
C = Case


def number(value: float) -> np.ndarray:
    return np.array(value, dtype=np.float32)


BIAS = weights(3)
SPLIT = partial(helper.make_node, "Split")
CAST = partial(helper.make_node, "Cast")

# fmt: off
CASES: dict[str, Case] = {
    # Linear layers
    "gemm": C([node("Gemm", "x", "w", "b")], VECTOR, {"w": weights(6, 3), "b": weights(3)}),
    "gemm-transposed": C([node("Gemm", "x", "w", "b", alpha=0.3, beta=1.7, transB=1)], VECTOR, {"w": weights(3, 6), "b": weights(1, 3)}),
    "gemm-scalar-bias": C([node("Gemm", "x", "w", "b", alpha=-2.0)], VECTOR, {"w": weights(6, 3), "b": weights(1)}),
    "gemm-no-bias": C([node("Gemm", "x", "w")], VECTOR, {"w": weights(6, 3)}, (11, NEWEST)),
    "gemm-left": C([node("Gemm", "w", "x", "b", transB=1, alpha=0.5)], VECTOR, {"w": weights(3, 6), "b": weights(3, 1)}),
    "gemm-transposed-input": C([node("Gemm", "x", "w", "b", transA=1)], (6, 1), {"w": weights(6, 3), "b": weights(3)}),
    "gemm-value-bias": C(
        [node("Gemm", "x", "w", "b", to="h"), node("Gemm", "x", "w", "h", beta=0.5)], VECTOR, {"w": weights(6, 3), "b": weights(3)}
    ),
    "matmul": C([node("MatMul", "x", "w")], VECTOR, {"w": weights(6, 3)}),
    "matmul-add": C([node("MatMul", "x", "w", to="h"), node("Add", "b", "h")], VECTOR, {"w": weights(6, 3), "b": weights(3)}),
    "matmul-left": C([node("MatMul", "w", "x")], (6, 1), {"w": weights(3, 6)}),
    "matmul-vector": C([node("MatMul", "x", "w")], VECTOR, {"w": weights(6)}),
    "matmul-vector-input": C([node("MatMul", "x", "w")], (6,), {"w": weights(6, 3)}),
    "matmul-left-vector-input": C([node("MatMul", "w", "x")], (6,), {"w": weights(3, 6)}),
    "matmul-last-axis": C([node("MatMul", "x", "w")], IMAGE, {"w": weights(5, 3)}),
    "matmul-left-axis": C([node("MatMul", "w", "x")], IMAGE, {"w": weights(3, 6)}),
    "matmul-left-vector": C([node("MatMul", "w", "x")], IMAGE, {"w": weights(6)}),
    "matmul-batched-constant": C([node("MatMul", "x", "w")], (1, 1, 6), {"w": weights(1, 6, 3)}),
    # Element-wise arithmetic, with broadcasting
    "add": C([node("Add", "x", "c")], IMAGE, {"c": weights(2, 1, 1)}),
    "add-grows": C([node("Add", "x", "c")], (1, 1, 6), {"c": weights(4, 1)}),
    "sub": C([node("Sub", "x", "c")], IMAGE, {"c": weights(1, 2, 6, 5)}),
    "sub-from": C([node("Sub", "c", "x")], IMAGE, {"c": weights(5)}),
    "mul": C([node("Mul", "c", "x")], IMAGE, {"c": weights(1, 2, 1, 1)}),
    "mul-scalar": C([node("Mul", "x", "c")], VECTOR, {"c": number(0.3)}),
    "mul-zero": C([node("Mul", "x", "c")], VECTOR, {"c": np.float32([0, 1, 0, -1, 2, 3])}),
    "div": C([node("Div", "x", "c")], IMAGE, {"c": weights(2, 1, 1)}),
    "div-dyadic": C([node("Div", "x", "c")], VECTOR, {"c": np.float32([0.25])}),
    "neg": C([node("Neg", "x")], VECTOR),
    "sum": C([node("Sum", "x", "c", "x")], VECTOR, {"c": weights(6)}),
    "normalised": C(
        [node("Sub", "x", "m", to="a"), node("Div", "a", "s", to="b"), node("Gemm", "b", "w", "c")],
        VECTOR,
        {"m": np.float32([0.1307]), "s": np.float32([0.3081]), "w": weights(6, 3), "c": weights(3)},
    ),
    "residual": C([node("Relu", "x", to="h"), node("Mul", "h", "c", to="g"), node("Add", "g", "x")], VECTOR, {"c": weights(6)}),
    "constants-only": C([node("Mul", "c", "c", to="d"), node("Div", "d", "c", to="e"), node("Add", "x", "e")], VECTOR, {"c": weights(6)}),
    "computed-weights": C(
        [node("Transpose", "w", to="t"), node("Mul", "t", "c", to="u"), node("Div", "u", "d", to="v"), node("Add", "v", "v", to="s"),
         node("Sub", "s", "v", to="r"), node("Neg", "r", to="n"), node("MatMul", "x", "n")],
        VECTOR, {"w": weights(3, 6), "c": number(0.3), "d": number(4)},
    ),
    "old-style": C([node("Gemm", "x", "w", "b")], (1, 6), {"w": weights(6, 3), "b": weights(3)}, inputs_too=True),
    # Convolutions
    "conv": C([node("Conv", "x", "w", "b")], IMAGE, {"w": weights(3, 2, 3, 2), "b": weights(3)}, double=False),
    "conv-all": C(
        [node("Conv", "x", "w", pads=[1, 0, 2, 1], strides=[2, 1], dilations=[1, 2], group=2, kernel_shape=[3, 2])],
        IMAGE,
        {"w": weights(4, 1, 3, 2)},
        double=False,
    ),
    "conv-upper": C([node("Conv", "x", "w", auto_pad="SAME_UPPER", strides=[2, 2])], IMAGE, {"w": weights(3, 2, 3, 2)}, double=False),
    "conv-lower": C([node("Conv", "x", "w", auto_pad="SAME_LOWER")], IMAGE, {"w": weights(3, 2, 2, 4)}, double=False),
    "conv-valid": C([node("Conv", "x", "w", auto_pad="VALID")], IMAGE, {"w": weights(3, 2, 3, 3)}, double=False),
    "conv-1d": C([node("Conv", "x", "w", "b", pads=[2, 1], strides=[2])], (1, 2, 9), {"w": weights(3, 2, 3), "b": BIAS}, double=False),
    "conv-after-scaling": C(
        [node("Sub", "x", "m", to="a"), node("Conv", "a", "w", pads=[1, 1, 1, 1])],
        IMAGE,
        {"m": np.float32([0.5]), "w": weights(3, 2, 3, 3)},
        double=False,
    ),
    # Normalisation and shapes
    "batchnorm": C(
        [node("BatchNormalization", "x", "s", "b", "m", "v", epsilon=1e-3)],
        IMAGE,
        {"s": weights(2), "b": weights(2), "m": weights(2), "v": np.abs(weights(2))},
    ),
    "batchnorm-vector": C(
        [node("MatMul", "x", "w", to="h"), node("BatchNormalization", "h", "s", "b", "m", "v")],
        VECTOR,
        {"w": weights(6, 3), "s": weights(3), "b": weights(3), "m": 10 * weights(3), "v": np.abs(weights(3))},
    ),
    "flatten": C([node("Flatten", "x")], IMAGE),
    "flatten-axis": C([node("Flatten", "x", axis=3)], IMAGE),
    "flatten-negative": C([node("Flatten", "x", axis=-1)], IMAGE, opsets=(11, NEWEST)),
    "reshape": C([node("Reshape", "x", "s")], IMAGE, {"s": integers(0, -1, 3)}),
    "reshape-batch": C([node("Reshape", "x", "s")], ("N", 2, 6, 5), {"s": integers(-1, 60)}),
    "reshape-by-shape": C(
        [
            node("Shape", "x", to="s"),
            node("Gather", "s", "zero", to="n"),
            node("Concat", "n", "rest", to="t", axis=0),
            node("Reshape", "x", "t"),
        ],
        ("N", 2, 6, 5),
        {"zero": integers(0), "rest": integers(-1)},
    ),
    "transpose": C([node("Transpose", "x", perm=[0, 2, 3, 1], to="t"), node("Mul", "t", "c")], IMAGE, {"c": weights(2)}),
    "transpose-all": C([node("Transpose", "x")], (1, 3, 1)),
    "squeeze": C([node("Squeeze", "x", axes=[1])], (1, 1, 6), opsets=(8, 12)),
    "squeeze-input": C([node("Squeeze", "x", "a")], (1, 1, 6), {"a": integers(1)}, (13, NEWEST)),
    "squeeze-everything": C([node("Squeeze", "x")], (1, 1, 6)),
    "unsqueeze": C([node("Unsqueeze", "x", axes=[1, 3])], VECTOR, opsets=(8, 12)),
    "unsqueeze-input": C([node("Unsqueeze", "x", "a")], VECTOR, {"a": integers(1, 3)}, (13, NEWEST)),
    "expand": C([node("Expand", "x", "s")], (1, 1, 5), {"s": integers(1, 3, 1)}),
    "gather": C([node("Gather", "x", "i", axis=3)], IMAGE, {"i": integers(4, 0, 0)}),
    "slice": C([node("Slice", "x", starts=[1, -3], ends=[9, -1], axes=[2, 3])], IMAGE, opsets=(8, 9)),
    "slice-input": C(
        [node("Slice", "x", "a", "b", "c", "d")],
        IMAGE,
        {"a": integers(-1, 0), "b": integers(-100, 4), "c": integers(3, 2), "d": integers(-2, 3)},
        (10, NEWEST),
    ),
    "split": C([SPLIT(["x"], ["a", "b"], axis=1, split=[2, 4]), node("Concat", "b", "a", axis=1)], VECTOR, opsets=(8, 12)),
    "split-even": C([SPLIT(["x"], ["a", "b"], axis=1), node("Sub", "a", "b")], VECTOR, opsets=(8, 17)),
    "split-input": C([SPLIT(["x", "s"], ["a", "b"], axis=1), node("Concat", "b", "a", axis=1)], VECTOR, {"s": integers(2, 4)}, (13, 21)),
    "pad": C([node("Pad", "x", pads=[0, 0, 1, 2, 0, 0, 0, 3])], IMAGE, opsets=(8, 10)),
    "pad-input": C([node("Pad", "x", "p")], IMAGE, {"p": integers(0, 0, 1, -2, 0, 1, 0, 3)}, (11, NEWEST)),
    "pad-axes": C([node("Pad", "x", "p", "", "a")], IMAGE, {"p": integers(1, 2), "a": integers(3)}, (18, NEWEST)),
    "concat": C(
        [node("Relu", "x", to="r"), node("Concat", "x", "r", "c", "x", axis=-1)], (1, 3, 2), {"c": weights(1, 3, 4)}
    ),
    "identity": C([node("Identity", "x", to="i"), node("Identity", "i")], VECTOR),
    "dropout": C([node("Dropout", "x")], VECTOR),
    "dropout-ratio": C([node("Dropout", "x", ratio=0.3)], VECTOR, opsets=(8, 11)),
    "dropout-input": C([node("Dropout", "x", "r")], VECTOR, {"r": number(0.3)}, (12, NEWEST)),
    "constant": C([node("Constant", to="c", value=numpy_helper.from_array(weights(6))), node("Add", "x", "c")], VECTOR, double=False),
    "constant-number": C([node("Constant", to="c", value_float=0.3), node("Mul", "x", "c")], VECTOR, opsets=(12, NEWEST), double=False),
    "constant-list": C([node("Constant", to="s", value_ints=[1, 3, 2]), node("Reshape", "x", "s")], VECTOR, opsets=(12, NEWEST)),
    "constant-of-shape": C(
        [
            node("ConstantOfShape", "s", to="c", value=numpy_helper.from_array(np.float32([1.5]))),
            node("Add", "x", "c"),
        ],
        VECTOR,
        {"s": integers(1, 6)},
        (9, NEWEST),
        double=False,
    ),
    "cast": C([CAST(["x"], ["d"], to=TensorProto.DOUBLE), CAST(["d"], ["y"], to=TensorProto.FLOAT)], VECTOR),
    # Operators with kinks, and averages
    "relu": C([node("Relu", "x")], VECTOR),
    "relu-relu": C([node("Relu", "x", to="r"), node("Relu", "r", to="s"), node("Neg", "s")], VECTOR),
    "leaky-relu": C([node("LeakyRelu", "x", alpha=0.2)], VECTOR),
    "leaky-relu-default": C([node("LeakyRelu", "x")], VECTOR),
    "p-relu": C([node("PRelu", "x", "s")], IMAGE, {"s": weights(2, 1, 1)}),
    "abs": C([node("Abs", "x")], VECTOR),
    "clip": C([node("Clip", "x", min=-0.25, max=0.75)], VECTOR, opsets=(8, 10), double=False),
    "clip-input": C([node("Clip", "x", "a", "b")], VECTOR, {"a": number(-0.25), "b": number(0.7)}, (11, NEWEST)),
    "clip-low": C([node("Clip", "x", "a")], VECTOR, {"a": number(0.1)}, (11, NEWEST)),
    "clip-high": C([node("Clip", "x", "", "b")], VECTOR, {"b": number(6)}, (11, NEWEST)),
    "max": C([node("Max", "x", "c")], VECTOR, {"c": weights(6)}),
    "min": C([node("Neg", "x", to="n"), node("Min", "x", "c", "n")], VECTOR, {"c": weights(6)}),
    "max-pool": C([node("MaxPool", "x", kernel_shape=[3, 2], strides=[2, 1], pads=[1, 0, 1, 1])], IMAGE),
    "max-pool-ceil": C([node("MaxPool", "x", kernel_shape=[3, 3], strides=[2, 2], ceil_mode=1)], (1, 1, 6, 6), opsets=(10, NEWEST)),
    "max-pool-1d": C([node("MaxPool", "x", kernel_shape=[2], strides=[2])], (1, 2, 7)),
    "max-pool-same": C([node("MaxPool", "x", kernel_shape=[2, 2], strides=[2, 2], auto_pad="SAME_UPPER")], IMAGE),
    "average-pool": C([node("AveragePool", "x", kernel_shape=[3, 2], strides=[2, 1], pads=[1, 0, 1, 1])], IMAGE, double=False),
    "average-pool-padding": C(
        [node("AveragePool", "x", kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1], count_include_pad=1)], IMAGE, double=False
    ),
    "average-pool-dyadic": C([node("AveragePool", "x", kernel_shape=[2, 2], strides=[2, 2])], (1, 2, 4, 4), double=False),
    "global-average-pool": C([node("GlobalAveragePool", "x")], IMAGE, double=False),
    "reduce-mean": C([node("ReduceMean", "x", axes=[1, -1], keepdims=0)], IMAGE, opsets=(11, 17)),
    "reduce-mean-input": C([node("ReduceMean", "x", "a")], IMAGE, {"a": integers(2, 3)}, (18, NEWEST)),
    "reduce-sum": C([node("ReduceSum", "x", axes=[2])], IMAGE, opsets=(8, 12)),
    "reduce-sum-input": C([node("ReduceSum", "x", "a", keepdims=0)], IMAGE, {"a": integers(2)}, (13, NEWEST)),
}
# fmt: on


def check(path: Path, network: Network) -> None:
    """The logits of a plain onnxruntime session at points of moderate size, to a loose tolerance: the sharp one is tested when reading."""
    points = np.random.default_rng(3).standard_normal((4, network.input_size)).astype(np.float32).astype(np.float64)
    found = replay(path, points)
    expected = network.forward(points)
    assert found.shape == expected.shape
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4 * max(1.0, np.abs(expected).max()))


@pytest.mark.parametrize("name", CASES)
def test_operator_in_every_opset(name: str, tmp_path: Path) -> None:
    case = CASES[name]
    for opset in range(case.opsets[0], case.opsets[1] + 1):
        path = tmp_path / f"{name}-{opset}.onnx"
        onnx.save(model(case, opset), path)
        network = load(path)
        assert network.precision == "float32"
        check(path, network)


@pytest.mark.parametrize("name", [name for name, case in CASES.items() if case.double])
def test_operator_in_float64(name: str, tmp_path: Path) -> None:
    path = tmp_path / "double.onnx"
    onnx.save(model(CASES[name], CASES[name].opsets[1], double=True), path)
    network = load(path)
    assert network.precision == "float64"
    check(path, network)


def test_float64_convolution_is_compared_with_the_reference(tmp_path: Path) -> None:
    """onnxruntime has no convolution in float64: ONNX's own evaluator stands in for it."""
    onnx.save(model(CASES["conv-all"], 13, double=True), tmp_path / "double.onnx")
    network = load(tmp_path / "double.onnx")
    assert network.precision == "float64"
    x = np.random.default_rng(0).standard_normal(network.input_size)
    np.testing.assert_allclose(replay(network, x), network.forward(x), rtol=1e-12, atol=1e-12)


def kinds(network: Network) -> list[str]:
    """The maps of each affine node, ReLUs left out."""
    return ["+".join(type(linear).__name__ for linear in n.maps) for n in network.nodes if isinstance(n, Affine)]


def read(case: Case, tmp_path: Path) -> Network:
    onnx.save(model(case, 13), tmp_path / "case.onnx")
    return load(tmp_path / "case.onnx")


def test_constants_vanish_into_their_neighbours(tmp_path: Path) -> None:
    """Whatever is exact in float64 leaves no node behind."""
    assert kinds(read(CASES["matmul-add"], tmp_path)) == ["Dense"]
    assert kinds(read(CASES["gemm-transposed"], tmp_path)) == ["Dense"]
    assert kinds(read(CASES["conv"], tmp_path)) == ["Conv"]
    moves = [
        node("Flatten", "x", to="f"),
        node("Reshape", "f", "s", to="r"),
        node("Transpose", "r", to="t"),
        node("Reshape", "t", "u", to="v"),
    ]
    stored = {"s": integers(6, 10), "u": integers(1, 60), "w": weights(60, 2)}
    assert kinds(read(Case([*moves, node("MatMul", "v", "w")], IMAGE, stored), tmp_path)) == ["Dense"]
    assert kinds(read(CASES["computed-weights"], tmp_path)) == ["Dense"]
    dyadic = [node("Sub", "x", "c", to="a"), node("Div", "a", "c", to="b"), node("MatMul", "b", "w")]
    assert kinds(read(Case(dyadic, VECTOR, {"c": np.float32([0.5]), "w": weights(6, 2)}), tmp_path)) == ["Dense"]


def test_division_is_kept_exact(tmp_path: Path) -> None:
    network = read(CASES["normalised"], tmp_path)
    assert kinds(network) == ["Sparse", "Sparse", "Dense"]
    divided = network.nodes[2]
    assert isinstance(divided, Affine)
    assert isinstance(divided.maps[0], Sparse)
    assert divided.maps[0].divisors is not None
    quotients = {Fraction(m) / Fraction(d) for m, d in zip(divided.maps[0].matrix.data, divided.maps[0].divisors, strict=True)}
    assert quotients == {1 / Fraction(float(np.float32(0.3081)))}
    assert not divided.bias.any()


def test_a_sum_that_would_be_rounded_stays_two_nodes(tmp_path: Path) -> None:
    stored = {"w": weights(6, 2), "a": np.float32([1.0, 1.0]), "b": np.float32([1e-20, 1e-20])}
    nodes = [node("Gemm", "x", "w", "a", to="h"), node("Add", "h", "b")]
    network = read(Case(nodes, VECTOR, stored), tmp_path)
    assert [set(n.bias) for n in network.nodes if isinstance(n, Affine)] == [{1.0}, {float(np.float32(1e-20))}]


def test_rounding_of_a_square_root_is_listed(tmp_path: Path) -> None:
    network = read(CASES["batchnorm"], tmp_path)
    assert len(network.roundings) == 1
    assert network.roundings[0].startswith("y: scale / sqrt(variance + epsilon)")
    # Here every root is rational: 1 + 1.25 = 1.5^2 (an epsilon that float32 holds).
    exact = {"s": np.float32([3.0, -1.5]), "b": weights(2), "m": np.float32([1.0, 0.5]), "v": np.float32([1.0, 1.0])}
    network = read(Case([node("BatchNormalization", "x", *"sbmv", epsilon=1.25)], IMAGE, exact), tmp_path)
    assert network.roundings == ()


def test_a_shared_value_is_one_node(tmp_path: Path) -> None:
    nodes = [node("Conv", "x", "w", to="c"), node("Relu", "c", to="r"), node("Conv", "r", "u", to="d"), node("Add", "c", "d")]
    network = read(Case(nodes, IMAGE, {"w": weights(3, 2, 1, 1), "u": weights(3, 3, 1, 1)}), tmp_path)
    assert kinds(network) == ["Conv", "Sparse+Conv"]


def test_unused_branches_are_dropped(tmp_path: Path) -> None:
    nodes = [node("Relu", "x", to="r"), node("Sigmoid", "r", to="unused"), node("Gemm", "x", "w")]
    network = read(Case(nodes, VECTOR, {"w": weights(6, 2)}), tmp_path)
    assert (len(network.nodes), network.neurons) == (2, 0)


@pytest.mark.parametrize(
    ("shape", "expected"),
    [((1, 6), (6,)), (("N", 6), (6,)), ((6,), (6,)), ((3, 2), (3, 2)), ((1, 1, 1, 6), (1, 1, 6)), ((1,), (1,))],
)
def test_batch_axis(shape: tuple, expected: tuple[int, ...], tmp_path: Path) -> None:
    network = read(Case([node("Relu", "x")], shape), tmp_path)
    assert network.input_shape == network.output_shape == expected


def test_the_parent_of_a_relu_is_affine(tmp_path: Path) -> None:
    network = read(CASES["relu-relu"], tmp_path)
    assert all(isinstance(network.nodes[network.nodes[i].parent], Affine) for i in network.relus)  # type: ignore[union-attr]
    assert kinds(network) == ["Sparse", "Sparse", "Sparse"]


def test_convolution_stays_a_convolution(tmp_path: Path) -> None:
    network = read(CASES["conv-all"], tmp_path)
    conv = network.nodes[1]
    assert isinstance(conv, Affine)
    assert isinstance(conv.maps[0], Conv)
    assert (conv.maps[0].padding, conv.maps[0].stride, conv.maps[0].dilation, conv.maps[0].groups) == ((1, 0, 2, 1), (2, 1), (1, 2), 2)


def test_scaling_goes_into_the_layer_before_it(tmp_path: Path) -> None:
    """Powers of two scale weights exactly; so does any float32 constant after float32 weights (24 + 24 bits)."""
    nodes = [node("Gemm", "x", "w", "b", to="h"), node("Mul", "h", "c")]
    network = read(Case(nodes, VECTOR, {"w": weights(6, 2), "b": weights(2), "c": weights(2)}), tmp_path)
    assert kinds(network) == ["Dense"]
    assert isinstance(network.nodes[1], Affine)
    assert isinstance(network.nodes[1].maps[0], Dense)

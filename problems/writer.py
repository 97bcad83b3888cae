"""Writes a `Network` as an ONNX file: the inverse of `problems.readers.onnx`.

The file computes the same function of real numbers: nothing is rounded on the way, and a number that the chosen precision cannot
hold is an error. Reading it back may group affine nodes differently.
"""

from pathlib import Path
from typing import Any

import numpy as np

from problems.errors import NetworkError
from problems.maps import Array, Conv, Dense, LinearMap, Sparse
from problems.network import Affine, Network, Relu

OPSET = 13


def write_onnx(network: Network, path: str | Path, *, precision: str | None = None) -> None:
    """Writes the network with a dynamic batch axis, weights in `precision` ("float32" or "float64"; None: the network's own).

    NetworkError where float32 cannot hold a weight exactly. onnxruntime has no convolution in float64: such a file is correct, but
    only ONNX's reference evaluator runs it.
    """
    from onnx import TensorProto, helper, save

    precision = network.precision if precision is None else precision
    if precision not in ("float32", "float64"):
        raise NetworkError("precision", f"{precision!r} is not known.", "Choose float32 or float64.")
    writer = _Writer(network, np.dtype(precision))
    nodes, tensors = writer.graph()
    kind = TensorProto.FLOAT if precision == "float32" else TensorProto.DOUBLE
    inputs = [helper.make_tensor_value_info("input", kind, ["batch", *network.input_shape])]
    outputs = [helper.make_tensor_value_info("output", kind, ["batch", *network.output_shape])]
    graph = helper.make_graph(nodes, network.name, inputs, outputs, tensors)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=8, producer_name="tightcert")
    try:
        save(model, str(path))
    except OSError as error:
        raise NetworkError(str(path), f"cannot be written: {error}.", "Check the folder and its permissions.") from error


class _Writer:
    """Every value is held as a tensor (batch, size); only convolutions look at it as images."""

    def __init__(self, network: Network, dtype: np.dtype) -> None:
        self.network, self.dtype = network, dtype
        self.nodes: list[Any] = []
        self.tensors: list[Any] = []

    def graph(self) -> tuple[list[Any], list[Any]]:
        """(nodes, initializers)."""
        names = [self._add("Reshape", "input", self._shape("flat", (self.network.input_size,)), to="flat_input")]
        for index, node in enumerate(self.network.nodes[1:], start=1):
            if isinstance(node, Relu):
                names.append(self._add("Relu", names[node.parent], to=f"relu{index}"))
            elif isinstance(node, Affine):
                names.append(self._affine(node, names, f"affine{index}"))
        self._add("Reshape", names[-1], self._shape("result", self.network.output_shape), to="output")
        return self.nodes, self.tensors

    def _affine(self, node: Affine, names: list[str], name: str) -> str:
        if len(node.maps) == 1 and isinstance(node.maps[0], Dense):
            weights = self._store(f"{name}_weights", node.maps[0].weights)
            return self._add("Gemm", names[node.parents[0]], weights, self._store(f"{name}_bias", node.bias), to=name, transB=1)
        parts = [
            self._linear(linear, names[parent], f"{name}_part{i}")
            for i, (parent, linear) in enumerate(zip(node.parents, node.maps, strict=True))
        ]
        total = parts[0]
        for i, part in enumerate(parts[1:], start=1):
            total = self._add("Add", total, part, to=f"{name}_sum{i}")
        return self._add("Add", total, self._store(f"{name}_bias", node.bias), to=name)

    def _linear(self, linear: LinearMap, source: str, name: str) -> str:
        if isinstance(linear, Conv):
            image = self._add("Reshape", source, self._shape(f"{name}_image", linear.in_shape), to=f"{name}_image_in")
            convolved = self._add(
                "Conv",
                image,
                self._store(f"{name}_kernel", linear.kernel),
                to=f"{name}_image_out",
                kernel_shape=list(linear.kernel.shape[2:]),
                pads=list(linear.padding),
                strides=list(linear.stride),
                dilations=list(linear.dilation),
                group=linear.groups,
            )
            return self._add("Reshape", convolved, self._shape(f"{name}_flat", (linear.out_size,)), to=name)
        matrix, divisors = linear.rows()
        undivided = name if divisors is None else f"{name}_undivided"
        columns = _selection(linear)
        if columns is not None:
            from onnx import numpy_helper

            self.tensors.append(numpy_helper.from_array(columns.astype(np.int64), f"{name}_columns"))
            self._add("Gather", source, f"{name}_columns", to=undivided, axis=1)
        else:
            self._add("MatMul", source, self._store(f"{name}_matrix", np.ascontiguousarray(matrix.toarray().T)), to=undivided)
        return name if divisors is None else self._add("Div", undivided, self._store(f"{name}_divisors", divisors), to=name)

    def _add(self, operator: str, *inputs: str, to: str, **attributes: Any) -> str:
        from onnx import helper

        self.nodes.append(helper.make_node(operator, list(inputs), [to], name=to, **attributes))
        return to

    def _store(self, name: str, array: Array) -> str:
        from onnx import numpy_helper

        with np.errstate(over="ignore"):
            stored = array.astype(self.dtype)
        if not np.array_equal(stored.astype(np.float64), array):
            raise NetworkError(
                f"network {self.network.name}", f"{self.dtype} cannot hold {name} exactly.", "Write it with precision='float64'."
            )
        self.tensors.append(numpy_helper.from_array(stored, name))
        return name

    def _shape(self, name: str, shape: tuple[int, ...]) -> str:
        from onnx import numpy_helper

        self.tensors.append(numpy_helper.from_array(np.array([-1, *shape], dtype=np.int64), f"{name}_shape"))
        return f"{name}_shape"


def _selection(linear: LinearMap) -> Array | None:
    """The column that each row of a sparse map copies, where every row copies exactly one."""
    if not isinstance(linear, Sparse):
        return None
    matrix = linear.matrix
    single = (np.diff(matrix.indptr) == 1).all() and (matrix.data == 1).all()
    return matrix.indices if single else None

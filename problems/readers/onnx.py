"""Reads an ONNX file (opset 8 or newer) into a `Network`, and compares what it built with onnxruntime.

The graph is walked once, with the batch size set to 1: every tensor is either a constant or a `Value` of the builder. The
first axis of the input is the batch where it is dynamic or 1 (and not the only axis); all others must be fixed.
"""

import gzip
from math import prod
from pathlib import Path
from typing import Any

import numpy as np

from problems.errors import NetworkError, UnsupportedOperatorError
from problems.maps import Array
from problems.network import Network
from problems.readers import agreement
from problems.readers.builder import Builder, Value
from problems.readers.onnx_call import Call, Handler, Operand
from problems.readers.onnx_operators import OPERATORS
from problems.readers.onnx_piecewise import PIECEWISE
from problems.readers.onnx_shapes import SHAPES

HANDLERS: dict[str, Handler] = SHAPES | OPERATORS | PIECEWISE
OLDEST_OPSET = 8
LARGEST_INPUT = 10**8

_NO_SOFTMAX = "Remove it: a softmax at the end does not change which class wins; ask about the logits."
_SMOOTH = "Only piecewise-affine operators can be verified exactly: the nearest are Relu, LeakyRelu and Clip."
_NEAREST = {
    "Softmax": _NO_SOFTMAX,
    "LogSoftmax": _NO_SOFTMAX,
    "ArgMax": "Remove it and ask about the logits.",
    "Sigmoid": "Remove it if it is last (it keeps the order of the outputs). " + _SMOOTH,
    "HardSigmoid": "Write it as Mul, Add and Clip.",
    "ConvTranspose": "Supported: Conv, or MatMul with the matrix of the convolution.",
    "Upsample": "Supported: Gather or Expand with constant indices.",
    "Resize": "Supported: Gather or Expand with constant indices.",
    "LayerNormalization": "It divides by a norm of its input; supported: BatchNormalization at inference.",
    "InstanceNormalization": "It divides by a norm of its input; supported: BatchNormalization at inference.",
} | dict.fromkeys(("Tanh", "Elu", "Selu", "Gelu", "Softplus", "Exp", "Log", "Sqrt", "Pow", "Erf", "Mish", "HardSwish"), _SMOOTH)


def parse(path: Path) -> Any:
    """The ModelProto in a file (.onnx or .onnx.gz), external tensors included. Raises NetworkError."""
    import onnx
    from google.protobuf.message import DecodeError  # type: ignore[import-untyped]

    try:
        packed = path.suffix == ".gz"
        model = onnx.load_model_from_string(gzip.decompress(path.read_bytes())) if packed else onnx.load(str(path))
    except FileNotFoundError as error:
        raise NetworkError(str(path), f"the file {error.filename or path} does not exist.", "Check the path.") from error
    except OSError as error:
        raise NetworkError(str(path), f"cannot be read: {error}.", "Check the path and its permissions.") from error
    except (DecodeError, EOFError) as error:
        raise NetworkError(str(path), "is not an ONNX file, or is cut short.", "Export or download it again.") from error
    except Exception as error:  # onnx raises errors of its own for external tensors that are missing or out of bounds
        raise NetworkError(str(path), f"cannot be read: {_line(error)}.", "Export or download it again.") from error
    if not model.graph.node:
        raise NetworkError(str(path), "holds no graph.", "Is it an ONNX file, and complete?")
    return model


def read(path: str | Path) -> Network:
    """The network in an ONNX file; NetworkError where it is malformed, not supported, or differs from what onnxruntime computes."""
    path = Path(path)
    model = parse(path)
    network, sizes, observed = _Reader(model, path).network()
    agreement.check_onnx(model, network, sizes, observed, place=str(path))
    return network


def _line(error: Exception) -> str:
    """The first line of an error of another library, as part of a sentence."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(". ")


def _inputs(model: Any) -> list[Any]:
    """The true inputs: old files list their weights among them too."""
    weights = {tensor.name for tensor in model.graph.initializer}
    return [item for item in model.graph.input if item.name not in weights]


class _Reader:
    def __init__(self, model: Any, path: Path) -> None:
        self.model, self.path, self.file = model, path, str(path)
        self.graph = model.graph
        versions = [opset.version for opset in model.opset_import if opset.domain in ("", "ai.onnx")]
        self.opset = versions[0] if versions else 1
        if self.opset < OLDEST_OPSET:
            raise NetworkError(self.file, f"uses opset {self.opset}.", f"Opset {OLDEST_OPSET} or newer is supported: convert it.")
        if self.graph.sparse_initializer:
            raise NetworkError(self.file, "stores sparse tensors.", "Supported: dense tensors.")
        self.initializers = {tensor.name: tensor for tensor in self.graph.initializer}
        self.tensors: dict[str, Operand] = {}

    def network(self) -> tuple[Network, agreement.Sizes, dict[int, str]]:
        """(network, what its rounding envelopes need, name of the tensor that holds each node's value)."""
        inputs, outputs = _inputs(self.model), list(self.graph.output)
        if len(inputs) != 1 or len(outputs) != 1:
            names = ", ".join(item.name for item in (inputs if len(inputs) != 1 else outputs))
            what = f"{len(inputs)} inputs" if len(inputs) != 1 else f"{len(outputs)} outputs"
            raise NetworkError(self.file, f"has {what} ({names}).", "Networks with one input and one output are supported.")
        shape = self._input_shape(inputs[0])
        builder = Builder(shape)
        self.tensors[inputs[0].name] = builder.input
        uses = self._walk(builder, outputs[0].name)
        output = self.tensors[outputs[0].name] if outputs[0].name in self.tensors else self._constant(outputs[0].name, self.file)
        if not isinstance(output, Value):
            output = builder.constant(np.asarray(output, dtype=np.float64))
        network, renumbered = builder.finish(
            output,
            input_shape=without_batch(shape),
            output_shape=without_batch(output.shape),
            name=self.path.name.removesuffix(".gz").removesuffix(".onnx"),
            precision=self._precision(inputs[0], uses),
            source=self.path.absolute(),
        )
        observed: dict[int, str] = {}
        for name, tensor in self.tensors.items():
            index = builder.node_of(tensor) if isinstance(tensor, Value) else None
            if index in renumbered:
                observed.setdefault(renumbered[index], name)
        observed[0], observed[len(network.nodes) - 1] = inputs[0].name, outputs[0].name
        sizes = agreement.Sizes.of(builder, renumbered)
        return sizes.attached(network), sizes, observed

    def _input_shape(self, item: Any) -> tuple[int, ...]:
        from onnx import TensorProto

        place = f"{self.file}, input {item.name}"
        tensor = item.type.tensor_type
        if tensor.elem_type not in (TensorProto.FLOAT, TensorProto.DOUBLE):
            raise NetworkError(place, "is not a float32 or float64 tensor.", "Export the network with float inputs.")
        if not tensor.HasField("shape") or not tensor.shape.dim:
            raise NetworkError(place, "has no shape.", "Export the network with a fixed input shape.")
        sizes = [dim.dim_value if dim.HasField("dim_value") else -1 for dim in tensor.shape.dim]
        if len(sizes) > 1 and sizes[0] < 1:
            sizes[0] = 1
        if min(sizes) < 1:
            axis = next(i for i, size in enumerate(sizes) if size < 1)
            what = "is empty" if sizes[axis] == 0 else "has no fixed size"
            raise NetworkError(place, f"axis {axis} {what}.", "Only the first axis, the batch, may be dynamic: export with fixed sizes.")
        if prod(sizes) > LARGEST_INPUT:
            raise NetworkError(place, f"has {prod(sizes)} entries.", f"Inputs of up to {LARGEST_INPUT} entries are supported.")
        return tuple(sizes)

    def _precision(self, item: Any, used: set[str]) -> str:
        from onnx import TensorProto

        types = {item.type.tensor_type.elem_type} | {t.data_type for name, t in self.initializers.items() if name in used}
        return "float32" if TensorProto.FLOAT in types else "float64"

    def _walk(self, builder: Builder, output: str) -> set[str]:
        """Evaluates the nodes that the output needs, in order; returns the names of all tensors used."""
        needed, uses = {output}, dict[str, int]()
        for node in reversed(self.graph.node):
            if any(name in needed for name in node.output):
                needed.update(node.input)
                for name in node.input:
                    uses[name] = uses.get(name, 0) + 1
        for index, node in enumerate(self.graph.node):
            if not any(name in needed for name in node.output):
                continue
            name = node.name or (node.output[0] if node.output else "") or f"#{index}"
            call = self._call(builder, node, name)
            results = self._run(call, node)
            for result_name, result in zip(node.output, results, strict=False):
                if isinstance(result, Value) and uses.get(result_name, 0) > 1:
                    result = builder.settled(result)  # computed once, and its bounds too
                if 0 in result.shape:
                    raise NetworkError(call.place, f"its result has shape {tuple(result.shape)}.", "Empty tensors cannot be verified.")
                self.tensors[result_name] = result
        return needed

    def _call(self, builder: Builder, node: Any, name: str) -> Call:
        from onnx import AttributeProto, helper, numpy_helper

        place = f"{self.file}, node {name} ({node.op_type})"
        if node.domain not in ("", "ai.onnx"):
            problem = f"operator {node.op_type} of domain {node.domain} is not supported."
            raise UnsupportedOperatorError(place, problem, "Export with standard operators.")
        if node.op_type not in HANDLERS:
            nearest = _NEAREST.get(node.op_type, f"Supported: {', '.join(sorted(HANDLERS))}.")
            raise UnsupportedOperatorError(place, f"operator {node.op_type} is not supported.", nearest)
        try:
            attributes = {
                item.name: numpy_helper.to_array(item.t) if item.type == AttributeProto.TENSOR else helper.get_attribute_value(item)
                for item in node.attribute
            }
        except Exception as error:  # whatever a damaged attribute makes the decoder raise
            raise NetworkError(place, f"its attributes cannot be read: {_line(error)}.", "Export the network again.") from error
        inputs = [self._operand(item, place) if item else None for item in node.input]
        return Call(builder, node.op_type, place, self.opset, inputs, attributes, len(node.output), name)

    def _operand(self, name: str, place: str) -> Operand:
        return self.tensors[name] if name in self.tensors else self._constant(name, place)

    def _constant(self, name: str, place: str) -> Array:
        from onnx import TensorProto, numpy_helper

        if name not in self.initializers:
            raise NetworkError(
                place, f"uses tensor {name}, which no earlier node computes and the file does not store.", "Export the network again."
            )
        tensor = self.initializers[name]
        allowed = (TensorProto.FLOAT, TensorProto.DOUBLE, TensorProto.INT64, TensorProto.INT32, TensorProto.BOOL)
        if tensor.data_type not in allowed:
            kind = TensorProto.DataType.Name(tensor.data_type) if tensor.data_type in TensorProto.DataType.values() else tensor.data_type
            raise NetworkError(place, f"tensor {name} has element type {kind}.", "Supported: float32 and float64 weights, integer shapes.")
        try:
            array = numpy_helper.to_array(tensor)
        except Exception as error:  # too few bytes for the shape, data missing: several types of error
            raise NetworkError(place, f"tensor {name} cannot be read: {_line(error)}.", "Export or download the file again.") from error
        self.tensors[name] = array
        return array

    def _run(self, call: Call, node: Any) -> list[Operand]:
        handler = HANDLERS[node.op_type]
        try:
            result = handler(call)
        except NetworkError as error:
            if error.place == call.place:
                raise
            raise type(error)(
                call.place, error.problem, error.advice or "Export the network again."
            ) from error  # raised by a map: name the node
        except (ValueError, IndexError, TypeError, KeyError, OverflowError, AttributeError, ZeroDivisionError, MemoryError) as error:
            # Whatever a malformed call makes NumPy raise: shapes or attributes that contradict each other.
            raise NetworkError(call.place, f"is malformed: {_line(error)}.", "Export the network again.") from error
        return result if isinstance(result, list) else [result]


def without_batch(shape: tuple[int, ...]) -> tuple[int, ...]:
    """The shape without a leading batch axis of 1, where it has one."""
    return shape[1:] if len(shape) > 1 and shape[0] == 1 else shape

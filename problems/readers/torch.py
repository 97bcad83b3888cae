"""Reads a torch module into a `Network`, and compares what it built with the module.

The module is traced symbolically (torch.fx), so it may have any structure whose control flow does not depend on the input:
Sequential, residual additions, concatenations. It must be in evaluation mode as far as that matters: a module that holds
dropout or batch normalisation in training mode is refused, never switched silently. The module itself is left untouched.
"""

from collections.abc import Mapping
from copy import deepcopy
from math import prod
from typing import Any

import numpy as np
import torch
from torch import fx, nn

from problems.errors import NetworkError, UnsupportedOperatorError
from problems.maps import Array
from problems.network import Network
from problems.readers import agreement, torch_operators, torch_shapes
from problems.readers.builder import Builder, Value
from problems.readers.torch_scope import FUNCTIONS, METHODS, MODULES, Scope

# Importing them fills the tables.
_HANDLERS = (torch_operators, torch_shapes)
_PASSES_ON = (nn.Flatten, nn.Identity, nn.Dropout)
_PRECISIONS = {torch.float32: "float32", torch.float64: "float64"}


def from_module(module: nn.Module, *, input_shape: tuple[int, ...] | None = None) -> Network:
    """The network that a module computes in evaluation mode for one input of `input_shape` (without the batch axis).

    input_shape may be omitted where the first layer is Linear. Weights are taken as they are (float32 embeds exactly); numbers
    written in Python code (x * 0.1) are first rounded to the module's precision, as torch does. NetworkError where the module
    cannot be traced, is in training mode, holds NaN, or computes something else than the network built.
    """
    name = type(module).__name__
    _check_mode(module, name)
    precision = _precision(module, name)
    copy = deepcopy(module).cpu().eval()
    tracer = fx.Tracer()
    if tracer.is_leaf_module(copy, name):
        copy = nn.Sequential(copy)  # a layer by itself would be traced into
    try:
        graph = tracer.trace(copy)
    except Exception as error:  # tracing runs the module's own code, which may raise anything
        raise NetworkError(
            name, f"cannot be traced: {_line(error)}.", "Its forward pass must not branch on the input; or export it to ONNX and load that."
        ) from error
    traced = fx.GraphModule(copy, graph)
    shape = input_shape if input_shape is not None else _first_width(traced, name)
    if not shape or min(shape) < 1:
        raise NetworkError(
            name, f"input_shape {shape} is empty.", "Give the shape of one input without the batch axis, such as (1, 28, 28)."
        )
    walk = _Walk(traced, name, (1, *shape), np.dtype(precision))
    network, sizes, observed = walk.network(tuple(shape), precision)
    _check(traced, network, sizes, observed, (1, *shape), precision, name)
    return network


def _line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(". ")


def _check_mode(module: nn.Module, name: str) -> None:
    for path, layer in module.named_modules():
        kind = type(layer).__name__
        if layer.training and ("Dropout" in kind or "BatchNorm" in kind):
            raise NetworkError(f"{name}, layer {path} ({kind})", "is in training mode.", "Call module.eval() first.")


def _precision(module: nn.Module, name: str) -> str:
    kinds = set()
    for path, tensor in (*module.named_parameters(), *module.named_buffers()):
        if not tensor.is_floating_point():
            continue
        if tensor.dtype not in _PRECISIONS:
            raise NetworkError(f"{name}, parameter {path}", f"has type {tensor.dtype}.", "Supported: float32 and float64.")
        if not bool(torch.isfinite(tensor).all()):
            raise NetworkError(
                f"{name}, parameter {path}",
                "holds NaN or infinite numbers.",
                "Retrain or repair the network: nothing can be proved about it.",
            )
        kinds.add(tensor.dtype)
    if len(kinds) > 1:
        raise NetworkError(name, "mixes float32 and float64 parameters.", "Convert it with module.float() or module.double().")
    return _PRECISIONS[kinds.pop()] if kinds else "float32"


def _first_width(traced: fx.GraphModule, name: str) -> tuple[int, ...]:
    """The input width where the first layer, but for flattening, is Linear."""
    node = next(node for node in traced.graph.nodes if node.op == "placeholder")
    while node.users:
        node = next(iter(node.users))
        if node.op == "call_module":
            layer = traced.get_submodule(node.target)
            if isinstance(layer, nn.Linear):
                return (layer.in_features,)
            if isinstance(layer, _PASSES_ON):
                continue
        elif node.target in (torch.flatten, "flatten"):
            continue
        break
    raise NetworkError(
        name,
        "does not tell the shape of its input.",
        "Load it first: problems.readers.load(module, input_shape=(1, 28, 28)), without the batch axis.",
    )


class _Walk:
    def __init__(self, traced: fx.GraphModule, name: str, shape: tuple[int, ...], dtype: np.dtype) -> None:
        self.traced, self.name, self.dtype = traced, name, dtype
        self.builder = Builder(shape)
        self.results: dict[fx.Node, Any] = {}

    def network(self, input_shape: tuple[int, ...], precision: str) -> tuple[Network, agreement.Sizes, dict[int, str]]:
        """(network, magnitudes and operations per node, name of the traced node that holds each network node's value)."""
        output: Any = None
        for node in self.traced.graph.nodes:
            if node.op == "output":
                output = self._value_of(node.args[0])
            else:
                self.results[node] = self._evaluate(node)
        if not isinstance(output, Value):
            raise NetworkError(self.name, "does not return one tensor.", "Modules with one input and one output are supported.")
        builder = self.builder
        network, renumbered = builder.finish(
            output,
            input_shape=input_shape,
            output_shape=output.shape[1:] if len(output.shape) > 1 and output.shape[0] == 1 else output.shape,
            name=self.name,
            precision=precision,
        )
        observed: dict[int, str] = {}
        for node, result in self.results.items():
            index = builder.node_of(result) if isinstance(result, Value) else None
            if index is not None and renumbered.get(index):
                observed.setdefault(renumbered[index], node.name)
        sizes = agreement.Sizes.of(builder, renumbered)
        return sizes.attached(network), sizes, observed

    def _value_of(self, argument: Any) -> Any:
        return fx.node.map_arg(argument, lambda node: self.results[node])

    def _evaluate(self, node: fx.Node) -> Any:
        if node.op == "placeholder":
            if any(isinstance(result, Value) for result in self.results.values()):
                raise NetworkError(self.name, "has several inputs.", "Modules with one input and one output are supported.")
            return self.builder.input
        if node.op == "get_attr":
            return _attribute(self.traced, str(node.target)).detach().numpy()
        handler, kind, arguments = self._handler(node)
        place = f"{self.name}, {node.name} ({kind})"
        scope = Scope(self.builder, self.dtype, node.name, place)
        try:
            result = handler(scope, *arguments, *self._value_of(node.args), **self._value_of(node.kwargs))
        except NetworkError as error:
            if error.place == place:
                raise
            raise type(error)(place, error.problem, error.advice or "Check the shapes.") from error  # raised by a map: name the layer
        except (TypeError, ValueError, IndexError, AttributeError, OverflowError, ZeroDivisionError) as error:
            raise UnsupportedOperatorError(
                place, f"these arguments are not supported: {_line(error)}.", "Check the input shape; or export it to ONNX and load that."
            ) from error
        return self.builder.settled(result) if isinstance(result, Value) and len(node.users) > 1 else result

    def _handler(self, node: fx.Node) -> tuple[Any, str, tuple[Any, ...]]:
        """(handler, name of the operation, leading arguments)."""
        arguments: tuple[Any, ...] = ()
        if node.op == "call_module":
            layer = self.traced.get_submodule(str(node.target))
            table, key, kind, arguments = MODULES, type(layer), type(layer).__name__, (layer,)
        elif node.op == "call_method":
            table, key, kind = METHODS, node.target, str(node.target)
        else:
            table, key, kind = FUNCTIONS, node.target, getattr(node.target, "__name__", str(node.target))
        if key not in table:
            known = ", ".join(sorted(layer.__name__ for layer in MODULES))
            advice = f"Supported layers: {known}; and +, -, *, / by constants, flatten, reshape, cat."
            raise UnsupportedOperatorError(f"{self.name}, {node.name} ({kind})", f"{kind} is not supported.", advice)
        return table[key], kind, arguments


def _attribute(module: nn.Module, path: str) -> torch.Tensor:
    found: Any = module
    for part in path.split("."):
        found = getattr(found, part)
    return found


class _Recorder(fx.Interpreter):
    """Runs the traced module and keeps a copy of every tensor (layers may work in place)."""

    def __init__(self, traced: fx.GraphModule) -> None:
        super().__init__(traced)
        self.recorded: dict[str, Array] = {}

    def run_node(self, n: fx.Node) -> Any:
        result = super().run_node(n)
        if isinstance(result, torch.Tensor) and n.op != "output":
            self.recorded[n.name] = result.detach().double().reshape(-1).numpy().copy()
        return result


def _check(
    traced: fx.GraphModule,
    network: Network,
    sizes: agreement.Sizes,
    observed: Mapping[int, str],
    shape: tuple[int, ...],
    precision: str,
    name: str,
) -> None:
    """NetworkError unless the module computes, node by node and up to rounding, what the network does."""
    inputs = agreement.random_inputs(prod(shape))
    rows: list[dict[str, Array]] = []
    outputs: list[Array] = []
    for point in inputs:
        recorder = _Recorder(traced)
        with torch.no_grad():
            given = torch.from_numpy(point.astype(precision)).reshape(shape)
            try:
                outputs.append(recorder.run(given).double().reshape(-1).numpy())
            except Exception as error:  # the module's own code may raise anything
                raise NetworkError(name, f"does not run on an input of shape {shape}: {_line(error)}.", "Check input_shape.") from error
        rows.append(recorder.recorded)
    values = {index: np.stack([row[key] for row in rows]) for index, key in observed.items()}
    values |= {0: inputs, len(network.nodes) - 1: np.stack(outputs)}
    found = agreement.discrepancy(network, sizes, values, precision=precision)
    if found is not None:
        index, difference, tolerance = found
        problem = f"{observed.get(index, 'the output')} differs from torch by {difference:.3g}, and rounding explains only {tolerance:.3g}."
        raise NetworkError(name, problem, "Is a value changed in place and used again? Otherwise please report it with the module.")

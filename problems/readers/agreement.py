"""Compares a network with the runtime it was made for, and replays witnesses there.

The comparison is local: onnxruntime is asked for every intermediate tensor, each node is applied to the values that onnxruntime
gave its parents, and the result may differ from onnxruntime's own by no more than the rounding errors of that one node. So the
tolerance needs no tuning and does not grow with depth.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import numpy as np

from problems.errors import NetworkError
from problems.maps import Array
from problems.network import Input, Network, Relu
from problems.readers.builder import Builder

UNIT = {"float32": 2.0**-24, "float64": 2.0**-53}
SMALLEST_NORMAL = {"float32": 2.0**-126, "float64": 2.0**-1022}
LARGEST = {"float32": 3.0e38, "float64": 1.0e308}


@dataclass(frozen=True)
class Sizes:
    """Per node: a bound on the constants folded into its bias, and the number of source operations merged into it."""

    magnitudes: Mapping[int, Array] = field(default_factory=dict)
    operations: Mapping[int, int] = field(default_factory=dict)

    @classmethod
    def of(cls, builder: Builder, renumbered: Mapping[int, int]) -> "Sizes":
        """What a builder recorded, for the network that it finished."""
        return cls(
            {renumbered[old]: part for old, part in builder.magnitudes.items() if old in renumbered},
            {renumbered[old]: part for old, part in builder.operations.items() if old in renumbered},
        )

    def attached(self, network: Network) -> Network:
        """The network with these sizes as its `folded`."""
        nodes = sorted({*self.magnitudes, *self.operations})
        folded = {i: (np.asarray(self.magnitudes.get(i, 0.0), dtype=np.float64), self.operations.get(i, 0)) for i in nodes}
        return replace(network, folded=folded)


def random_inputs(size: int) -> Array:
    """A few fixed points (20, size), float32 numbers: zero, the unit cube, sparse ones, normal vectors of several magnitudes.

    They are many and unlike each other because a weight goes unnoticed where its neuron is never active.
    """
    generator = np.random.default_rng(20240229)
    cube = generator.random((6, size))
    few = generator.standard_normal((4, size)) * (generator.random((4, size)) < 0.1)
    normal = generator.standard_normal((9, size)) * np.array([0.01, 0.1, 0.3, 1.0, 1.0, 3.0, 10.0, 100.0, 1000.0])[:, None]
    return np.concatenate([np.zeros((1, size)), cube, few, normal]).astype(np.float32).astype(np.float64)


def discrepancy(network: Network, sizes: Sizes, values: Mapping[int, Array], *, precision: str) -> tuple[int, float, float] | None:
    """The first node whose observed value is not explained by rounding, as (node, difference, tolerance); None if there is none.

    values: node -> observed float values (N, size); the input node is among them. A node that was not observed is evaluated here,
    and its rounding envelope handed on.

    An affine node evaluated in floating point, in any order of summation, errs by at most gamma(k) (|W| |x| + |b|), k the number
    of operations on the longest path (Higham, Accuracy and Stability of Numerical Algorithms, section 3.1).
    """
    with np.errstate(over="ignore", invalid="ignore"):
        return _discrepancy(network, sizes, values, precision)


def _discrepancy(network: Network, sizes: Sizes, values: Mapping[int, Array], precision: str) -> tuple[int, float, float] | None:
    unit = UNIT[precision]
    points: dict[int, Array] = {}
    error: Array
    errors: dict[int, Array] = {}
    for index, node in enumerate(network.nodes):
        if isinstance(node, Input):
            computed, error = values[index], np.zeros_like(values[index])
        elif isinstance(node, Relu):
            computed, error = np.maximum(points[node.parent], 0.0), errors[node.parent]
        else:
            computed = np.broadcast_to(node.bias, (len(values[0]), node.size)).copy()
            spread = np.zeros_like(computed)
            sums = np.broadcast_to(np.abs(node.bias) + sizes.magnitudes.get(index, 0.0), computed.shape).copy()
            terms = 8 + 4 * sizes.operations.get(index, 0) + 2 * len(node.maps)
            for parent, linear in zip(node.parents, node.maps, strict=True):
                absolute = linear.absolute()
                computed += linear.forward(points[parent])
                if errors[parent].any():  # hardly ever: most nodes are observed
                    spread += absolute.forward(errors[parent])
                sums += absolute.forward(np.abs(points[parent]) + errors[parent])
                terms += linear.terms
            # Twice: the runtime's rounding and ours (float64, never larger). Underflow costs one smallest normal number per operation.
            error = spread + 2 * terms * unit / (1 - terms * unit) * sums + terms * SMALLEST_NORMAL[precision]
            error = np.where(sums < LARGEST[precision], error, np.inf)
        if index in values and index:
            difference = np.abs(values[index] - computed)
            wrong = ~(difference <= error) & np.isfinite(error)
            if wrong.any():
                worst = np.unravel_index(np.argmax(np.where(wrong, difference, -1.0)), wrong.shape)
                return index, float(difference[worst]), float(np.broadcast_to(error, wrong.shape)[worst])
            # Where the runtime overflowed there is nothing to hand on but our own value.
            points[index] = np.where(np.isfinite(values[index]), values[index], computed)
            errors[index] = np.where(np.isfinite(values[index]), 0.0, np.inf)
        else:
            points[index], errors[index] = computed, error
    return None


def check_onnx(
    model: Any,
    network: Network,
    sizes: Sizes,
    observed: Mapping[int, str],
    *,
    place: str,
) -> None:
    """NetworkError unless onnxruntime computes, up to rounding, what `network` does on random inputs.

    observed: node -> name of the ONNX tensor that holds its value. The model is given back as it came.
    """
    from onnx import ValueInfoProto

    kept = [item.name for item in model.graph.output]
    wanted = {index: name for index, name in observed.items() if index}
    added = [name for name in dict.fromkeys(wanted.values()) if name not in kept]
    model.graph.output.extend(ValueInfoProto(name=name) for name in added)
    try:
        runtime = Runtime(model, place)
    finally:
        del model.graph.output[len(kept) :]
    inputs = random_inputs(network.input_size)
    names = list(dict.fromkeys(wanted.values()))
    rows: dict[str, list[Array]] = {name: [] for name in names}
    for point in inputs:
        for name, value in zip(names, runtime.run(names, point), strict=True):
            rows[name].append(np.asarray(value, dtype=np.float64).reshape(-1))
    values = {index: np.stack(rows[name]) for index, name in wanted.items()} | {0: inputs}
    for index, name in wanted.items():
        if values[index].shape[1] != network.nodes[index].size:
            sizes_found = f"{values[index].shape[1]} entries in {runtime.name}, {network.nodes[index].size} as read"
            raise _differs(place, f"tensor {name} has {sizes_found}.")
    found = discrepancy(network, sizes, values, precision=network.precision)
    if found is not None:
        index, difference, tolerance = found
        name = observed.get(index, f"of node {index}")
        raise _differs(place, f"tensor {name} differs from {runtime.name} by {difference:.3g}, and rounding explains only {tolerance:.3g}.")


def _differs(place: str, problem: str) -> NetworkError:
    return NetworkError(place, problem, "This network is refused, since it would be misread: please report it with the file.")


class Runtime:
    """A loaded model: onnxruntime on one thread of the CPU, silent; or ONNX's reference evaluator for what onnxruntime lacks in float64."""

    def __init__(self, model: Any, place: str) -> None:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        options.log_severity_level = 4  # its warnings (weights among the inputs, opsets) mean nothing to the user
        self.place, self.name = place, "onnxruntime"
        try:
            self._session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
        except Exception as error:  # its exceptions share no base class
            if "NOT_IMPLEMENTED" not in str(error):
                raise NetworkError(place, f"onnxruntime does not load it: {_first(error)}.", "Export the network again.") from error
            from onnx.reference import ReferenceEvaluator

            self._session, self.name = ReferenceEvaluator(model), "the ONNX reference evaluator"
        declared = next(item for item in model.graph.input if item.name not in {t.name for t in model.graph.initializer})
        tensor = declared.type.tensor_type
        self._input_name = declared.name
        self._input_type = np.float32 if tensor.elem_type == 1 else np.float64
        # A batch of any size is a batch of one here.
        self._input_shape = tuple(max(dim.dim_value, 1) for dim in tensor.shape.dim)

    def run(self, names: list[str] | None, x: Array) -> list[Array]:
        """The named tensors (None: the outputs) at one point x (n,). Raises NetworkError."""
        try:
            with np.errstate(all="ignore"):
                return list(self._session.run(names, {self._input_name: x.reshape(self._input_shape).astype(self._input_type)}))
        except Exception as error:  # as above
            raise NetworkError(self.place, f"{self.name} does not run it: {_first(error)}.", "Export the network again.") from error


def _first(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(". ")


@lru_cache(maxsize=16)
def _runtime(path: Path, modified: int, size: int) -> Runtime:
    from problems.readers import onnx

    return Runtime(onnx.parse(path), str(path))


def replay(network: Network | str | Path, x: Array) -> Array:
    """Logits (..., K) at x (..., n) as the network's own runtime computes them: float32, or float64 for networks stored in float64.

    With an ONNX file (a path, or a network read from one): onnxruntime, one point at a time, session cached until the file changes;
    x is first rounded to the precision of its input. For other networks: the float64 value of each node, rounded to the network's
    precision node by node, which is what an ideal runtime of that precision would do. Raises NetworkError where it cannot be run.
    """
    path = network.source if isinstance(network, Network) else Path(network)
    x = np.asarray(x, dtype=np.float64)
    if path is None or not path.name.endswith((".onnx", ".onnx.gz")):
        if not isinstance(network, Network):
            raise NetworkError(str(network), "is not an ONNX file.", "Load it and replay the network.")
        return _rounded_forward(network, x)
    try:
        status = path.stat()
    except OSError as error:
        raise NetworkError(str(path), "has gone since it was read.", "Put the file back, or load the network again.") from error
    runtime = _runtime(path, status.st_mtime_ns, status.st_size)
    rows = [np.asarray(runtime.run(None, point)[0]).reshape(-1) for point in x.reshape(-1, x.shape[-1])]
    return np.stack(rows).reshape(*x.shape[:-1], -1)


def replayer(network: Network) -> Callable[[Array], Array]:
    """x -> replay(network, x); it can be pickled, and loads the runtime when first called."""
    return partial(replay, network)


def _rounded_forward(network: Network, x: Array) -> Array:
    kind = np.float32 if network.precision == "float32" else np.float64
    values: list[Array] = []
    for node in network.nodes:
        if isinstance(node, Input):
            value = x
        elif isinstance(node, Relu):
            value = np.maximum(values[node.parent], 0.0)
        else:
            value = node.bias + sum(linear.forward(values[parent]) for parent, linear in zip(node.parents, node.maps, strict=True))
        with np.errstate(over="ignore"):  # the runtime overflows, too
            values.append(value.astype(kind).astype(np.float64))
    return values[-1].astype(kind)

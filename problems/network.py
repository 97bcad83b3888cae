"""A piecewise-affine network as a graph of affine and ReLU nodes.

Node 0 is the input; the last node is the output and is affine. Nodes are in topological order. An affine node has one or more
parents, y = sum_i maps[i] x_parent[i] + bias, so additions, concatenations and residual connections are nothing special. All
values are flattened vectors.

`real` semantics means this network: the stored float64 numbers taken as exact, evaluated without rounding (`problems.exact`).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from hashlib import sha256
from pathlib import Path

import numpy as np

from problems.errors import NetworkError
from problems.maps import Array, LinearMap, Sparse


@dataclass(frozen=True)
class Input:
    """The input node; size is the flattened dimension n."""

    size: int


@dataclass(frozen=True, eq=False)
class Affine:
    """y = sum_i maps[i] x[parents[i]] + bias, bias (size,)."""

    parents: tuple[int, ...]
    maps: tuple[LinearMap, ...]
    bias: Array

    @property
    def size(self) -> int:
        """The length of y."""
        return len(self.bias)


@dataclass(frozen=True)
class Relu:
    """y = max(x[parent], 0), element-wise."""

    parent: int
    size: int


Node = Input | Affine | Relu


@dataclass(frozen=True, eq=False)
class Network:
    """f: R^n -> R^K, piecewise affine. `input_shape` and `output_shape` are the shapes before flattening, without the batch axis.

    `roundings` lists the places where reading had to round once to float64 (square roots in batch normalisation);
    `precision` is the precision the weights were stored in ("float32" or "float64"); `source` the file it came from. Readers merge
    operations where that is exact; `folded[i]` then says of affine node i how large the constants are that went into its bias (size,)
    and how many operations of the source it stands for, which a bound on the source's own rounding errors needs.
    """

    nodes: tuple[Node, ...]
    input_shape: tuple[int, ...]
    output_shape: tuple[int, ...]
    name: str = "network"
    precision: str = "float64"
    roundings: tuple[str, ...] = ()
    source: Path | None = field(default=None, compare=False)
    folded: Mapping[int, tuple[Array, int]] = field(default_factory=dict, compare=False)

    def __post_init__(self) -> None:
        _check(self.nodes, self.name)

    @property
    def input_size(self) -> int:
        """n, the number of inputs, flattened."""
        return self.nodes[0].size

    @property
    def output_size(self) -> int:
        """K, the number of outputs (logits), flattened."""
        return self.nodes[-1].size

    @cached_property
    def relus(self) -> tuple[int, ...]:
        """Indices of the ReLU nodes, in order: the layers of an activation pattern."""
        return tuple(i for i, node in enumerate(self.nodes) if isinstance(node, Relu))

    @cached_property
    def neurons(self) -> int:
        """h: the number of ReLU neurons."""
        return sum(self.nodes[i].size for i in self.relus)

    def forward(self, x: Array) -> Array:
        """Logits in float64: x (..., n) -> (..., K)."""
        return self.values(x)[-1]

    def values(self, x: Array) -> list[Array]:
        """The value of every node in float64, one array (..., size) per node, for x (..., n)."""
        values: list[Array] = []
        for node in self.nodes:
            if isinstance(node, Input):
                values.append(np.asarray(x, dtype=np.float64))
            elif isinstance(node, Relu):
                values.append(np.maximum(values[node.parent], 0.0))
            else:
                total = node.maps[0].forward(values[node.parents[0]]) + node.bias
                for parent, linear in zip(node.parents[1:], node.maps[1:], strict=True):
                    total += linear.forward(values[parent])
                values.append(total)
        return values

    def then(self, matrix: Array, offset: Array | None = None) -> "Network":
        """The network followed by y -> matrix y + offset, matrix (m, K)."""
        from problems.maps import Dense

        bias = np.zeros(len(matrix)) if offset is None else np.asarray(offset, dtype=np.float64)
        last = Affine((len(self.nodes) - 1,), (Dense(matrix),), bias)
        # No source: the file computes something else now, and must not be replayed for this network.
        return replace(self, nodes=(*self.nodes, last), output_shape=(len(matrix),), source=None)

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 of the structure and of every stored number: names a network in stores, results and proofs."""
        digest = sha256()
        for node in self.nodes:
            if isinstance(node, Affine):
                digest.update(repr(("affine", node.parents)).encode())
                for linear in node.maps:
                    matrix, divisors = linear.rows()
                    for part in (matrix.indptr, matrix.indices, matrix.data, divisors):
                        digest.update(b"-" if part is None else np.ascontiguousarray(part).tobytes())
                digest.update(node.bias.tobytes())
            else:
                digest.update(repr(node).encode())
        return digest.hexdigest()


def sequential(maps: Sequence[LinearMap], biases: Sequence[Array], **options: object) -> Network:
    """The feed-forward network maps[0], ReLU, maps[1], ReLU, ..., maps[-1]; biases[i] (out_size of maps[i],)."""
    nodes: list[Node] = [Input(maps[0].in_size)]
    for index, (linear, bias) in enumerate(zip(maps, biases, strict=True)):
        nodes.append(Affine((len(nodes) - 1,), (linear,), np.asarray(bias, dtype=np.float64)))
        if index < len(maps) - 1:
            nodes.append(Relu(len(nodes) - 1, linear.out_size))
    shapes: dict = {"input_shape": (maps[0].in_size,), "output_shape": (maps[-1].out_size,)}
    return Network(tuple(nodes), **(shapes | options))


def _check(nodes: tuple[Node, ...], name: str) -> None:
    if not nodes or not isinstance(nodes[0], Input) or not isinstance(nodes[-1], Affine):
        raise NetworkError(name, "must begin with its input node and end with an affine node.")
    for index, node in enumerate(nodes[1:], start=1):
        place = f"{name}, node {index}"
        if isinstance(node, Input):
            raise NetworkError(place, "is a second input.", "Networks with one input are supported.")
        if isinstance(node, Relu):
            if not 0 <= node.parent < index or nodes[node.parent].size != node.size:
                raise NetworkError(place, "ReLU and its parent differ in size or order.")
            if not isinstance(nodes[node.parent], Affine):
                raise NetworkError(place, "a ReLU needs an affine parent.", "Put an identity in between (problems.maps.identity).")
            continue
        if not np.isfinite(node.bias).all():
            raise NetworkError(place, "holds NaN or infinite biases.", "Retrain or repair the network: nothing can be proved about it.")
        for parent, linear in zip(node.parents, node.maps, strict=True):
            if not 0 <= parent < index or linear.in_size != nodes[parent].size or linear.out_size != node.size:
                raise NetworkError(
                    place,
                    f"a map of shape ({linear.out_size}, {linear.in_size}) does not fit its parent {parent} or its bias ({node.size}).",
                )
            if isinstance(linear, Sparse) and linear.divisors is not None and node.bias.any():
                raise NetworkError(place, "a divided map needs a zero bias.", "Put the bias into an affine node of its own.")

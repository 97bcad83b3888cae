"""Builds a `Network` operation by operation: what every reader rewrites its operators into.

A `Value` is an affine expression over nodes that is not yet a node itself, so that reshapes, selections and additions of
constants vanish into the neighbouring affine node. Constants are folded only where float64 holds the result exactly
(`exactly`); where it does not, the expression becomes a node and the constant a further affine node after it: the network
built is always exactly the one described.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import prod
from typing import Any

import numpy as np
import scipy.sparse as sparse

from problems.errors import NetworkError
from problems.maps import Array, Conv, Dense, LinearMap, Sparse, identity
from problems.network import Affine, Input, Network, Node, Relu
from problems.readers import exactly

Term = tuple[int, LinearMap | None]


@dataclass(frozen=True, eq=False)
class Value:
    """sum of maps applied to nodes, plus bias, for a tensor of `shape` (flattened in C order).

    terms: (node, map) pairs, the map None for the identity. bias (size,). `magnitude` (size,) bounds |bias| and every
    constant folded into it, `operations` counts the source operations merged here: both only scale rounding envelopes.
    A value with a divided map has a zero bias, as `problems.network` asks.
    """

    shape: tuple[int, ...]
    terms: tuple[Term, ...]
    bias: Array
    magnitude: Array
    operations: int = 0

    @property
    def size(self) -> int:
        """The number of entries."""
        return len(self.bias)

    @property
    def plain(self) -> bool:
        """Whether this is a node as it stands."""
        return len(self.terms) == 1 and self.terms[0][1] is None and not self.bias.any()

    @property
    def divided(self) -> bool:
        """Whether some map divides its rows."""
        return any(isinstance(linear, Sparse) and linear.divisors is not None for _, linear in self.terms)


class Builder:
    """Grows a network from its input; values are immutable and may be used any number of times."""

    def __init__(self, input_shape: tuple[int, ...]) -> None:
        """input_shape: as the source sees it, with a batch axis of 1 where it has one."""
        self.nodes: list[Node] = [Input(prod(input_shape))]
        self.magnitudes: dict[int, Array] = {}
        self.operations: dict[int, int] = {}
        self.roundings: list[str] = []
        self._made: dict[int, tuple[Value, int]] = {}
        self.input = self._whole(0, input_shape)

    # Nodes

    def node_of(self, value: Value) -> int | None:
        """The node that holds exactly this value, if there is one."""
        made = self._made.get(id(value))
        if made is not None:
            return made[1]
        return value.terms[0][0] if value.plain else None

    def node(self, value: Value, *, affine: bool = False) -> int:
        """The node that holds this value, made where there is none; `affine` asks for an affine one."""
        index = self.node_of(value)
        if index is not None and not (affine and not isinstance(self.nodes[index], Affine)):
            return index
        terms = value.terms or ((0, Sparse(sparse.csr_matrix((value.size, self.nodes[0].size)))),)
        maps = tuple(identity(value.size) if linear is None else linear for _, linear in terms)
        self.nodes.append(Affine(tuple(parent for parent, _ in terms), maps, value.bias))
        index = len(self.nodes) - 1
        self.magnitudes[index], self.operations[index] = value.magnitude, value.operations
        self._made[id(value)] = value, index  # holds the value, so that its id is not reused
        return index

    def settled(self, value: Value) -> Value:
        """The same value as a node."""
        return value if value.plain else self._whole(self.node(value), value.shape)

    def _whole(self, node: int, shape: tuple[int, ...]) -> Value:
        zeros = np.zeros(prod(shape))
        return Value(shape, ((node, None),), zeros, zeros)

    # Affine operations

    def constant(self, array: Array) -> Value:
        """A finite array as a value that depends on no node."""
        bias = np.array(array, dtype=np.float64).reshape(-1)
        return Value(tuple(np.shape(array)), (), bias, np.abs(bias))

    def reshape(self, value: Value, shape: tuple[int, ...]) -> Value:
        """The same entries in another shape of the same size."""
        return value if shape == value.shape else self._same_node(value, replace(value, shape=shape))

    def _same_node(self, old: Value, new: Value) -> Value:
        if id(old) in self._made:
            self._made[id(new)] = new, self._made[id(old)][1]
        return new

    def select(self, value: Value, index: Array) -> Value:
        """The tensor of index.shape whose entry i is entry index[i] (flat) of value, or zero where index[i] is -1."""
        flat = index.reshape(-1)
        if np.array_equal(flat, np.arange(value.size)):
            return self.reshape(value, index.shape)
        if any(isinstance(linear, Conv) for _, linear in value.terms):
            value = self.settled(value)
        kept = np.flatnonzero(flat >= 0)
        shape = (len(flat), value.size)
        choice = sparse.csr_matrix((np.ones(len(kept)), (kept, flat[kept])), shape=shape)
        terms: list[Term] = []
        for parent, linear in value.terms:
            if linear is None:
                terms.append((parent, Sparse(choice)))
            elif isinstance(linear, Dense):
                terms.append((parent, Dense(np.where(flat[:, None] >= 0, linear.weights[flat], 0.0))))
            else:
                matrix, divisors = linear.rows()
                terms.append((parent, Sparse(choice @ matrix, None if divisors is None else np.where(flat >= 0, divisors[flat], 1.0))))
        bias, magnitude = (np.where(flat >= 0, part[flat], 0.0) for part in (value.bias, value.magnitude))
        return Value(tuple(index.shape), tuple(terms), bias, magnitude, value.operations)

    def shift(self, value: Value, offset: Array, magnitude: Array | None = None) -> Value:
        """value + offset, offset broadcast to value.shape. `magnitude` bounds what the source adds up to get the offset."""
        added = np.broadcast_to(np.asarray(offset, dtype=np.float64), value.shape).reshape(-1)
        size = np.abs(added) if magnitude is None else np.broadcast_to(magnitude, value.shape).reshape(-1)
        if not added.any():
            return replace(value, magnitude=value.magnitude + size, operations=value.operations + 1) if size.any() else value
        bias = None if value.divided else exactly.total(value.bias, added)
        if bias is None:
            value, bias = self.settled(value), added
        return replace(value, bias=bias, magnitude=value.magnitude + size, operations=value.operations + 1)

    def scale(self, value: Value, factor: Array) -> Value:
        """value * factor, factor broadcast to value.shape."""
        wide = np.broadcast_to(np.asarray(factor, dtype=np.float64), value.shape).reshape(-1)
        if (wide == 1).all():
            return value
        for candidate in (value, self.settled(value)):
            bias = exactly.product(candidate.bias, wide)
            scaled = [(parent, _scaled_rows(linear, wide)) for parent, linear in candidate.terms]
            if bias is not None and all(linear is not None for _, linear in scaled):
                break
        else:
            raise AssertionError("a node can always be scaled")
        return Value(value.shape, tuple(scaled), bias, candidate.magnitude * np.abs(wide), candidate.operations + 1)

    def divide(self, value: Value, divisor: Array) -> Value:
        """value / divisor, divisor broadcast to value.shape; the division is kept exact.

        Raises NetworkError for a divisor that is 0 or not finite.
        """
        wide = np.broadcast_to(np.asarray(divisor, dtype=np.float64), value.shape).reshape(-1)
        if not np.isfinite(wide).all() or not wide.all():
            raise NetworkError("division", "divides by zero, by NaN or by infinity.", "Repair the network.")
        factor = exactly.reciprocal(wide)
        if factor is not None:
            return self.scale(value, factor.reshape(value.shape))
        simple = len(value.terms) == 1 and not value.bias.any() and not value.divided
        if not simple or not isinstance(value.terms[0][1], Sparse | None):
            value = self.settled(value)
        parent, linear = value.terms[0]
        matrix = sparse.identity(value.size, format="csr") if linear is None else linear.rows()[0]
        magnitude = value.magnitude / np.abs(wide)
        return replace(value, terms=((parent, Sparse(matrix, wide)),), magnitude=magnitude, operations=value.operations + 1)

    def add(self, first: Value, second: Value) -> Value:
        """first + second, broadcast to their common shape."""
        shape = np.broadcast_shapes(first.shape, second.shape)
        first, second = self.expand(first, shape), self.expand(second, shape)
        if first.divided and second.bias.any():
            first = self.settled(first)
        if second.divided and first.bias.any():
            second = self.settled(second)
        bias = exactly.total(first.bias, second.bias)
        if bias is None:
            # One of them becomes a node of its own: not a mere constant, if that can be helped.
            first, second = (first, second) if second.terms else (second, first)
            second = self.settled(second)
            bias = first.bias
        operations = first.operations + second.operations + 1
        terms = list(first.terms)
        for parent, linear in second.terms:
            for position, (other, held) in enumerate(terms):
                merged = _summed(held, linear, second.size) if other == parent else None
                if merged is not None:
                    terms[position] = parent, merged
                    break
            else:
                terms.append((parent, linear))
        return Value(shape, tuple(terms), bias, first.magnitude + second.magnitude, operations)

    def expand(self, value: Value, shape: tuple[int, ...]) -> Value:
        """value, broadcast to `shape` as NumPy does. Raises ValueError."""
        return self.select(value, np.broadcast_to(np.arange(value.size).reshape(value.shape), shape))

    def negate(self, value: Value) -> Value:
        """-value."""
        return self.scale(value, np.array(-1.0))

    def concatenate(self, values: Sequence[Value], axis: int) -> Value:
        """Values joined along an axis: each is spread over the whole tensor with zeros elsewhere, and these are added."""
        sizes = [value.size for value in values]
        starts = np.cumsum([0, *sizes])
        parts = [np.arange(value.size).reshape(value.shape) + start for value, start in zip(values, starts, strict=False)]
        order = np.concatenate(parts, axis=axis)
        joined: Value | None = None
        for value, start, size in zip(values, starts, sizes, strict=False):
            inside = (order >= start) & (order < start + size)
            spread = self.select(value, np.where(inside, order - start, -1))
            joined = spread if joined is None else self.add(joined, spread)
        assert joined is not None
        return joined

    def dense(self, value: Value, weights: Array, shape: tuple[int, ...]) -> Value:
        """weights (out, in) times the flattened value, as a tensor of `shape`."""
        return self._product(value, Dense(weights), shape)

    def matrix(self, value: Value, matrix: sparse.csr_matrix, shape: tuple[int, ...]) -> Value:
        """A sparse matrix (out, in) times the flattened value, as a tensor of `shape`."""
        return self._product(value, Sparse(matrix), shape)

    def _product(self, value: Value, left: Dense | Sparse, shape: tuple[int, ...]) -> Value:
        folded = _fold(left, value)
        if folded is None:
            value = self.settled(value)
            folded = left, np.zeros(left.out_size)
        magnitude = left.absolute().forward(value.magnitude) if value.magnitude.any() else np.zeros(left.out_size)
        return Value(shape, ((value.terms[0][0], folded[0]),), folded[1], magnitude, value.operations + 1)

    def convolve(self, value: Value, kernel: Array, **options: Any) -> Value:
        """A convolution of a value of shape (1, C, H, W) without bias; options as in `problems.maps.Conv`."""
        value = self.settled(value)
        conv = Conv(kernel, (value.shape[1], value.shape[2], value.shape[3]), **options)
        zeros = np.zeros(conv.out_size)
        return Value((1, *conv.out_shape), ((value.terms[0][0], conv),), zeros, zeros, 1)

    # Piecewise-affine operations

    def relu(self, value: Value) -> Value:
        """max(value, 0): the parent is always an affine node."""
        parent = self.node(value, affine=True)
        self.nodes.append(Relu(parent, value.size))
        return self._whole(len(self.nodes) - 1, value.shape)

    def maximum(self, first: Value, second: Value) -> Value:
        """max(first, second) = second + relu(first - second)."""
        return self.add(second, self.relu(self.add(first, self.negate(second))))

    # The end

    def finish(self, output: Value, **options: Any) -> tuple[Network, dict[int, int]]:
        """(the network that ends in `output`, new index of each node kept): nodes that the output does not need are dropped."""
        last = self.node(output, affine=True)
        needed = {0, last}
        for index in range(last, 0, -1):
            node = self.nodes[index]
            if index in needed:
                needed.update(node.parents if isinstance(node, Affine) else (node.parent,) if isinstance(node, Relu) else ())
        renumbered = {old: new for new, old in enumerate(sorted(needed))}
        nodes: list[Node] = []
        for old in sorted(needed):
            node = self.nodes[old]
            if isinstance(node, Affine):
                node = Affine(tuple(renumbered[parent] for parent in node.parents), node.maps, node.bias)
            elif isinstance(node, Relu):
                node = Relu(renumbered[node.parent], node.size)
            nodes.append(node)
        return Network(tuple(nodes), roundings=tuple(self.roundings), **options), renumbered


def _scaled_rows(linear: LinearMap | None, factor: Array) -> LinearMap | None:
    """The map with row i multiplied by factor[i], or None where float64 cannot hold it (or a Conv would not stay one)."""
    if linear is None:
        return Sparse(sparse.diags(factor, format="csr"))
    if isinstance(linear, Dense):
        weights = exactly.product(linear.weights, factor[:, None])
        return None if weights is None else Dense(weights)
    if isinstance(linear, Conv):
        channels = factor.reshape(linear.out_shape[0], -1)
        if (channels != channels[:, :1]).any():
            return None
        kernel = exactly.product(linear.kernel, channels[:, 0][:, None, None, None])
        return None if kernel is None else replace(linear, kernel=kernel)
    matrix, divisors = linear.rows()
    data = exactly.product(matrix.data, np.repeat(factor, np.diff(matrix.indptr)))
    return None if data is None else Sparse(sparse.csr_matrix((data, matrix.indices, matrix.indptr), shape=matrix.shape), divisors)


def _summed(first: LinearMap | None, second: LinearMap | None, size: int) -> Sparse | None:
    """The sum of two sparse maps, or None where it would be rounded (or one of them is not sparse)."""
    parts = []
    for linear in (first, second):
        if not isinstance(linear, Sparse | None) or (linear is not None and linear.divisors is not None):
            return None
        parts.append((identity(size) if linear is None else linear).matrix.tocoo())
    columns = parts[0].shape[1]
    places = [part.row.astype(np.int64) * columns + part.col for part in parts]
    union = np.union1d(*places)
    entries = np.zeros((2, len(union)))
    for row, part, place in zip(entries, parts, places, strict=True):
        row[np.searchsorted(union, place)] = part.data
    data = exactly.total(entries[0], entries[1])
    return None if data is None else Sparse(sparse.csr_matrix((data, (union // columns, union % columns)), shape=parts[0].shape))


def _fold(left: Dense | Sparse, value: Value) -> tuple[LinearMap, Array] | None:
    """(map, bias) of left applied to a value that only selects, scales and shifts the entries of one node; None if not exact."""
    if len(value.terms) != 1:
        return None
    linear = value.terms[0][1]
    if linear is not None and not isinstance(linear, Sparse):
        return None
    product: LinearMap = left
    if linear is not None:
        matrix, divisors = linear.rows()
        once = matrix.nnz == 0 or (np.diff(matrix.indptr).max() <= 1 and np.bincount(matrix.indices).max() <= 1)
        if divisors is not None or not once:
            return None
        # Column targets[k] of the product is column sources[k] of `left`, times factors[k]: no sums, hence no rounding but the factor's.
        sources, targets, factors = np.flatnonzero(np.diff(matrix.indptr)), matrix.indices, matrix.data
        if isinstance(left, Dense):
            scaled = exactly.product(left.weights[:, sources], factors)
            if scaled is None:
                return None
            weights = np.zeros((left.out_size, matrix.shape[1]))
            weights[:, targets] = scaled
            product = Dense(weights)
        else:
            chosen = sparse.csc_matrix(left.matrix)[:, sources].tocoo()
            data = exactly.product(chosen.data, factors[chosen.col])
            if data is None:
                return None
            product = Sparse(sparse.csr_matrix((data, (chosen.row, targets[chosen.col])), shape=(left.out_size, matrix.shape[1])))
    if not value.bias.any():
        return product, np.zeros(left.out_size)
    rows = left.rows()[0]
    parts = [slice(rows.indptr[i], rows.indptr[i + 1]) for i in range(left.out_size)]
    bias = exactly.product_sums(((rows.data[part], value.bias[rows.indices[part]]) for part in parts), np.zeros(left.out_size))
    return None if bias is None else (product, bias)

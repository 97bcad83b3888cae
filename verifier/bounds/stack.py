"""A network as a stack of matrices with a ReLU's derivative between any two: what the quadratic bound of the Jacobian works on."""

from dataclasses import dataclass

import numpy as np

from problems.maps import Array
from problems.network import Affine, Network, Relu
from verifier.bounds.interval import operations
from verifier.bounds.propagation import Layout

# Larger layers would make dense matrices that no bound is worth.
MOST_ENTRIES = 1 << 22


@dataclass(frozen=True, eq=False)
class Stack:
    """J = matrices[-1] D_L ... D_1 matrices[0], the products of every map with the diagonal derivatives between them.

    matrices[k] (size k+1, size k) off the exact maps by at most one rounding per entry; exact: by none. neurons (sizes 1..L, one after the
    other): the neuron whose derivative stands there, -1 where two affine maps follow each other. operations: roundings of one entry of any
    product.
    """

    matrices: tuple[Array, ...]
    neurons: Array
    operations: int
    exact: bool = True

    @property
    def sizes(self) -> Array:
        return np.array([self.matrices[0].shape[1], *(matrix.shape[0] for matrix in self.matrices)])

    @property
    def flat(self) -> Array:
        """All matrices, row by row."""
        return np.concatenate([matrix.ravel() for matrix in self.matrices])

    def with_rows(self, rows: Array) -> "Stack":
        """rows.J for rows (S, K) whose entries are 0, 1 and -1, at most two of them in a row: one more rounding per entry at most."""
        return Stack((*self.matrices[:-1], np.ascontiguousarray(rows @ self.matrices[-1])), self.neurons, self.operations + 2, False)

    def reversed(self) -> "Stack":
        """The transposed product."""
        sizes = self.sizes[1:-1]
        parts = np.split(self.neurons, np.cumsum(sizes)[:-1]) if len(sizes) else []
        neurons = np.concatenate(parts[::-1]) if parts else self.neurons
        return Stack(tuple(np.ascontiguousarray(matrix.T) for matrix in self.matrices[::-1]), neurons, self.operations, self.exact)

    def from_inputs(self, columns: Array) -> "Stack":
        """With other columns of the first matrix set to zero: columns (n,) bool; or only these: columns (c,) of indices."""
        first = self.matrices[0]
        chosen = np.where(columns, first, 0.0) if columns.dtype == bool else np.ascontiguousarray(first[:, columns])
        return Stack((chosen, *self.matrices[1:]), self.neurons, self.operations, self.exact)


def stack_of(network: Network) -> Stack | None:
    """The network as a stack; None for graphs with branches, and for layers too large for dense matrices."""
    layout = Layout.of(network)
    parts = dict(zip(layout.relus, layout.slices, strict=True))
    matrices: list[Array] = []
    neurons: list[Array] = []
    most, exact = 0, True
    for index, node in enumerate(network.nodes[1:], start=1):
        if isinstance(node, Relu):
            if node.parent != index - 1:
                return None
            continue
        assert isinstance(node, Affine)
        if node.parents != (index - 1,) or node.size * node.maps[0].in_size > MOST_ENTRIES:
            return None
        if index > 1:
            before = network.nodes[index - 1]
            part = parts.get(index - 1)
            neurons.append(np.full(before.size, -1) if part is None else np.arange(part.start, part.stop))
        matrix, divisors = node.maps[0].rows()
        dense = matrix.toarray()
        exact &= divisors is None
        matrices.append(np.ascontiguousarray(dense if divisors is None else dense / divisors[:, None]))
        most = max(most, operations(node))
    return Stack(tuple(matrices), np.concatenate(neurons) if neurons else np.zeros(0, dtype=np.int64), most + 4, exact)

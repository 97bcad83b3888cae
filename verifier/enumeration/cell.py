"""A cell: an activation pattern with a point of its interior, and the affine functions that hold on it (THEORY 1)."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from problems.errors import NetworkError
from problems.maps import Array
from problems.network import Affine, Network, Relu
from verifier.bounds import Layout


@dataclass(frozen=True, eq=False)
class Cell:
    """A cell of the input region.

    pattern (h,) int8: +1 active, -1 inactive, neurons in the order of `Layout`. point (n,) float64.
    certified: the point was checked, with proven roundings, to lie strictly inside the cell and inside the region (relative to sides of
    width zero). Not certified: the pattern is not proved empty, and the point is only near the cell. Upper bounds have to count both.
    inradius: radius of a ball around the point inside cell and region (input space, float, an estimate from below of the inscribed radius);
    0 where none was found.
    """

    pattern: Array
    point: Array
    inradius: float
    certified: bool = True


@dataclass(frozen=True, eq=False)
class CellBatch:
    """Up to a few thousand cells as arrays: patterns (m, h) int8, points (m, n), inradii (m,), certified (m,) bool, and the Jacobians of
    the logits (m, K, n) in float64 where they were asked for, else None. See Cell."""

    patterns: Array
    points: Array
    inradii: Array
    certified: Array
    jacobians: Array | None = None

    def __len__(self) -> int:
        return len(self.patterns)

    def cells(self) -> Iterator[Cell]:
        """The cells one by one."""
        for pattern, point, inradius, certified in zip(self.patterns, self.points, self.inradii, self.certified, strict=True):
            yield Cell(pattern, point, float(inradius), bool(certified))


def affine_map(network: Network, pattern: Array) -> tuple[Array, Array]:
    """(A (K, n), c (K,)): the logits are A x + c on the cell, in float64."""
    values = _composed(network, pattern, len(network.nodes) - 1)
    return values[:-1].T.copy(), values[-1].copy()


def cell_rows(network: Network, pattern: Array) -> tuple[Array, Array]:
    """(matrix (h, n), offsets (h,)) in float64: the cell is {x : matrix x + offsets >= 0}, signs applied, without rows of the region."""
    parents = [network.nodes[i].parent for i in network.relus]  # type: ignore[union-attr]
    if not parents:
        return np.zeros((0, network.input_size)), np.zeros(0)
    nodes = _all_composed(network, pattern, max(parents))
    rows = np.concatenate([nodes[i] for i in parents], axis=1) * np.asarray(pattern, dtype=np.float64)
    return rows[:-1].T.copy(), rows[-1].copy()


def _composed(network: Network, pattern: Array, index: int) -> Array:
    return _all_composed(network, pattern, index)[index]


def _all_composed(network: Network, pattern: Array, last: int) -> list[Array]:
    """Every node up to `last` as an affine function on the cell: (n + 1, size), the constant in the last row."""
    if np.shape(pattern) != (network.neurons,):
        raise NetworkError(
            network.name, f"a pattern of shape {np.shape(pattern)} for {network.neurons} neurons.", "Give one sign for each."
        )
    layout = Layout.of(network)
    parts = dict(zip(layout.relus, layout.slices, strict=True))
    n = network.input_size
    nodes: list[Array] = [np.concatenate([np.eye(n), np.zeros((1, n))])]
    for index, node in enumerate(network.nodes[1 : last + 1], start=1):
        if isinstance(node, Relu):
            nodes.append(np.where(pattern[parts[index]] > 0, nodes[node.parent], 0.0))
            continue
        assert isinstance(node, Affine)
        total = np.zeros((n + 1, node.size))
        for parent, linear in zip(node.parents, node.maps, strict=True):
            total += linear.forward(nodes[parent])
        total[-1] += node.bias
        nodes.append(total)
    return nodes

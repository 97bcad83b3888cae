"""Pre-activations of a layer as affine functions of the frame's variables, given the signs of the layers before, with their errors.

A row computed in floats differs from the exact one by at most `error` at every point of the frame's box: an affine node adds
gamma |W| |x| to what its parents' errors become, and |x| is bounded over the box by `size`.
"""

from dataclasses import dataclass

import numpy as np

from problems.maps import Array
from problems.network import Affine, Network, Relu
from verifier.bounds import Layout
from verifier.bounds.interval import operations
from verifier.bounds.rounding import TINY, gamma
from verifier.enumeration.frame import Frame


@dataclass(frozen=True, eq=False)
class Rows:
    """Affine functions coefficients.v + constants of the variables: coefficients (m, N), constants (m,).

    error (m,): see the module. size (m,): an upper bound of |function| over the box, computed ones included.
    """

    coefficients: Array
    constants: Array
    error: Array
    size: Array


class Composer:
    """The layers of a network on a frame. `layer(k, pattern)` uses the signs of the ReLU layers before k only."""

    def __init__(self, network: Network, frame: Frame) -> None:
        self.network, self.frame = network, frame
        self.layout = Layout.of(network)
        self.reach = np.maximum(np.abs(frame.lower), np.abs(frame.upper))
        self._values: dict[int, tuple[Array, Array, Array]] = {}
        self._known: dict[int, bytes] = {}

    def layer(self, k: int, pattern: Array) -> Rows:
        """The pre-activations of ReLU layer k; k = number of ReLU layers gives the logits."""
        relus = self.layout.relus
        last = self.network.nodes[relus[k]].parent if k < len(relus) else len(self.network.nodes) - 1  # type: ignore[union-attr]
        for index in range(last + 1):
            self._node(index, pattern)
        values, error, size = self._values[last]
        return Rows(values[:-1].T.copy(), values[-1].copy(), error, size)

    def _node(self, index: int, pattern: Array) -> None:
        before = sum(part.stop - part.start for relu, part in zip(self.layout.relus, self.layout.slices, strict=True) if relu <= index)
        key = np.asarray(pattern[:before], dtype=np.int8).tobytes()
        if self._known.get(index) != key:
            self._values[index] = self._compute(index, pattern)
            self._known[index] = key

    def _compute(self, index: int, pattern: Array) -> tuple[Array, Array, Array]:
        node, frame = self.network.nodes[index], self.frame
        if isinstance(node, Relu):
            active = pattern[self.layout.slices[self.layout.relus.index(index)]] > 0
            values, error, size = self._values[node.parent]
            return np.where(active, values, 0.0), np.where(active, error, 0.0), np.where(active, size, 0.0)
        if not isinstance(node, Affine):
            values = np.concatenate([frame.matrix.T, frame.shift[None]])
            return values, frame.shift_error, self._size(values) + frame.shift_error
        values = np.zeros((frame.variables + 1, node.size))
        values[-2 if frame.cone else -1] = node.bias
        error, size = np.zeros(node.size), np.abs(node.bias)
        for parent, linear in zip(node.parents, node.maps, strict=True):
            before, before_error, before_size = self._values[parent]
            values += linear.forward(before)
            both = linear.absolute().forward(np.stack([before_error, before_size]))
            error, size = error + both[0], size + both[1]
        # One rounding more per entry than the node's own, for the sum over the coefficients that `size` stands for.
        slack = 2.0 * gamma(operations(node) + frame.variables)
        error = (error + slack * size) * (1.0 + 1e-9)
        return values, np.where(size > 0.0, error + TINY, 0.0), self._size(values) + error

    def _size(self, values: Array) -> Array:
        return (self.reach @ np.abs(values[:-1]) + np.abs(values[-1])) * (1.0 + 2.0 * gamma(self.frame.variables + 2))

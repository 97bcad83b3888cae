"""A network on a region, condensed to its open neurons.

Where a neuron is proved active or inactive on the whole region it is linear there, and can be multiplied out: what is left is a network
whose affine nodes read the input and the open neurons before them. Bounding a piece of the region then costs what its open neurons cost,
not what the network does. Multiplying out rounds: each affine node of the condensed network comes with a slack, the largest amount by
which the true value may differ from its stored coefficients on the region, and the slack enters every bound.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import numpy as np

from problems.maps import Array, Dense
from problems.network import Affine, Input, Network, Node, Relu
from verifier.bounds.crown import backward
from verifier.bounds.linear import Linear
from verifier.bounds.propagation import Layout, Lines, Propagation

# A condensed network is taken if its multiplications are at most this many times those of the network: dense products over few neurons
# run faster than convolutions, and all that is done per neuron besides is saved.
WORTH = 30.0
# Rows pushed back at a time.
ROWS = 128


@dataclass(frozen=True, eq=False)
class Condensed:
    """A network that stands for another on one region. slack[i] (m,) belongs to affine node i; bounds: (lower, upper), each (h,), of
    its neurons on the region, None if nothing is known. Propagations of `network` need the slack (see `Propagation`)."""

    network: Network
    slack: Mapping[int, Array] = field(default_factory=dict)
    bounds: tuple[Array, Array] | None = None

    @property
    def layout(self) -> Layout:
        return Layout.of(self.network)

    def open_neurons(self, part: slice) -> Array:
        """Positions within the part of the layout that are neither proved active nor inactive."""
        if self.bounds is None:
            return np.arange(part.stop - part.start)
        lower, upper = self.bounds[0][part], self.bounds[1][part]
        return np.flatnonzero((lower < 0) & (upper > 0))

    def before(self, relu: int) -> "Condensed":
        """The part that computes the pre-activations of ReLU node `relu`, which become the outputs."""
        parent = self.network.nodes[relu].parent  # type: ignore[union-attr]
        nodes = self.network.nodes[: parent + 1]
        network = replace(self.network, nodes=nodes, output_shape=(nodes[-1].size,), source=None)
        h = network.neurons
        bounds = None if self.bounds is None else (self.bounds[0][:h], self.bounds[1][:h])
        return Condensed(network, {i: s for i, s in self.slack.items() if i <= parent}, bounds)


def condense(pieces: Propagation) -> Condensed:
    """The network of a propagation of batch 1, condensed to the neurons open there; only its bounds where nothing would be gained."""
    lower, upper = (side[0].copy() for side in pieces.neuron_bounds())
    same = Condensed(pieces.network, pieces.slack, (lower, upper))
    layout = Layout.of(pieces.network)
    keep = {i: np.flatnonzero((lower[s] < 0) & (upper[s] > 0)) for i, s in zip(layout.relus, layout.slices, strict=True)}
    keep = {i: chosen for i, chosen in keep.items() if len(chosen)}
    if pieces.empty[0] or not _worth(pieces.network, [len(chosen) for chosen in keep.values()]):
        return same
    cut = _without_open(pieces)
    nodes: list[Node] = [Input(pieces.network.input_size)]
    slack: dict[int, Array] = {}
    place: dict[int, int] = {}  # ReLU node -> its condensed ReLU node

    def add(start: int, chosen: Array) -> bool:
        linear = _rows(cut, start, chosen)
        parts = [(0, linear.coefficients[0])]
        parts += [(place[i], linear.relu[i][0][:, keep[i]]) for i in sorted(linear.relu) if i in place]
        bias, error = linear.constant[0], linear.error[0]
        if not (np.isfinite(bias).all() and np.isfinite(error).all() and all(np.isfinite(matrix).all() for _, matrix in parts)):
            return False
        parts = parts[:1] + [(parent, matrix) for parent, matrix in parts[1:] if matrix.any()]
        slack[len(nodes)] = error
        nodes.append(Affine(tuple(parent for parent, _ in parts), tuple(Dense(matrix) for _, matrix in parts), bias))
        return True

    for index, chosen in keep.items():
        if not add(pieces.network.nodes[index].parent, chosen):  # type: ignore[union-attr]
            return same
        place[index] = len(nodes)
        nodes.append(Relu(len(nodes) - 1, len(chosen)))
    if not add(len(pieces.network.nodes) - 1, np.arange(pieces.network.output_size)):
        return same
    kept = np.concatenate([layout.slices[layout.relus.index(i)].start + chosen for i, chosen in keep.items()] or [np.zeros(0, int)])
    network = replace(pieces.network, nodes=tuple(nodes), source=None, folded={})
    return Condensed(network, slack, (lower[kept], upper[kept]))


def _worth(network: Network, sizes: list[int]) -> bool:
    """Whether the condensed network needs no more than WORTH times the multiplications."""
    products = sum(linear.products for node in network.nodes if isinstance(node, Affine) for linear in node.maps)
    before = network.input_size
    condensed = 0
    for size in [*sizes, network.output_size]:
        condensed += before * size
        before += size
    return condensed <= WORTH * products


def _without_open(pieces: Propagation) -> Propagation:
    """A copy whose lines send open neurons to zero: what their outputs are multiplied by is read off, not passed on."""
    cut = replace(pieces, packed=None)
    cut.empty = pieces.empty
    cut.lines = {}
    for index, lines in pieces.lines.items():
        passed = np.where(lines.unstable, 0.0, lines.upper_slope)
        cut.lines[index] = Lines(lines.lower, lines.upper, passed, np.zeros_like(passed), passed)
    return cut


def _rows(cut: Propagation, start: int, chosen: Array) -> Linear:
    """The chosen entries of node `start` as linear functions of the input and of the open neurons, exact up to `error`."""
    size = cut.network.nodes[start].size
    parts = []
    for first in range(0, len(chosen), ROWS):
        rows = np.zeros((1, min(ROWS, len(chosen) - first), size))
        rows[0, np.arange(rows.shape[1]), chosen[first : first + ROWS]] = 1.0
        parts.append(backward(cut, start, rows, keep=True))

    def joined(arrays: list[Array]) -> Array:
        return np.concatenate(arrays, axis=1)

    return Linear(
        joined([part.coefficients for part in parts]),
        joined([part.constant for part in parts]),
        joined([part.error for part in parts]),
        {i: joined([part.relu[i] for part in parts]) for i in parts[0].relu},
    )

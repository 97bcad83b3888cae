"""A network over a piece as the rows of one mixed-integer program (Tjeng, Xiao, Tedrake 2019).

Every number in a row is a stored weight or a proven bound of a neuron, taken as it is: the true activations of any input of the piece
satisfy the rows exactly, so a safe bound of any relaxation of the program is a proven bound of the question.
"""

from dataclasses import dataclass
from math import inf

import numpy as np
import scipy.sparse as sparse

from problems.maps import Array
from problems.network import Affine, Network, Relu
from problems.regions.base import Cone, Region
from solvers import Program
from verifier.bounds import Layout, Propagation


@dataclass(frozen=True, eq=False)
class Encoding:
    """Minimise -t, t <= every row of the target. binaries (h,): the variable that says whether a neuron is active, -1 if it is decided."""

    program: Program
    binaries: Array
    input_size: int


class _Rows:
    """Collects variables and rows block by block."""

    def __init__(self) -> None:
        self.lower: list[Array] = []
        self.upper: list[Array] = []
        self.count = 0
        self.blocks: list[tuple[Array, Array, Array]] = []  # data, rows, columns
        self.row_lower: list[Array] = []
        self.row_upper: list[Array] = []
        self.rows = 0
        self.cones: tuple[Cone, ...] = ()

    def variables(self, lower: Array, upper: Array) -> Array:
        """The indices of new variables with these bounds."""
        first, self.count = self.count, self.count + len(lower)
        self.lower.append(np.asarray(lower, dtype=float))
        self.upper.append(np.asarray(upper, dtype=float))
        return np.arange(first, self.count)

    def add(self, terms: list[tuple[sparse.csr_matrix, Array]], lower: Array, upper: Array) -> None:
        """lower <= sum of matrix times variables[columns] <= upper."""
        for matrix, columns in terms:
            entries = matrix.tocoo()
            self.blocks.append((entries.data, entries.row + self.rows, np.asarray(columns)[entries.col]))
        self.row_lower.append(np.asarray(lower, dtype=float))
        self.row_upper.append(np.asarray(upper, dtype=float))
        self.rows += len(lower)

    def program(self, cost: Array, integer: Array) -> Program:
        data, row, column = (np.concatenate(parts) for parts in zip(*self.blocks, strict=True))
        return Program(
            cost=cost,
            matrix=sparse.csr_matrix((data, (row, column)), shape=(self.rows, self.count)),
            row_lower=np.concatenate(self.row_lower),
            row_upper=np.concatenate(self.row_upper),
            lower=np.concatenate(self.lower),
            upper=np.concatenate(self.upper),
            integer=integer,
            cones=self.cones,
        )


def encode(pieces: Propagation, region: Region, rows: Array, offsets: Array, inputs: Array | None = None) -> Encoding:
    """The program of one piece (a propagation of batch 1) and of the rows rows.z + inputs.x + offsets, rows (S, K), offsets (S,)."""
    network = pieces.network
    build = _Rows()
    blocks = _input_block(build, pieces, region)
    layout = Layout.of(network)
    parts = dict(zip(layout.relus, layout.slices, strict=True))
    binaries = np.full(layout.neurons, -1)
    for index, node in enumerate(network.nodes[1:], start=1):
        if isinstance(node, Affine):
            blocks.append(_affine_block(build, node, blocks, pieces.lowers[index][0], pieces.uppers[index][0]))
        else:
            assert isinstance(node, Relu)
            block, switches = _relu_block(build, blocks[node.parent], pieces.lines[index].lower[0], pieces.lines[index].upper[0])
            binaries[parts[index]] = switches
            blocks.append(block)
    t = _objective(build, blocks[-1], blocks[0][: network.input_size], pieces, rows, offsets, inputs)
    cost = np.zeros(build.count)
    cost[t] = -1.0
    integer = np.zeros(build.count, dtype=bool)
    integer[binaries[binaries >= 0]] = True
    return Encoding(build.program(cost, integer), binaries, network.input_size)


def _input_block(build: _Rows, pieces: Propagation, region: Region) -> list[Array]:
    lift = region.lift(with_norm=False)
    n = pieces.network.input_size
    low, high = lift.lower.copy(), lift.upper.copy()
    low[:n], high[:n] = np.maximum(low[:n], pieces.lower[0]), np.minimum(high[:n], pieces.upper[0])
    block = build.variables(low, high)
    build.cones = lift.cones  # the lift's variables come first, so its indices hold
    if lift.matrix.shape[0]:
        build.add([(lift.matrix, block)], lift.row_lower, lift.row_upper)
    return [block[:n]]


def _affine_block(build: _Rows, node: Affine, blocks: list[Array], lower: Array, upper: Array) -> Array:
    """divisor y - sum M x = bias (a divided map has no bias, so nothing is rounded)."""
    block = build.variables(lower, upper)
    matrices = [linear.rows() for linear in node.maps]
    divisors = next((d for _, d in matrices if d is not None), None)
    if divisors is not None and len(matrices) > 1:
        # Several parents with a divisor: give each parent's image its own variables first.
        images = []
        for (matrix, own), parent in zip(matrices, node.parents, strict=True):
            image = build.variables(np.full(node.size, -inf), np.full(node.size, inf))
            scale = sparse.diags(np.ones(node.size) if own is None else own).tocsr()
            build.add([(scale, image), (-matrix, blocks[parent])], np.zeros(node.size), np.zeros(node.size))
            images.append((-sparse.identity(node.size, format="csr"), image))
        build.add([(sparse.identity(node.size, format="csr"), block), *images], node.bias, node.bias)
        return block
    scale = sparse.identity(node.size, format="csr") if divisors is None else sparse.diags(divisors).tocsr()
    terms = [(-matrix, blocks[parent]) for (matrix, _), parent in zip(matrices, node.parents, strict=True)]
    build.add([(scale, block), *terms], node.bias, node.bias)
    return block


def _relu_block(build: _Rows, before: Array, lower: Array, upper: Array) -> tuple[Array, Array]:
    """a = relu(z): a >= z, a >= 0, a <= z - l (1 - d), a <= u d with d in {0, 1}; decided neurons need no d."""
    block = build.variables(np.maximum(lower, 0.0), np.maximum(upper, 0.0))
    size = len(block)
    active = np.flatnonzero((lower >= 0) & (upper > 0))
    unstable = np.flatnonzero((lower < 0) & (upper > 0))
    eye = sparse.identity(size, format="csr")
    if len(active):
        build.add([(eye[active], block), (-eye[active], before)], np.zeros(len(active)), np.zeros(len(active)))
    switches = np.full(size, -1)
    if len(unstable):
        count = len(unstable)
        picks = eye[unstable]
        switches[unstable] = build.variables(np.zeros(count), np.ones(count))
        binary, some = switches[unstable], np.full(count, -inf)
        build.add([(picks, block), (-picks, before)], np.zeros(count), np.full(count, inf))
        build.add([(picks, block), (-picks, before), (sparse.diags(-lower[unstable]).tocsr(), binary)], some, -lower[unstable])
        build.add([(picks, block), (sparse.diags(-upper[unstable]).tocsr(), binary)], some, np.zeros(count))
    return block, switches


def _objective(build: _Rows, output: Array, x: Array, pieces: Propagation, rows: Array, offsets: Array, inputs: Array | None) -> int:
    """A variable t <= every row; finite bounds keep its safe bound finite."""
    largest = np.maximum(np.abs(pieces.lowers[-1][0]), np.abs(pieces.uppers[-1][0]))
    reach = np.abs(rows) @ largest + np.abs(offsets)
    if inputs is not None:
        reach = reach + np.abs(inputs) @ np.maximum(np.abs(pieces.lower[0]), np.abs(pieces.upper[0]))
    limit = 2.0 * float(reach.max(initial=0.0)) + 1.0
    t = build.variables(np.array([-limit]), np.array([limit]))
    terms = [(sparse.csr_matrix(np.ones((len(rows), 1))), t), (sparse.csr_matrix(-rows), output)]
    if inputs is not None:
        terms.append((sparse.csr_matrix(-inputs), x))
    build.add(terms, np.full(len(rows), -inf), offsets)
    return int(t[0])


def pattern_bounds(encoding: Encoding, network: Network, signs: Array) -> tuple[Array, Array, Array]:
    """(variables, lower, upper) that fix the binaries of a partial pattern signs (h,) and free the others."""
    switches = encoding.binaries >= 0
    chosen = signs[switches]
    return encoding.binaries[switches], (chosen > 0).astype(float), (chosen >= 0).astype(float)

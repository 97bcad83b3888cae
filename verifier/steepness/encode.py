"""The norm of the gradient as one mixed-integer program (after LipMIP: Jordan and Dimakis 2020, Exactly computing the local Lipschitz
constant of ReLU networks), for input norms 1 and inf.

The forward pass is `verifier.encode`: one binary per open neuron. The backward pass multiplies its vector v with the derivatives d: for
binary d the four McCormick rows with bounds low <= v <= high say exactly u = d v. Absolute values take one binary per entry of unknown
sign, the choice of a column (input norm 1) one per input. True gradients of every cell satisfy the rows: a safe bound of any relaxation
is proved.
"""

from dataclasses import dataclass
from math import inf

import numpy as np
import scipy.sparse as sparse

from problems.maps import Array
from problems.regions.base import Region
from solvers import Program
from verifier.bounds import Propagation
from verifier.bounds.rounding import down, gamma, up
from verifier.bounds.stack import Stack
from verifier.encode import encode


@dataclass(frozen=True, eq=False)
class GradientProgram:
    """Minimise minus the norm. inputs: the first variables are x; switches: indices of all binaries, those of `neurons` first."""

    program: Program
    inputs: int
    switches: Array
    neurons: Array


class _Block:
    """New variables and rows behind an existing program's."""

    def __init__(self, program: Program) -> None:
        self.base, self.count, self.rows = program, program.variables, 0
        self.lower: list[Array] = [program.lower]
        self.upper: list[Array] = [program.upper]
        self.binaries: list[Array] = []
        self.entries: list[tuple[Array, Array, Array]] = []
        self.row_lower: list[Array] = []
        self.row_upper: list[Array] = []

    def variables(self, lower: Array, upper: Array, *, binary: bool = False) -> Array:
        """Indices of new variables."""
        new = np.arange(self.count, self.count + len(lower))
        self.count += len(lower)
        self.lower.append(np.asarray(lower, dtype=float))
        self.upper.append(np.asarray(upper, dtype=float))
        if binary:
            self.binaries.append(new)
        return new

    def add(self, terms: list[tuple[Array, Array]], lower: Array, upper: Array) -> None:
        """lower <= sum of matrix (m, c) times variables[columns] <= upper; a matrix of one dimension stands for its diagonal."""
        for matrix, columns in terms:
            dense = np.diag(matrix) if matrix.ndim == 1 else matrix
            row, column = np.nonzero(dense)
            self.entries.append((dense[row, column], row + self.rows, np.asarray(columns)[column]))
        self.row_lower.append(np.asarray(lower, dtype=float))
        self.row_upper.append(np.asarray(upper, dtype=float))
        self.rows += len(lower)

    def program(self, objective: int, old: Array) -> tuple[Program, Array]:
        """The whole, which minimises minus the variable `objective`; old: binaries of the base. Returns it with all binaries."""
        data, row, column = (np.concatenate(parts) for parts in zip(*self.entries, strict=True))
        added = sparse.csr_matrix((data, (row, column)), shape=(self.rows, self.count))
        base = sparse.hstack([self.base.matrix, sparse.csr_matrix((self.base.rows, self.count - self.base.variables))])
        cost, integer = np.zeros(self.count), np.zeros(self.count, dtype=bool)
        cost[objective] = -1.0
        switches = np.concatenate([old, *self.binaries]).astype(np.int64)
        integer[switches] = True
        program = Program(
            cost=cost, matrix=sparse.vstack([base, added]).tocsr(), row_lower=np.concatenate([self.base.row_lower, *self.row_lower]),
            row_upper=np.concatenate([self.base.row_upper, *self.row_upper]), lower=np.concatenate(self.lower),
            upper=np.concatenate(self.upper), integer=integer, cones=self.base.cones,
        )  # fmt: skip
        return program, switches


def gradient_program(
    pieces: Propagation, region: Region, stack: Stack, rows: Array, differences: Array, *, input_norm: float, masks: tuple[Array, Array]
) -> GradientProgram:
    """The program of one piece, a propagation of batch 1 over a bounded region.

    rows (S, K): what is differentiated; S = 1, or input_norm 1 for the largest column sum. differences (R, K): rows of the logits that
    have to be >= 0. masks: the derivatives (h,) that neurons can have, as `jacobian.masks_of`.
    """
    classes = rows.shape[1]
    held = differences if len(differences) else np.zeros((1, classes))
    forward = encode(pieces, region, held, np.zeros(len(held)))
    base = forward.program
    objective = int(np.flatnonzero(base.cost)[0])
    low = base.lower.copy()
    low[objective] = 0.0  # the smallest difference, which the rows keep below each of them
    block = _Block(base.replaced(lower=low, integer=np.zeros(base.variables, dtype=bool)))
    block.lower[0] = low
    absolute = [_gradient(block, stack, row, forward.binaries, masks) for row in rows]
    sums = [(np.concatenate([a[0] for a in absolute]), sum(float(up(a[1]).sum()) for a in absolute) * (1.0 + 1e-9))]
    if input_norm == 1:
        sums = [(np.array([a[0][j] for a in absolute]), sum(float(a[1][j]) for a in absolute) * (1.0 + 1e-9))
                for j in range(stack.matrices[0].shape[1])]  # fmt: skip
    top = block.variables(np.zeros(1), np.array([max(limit for _, limit in sums)]))
    chosen = block.variables(np.zeros(len(sums)), np.ones(len(sums)), binary=True) if len(sums) > 1 else None
    limit = max(limit for _, limit in sums)
    for number, (columns, _) in enumerate(sums):
        terms = [(np.ones((1, 1)), top), (-np.ones((1, len(columns))), columns)]
        if chosen is not None:
            terms.append((np.full((1, 1), limit), chosen[number : number + 1]))
        block.add(terms, np.array([-inf]), np.array([0.0 if chosen is None else limit]))
    if chosen is not None:
        block.add([(np.ones((1, len(sums))), chosen)], np.ones(1), np.ones(1))
    program, switches = block.program(int(top[0]), forward.binaries[forward.binaries >= 0])
    return GradientProgram(program, forward.input_size, switches, np.flatnonzero(forward.binaries >= 0))


def _gradient(block: _Block, stack: Stack, row: Array, binaries: Array, masks: tuple[Array, Array]) -> tuple[Array, Array]:
    """(variables (n,) that are at most |gradient| entry by entry, their upper bounds (n,)) of row.logits."""
    exact = row @ stack.matrices[-1]
    low, high = down(exact), up(exact)  # at most two entries of a row are nonzero, and these are 1 or -1
    vector = block.variables(low, high)
    ends = np.cumsum(stack.sizes[1:-1])
    for layer in range(len(stack.matrices) - 2, -1, -1):
        neurons = stack.neurons[ends[layer] - stack.sizes[layer + 1] : ends[layer]]
        vector, low, high = _masked(block, vector, low, high, neurons, binaries, masks)
        vector, low, high = _pulled(block, vector, low, high, stack.matrices[layer], stack.operations)
    limit = np.maximum(np.abs(low), np.abs(high))
    size = block.variables(np.zeros(len(vector)), limit)
    unknown = (low < 0.0) & (high > 0.0)
    sign = np.full(len(vector), -1)
    sign[unknown] = block.variables(np.zeros(unknown.sum()), np.ones(unknown.sum()), binary=True)
    ones = np.ones(len(vector))
    for way in (1.0, -1.0):
        # size <= way g + (1 or 0 of the sign) 2 limit; without a sign to choose, the row of the known side alone.
        kept = unknown | (low >= 0.0 if way > 0 else high <= 0.0)
        free = (2.0 * limit if way > 0 else -2.0 * limit)[unknown]
        block.add([(ones[kept], size[kept]), (-way * ones[kept], vector[kept])]
                  + ([(_rows_of(unknown, kept) * free, sign[unknown])] if unknown.any() else []),
                  np.full(kept.sum(), -inf), np.where(unknown[kept], 2.0 * limit[kept] if way > 0 else 0.0, 0.0))  # fmt: skip
    return size, limit


def _rows_of(unknown: Array, kept: Array) -> Array:
    """(kept, unknown): the identity between entries that have a sign variable and the rows kept."""
    return np.eye(len(unknown))[np.ix_(kept, unknown)]


def _masked(
    block: _Block, vector: Array, low: Array, high: Array, neurons: Array, binaries: Array, masks: tuple[Array, Array]
) -> tuple[Array, Array, Array]:
    """u = d v: the vector itself where d = 1, nothing (variable -1) where d = 0, McCormick's rows where d is a binary."""
    real = neurons >= 0
    active = np.ones(len(neurons), dtype=bool)
    inactive = np.zeros(len(neurons), dtype=bool)
    active[real], inactive[real] = masks[0][neurons[real]], ~masks[1][neurons[real]]
    result = np.where(inactive, -1, vector)
    opened = np.flatnonzero(~active & ~inactive)
    bottom, top = np.where(inactive, 0.0, low), np.where(inactive, 0.0, high)
    if not len(opened):
        return result, bottom, top
    switch = binaries[neurons[opened]]
    lows, highs, v = low[opened], high[opened], vector[opened]
    bottom[opened], top[opened] = np.minimum(lows, 0.0), np.maximum(highs, 0.0)
    u = block.variables(bottom[opened], top[opened])
    ones, none, zero = np.ones(len(opened)), np.full(len(opened), inf), np.zeros(len(opened))
    block.add([(ones, u), (-highs, switch)], -none, zero)
    block.add([(ones, u), (-lows, switch)], zero, none)
    block.add([(ones, u), (-ones, v), (-lows, switch)], -none, -lows)
    block.add([(ones, u), (-ones, v), (-highs, switch)], -highs, none)
    result[opened] = u
    return result, bottom, top


def _pulled(block: _Block, vector: Array, low: Array, high: Array, matrix: Array, operations: int) -> tuple[Array, Array, Array]:
    """v = matrix^T u with its interval bounds."""
    used = vector >= 0
    centre, radius = 0.5 * low + 0.5 * high, up(0.5 * high - 0.5 * low)
    middle = centre @ matrix
    size = (np.abs(centre) + radius) @ np.abs(matrix)
    spread = up((radius @ np.abs(matrix)) + 4.0 * gamma(operations + 8) * size)
    bottom, top = down(middle - spread), up(middle + spread)
    new = block.variables(bottom, top)
    block.add([(np.ones(len(new)), new), (-matrix[used].T, vector[used])], np.zeros(len(new)), np.zeros(len(new)))
    return new, bottom, top

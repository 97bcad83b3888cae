"""Rows of the compiled search over cells (kernel.py): composed layer by layer, added as sides, and points that keep clear of them."""

from math import frexp

import numpy as np

from solvers.dense import CLOSED, UNDECIDED, Polytope, Room, best_point, maximise, settle
from solvers.dense_basis import proves_nowhere_positive
from solvers.dense_compiled import add_row, dot_row, fused, inlined
from verifier.enumeration.kernel_arrays import ROWS, TRAIL, UNIT, Array, Layers, Tree


@inlined
def take(target: Array, matrix: Array, i: int) -> None:
    for k in range(target.shape[0]):
        target[k] = matrix[i, k]


@inlined
def put(matrix: Array, i: int, source: Array) -> None:
    for k in range(source.shape[0]):
        matrix[i, k] = source[k]


@inlined
def slacks(polytope: Polytope, m: int, point: Array, slack: Array) -> None:
    for i in range(m):
        slack[i] = dot_row(polytope.rows, i, point) + polytope.offsets[i]


@fused
def cut(tree: Tree, polytope: Polytope, j: int, sign: int) -> None:
    """The side `sign` of neuron j becomes a row of the polytope."""
    at, factor = tree.at, sign * tree.scales[j]
    m, n = at[ROWS], tree.point.shape[0]
    total = 0.0
    for i in range(n):
        polytope.rows[m, i] = factor * tree.coefficients[j, i]
        total += tree.weights[i] * polytope.rows[m, i] * polytope.rows[m, i]
    polytope.offsets[m] = factor * tree.constants[j]
    polytope.errors[m] = tree.scales[j] * tree.errors[j]
    polytope.sizes[m] = tree.scales[j] * tree.sizes[j]
    tree.norms[m] = np.sqrt(total)
    tree.slack[m] = dot_row(polytope.rows, m, tree.point) + polytope.offsets[m]
    at[ROWS] = m + 1


@fused
def compose(tree: Tree, layers: Layers, polytope: Polytope, layer: int) -> None:
    """The rows of a layer from those of the layer before and its signs; errors as in compose.py.

    Where all weights of active neurons and the bias have one sign, the row has that sign on the whole cell, without any rounding.
    """
    before, first, last = layers.first[layer - 1], layers.first[layer], layers.first[layer + 1]
    width, n, place = first - before, tree.point.shape[0], layers.places[layer]
    for j in range(first, last):
        for k in range(n):
            tree.cost[k] = 0.0  # summed up apart, so that the compiler sees two arrays
        constant = layers.biases[j]
        error, size = 0.0, abs(constant)
        positive, negative = constant > 0.0, constant < 0.0
        if layers.bias_column >= 0:
            tree.cost[layers.bias_column] = constant
            constant = 0.0
        start = place + (j - first) * width
        for i in range(width):
            w = layers.weights[start + i]
            if w != 0.0 and tree.pattern[before + i] > 0:
                positive, negative = positive or w > 0.0, negative or w < 0.0
                add_row(tree.cost, w, tree.coefficients, before + i)
                constant += w * tree.constants[before + i]
                error += abs(w) * tree.errors[before + i]
                size += abs(w) * tree.sizes[before + i]
        put(tree.coefficients, j, tree.cost)
        tree.constants[j] = constant
        settle_row(tree, polytope, j, 0.0 if size == 0.0 else (error + layers.rounding[layer] * size) * (1.0 + 1e-9) + 1e-280)
        if positive != negative:
            know(tree, j, 1 if positive else -1)


@inlined
def know(tree: Tree, j: int, sign: int) -> None:
    """Neuron j has this sign only, here and in the whole subtree."""
    tree.known[j] = sign
    tree.trail[tree.at[TRAIL]] = j
    tree.at[TRAIL] += 1


@inlined
def settle_row(tree: Tree, polytope: Polytope, j: int, error: float) -> None:
    """Error, size and scale of the row of neuron j; the scale is a power of two that brings its norm into [1, 2), 0 if it is nothing."""
    n = tree.coefficients.shape[1]
    size, square = abs(tree.constants[j]), 0.0
    for k in range(n):
        a = tree.coefficients[j, k]
        size += abs(a) * polytope.reach[k]
        square += a * a
    tree.errors[j] = error
    tree.sizes[j] = size * (1.0 + 4.0 * (n + 4) * UNIT) + error
    norm = np.sqrt(square)
    tree.scales[j] = 2.0 ** (1 - frexp(norm)[1]) if 1e-150 < norm < 1e150 else 1.0
    if size == 0.0 and error == 0.0:
        tree.scales[j] = 0.0


@fused
def inside(polytope: Polytope, m: int, point: Array, slack: Array, share: float) -> bool:
    """Whether the point satisfies all sides by more than all errors, and by more than a share of the box."""
    n, least, width = point.shape[0], np.inf, 0.0
    for k in range(n):
        least = min(least, min(point[k] - polytope.lower[k], polytope.upper[k] - point[k]))
        width = max(width, polytope.upper[k] - polytope.lower[k])
    if not least > 0.0:
        return False
    for i in range(m):
        if not slack[i] > polytope.errors[i] + (4.0 * n + 16.0) * UNIT * polytope.sizes[i]:
            return False
        least = min(least, slack[i])
    return least > share * width


@fused
def recentre(
    polytope: Polytope, m: int, point: Array, slack: Array, room: Room, wider: Polytope, wider_room: Room, cost: Array
) -> None:  # fmt: skip
    """Move the point to about where the smallest slack of the rows and of the box is largest; leaves its slacks.

    A linear program with one more variable, the smallest slack of the rows; then the best point between its solution and the middle
    of the box.
    """
    n, width = point.shape[0], 0.0
    for k in range(n):
        wider.lower[k], wider.upper[k], wider.reach[k] = polytope.lower[k], polytope.upper[k], polytope.reach[k]
        width = max(width, polytope.upper[k] - polytope.lower[k])
    wider.lower[n], wider.upper[n], wider.reach[n] = -width, width, width
    for i in range(m):
        square = 0.0
        for k in range(n):
            wider.rows[i, k] = polytope.rows[i, k]
            square += polytope.rows[i, k] * polytope.rows[i, k]
        wider.rows[i, n] = -np.sqrt(square)
        wider.offsets[i] = polytope.offsets[i]
        wider.errors[i] = polytope.errors[i]
        wider.sizes[i] = polytope.sizes[i] - wider.rows[i, n] * width
    for k in range(n):
        cost[k] = 0.0
    cost[n] = 1.0
    if not maximise(wider, m, cost, wider_room):
        return
    middle, middle_slack = room.alpha, wider_room.slack
    for k in range(n):
        room.vertex[k] = wider_room.vertex[k]
        middle[k] = 0.5 * polytope.lower[k] + 0.5 * polytope.upper[k]
    slacks(polytope, m, room.vertex, room.slack)
    slacks(polytope, m, middle, middle_slack)
    best_point(polytope, m, middle, middle_slack, 1e300, 1e300, room)
    for k in range(n):
        point[k] = room.point[k]
    slacks(polytope, m, point, slack)


@fused
def side(
    polytope: Polytope, m: int, c: Array, constant: float, error: float, size: float, inner: Array, inner_slack: Array, value: float,
    room: Room, apex: int,
) -> int:  # fmt: skip
    """solvers.dense.settle, and on a cone (apex > 0, see Layers) a proof from the basis, because the maximum there is zero or infinite."""
    code = settle(polytope, m, c, constant, error, size, inner, inner_slack, value, room)
    if code == UNDECIDED and apex > 0 and proves_nowhere_positive(polytope, c, error, room, apex == 2):
        return CLOSED
    return code

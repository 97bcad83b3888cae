"""Inner points that the compiled search over cells (kernel.py) remembers, and what they and one look per layer save it."""

import numpy as np

from solvers.dense import CLOSED, OPEN, Polytope, Room, box_bound
from solvers.dense_compiled import dot_row, fused, inlined
from verifier.enumeration.kernel_arrays import POSITION, PROGRAMS, ROWS, UNIT, Array, Layers, Pool, Tree
from verifier.enumeration.kernel_rows import inside, know, side, slacks


@fused
def enter(tree: Tree, layers: Layers, pool: Pool, layer: int) -> None:
    """The pool of a layer begins with the current point and with those of the layer before that lie in the cell."""
    pool.counts[layer] = 0
    forget(pool, layer, 0)
    _remember(tree, layers, pool, layer, tree.point)
    if layer > 0:
        for i in range(min(pool.counts[layer - 1], pool.points.shape[1])):
            if _belongs(pool, layer - 1, i):
                _remember(tree, layers, pool, layer, pool.points[layer - 1, i])


@inlined
def forget(pool: Pool, layer: int, bit: int) -> None:
    """No neuron from place `bit` of the layer on has a row any more."""
    for w in range(pool.above.shape[1]):
        keep = np.uint64(0)
        if 64 * (w + 1) <= bit:
            continue
        if 64 * w < bit:
            keep = (np.uint64(1) << np.uint64(bit - 64 * w)) - np.uint64(1)
        pool.above[layer, w] &= keep
        pool.below[layer, w] &= keep


@inlined
def _belongs(pool: Pool, layer: int, i: int) -> bool:
    for w in range(pool.above.shape[1]):
        if pool.above[layer, w] & ~pool.positive[layer, i, w] or pool.below[layer, w] & ~pool.negative[layer, i, w]:
            return False
    return True


@fused
def _remember(tree: Tree, layers: Layers, pool: Pool, layer: int, point: Array) -> int:
    """Put a verified inner point into the layer's pool, with the signs that are sure there; the oldest one goes where it is full."""
    i = pool.counts[layer] % pool.points.shape[1]
    pool.counts[layer] += 1
    for k in range(point.shape[0]):
        pool.points[layer, i, k] = point[k]
    for w in range(pool.above.shape[1]):
        pool.positive[layer, i, w] = 0
        pool.negative[layer, i, w] = 0
    first, last, n = layers.first[layer], layers.first[layer + 1], point.shape[0]
    for j in range(first, last):
        value = dot_row(tree.coefficients, j, point) + tree.constants[j]
        rounding = tree.errors[j] + (4.0 * n + 16.0) * UNIT * tree.sizes[j]
        mask = np.uint64(1) << np.uint64((j - first) % 64)
        if value > rounding:
            pool.positive[layer, i, (j - first) // 64] |= mask
        elif value < -rounding:
            pool.negative[layer, i, (j - first) // 64] |= mask
    return i


@fused
def screen(tree: Tree, layers: Layers, pool: Pool, polytope: Polytope, room: Room, layer: int, last: int) -> None:
    """Look at all neurons of the layer that are still to come: what has one side only here has so in the whole subtree.

    A program is solved only where all points of the pool are on one side. What stays unclear is left to `_decide`.
    """
    at, n, first = tree.at, tree.point.shape[0], layers.first[layer]
    words = pool.above.shape[1]
    for w in range(words):
        pool.some_positive[w] = 0
        pool.some_negative[w] = 0
    for i in range(min(pool.counts[layer], pool.points.shape[1])):
        if _belongs(pool, layer, i):
            for w in range(words):
                pool.some_positive[w] |= pool.positive[layer, i, w]
                pool.some_negative[w] |= pool.negative[layer, i, w]
    for j in range(max(at[POSITION], first), last):
        if tree.known[j] != 0 or tree.scales[j] == 0.0 or tree.forced[j] != 0:
            continue
        word, mask = (j - first) // 64, np.uint64(1) << np.uint64((j - first) % 64)
        positive, negative = pool.some_positive[word] & mask, pool.some_negative[word] & mask
        if (positive != 0) == (negative != 0):
            continue
        sign = -1 if positive else 1
        scale = tree.scales[j]
        if box_bound(tree.coefficients, j, sign, tree.constants[j], tree.errors[j], tree.sizes[j], polytope.lower, polytope.upper) <= 0.0:
            know(tree, j, -sign)
            continue
        at[PROGRAMS] += 1
        value = (dot_row(tree.coefficients, j, tree.point) + tree.constants[j]) * scale * sign
        for k in range(n):
            tree.cost[k] = sign * scale * tree.coefficients[j, k]
        constant = sign * scale * tree.constants[j]
        code = side(
            polytope, at[ROWS], tree.cost, constant, tree.errors[j] * scale, tree.sizes[j] * scale, tree.point, tree.slack, value, room,
            layers.apex,
        )  # fmt: skip
        if code == CLOSED:
            know(tree, j, -sign)
        elif code == OPEN:
            slacks(polytope, at[ROWS], room.point, tree.trial_slack)
            if inside(polytope, at[ROWS], room.point, tree.trial_slack, 0.0):
                i = _remember(tree, layers, pool, layer, room.point)
                for w in range(words):
                    pool.some_positive[w] |= pool.positive[layer, i, w]
                    pool.some_negative[w] |= pool.negative[layer, i, w]


@fused
def pooled(tree: Tree, layers: Layers, pool: Pool, j: int, sign: int, number: int) -> bool:
    """Whether the pool has a point on the side `sign` of neuron j; the one farthest from its row is left in tree.trial[number]."""
    layer = tree.layer_of[j]
    bit = j - layers.first[layer]
    word, mask = bit // 64, np.uint64(1) << np.uint64(bit % 64)
    best, farthest = -1, 0.0
    for i in range(min(pool.counts[layer], pool.points.shape[1])):
        signs = pool.positive[layer, i, word] if sign > 0 else pool.negative[layer, i, word]
        if signs & mask and _belongs(pool, layer, i):
            value = abs(dot_row(tree.coefficients, j, pool.points[layer, i]) + tree.constants[j])
            if value > farthest:
                best, farthest = i, value
    if best < 0:
        return False
    for k in range(tree.point.shape[0]):
        tree.trial[number, k] = pool.points[layer, best, k]
    return True

"""The depth-first search over the signs of neurons, compiled, for regions that are boxes with rows (frame.py).

At neuron j the partial cell has a verified interior point: every side of it is satisfied by more than all rounding errors. The sign of
neuron j there is free; for the other sign a dense linear program decides (solvers/dense.py):
- CLOSED is proved: no full cell has that sign, and the neuron's row needs no side of its own from here on;
- OPEN comes with a point, which is verified, re-centred where it is too close to a side;
- in every other case the subtree is handed over to the exact search (exact_tree.py), by its prefix of signs.
Leaves come in lexicographic order, -1 before +1, so that a position in the search is the last pattern.

The search stops and goes on at any of its events; everything it knows is in the arrays of `Tree`.
"""

from pathlib import Path

import numpy as np

from problems.regions.compiled import discard_outdated
from solvers import dense
from solvers.dense import CLOSED, OPEN, Polytope, Room
from solvers.dense_compiled import dot_row, fused
from verifier.enumeration.kernel_arrays import (
    BACK,
    BRANCHES,
    CENTRED,
    DONE,
    FULL,
    GIVEN,
    HANDED_OVER,
    LEAVES,
    ON_PATH,
    PAUSE,
    PAUSE_AT,
    POSITION,
    PROGRAMS,
    ROWS,
    ROWS_WANTED,
    TRAIL,
    UNIT,
    Layers,
    Leaves,
    Pool,
    Tree,
)  # fmt: skip

# Code compiled from sources that have changed is removed before any of it is loaded.
SOLVERS = Path(dense.__file__).parent
discard_outdated(SOLVERS, "dense*")
discard_outdated(Path(__file__).parent, "kernel*", also=SOLVERS.glob("dense*.py"))

from verifier.enumeration.kernel_pool import enter, forget, pooled, screen  # noqa: E402
from verifier.enumeration.kernel_rows import compose, cut, inside, put, recentre, side, slacks, take  # noqa: E402

# What is known of one side of a neuron.
_NONE, _GOOD, _THIN = 0, 1, 2
# Points whose smallest slack is below this share of the box are re-centred.
_CLOSE = 1e-6


@fused
def advance(
    tree: Tree, layers: Layers, pool: Pool, polytope: Polytope, room: Room, wider: Polytope, wider_room: Room, leaves: Leaves, stop: int
) -> int:  # fmt: skip
    """Go on to the next event."""
    at = tree.at
    while True:
        if at[BACK]:
            if at[BRANCHES] == 0:
                return DONE
            if _backtrack(tree, layers, pool, polytope, room, stop):
                return HANDED_OVER
            if at[LEAVES] == len(leaves.slacks):
                return FULL
        j = at[POSITION]
        if j == stop:
            if not at[ON_PATH]:
                _emit(tree, leaves, stop)
            at[BACK] = 1
            if at[LEAVES] == len(leaves.slacks):
                return FULL
            continue
        layer = tree.layer_of[j]
        if at[PROGRAMS] >= at[PAUSE_AT]:
            return PAUSE
        if j == layers.first[layer]:
            if layer > 0 and len(layers.weights):
                compose(tree, layers, polytope, layer)
            elif at[GIVEN] != layer:
                return ROWS_WANTED
            at[GIVEN] = -1
            enter(tree, layers, pool, layer)
            screen(tree, layers, pool, polytope, room, layer, min(stop, layers.first[layer + 1]))
        if _decide(tree, layers, pool, polytope, room, wider, wider_room, j, stop):
            at[BACK] = 1
            return HANDED_OVER


@fused
def _backtrack(tree: Tree, layers: Layers, pool: Pool, polytope: Polytope, room: Room, stop: int) -> bool:
    """To the last branch, and there to +1; whether that subtree has to be handed over."""
    at = tree.at
    at[BRANCHES] -= 1
    b = at[BRANCHES]
    j = tree.neurons[b]
    while at[TRAIL] > tree.trails[b]:
        at[TRAIL] -= 1
        tree.known[tree.trail[at[TRAIL]]] = 0
    layer = tree.layer_of[j]
    forget(pool, layer, j - layers.first[layer])
    at[ROWS], at[POSITION], at[ON_PATH] = tree.marks[b], j + 1, 0
    tree.pattern[j] = 1
    if tree.thin[b]:
        return True
    at[BACK] = 0
    take(tree.point, tree.others, b)
    slacks(polytope, at[ROWS], tree.point, tree.slack)
    _side(tree, layers, pool, polytope, room, j, 1, stop)
    return False


@fused
def _side(tree: Tree, layers: Layers, pool: Pool, polytope: Polytope, room: Room, j: int, sign: int, stop: int) -> None:
    """Go to one of two sides of neuron j: its row is added, and the neurons behind it in its layer are screened."""
    layer = tree.layer_of[j]
    bit = j - layers.first[layer]
    mask = np.uint64(1) << np.uint64(bit % 64)
    if sign > 0:
        pool.above[layer, bit // 64] |= mask
    else:
        pool.below[layer, bit // 64] |= mask
    cut(tree, polytope, j, sign)
    screen(tree, layers, pool, polytope, room, layer, min(stop, layers.first[layer + 1]))


@fused
def _emit(tree: Tree, leaves: Leaves, stop: int) -> None:
    at = tree.at
    b = at[LEAVES]
    least = np.inf
    for i in range(at[ROWS]):
        if tree.norms[i] > 0.0:
            least = min(least, tree.slack[i] / tree.norms[i])
    for j in range(stop):
        leaves.patterns[b, j] = tree.pattern[j]
        leaves.vanishing[b, j] = tree.scales[j] == 0.0
    put(leaves.points, b, tree.point)
    leaves.slacks[b] = least
    at[LEAVES] = b + 1


@fused
def _decide(
    tree: Tree, layers: Layers, pool: Pool, polytope: Polytope, room: Room, wider: Polytope, wider_room: Room, j: int, stop: int
) -> bool:  # fmt: skip
    """Decide neuron j and go on behind it; whether the subtree at the current prefix has to be handed over."""
    at, n = tree.at, tree.point.shape[0]
    m, scale = at[ROWS], tree.scales[j]
    if scale == 0.0:  # identically zero: one cell, counted as inactive
        return _follow(tree, j, -1)
    if tree.known[j] != 0:
        return _follow(tree, j, tree.known[j])
    error = tree.errors[j] * scale
    size = tree.sizes[j] * scale
    rounding = error + (4.0 * n + 16.0) * UNIT * size
    value = (dot_row(tree.coefficients, j, tree.point) + tree.constants[j]) * scale
    free = 1 if value > rounding else (-1 if value < -rounding else 0)
    flat = True
    for k in range(n):
        flat = flat and tree.coefficients[j, k] == 0.0
    if flat and free != 0:
        return _follow(tree, j, free)
    low, high = _GOOD, _GOOD
    skipped = False
    for number in range(2):
        sign = 2 * number - 1
        kind = _GOOD
        if tree.forced[j] == -sign or (sign < 0 and at[ON_PATH] and tree.start[j] > 0):
            kind, skipped = _NONE, True
        elif sign != free and not pooled(tree, layers, pool, j, sign, number):
            at[PROGRAMS] += 1
            for k in range(n):
                tree.cost[k] = sign * scale * tree.coefficients[j, k]
            constant = sign * scale * tree.constants[j]
            code = side(polytope, m, tree.cost, constant, error, size, tree.point, tree.slack, sign * value, room, layers.apex)
            kind = _NONE if code == CLOSED else _THIN
            if code == OPEN:
                kind = _side_point(tree, polytope, room, wider, wider_room, j, sign, number)
        if number == 0:
            low = kind
        else:
            high = kind
    if low == _THIN and high == _THIN:
        return True
    if low == _NONE and high == _NONE:
        at[BACK] = 1
        return False
    if low != _NONE and high != _NONE:
        b = at[BRANCHES]
        tree.neurons[b], tree.marks[b], tree.thin[b] = j, m, high == _THIN
        if free > 0:
            put(tree.others, b, tree.point)
        else:
            for k in range(n):
                tree.others[b, k] = tree.trial[1, k]
        at[BRANCHES] = b + 1
    sign = -1 if low != _NONE else 1
    if at[ON_PATH] and tree.start[j] != sign:
        at[ON_PATH] = 0
    tree.pattern[j] = sign
    at[POSITION] = j + 1
    if (low if sign < 0 else high) == _THIN:
        return True
    if sign != free:
        take(tree.point, tree.trial, 0 if sign < 0 else 1)
        slacks(polytope, m, tree.point, tree.slack)
    if skipped or (low != _NONE and high != _NONE):
        _side(tree, layers, pool, polytope, room, j, sign, stop)
        _keep_away(tree, polytope, room, wider, wider_room)
    return False


@fused
def _follow(tree: Tree, j: int, sign: int) -> bool:
    """The only sign of neuron j, unless it is forced or already behind the start."""
    at = tree.at
    if tree.forced[j] == -sign or (at[ON_PATH] and tree.start[j] > sign):
        at[BACK] = 1
        return False
    if at[ON_PATH] and tree.start[j] != sign:
        at[ON_PATH] = 0
    tree.pattern[j] = sign
    at[POSITION] = j + 1
    return False


@fused
def _side_point(
    tree: Tree, polytope: Polytope, room: Room, wider: Polytope, wider_room: Room, j: int, sign: int, number: int
) -> int:  # fmt: skip
    """Verify room.point as an inner point of the side `sign` of neuron j, or look for another; leaves it in tree.trial[number]."""
    at, m = tree.at, tree.at[ROWS]
    trial = tree.trial[number]
    put(tree.trial, number, room.point)
    cut(tree, polytope, j, sign)
    at[ROWS] = m
    slacks(polytope, m + 1, trial, tree.trial_slack)
    if inside(polytope, m + 1, trial, tree.trial_slack, _CLOSE):
        return _GOOD
    at[CENTRED] += 1
    recentre(polytope, m + 1, trial, tree.trial_slack, room, wider, wider_room, tree.wider_cost)
    return _GOOD if inside(polytope, m + 1, trial, tree.trial_slack, 0.0) else _THIN


@fused
def _keep_away(tree: Tree, polytope: Polytope, room: Room, wider: Polytope, wider_room: Room) -> None:
    """Move the point away from sides that have come close."""
    m = tree.at[ROWS]
    if not inside(polytope, m, tree.point, tree.slack, _CLOSE):
        tree.at[CENTRED] += 1
        trial = tree.trial[0]
        put(tree.trial, 0, tree.point)
        recentre(polytope, m, trial, tree.trial_slack, room, wider, wider_room, tree.wider_cost)
        if inside(polytope, m, trial, tree.trial_slack, 0.0):
            take(tree.point, tree.trial, 0)
            for i in range(m):
                tree.slack[i] = tree.trial_slack[i]

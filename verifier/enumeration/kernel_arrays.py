"""The arrays of the compiled search over cells (kernel.py): all that it knows, so that it can stop and go on anywhere."""

from typing import NamedTuple

import numpy as np

Array = np.ndarray

UNIT = 2.0**-53

# Events.
DONE, FULL, HANDED_OVER, ROWS_WANTED, PAUSE = 0, 1, 2, 3, 4
# Indices of Tree.at.
POSITION, BRANCHES, ROWS, BACK, ON_PATH, LEAVES, PROGRAMS, CENTRED, GIVEN, PAUSE_AT, TRAIL = range(11)


class Layers(NamedTuple):
    """A chain of dense layers packed as in verifier/bounds/packed.py: first (L + 1,) neuron of each ReLU layer; places (L + 1,) and weights
    of the maps between them; biases (h,); rounding (L,): the relative error that composing layer l adds. Without weights, rows are
    wanted from the caller. bias_column: where biases go (the variable t of a cone), or -1 for the constants. apex: 1 for a cone, 2 for one
    in which no row depends on t, else 0."""

    first: Array
    places: Array
    weights: Array
    biases: Array
    rounding: Array
    bias_column: int
    apex: int


class Tree(NamedTuple):
    """The state of a search: h neurons, N variables, S rows of the frame.

    at (11,): see the indices above. pattern, start, forced (h,): signs, 0 where free; stop: the position at which leaves are.
    coefficients (h, N), constants, errors, sizes, scales (h,): rows of the neurons, true for the current prefix; scales: powers of two.
    norms (S + h,): of the rows of the polytope, in input space; weights (N,): squares of coefficients count with these.
    point (N,) with slack (S + h,): the interior point. neurons, marks, trails, thin (h,), others (h, N): the branches, with their points
    for +1.
    known (h,): signs that are proved to be the only ones; trail (h,): those neurons, in order, with marks per branch to undo them.
    cost (N,), wider_cost (N + 1,), trial (2, N), trial_slack (S + h,): scratch.
    """

    at: Array
    pattern: Array
    start: Array
    forced: Array
    layer_of: Array
    coefficients: Array
    constants: Array
    errors: Array
    sizes: Array
    scales: Array
    norms: Array
    weights: Array
    point: Array
    slack: Array
    neurons: Array
    marks: Array
    trails: Array
    thin: Array
    others: Array
    known: Array
    trail: Array
    cost: Array
    wider_cost: Array
    trial: Array
    trial_slack: Array


class Pool(NamedTuple):
    """Verified inner points of the cell at which a layer is entered, per layer: counts (L,), points (L, C, N).

    positive, negative (L, C, W): bits of the layer's neurons that are surely positive or negative there; above, below (L, W): the neurons
    whose side has become a row. A point with all those bits is an inner point of the current partial cell, and a neuron that is positive
    at one of them and negative at another needs no program: both its sides are open. some_positive, some_negative (W,): scratch.
    """

    counts: Array
    points: Array
    positive: Array
    negative: Array
    above: Array
    below: Array
    some_positive: Array
    some_negative: Array


class Leaves(NamedTuple):
    """Room for a batch: patterns (B, h), vanishing (B, h), points (B, N), slacks (B,)."""

    patterns: Array
    vanishing: Array
    points: Array
    slacks: Array

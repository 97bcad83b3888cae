"""Decisions about cells in exact arithmetic: the cell a point lies in, and whether a pattern has a full cell at all.

A float program answers nearly always. What it leaves open are ties: duplicate neurons, facets shared by several neurons, cones of networks
without biases. There the rows of the cell are composed as rational numbers, and the program's dual says which of them contradict each
other: if a nonnegative combination of strict rows and rows of the region vanishes identically, with a constant <= 0, there is no interior
(Motzkin's transposition theorem). The combination is solved for exactly, so nothing of the solver is trusted.
"""

from dataclasses import dataclass
from fractions import Fraction
from math import inf

import numpy as np
import scipy.sparse as sparse

from problems.exact import evaluate_all, integers
from problems.maps import Array
from problems.network import Affine, Network, Relu
from problems.regions.base import Region
from solvers import Program, SolverError, open_session
from verifier.bounds.propagation import Layout
from verifier.bounds.rounding import TINY, UNIT, gamma, up
from verifier.leaf import able
from verifier.steepness.directions import Directions
from verifier.witness import exact_point

Row = tuple[list[Fraction], Fraction]  # coefficients (n,) and constant
# Multipliers below this share of the largest are taken for rounding.
NOISE = 1e-9
# A distance to all facets that is clearly one, as a share of the size of the rows.
CLEAR = 1e-9


@dataclass(frozen=True, eq=False)
class Located:
    """The pattern (h,) int8 of the one full cell around a point, and its exact logits (K,)."""

    pattern: Array
    logits: list[Fraction]


def locate(network: Network, region: Region, point: Array, directions: Directions) -> Located | None:
    """The full cell around `point` (n,), or None where the point is outside the region or on the boundary of a cell.

    Exact: every pre-activation is nonzero at the point, or zero on all of the cell (along the region's directions).
    """
    values = exact_point(region, point)[1]
    if not region.contains(values):
        return None
    nodes = evaluate_all(network, values)
    layout = Layout.of(network)
    pre = [v for index in layout.relus for v in nodes[network.nodes[index].parent]]  # type: ignore[union-attr]
    pattern = np.array([1 if v > 0 else -1 for v in pre], dtype=np.int8)
    flat = [j for j, v in enumerate(pre) if v == 0]
    if flat:
        rows = exact_rows(network, pattern)[0]
        if any(_moves(rows[j], directions) for j in flat):
            return None
    return Located(pattern, nodes[-1])


def exact_rows(network: Network, pattern: Array) -> tuple[list[Row], list[Row]]:
    """(pre-activations of all neurons, logits) as exact affine functions of the inputs on the cell of the pattern (h,)."""
    layout = Layout.of(network)
    parts = dict(zip(layout.relus, layout.slices, strict=True))
    n = network.input_size
    values: list[Array] = []  # (size, n + 1) of Fractions
    for index, node in enumerate(network.nodes):
        if isinstance(node, Relu):
            active = np.asarray(pattern[parts[index]]) > 0
            values.append(np.where(active[:, None], values[node.parent], Fraction(0)))
            continue
        if not isinstance(node, Affine):
            start = np.full((n, n + 1), Fraction(0), dtype=object)
            start[np.arange(n), np.arange(n)] = Fraction(1)
            values.append(start)
            continue
        total = np.full((node.size, n + 1), Fraction(0), dtype=object)
        total[:, n] = [Fraction(v) for v in node.bias.tolist()]
        for parent, linear in zip(node.parents, node.maps, strict=True):
            total = total + _product(linear.rows(), values[parent])
        values.append(total)
    rows = [_row(v) for index in layout.relus for v in values[network.nodes[index].parent]]  # type: ignore[union-attr]
    return rows, [_row(v) for v in values[-1]]


def _product(rows: tuple, before: Array) -> Array:
    """matrix before / divisors without rounding: integers over one denominator, then fractions again."""
    matrix, divisors = rows
    flat, scale = integers([Fraction(v) for v in before.ravel()])
    whole = flat.reshape(before.shape)
    weights, unit = integers(matrix.data)
    result = np.zeros((matrix.shape[0], before.shape[1]), dtype=object)
    for i in range(matrix.shape[0]):
        span = slice(matrix.indptr[i], matrix.indptr[i + 1])
        if span.start < span.stop:
            result[i] = weights[span] @ whole[matrix.indices[span]]
    quotients = [Fraction(1)] * len(result) if divisors is None else [Fraction(d) for d in divisors.tolist()]
    exact = np.empty_like(result)
    for i, divisor in enumerate(quotients):
        exact[i] = [Fraction(int(v), unit * scale) / divisor for v in result[i]]
    return exact


def _row(values: Array) -> Row:
    return list(values[:-1]), values[-1]


def _moves(row: Row, directions: Directions) -> bool:
    return any(row[0][j] != 0 for j in np.flatnonzero(directions.free))


def is_constant(rows: list[Row], row: Array, directions: Directions) -> bool:
    """Whether the combination `row` (K,) of logits given as exact rows does not change on the cell, along the region's directions."""
    parts = [(Fraction(c), logit) for c, logit in zip(row.tolist(), rows, strict=True) if c]
    return all(sum((c * logit[0][j] for c, logit in parts), Fraction(0)) == 0 for j in np.flatnonzero(directions.free))


@dataclass(frozen=True, eq=False)
class Interior:
    """empty: proved that no full cell has the pattern (with the extra rows > 0); point (n,) or None: a candidate inside."""

    empty: bool
    point: Array | None


def interior(network: Network, region: Region, pattern: Array, extra: Array, directions: Directions, *, solver: str = "auto") -> Interior:
    """Decide whether the pattern (h,) has a full cell in the region with an interior point at which all rows extra (R, K) of the logits
    are > 0 or constantly 0.

    Balls of the 2-norm are seen as their bounding boxes: "empty" then stays true, points may lie outside.
    """
    pre, logits = exact_rows(network, pattern)
    strict: list[Row] = []
    for sign, row in zip(pattern.tolist(), pre, strict=True):
        if _moves(row, directions):
            strict.append(row if sign > 0 else ([-v for v in row[0]], -row[1]))
        elif sign > 0 and row[1] <= 0 or sign < 0 and row[1] > 0:
            if not directions.free.all():
                continue  # its constant along fixed inputs is not known here: it decides nothing
            return Interior(True, None)
    for combination in extra:
        row = _combined(combination, logits)
        if any(row[0]) or row[1] != 0:
            strict.append(row)
    quick = _by_floats(strict, region, network.input_size, solver)
    return quick if quick is not None else _by_contradiction(strict, _region_rows(region, network.input_size), network.input_size, solver)


def _combined(combination: Array, logits: list[Row]) -> Row:
    parts = [(Fraction(c), logit) for c, logit in zip(combination.tolist(), logits, strict=True) if c]
    n = len(logits[0][0])
    return [sum((c * logit[0][j] for c, logit in parts), Fraction(0)) for j in range(n)], sum((c * r[1] for c, r in parts), Fraction(0))


def _region_rows(region: Region, n: int) -> list[Row]:
    """The region's bounding box as rows >= 0, and the facets of its lift where it is linear."""
    lift = region.lift(with_norm=False)
    rows: list[Row] = []
    size = n + lift.extra
    zero = [Fraction(0)] * size
    for i, (low, high) in enumerate(zip(lift.lower.tolist(), lift.upper.tolist(), strict=True)):
        for side, sign in ((low, 1), (high, -1)):
            if abs(side) < inf:
                rows.append(([*zero[:i], Fraction(sign), *zero[i + 1 :]], Fraction(side) * -sign))
    matrix = lift.matrix.toarray()
    for coefficients, low, high in zip(matrix.tolist(), lift.row_lower.tolist(), lift.row_upper.tolist(), strict=True):
        for side, sign in ((low, 1), (high, -1)):
            if abs(side) < inf:
                rows.append(([Fraction(v) * sign for v in coefficients], Fraction(side) * -sign))
    return rows


def _by_floats(strict: list[Row], region: Region, n: int, solver: str) -> Interior | None:
    """max t: strict rows >= t over the region, every row rounded outward: decides unless t is nearly 0, or the region unbounded."""
    lift = region.lift(with_norm=False)
    matrix, constants, scale = _floats(strict, n)
    reach = np.maximum(np.abs(lift.lower), np.abs(lift.upper))
    if not np.isfinite(reach).all():
        return None
    size = (np.abs(matrix) @ reach[:n] + np.abs(constants)) * scale * (1.0 + 2.0 * gamma(n + 4)) + TINY
    limit = 2.0 * float(size.max(initial=0.0)) + 1.0
    block = np.column_stack([matrix * scale[:, None], np.zeros((len(strict), lift.extra)), -np.ones(len(strict))])
    program = Program(
        cost=np.append(np.zeros(n + lift.extra), -1.0),
        matrix=sparse.vstack([sparse.hstack([lift.matrix, sparse.csr_matrix((lift.matrix.shape[0], 1))]), sparse.csr_matrix(block)]).tocsr(),
        row_lower=np.concatenate([lift.row_lower, -up(constants * scale + 4.0 * UNIT * size)]),
        row_upper=np.concatenate([lift.row_upper, np.full(len(strict), inf)]),
        lower=np.append(lift.lower, -limit),
        upper=np.append(lift.upper, limit),
        cones=lift.cones,
    )
    try:
        with open_session(program, able(solver, program)) as session:
            solution = session.solve()
    except SolverError:
        return None
    if solution.proves_infeasible or -solution.safe_bound < 0.0:
        return Interior(True, None)
    if solution.x is not None and solution.x[-1] > CLEAR * limit:
        return Interior(False, solution.x[:n])
    return None


def _floats(rows: list[Row], size: int) -> tuple[Array, Array, Array]:
    """(matrix (m, size), constants (m,)) to nearest, and powers of two (m,) that bring the rows to size 1."""
    matrix = np.array([[float(v) for v in row[0]] + [0.0] * (size - len(row[0])) for row in rows]).reshape(len(rows), size)
    constants = np.array([float(row[1]) for row in rows])
    scale = np.ldexp(1.0, -np.clip(np.frexp(np.maximum(np.abs(matrix).max(axis=1, initial=0.0), 1e-300))[1], -900, 900))
    return matrix, constants, scale


def _by_contradiction(strict: list[Row], weak: list[Row], n: int, solver: str) -> Interior:
    """max t: strict rows >= t, weak rows >= 0, t <= 1, all rows scaled; then its dual, exactly."""
    size = max((len(row[0]) for row in weak), default=n)
    rows = [([*row[0], *[Fraction(0)] * (size - n)], row[1]) for row in strict] + weak
    matrix, constants, scale = _floats(rows, size)
    margin = np.where(np.arange(len(rows)) < len(strict), -1.0, 0.0)
    program = Program(
        cost=np.append(np.zeros(size), -1.0),
        matrix=np.column_stack([matrix * scale[:, None], margin]),
        row_lower=-constants * scale,
        row_upper=np.full(len(rows), inf),
        lower=np.full(size + 1, -inf),
        upper=np.append(np.full(size, inf), 1.0),
    )
    try:
        with open_session(program, able(solver, program)) as session:
            solution = session.solve()
    except SolverError:
        return Interior(False, None)
    point = None if solution.x is None else solution.x[:n]
    duals = solution.row_duals if solution.row_duals is not None else solution.ray
    if duals is None:
        return Interior(False, point)
    used = np.flatnonzero(np.abs(duals) > NOISE * np.abs(duals).max(initial=0.0))
    return Interior(_contradiction([rows[i] for i in used], [int(i) < len(strict) for i in used]), point)


def _contradiction(rows: list[Row], strict: list[bool]) -> bool:
    """Whether some nonnegative combination of the rows, a strict one among them, has no coefficients and a constant <= 0."""
    multipliers = _kernel_vector([row[0] for row in rows])
    if multipliers is None:
        return False
    if all(m <= 0 for m in multipliers):
        multipliers = [-m for m in multipliers]
    if any(m < 0 for m in multipliers) or not any(m > 0 and s for m, s in zip(multipliers, strict, strict=True)):
        return False
    return sum((m * row[1] for m, row in zip(multipliers, rows, strict=True)), Fraction(0)) <= 0


def _kernel_vector(rows: list[list[Fraction]]) -> list[Fraction] | None:
    """The combination of the rows that vanishes, where there is exactly one up to scale; by elimination on the transposed system."""
    count = len(rows)
    columns = [list(entry) for entry in zip(*rows, strict=True) if any(entry)]
    pivots: list[int] = []
    reduced: list[list[Fraction]] = []
    for column in columns:
        current = column
        for pivot, other in zip(pivots, reduced, strict=True):
            if current[pivot]:
                factor = current[pivot]
                current = [a - factor * b for a, b in zip(current, other, strict=True)]
        place = next((j for j, v in enumerate(current) if v), None)
        if place is None:
            continue
        lead = current[place]
        current = [v / lead for v in current]
        reduced = [[a - row[place] * b for a, b in zip(row, current, strict=True)] if row[place] else row for row in reduced]
        pivots.append(place)
        reduced.append(current)
        if len(pivots) == count:
            return None
    free = [j for j in range(count) if j not in pivots]
    if len(free) != 1:
        return None
    result = [Fraction(0)] * count
    result[free[0]] = Fraction(1)
    for pivot, row in zip(pivots, reduced, strict=True):
        result[pivot] = -row[free[0]]
    return result

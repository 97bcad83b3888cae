"""Decisions about cells in exact arithmetic: the cell a point lies in, and whether a pattern has a full cell at all.

A float program answers nearly always. What it leaves open are ties: duplicate neurons, facets shared by several neurons, cones of networks
without biases. There the rows of the cell are composed as rational numbers, and the program's dual says which of them contradict each
other: if a nonnegative combination of strict rows and rows of the region vanishes identically, with a constant <= 0, there is no interior
(Motzkin's transposition theorem). The combination is solved for exactly, so nothing of the solver is trusted.
"""

from dataclasses import dataclass
from fractions import Fraction
from math import inf, lcm
from sys import float_info

import numpy as np
import scipy.sparse as sparse

from problems.exact import evaluate_all, integers
from problems.maps import Array, LinearMap
from problems.network import Affine, Network, Relu
from problems.regions.base import Region
from solvers import Program, SolverError, open_session
from verifier.bounds.propagation import Layout
from verifier.bounds.rounding import TINY, UNIT, gamma, up
from verifier.leaf import able
from verifier.steepness.directions import Directions
from verifier.witness import exact_point

# Multipliers below this share of the largest are taken for rounding.
NOISE = 1e-9
# A distance to all facets that is clearly one, as a share of the size of the rows.
CLEAR = 1e-9


@dataclass(frozen=True, eq=False)
class Rows:
    """Exact affine functions: numerators (m, n + 1) of Python integers, constants last, over one positive denominator."""

    numerators: Array
    denominator: int

    def plus(self, other: "Rows") -> "Rows":
        """The sum, row by row."""
        common = lcm(self.denominator, other.denominator)
        mine, others = common // self.denominator, common // other.denominator
        return Rows(self.numerators * mine + other.numerators * others, common)


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
        rows = exact_rows(network, pattern)[0].numerators
        if any(any(rows[j, :-1][directions.free]) for j in flat):
            return None
    return Located(pattern, nodes[-1])


def exact_rows(network: Network, pattern: Array) -> tuple[Rows, Rows]:
    """(pre-activations of all neurons, logits) as exact affine functions of the inputs on the cell of the pattern (h,)."""
    layout = Layout.of(network)
    parts = dict(zip(layout.relus, layout.slices, strict=True))
    values: list[Rows | None] = [None]  # the input itself needs no rows
    for index, node in enumerate(network.nodes[1:], start=1):
        if isinstance(node, Relu):
            before = values[node.parent]
            assert before is not None
            active = np.asarray(pattern[parts[index]]) > 0
            values.append(Rows(np.where(active[:, None], before.numerators, 0), before.denominator))
            continue
        assert isinstance(node, Affine)
        bias, unit = integers(node.bias)
        total = Rows(np.column_stack([np.full((node.size, network.input_size), 0, dtype=object), bias]), unit)
        for parent, linear in zip(node.parents, node.maps, strict=True):
            total = total.plus(_product(linear, values[parent], network.input_size))
        values.append(total)
    pre = [values[network.nodes[index].parent] for index in layout.relus]  # type: ignore[union-attr]
    empty = Rows(np.zeros((0, network.input_size + 1), dtype=object), 1)
    logits = values[-1]
    assert logits is not None
    return _stacked([empty, *[rows for rows in pre if rows is not None]]), logits


def _product(linear: LinearMap, before: Rows | None, inputs: int) -> Rows:
    """The map applied to affine functions (None: to the inputs themselves), without rounding."""
    matrix, divisors = linear.rows()
    weights, unit = integers(matrix.data)
    dense = np.full(matrix.shape, 0, dtype=object)
    dense[np.repeat(np.arange(matrix.shape[0]), np.diff(matrix.indptr)), matrix.indices] = weights
    if before is None:
        result = Rows(np.column_stack([dense, np.full(matrix.shape[0], 0, dtype=object)]), unit)
    else:
        result = Rows(dense @ before.numerators, unit * before.denominator)
    if divisors is None:
        return result
    tops, bottom = integers(divisors)  # 1 / (top / bottom) = bottom / top
    common = lcm(*tops.tolist())
    factors = np.array([bottom * (common // top) for top in tops], dtype=object)
    return Rows(result.numerators * factors[:, None], result.denominator * common)


def _stacked(parts: list[Rows]) -> Rows:
    common = lcm(*(part.denominator for part in parts))
    return Rows(np.concatenate([part.numerators * (common // part.denominator) for part in parts]), common)


def is_constant(rows: Rows, combination: Array, directions: Directions) -> bool:
    """Whether a combination (K,) of the logits, its entries whole, does not change on the cell, along the region's directions."""
    return not any(_combined(combination, rows)[:-1][directions.free])


def _combined(combination: Array, rows: Rows) -> Array:
    """(n + 1,): the numerators of a combination with whole entries."""
    return np.array([int(c) for c in combination], dtype=object) @ rows.numerators


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
    strict = []
    for sign, row in zip(pattern.tolist(), pre.numerators, strict=True):
        if any(row[:-1][directions.free]):
            strict.append(row if sign > 0 else -row)
        elif directions.free.all() and (sign > 0) != (row[-1] > 0):
            return Interior(True, None)  # a constant neuron of the other sign; where inputs are fixed, their part is not looked at here
    count = len(strict)
    strict += [row for row in (_combined(combination, logits) for combination in extra) if any(row)]
    units = [pre.denominator] * count + [logits.denominator] * (len(strict) - count)
    n = network.input_size
    quick = _by_floats(strict, units, region, n, solver)
    return quick if quick is not None else _by_contradiction(strict, units, _region_rows(region, n), n, solver)


def _region_rows(region: Region, n: int) -> list[Array]:
    """The region's bounding box, and the facets of its lift where it is linear, as rows >= 0 with whole entries, times some number."""
    lift = region.lift(with_norm=False)
    eye = np.eye(n + lift.extra)
    sides = list(zip(eye, lift.lower, lift.upper, strict=True))
    sides += list(zip(lift.matrix.toarray(), lift.row_lower, lift.row_upper, strict=True))
    rows = []
    for coefficients, low, high in sides:
        if abs(low) < inf:
            rows.append(integers(np.append(coefficients, -low))[0])
        if abs(high) < inf:
            rows.append(integers(np.append(-coefficients, high))[0])
    return rows


def _by_floats(strict: list[Array], units: list[int], region: Region, n: int, solver: str) -> Interior | None:
    """max t: strict rows >= t over the region, every row rounded outward: decides unless t is nearly 0, or the region unbounded."""
    lift = region.lift(with_norm=False)
    matrix, constants, scale = _floats(strict, units, n)
    reach = np.maximum(np.abs(lift.lower), np.abs(lift.upper))
    if not np.isfinite(reach).all():
        return None
    size = (np.abs(matrix) @ reach[:n] + np.abs(constants)) * scale * (1.0 + 2.0 * gamma(n + 4)) + TINY
    limit = 2.0 * float(size.max(initial=0.0)) + 1.0
    block = np.column_stack([matrix * scale[:, None], np.zeros((len(strict), lift.extra)), -np.ones(len(strict))])
    program = Program(
        cost=np.append(np.zeros(n + lift.extra), -1.0),
        matrix=sparse.vstack(
            [sparse.hstack([lift.matrix, sparse.csr_matrix((lift.matrix.shape[0], 1))]), sparse.csr_matrix(block)]
        ).tocsr(),
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


def _floats(rows: list[Array], units: list[int], size: int) -> tuple[Array, Array, Array]:
    """(matrix (m, size), constants (m,)) to nearest, and powers of two (m,) that bring the rows to size 1."""
    values = np.zeros((len(rows), size + 1))
    for i, (row, unit) in enumerate(zip(rows, units, strict=True)):
        values[i, : len(row) - 1] = [_quotient(v, unit) for v in row[:-1]]
        values[i, -1] = _quotient(row[-1], unit)
    matrix, constants = values[:, :-1], values[:, -1]
    scale = np.ldexp(1.0, -np.clip(np.frexp(np.maximum(np.abs(matrix).max(axis=1, initial=0.0), 1e-300))[1], -900, 900))
    return matrix, constants, scale


def _quotient(top: int, bottom: int) -> float:
    """To nearest; beyond the range of floats, the largest one, which no program takes."""
    try:
        return top / bottom
    except OverflowError:
        return float_info.max if top > 0 else -float_info.max


def _by_contradiction(strict: list[Array], units: list[int], weak: list[Array], n: int, solver: str) -> Interior:
    """max t: strict rows >= t, weak rows >= 0, t <= 1, all rows scaled; then its dual, exactly."""
    size = max((len(row) - 1 for row in weak), default=n)
    rows = [np.concatenate([row[:-1], np.full(size - n, 0, dtype=object), row[-1:]]) for row in strict] + weak
    matrix, constants, scale = _floats(rows, units + [max(1, *map(abs, row.tolist())) for row in weak], size)
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


def _contradiction(rows: list[Array], strict: list[bool]) -> bool:
    """Whether some nonnegative combination of the rows, a strict one among them, has no coefficients and a constant <= 0."""
    multipliers = _kernel_vector([row[:-1] for row in rows])
    if multipliers is None:
        return False
    if all(m <= 0 for m in multipliers):
        multipliers = [-m for m in multipliers]
    if any(m < 0 for m in multipliers) or not any(m > 0 and s for m, s in zip(multipliers, strict, strict=True)):
        return False
    return sum((m * row[-1] for m, row in zip(multipliers, rows, strict=True)), Fraction(0)) <= 0


def _kernel_vector(rows: list[Array]) -> list[Fraction] | None:
    """The combination of the rows that vanishes, where there is exactly one up to scale; by elimination on the transposed system."""
    count = len(rows)
    pivots: list[int] = []
    reduced: list[list[Fraction]] = []
    for column in zip(*rows, strict=True):
        current = [Fraction(v) for v in column]
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

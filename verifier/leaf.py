"""Pieces whose neurons are all decided: one convex program in input space.

With every neuron fixed the backward bound is the exact affine map of the cell up to rounding. Its rows, each loosened by its own
rounding error, describe a set that contains the whole cell, so the program's safe dual bound is a proven bound for the piece.
"""

from dataclasses import dataclass
from math import inf, isfinite, nextafter, sqrt

import numpy as np
import scipy.sparse as sparse

from problems.maps import Array
from problems.regions.ball import Ball
from problems.regions.base import Lift
from solvers import Program, Solution, capabilities, open_session
from verifier.bounds import Layout, Linear, Propagation, backward
from verifier.bounds.rounding import UNIT, down, gamma, up
from verifier.search.budget import Budget


@dataclass(frozen=True, eq=False)
class Cell:
    """Rows a.x + c >= 0, a (M, n), c (M,), that hold on the whole piece: the signs of its decided neurons, loosened by rounding."""

    matrix: Array
    offsets: Array


def sign_rows(pieces: Propagation, signs: Array) -> Cell:
    """The rows of the neurons decided by splits, signs (h,), on the single piece of a propagation without open neurons.

    For sign s, s z(x) <= a.x + c on the piece (a, c with the rounding error added), so s z >= 0 implies a.x + c >= 0.
    """
    network = pieces.network
    layout = Layout.of(network)
    matrices, offsets = [np.zeros((0, network.input_size))], [np.zeros(0)]
    for index, part in zip(layout.relus, layout.slices, strict=True):
        decided = np.flatnonzero(signs[part])
        if not len(decided):
            continue
        parent = network.nodes[index].parent  # type: ignore[union-attr]
        rows = np.zeros((1, len(decided), network.nodes[parent].size))
        rows[0, np.arange(len(decided)), decided] = signs[part][decided]
        linear = backward(pieces, parent, rows)
        matrices.append(linear.coefficients[0])
        offsets.append(_loosened(linear))
    return Cell(np.concatenate(matrices), np.concatenate(offsets))


def _loosened(linear: Linear) -> Array:
    constant, error = linear.constant[0], linear.error[0]
    return constant + error + 4.0 * UNIT * (np.abs(constant) + error)


def output_rows(linear: Linear) -> Cell:
    """The functional rows of the one piece as a.x + c, never below the functional."""
    return Cell(linear.coefficients[0], _loosened(linear))


def largest_smallest_row(
    lift: Lift, lower: Array, upper: Array, cell: Cell, rows: Cell, *, solver: str, time_limit: float | None
) -> Solution:
    """The program min -t s.t. t <= rows_i(x), cell rows >= 0, x in region and box: minus its safe bound bounds the piece's value.

    Variables are (x, auxiliary of the lift, t).
    """
    matrix, offsets = np.vstack([rows.matrix, cell.matrix]), np.concatenate([rows.offsets, cell.offsets])
    needs_t = np.concatenate([np.ones(len(rows.offsets)), np.zeros(len(cell.offsets))])
    block = sparse.csr_matrix(np.hstack([matrix, np.zeros((len(matrix), lift.extra)), -needs_t[:, None]]))
    # The functional is bounded on the box, so t can be: finite sides keep the safe bound finite.
    reach = np.abs(rows.matrix) @ np.maximum(np.abs(lower), np.abs(upper)) + np.abs(rows.offsets)
    limit = 2.0 * float(reach.max(initial=0.0)) + 1.0
    return _solve(lift, lower, upper, block, -offsets, extra=(-1.0, -limit, limit), solver=solver, time_limit=time_limit)


@dataclass(frozen=True, eq=False)
class Nearest:
    """infeasible: proved that no point satisfies the rows; distance: proven lower bound; point (n,) or None: the solver's minimiser."""

    infeasible: bool
    distance: float
    point: Array | None


def nearest(ball: Ball, lower: Array, upper: Array, rows: Cell, *, solver: str, time_limit: float | None) -> Nearest:
    """The point of ball and box nearest to the centre at which all rows are >= 0."""
    n = ball.dimension
    if ball.power == 2:
        return _nearest_euclidean(ball, lower, upper, rows, solver=solver, time_limit=time_limit)
    lift = ball.lift()
    block = sparse.csr_matrix(np.hstack([rows.matrix, np.zeros((len(rows.matrix), lift.extra))]))
    solution = _solve(lift, lower, upper, block, -rows.offsets, extra=None, solver=solver, time_limit=time_limit)
    point = None if solution.x is None else solution.x[:n]
    return Nearest(solution.proves_infeasible, max(solution.safe_bound, 0.0), point)


def _nearest_euclidean(ball: Ball, lower: Array, upper: Array, rows: Cell, *, solver: str, time_limit: float | None) -> Nearest:
    """The program in d = x - centre, minimise 1/2 d.d: its bound is accurate however small the distance is against the centre."""
    center, (low, high) = ball.center, ball.bounding_box()
    # Shifting rounds: bounds by an ulp, offsets by the error of one dot product, both outward.
    low, high = down(np.maximum(low, lower) - center), up(np.minimum(high, upper) - center)
    size = np.abs(rows.matrix) @ np.abs(center) + np.abs(rows.offsets)
    offsets = up(rows.matrix @ center + rows.offsets + 2.0 * gamma(len(center) + 4) * size)
    program = Program(
        cost=np.zeros(len(center)),
        quadratic=np.ones(len(center)),
        matrix=rows.matrix,
        row_lower=-offsets,
        row_upper=np.full(len(offsets), inf),
        lower=low,
        upper=high,
    )
    solution = _run(program, solver, time_limit)
    distance = nextafter(nextafter(sqrt(max(2.0 * solution.safe_bound, 0.0)), 0.0), 0.0)
    return Nearest(solution.proves_infeasible, distance, None if solution.x is None else center + solution.x)


def _solve(
    lift: Lift,
    lower: Array,
    upper: Array,
    block: sparse.csr_matrix,
    block_lower: Array,
    *,
    extra: tuple[float, float, float] | None,
    solver: str,
    time_limit: float | None,
) -> Solution:
    n = len(lower)
    low, high = lift.lower.copy(), lift.upper.copy()
    low[:n], high[:n] = np.maximum(low[:n], lower), np.minimum(high[:n], upper)
    lifted = lift.matrix
    if extra is None:
        cost = np.zeros(len(low)) if lift.cost is None else lift.cost
        quadratic, offset = lift.quadratic if lift.quadratic is not None else np.zeros(len(low)), lift.offset
    else:
        cost = np.concatenate([np.zeros(len(low)), [extra[0]]])
        low, high = np.append(low, extra[1]), np.append(high, extra[2])
        lifted = sparse.hstack([lifted, sparse.csr_matrix((lifted.shape[0], 1))])
        quadratic, offset = np.zeros(len(low)), 0.0
    program = Program(
        cost=cost,
        quadratic=quadratic,
        offset=offset,
        matrix=sparse.csr_matrix(sparse.vstack([lifted, block])),
        row_lower=np.concatenate([lift.row_lower, block_lower]),
        row_upper=np.concatenate([lift.row_upper, np.full(len(block_lower), inf)]),
        lower=low,
        upper=high,
        cones=lift.cones if extra is not None else (),
    )
    return _run(program, solver, time_limit)


def _run(program: Program, solver: str, time_limit: float | None) -> Solution:
    with open_session(program, solver=able(solver, program)) as session:
        return session.solve(time_limit=time_limit)


def able(solver: str, program: Program) -> str:
    """The solver asked for, or "auto" where it cannot take this kind of program."""
    return solver if solver == "auto" or program.needs <= capabilities(solver) else "auto"


def time_left(budget: Budget) -> float | None:
    """What a program may take, in seconds."""
    return max(budget.remaining, 0.01) if isfinite(budget.deadline) else None

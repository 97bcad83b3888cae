"""Pieces whose neurons are all decided: one convex program in input space.

With every neuron fixed the backward bound is the exact affine map of the cell up to rounding. Its rows, each loosened by its own
rounding error, describe a set that contains the whole cell, so the program's safe dual bound is a proven bound for the piece.
"""

import time
from dataclasses import dataclass
from math import frexp, inf, isfinite, nextafter, sqrt

import numpy as np
import scipy.sparse as sparse

from problems.maps import Array
from problems.regions.base import Lift
from problems.regions.metric import MetricBall, Moves
from solvers import Program, Solution, capabilities, open_session
from verifier.bounds import Layout, Linear, Propagation, backward
from verifier.bounds.rounding import TINY, UNIT, down, gamma, up
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
    n = len(lower)
    matrix, offsets = np.vstack([rows.matrix, cell.matrix]), np.concatenate([rows.offsets, cell.offsets])
    needs_t = np.concatenate([np.ones(len(rows.offsets)), np.zeros(len(cell.offsets))])
    block = sparse.csr_matrix(np.hstack([matrix, np.zeros((len(matrix), lift.extra)), -needs_t[:, None]]))
    lifted = sparse.hstack([lift.matrix, sparse.csr_matrix((lift.matrix.shape[0], 1))])
    # The functional is bounded on the box, so t can be: finite sides keep the safe bound finite.
    reach = np.abs(rows.matrix) @ np.maximum(np.abs(lower), np.abs(upper)) + np.abs(rows.offsets)
    limit = 2.0 * float(reach.max(initial=0.0)) + 1.0
    low, high = lift.lower.copy(), lift.upper.copy()
    low[:n], high[:n] = np.maximum(low[:n], lower), np.minimum(high[:n], upper)
    program = Program(
        cost=np.append(np.zeros(len(low)), -1.0),
        matrix=sparse.csr_matrix(sparse.vstack([lifted, block])),
        row_lower=np.concatenate([lift.row_lower, -offsets]),
        row_upper=np.concatenate([lift.row_upper, np.full(len(offsets), inf)]),
        lower=np.append(low, -limit),
        upper=np.append(high, limit),
        cones=lift.cones,
    )
    return _run(program, solver, time_limit)


@dataclass(frozen=True, eq=False)
class Nearest:
    """infeasible: proved that no point satisfies the rows; distance: proven lower bound; point (n,) or None: the solver's minimiser."""

    infeasible: bool
    distance: float
    point: Array | None


def nearest(ball: MetricBall, lower: Array, upper: Array, rows: Cell, *, solver: str, time_limit: float | None) -> Nearest:
    """The point of ball and box nearest to the centre at which all rows are >= 0.

    The program is posed in d = (x - centre) / unit, unit the power of two next to the ball's radius, with rows scaled by powers of two:
    so neither the solver's absolute tolerances nor the size of the centre limit how small a distance can be settled.
    """
    n, center = ball.dimension, ball.center
    unit = 2.0 ** min(max(frexp(ball.radius)[1], -500), 500) if 0.0 < ball.radius < inf else 1.0
    low, high = ball.bounding_box()
    # Shifting rounds: bounds by an ulp, offsets by the error of one dot product, both outward. Powers of two do not.
    low, high = down(np.maximum(low, lower) - center) / unit, up(np.minimum(high, upper) - center) / unit
    size = np.abs(rows.matrix) @ np.abs(center) + np.abs(rows.offsets)
    offsets = up(rows.matrix @ center + rows.offsets + 2.0 * gamma(n + 4) * size)
    # Each row is divided by a power of two near its largest entry, or by more where its offset would leave what solvers take (rows
    # of rounding errors, or of none at all); what underflows then is far below the TINY granted.
    largest = np.maximum(np.abs(rows.matrix).max(axis=1, initial=0.0), np.abs(offsets) / unit * 2.0**-30)
    scale = np.ldexp(1.0, -np.frexp(np.maximum(largest, 1e-200))[1])
    moves = ball.moves(low, high, unit)
    solution = _run(_shortest(moves, rows.matrix * scale[:, None], up(offsets * scale / unit + TINY)), solver, time_limit)
    bound = max(solution.safe_bound, 0.0)
    if ball.power == 2:
        bound = nextafter(nextafter(sqrt(2.0 * bound), 0.0), 0.0)
    point = None if solution.x is None else center + unit * moves.displacement(solution.x, n)
    return Nearest(solution.proves_infeasible, nextafter(bound * unit, 0.0) if bound else 0.0, point)


def _shortest(moves: Moves, matrix: Array, offsets: Array) -> Program:
    """The least cost of a displacement d with matrix d + offsets >= 0."""
    block = matrix if moves.matrix is None else np.asarray((moves.matrix.T @ matrix.T).T)
    row_lower, row_upper = -offsets, np.full(len(offsets), inf)
    if moves.rows is not None:
        wide = sparse.csr_matrix((len(offsets), len(moves.cost) - block.shape[1]))
        block = sparse.csr_matrix(sparse.vstack([sparse.hstack([sparse.csr_matrix(block), wide]), moves.rows]))
        row_lower, row_upper = np.concatenate([row_lower, moves.row_lower]), np.concatenate([row_upper, moves.row_upper])
    quadratic = np.zeros(len(moves.cost)) if moves.quadratic is None else moves.quadratic
    return Program(
        cost=moves.cost, quadratic=quadratic, matrix=block, row_lower=row_lower, row_upper=row_upper, lower=moves.lower, upper=moves.upper
    )  # fmt: skip


def _run(program: Program, solver: str, time_limit: float | None) -> Solution:
    with open_session(program, solver=able(solver, program)) as session:
        return session.solve(time_limit=time_limit)


def able(solver: str, program: Program) -> str:
    """The solver asked for, or "auto" where it cannot take this kind of program."""
    return solver if solver == "auto" or program.needs <= capabilities(solver) else "auto"


def time_left(budget: Budget) -> float | None:
    """What a program may take, in seconds: up to the end of the whole call, so that the end of a slice of it leaves nothing half done."""
    return max(budget.end - time.monotonic(), 0.01) if isfinite(budget.end) else None

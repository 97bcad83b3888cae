"""One affine piece of a margin on one cell, penalised by the distance from a sample: its bound for given multipliers, and good ones."""

from dataclasses import dataclass
from math import inf, nextafter

import numpy as np
import scipy.sparse as sparse

from problems.maps import Array
from solvers import Program, open_session
from solvers.program import Cone
from verifier.bounds.rounding import TINY, gamma
from verifier.leaf import able
from verifier.recession.slope import above
from verifier.recession.slope import maximise as along

# Programs for p = 1 ask for this much less than lam, so that their solution, rounded, still holds at lam.
MARGIN = 1e-9


@dataclass(frozen=True, eq=False)
class Piece:
    """g (n,) with its error, and rows (m, n) with theirs, scaled to length about 1; in d = x - x_i it is start + g.d, where rows d +
    slack >= 0.

    start and slack (m,) hold with the errors start_error and slack_error (m,).
    """

    rows: Array
    row_errors: Array
    slack: Array
    slack_error: Array
    g: Array
    g_error: Array
    start: float
    start_error: float
    norm: float

    @classmethod
    def seen(cls, rows: Array, row_errors: Array, g: Array, g_error: Array, x: Array, norm: float) -> "Piece":
        """From rows (m, n + 1) and g (n + 1,) over (x, 1), seen from x (n,)."""
        point = np.append(x, 1.0)
        size = np.abs(point)
        slack_error = row_errors @ size + gamma(len(point) + 4) * (np.abs(rows) @ size) * (1 + 1e-9) + TINY
        start_error = g_error @ size + gamma(len(point) + 4) * (np.abs(g) @ size) * (1 + 1e-9) + TINY
        lengths = np.sqrt((rows[:, :-1] ** 2).sum(axis=1))
        # Powers of two round nothing.
        scale = np.ldexp(1.0, -np.frexp(np.where(lengths > 1e-100, lengths, 1.0))[1])
        return cls(
            rows[:, :-1] * scale[:, None], row_errors[:, :-1] * scale[:, None], (rows @ point) * scale, slack_error * scale,
            g[:-1], g_error[:-1], float(g @ point), float(start_error), norm,
        )  # fmt: skip

    @property
    def count(self) -> int:
        """The number of rows."""
        return len(self.rows)

    def size(self, multipliers: Array) -> float:
        """‖w‖_s, rounded up."""
        return above(self.rows, self.row_errors, self.g, self.g_error, multipliers, self.norm)

    def bound(self, multipliers: Array, rate: float, order: float) -> float:
        """The proven bound for multipliers (m,) >= 0."""
        size = self.size(multipliers)
        if order == 1 and size > rate:
            return inf
        used = multipliers > 0
        terms = multipliers[used] * self.slack[used]
        total = self.start + float(terms.sum())
        error = self.start_error + float(multipliers[used] @ self.slack_error[used])
        error += gamma(len(terms) + 4) * (abs(self.start) + float(np.abs(terms).sum()))
        extra = 0.0
        if order == 2:
            extra = size * size / (4.0 * rate)
        elif order == inf:
            extra = rate * size
        return nextafter(total + error * (1 + 1e-9) + extra * (1 + 1e-14) + abs(total) * 1e-15, inf)


def repaired(piece: Piece, multipliers: Array, rate: float) -> Array:
    """Multipliers near these with ‖w‖_s <= rate, where there are any: moved towards those of the slope at infinity."""
    size = piece.size(multipliers)
    if size <= rate:
        return multipliers
    least, _ = along(piece.rows, piece.g, piece.norm)
    low = piece.size(least)
    if low >= rate:
        return multipliers
    share = min(1.0, (size - rate) / (size - low) * (1 + 1e-9) + 1e-12)
    return (1.0 - share) * multipliers + share * least


def dual(piece: Piece, rate: float, order: float, *, solver: str) -> tuple[Array, Array | None]:
    """(multipliers (m,) >= 0, displacement (n,) up to its sign, or None), optimal up to the solver's tolerances."""
    if order == inf:
        return _within(piece, rate, solver)
    program = _quadratic(piece, rate) if order == 2 else _linear(piece, rate * (1 - MARGIN))
    with open_session(program, solver=able(solver, program)) as session:
        solution = session.solve()
    if solution.x is None:
        return np.zeros(piece.count), None
    n = len(piece.g)
    displacement = None if solution.row_duals is None else solution.row_duals[:n]
    return np.maximum(solution.x[: piece.count], 0.0), displacement


def _linear(piece: Piece, rate: float) -> Program:
    """min slack.mu over mu >= 0 with ‖w‖_s <= rate, w = g + rows^T mu."""
    n, m = len(piece.g), piece.count
    low, cost = np.zeros(m), piece.slack
    if piece.norm == inf:  # w = p - q with sum p + q <= rate
        matrix = sparse.vstack([_equation(piece, np.hstack([np.eye(n), -np.eye(n)])), np.append(np.zeros(m), np.ones(2 * n))[None]])
        return Program(
            cost=np.append(cost, np.zeros(2 * n)), matrix=matrix, row_lower=np.append(piece.g, -inf), row_upper=np.append(piece.g, rate),
            lower=np.append(low, np.zeros(2 * n)), upper=np.full(m + 2 * n, inf),
        )  # fmt: skip
    side = rate if piece.norm == 1 else inf
    cones = () if piece.norm == 1 else (Cone(np.arange(m, m + n), np.zeros(n), rate),)
    return Program(
        cost=np.append(cost, np.zeros(n)), matrix=_equation(piece, np.eye(n)), row_lower=piece.g, row_upper=piece.g,
        lower=np.append(low, np.full(n, -side)), upper=np.append(np.full(m, inf), np.full(n, side)), cones=cones,
    )  # fmt: skip


def _quadratic(piece: Piece, rate: float) -> Program:
    """min slack.mu + ‖w‖_s^2 / (4 rate) over mu >= 0."""
    n, m = len(piece.g), piece.count
    weight = 1.0 / (2.0 * rate)
    if piece.norm == 2:
        return Program(
            cost=np.append(piece.slack, np.zeros(n)), quadratic=np.append(np.zeros(m), np.full(n, weight)),
            matrix=_equation(piece, np.eye(n)), row_lower=piece.g, row_upper=piece.g,
            lower=np.append(np.zeros(m), np.full(n, -inf)), upper=np.full(m + n, inf),
        )  # fmt: skip
    # w = p - q, and t at least the sum of p + q (norm inf) or each of them (norm 1).
    equation = _equation(piece, np.hstack([np.eye(n), -np.eye(n), np.zeros((n, 1))]))
    sums = np.hstack([np.zeros((1 if piece.norm == inf else n, m)), *_parts(n, piece.norm)])
    return Program(
        cost=np.append(piece.slack, np.zeros(2 * n + 1)), quadratic=np.append(np.zeros(m + 2 * n), weight),
        matrix=sparse.vstack([equation, sparse.csr_matrix(sums)]), row_lower=np.append(piece.g, np.zeros(len(sums))),
        row_upper=np.append(piece.g, np.full(len(sums), inf)), lower=np.zeros(m + 2 * n + 1), upper=np.full(m + 2 * n + 1, inf),
    )  # fmt: skip


def _parts(n: int, norm: float) -> tuple[Array, Array, Array]:
    if norm == inf:
        return -np.ones((1, n)), -np.ones((1, n)), np.ones((1, 1))
    return -np.eye(n), -np.eye(n), np.ones((n, 1))


def _equation(piece: Piece, w: Array) -> sparse.csr_matrix:
    """The rows w - rows^T mu = g over (mu, the variables of w)."""
    return sparse.csr_matrix(np.hstack([-piece.rows.T, w]))


def _within(piece: Piece, radius: float, solver: str) -> tuple[Array, Array | None]:
    """max g.d over ‖d‖ <= radius and rows d + slack >= 0: its row duals are the multipliers."""
    n, m = len(piece.g), piece.count
    if piece.norm == 1:
        matrix = np.vstack([np.hstack([piece.rows, -piece.rows]), np.ones((1, 2 * n))])
        low, high = np.append(-piece.slack, -inf), np.append(np.full(m, inf), radius)
        program = Program(
            cost=np.append(-piece.g, piece.g), matrix=matrix, row_lower=low, row_upper=high, lower=np.zeros(2 * n),
            upper=np.full(2 * n, radius),
        )  # fmt: skip
    else:
        cones = () if piece.norm == inf else (Cone(np.arange(n), np.zeros(n), radius),)
        program = Program(
            cost=-piece.g, matrix=piece.rows, row_lower=-piece.slack, row_upper=np.full(m, inf), lower=np.full(n, -radius),
            upper=np.full(n, radius), cones=cones,
        )  # fmt: skip
    with open_session(program, solver=able(solver, program)) as session:
        solution = session.solve()
    multipliers = np.zeros(m) if solution.row_duals is None else np.maximum(solution.row_duals[:m], 0.0)
    x = solution.x
    return multipliers, None if x is None else x if piece.norm != 1 else x[:n] - x[n:]

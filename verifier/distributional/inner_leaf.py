"""Pieces without open neurons: the maximum of an affine function less a price for the distance, over a polyhedron.

The program is solved in d = x - center, in floats: a linear program (l1, linf) or one with a quadratic objective (power 2). For l2 and
power 1 the norm is the smallest of the quadratic functions (||d||^2 / t + t) / 2, and t = ||d|| is found by iteration. Of the solver's
answer only the multipliers of the piece's rows are used: with y >= 0, a.x + c <= (a + y S).x + c + y.o on {S x + o >= 0}, a linear function
that `Ball.penalised` maximises over the box with a proven value, for this rate and for others. By duality it is tight for this one.
"""

from dataclasses import dataclass
from math import inf, isfinite, sqrt
from typing import TYPE_CHECKING

import numpy as np
import scipy.sparse as sparse

from problems.maps import Array
from problems.regions.ball import Ball
from solvers import Program as ConvexProgram
from solvers import Solution, open_session
from verifier import leaf
from verifier.bounds import Linear, Propagation
from verifier.bounds.rounding import down, gamma, up
from verifier.search.budget import Budget
from verifier.search.question import Node

if TYPE_CHECKING:
    from verifier.distributional.inner_question import Inner

# Programs of the iteration for l2 and power 1, and when its t counts as found.
LENGTHS, SAME_LENGTH = 12, 1e-6

Form = tuple[Array, Array]


@dataclass(frozen=True, eq=False)
class Program:
    """The program of one rate (None: within the regions' own radius instead of for a price)."""

    ball: Ball
    rate: float | None
    power: int
    solver: str

    def solve(
        self, inner: "Inner", node: Node, pieces: Propagation, linear: Linear, budget: Budget
    ) -> tuple[Form, float, Array | None] | None:
        """(a linear upper bound of the piece: (1, n), (1,); a proven upper bound of its value; a point (n,)), or None for an empty piece.

        linear: the target's function on the single piece of `pieces`.
        """
        cell, row = leaf.sign_rows(pieces, node.signs), leaf.output_rows(linear)
        lower, upper = pieces.lower[0], pieces.upper[0]
        form = row.matrix, up(row.offsets)
        if self.rate is None:
            region = inner.region(node.target, -inf)
            solution = leaf.largest_smallest_row(
                region.lift(with_norm=False), lower, upper, cell, row, solver=self.solver, time_limit=leaf.time_left(budget)
            )  # fmt: skip
            if solution.proves_infeasible:
                return None
            return form, -solution.safe_bound, None if solution.x is None else solution.x[: len(lower)]
        center = self.ball.center
        low, high = down(np.maximum(lower, self.ball.limits.lower) - center), up(np.minimum(upper, self.ball.limits.upper) - center)
        size = np.abs(cell.matrix) @ np.abs(center) + np.abs(cell.offsets)
        offsets = up(cell.matrix @ center + cell.offsets + 2.0 * gamma(len(center) + 4) * size)
        solution, displacement = self._solved(row.matrix[0], cell.matrix, offsets, low, high, leaf.time_left(budget))
        if solution.proves_infeasible:
            return None
        if solution.row_duals is not None:
            form = combined(form, np.maximum(solution.row_duals[: len(offsets)], 0.0), cell, lower, upper)
        bound = float(up(self.ball.penalised(form[0][None], self.rate, self.power, lower[None], upper[None])[0][0] + form[1])[0])
        return form, bound, None if displacement is None else center + displacement

    def _solved(
        self, a: Array, rows: Array, offsets: Array, low: Array, high: Array, time_limit: float | None
    ) -> tuple[Solution, Array | None]:
        """The solver's answer to max a.d - rate ||d||^power over rows d + offsets >= 0 and low <= d <= high, and its d (n,)."""
        assert self.rate is not None
        n, rate, norm = len(a), self.rate, self.ball.norm
        free = np.full(len(offsets), inf)
        if norm == 2:
            return self._euclidean(a, rows, offsets, low, high, time_limit)
        reach = float(np.maximum(-low, high).max(initial=0.0))
        quadratic = np.array([2.0 * rate if self.power == 2 else 0.0])
        price = np.array([rate if self.power == 1 else 0.0])
        if norm == 1:
            cost, sides, zeros = np.concatenate([-a, a]), np.concatenate([np.maximum(high, 0.0), np.maximum(-low, 0.0)]), np.zeros(2 * n)
            matrix = np.hstack([rows, -rows])
            if self.power == 1:
                program = ConvexProgram(
                    cost=cost + rate, matrix=matrix, row_lower=-offsets, row_upper=free, lower=zeros, upper=sides
                )  # fmt: skip
            else:
                program = ConvexProgram(
                    cost=np.append(cost, price), quadratic=np.append(zeros, quadratic),
                    matrix=np.vstack([np.hstack([matrix, np.zeros((len(offsets), 1))]), np.append(-np.ones(2 * n), 1.0)]),
                    row_lower=np.append(-offsets, 0.0), row_upper=np.append(free, inf), lower=np.append(zeros, 0.0),
                    upper=np.append(sides, sides.sum()),
                )  # fmt: skip
            solution = _run(program, self.solver, time_limit)
            return solution, None if solution.x is None else solution.x[:n] - solution.x[n : 2 * n]
        eye, column = sparse.identity(n, format="csr"), np.ones((n, 1))
        program = ConvexProgram(
            cost=np.append(-a, price), quadratic=np.append(np.zeros(n), quadratic),
            matrix=sparse.vstack([
                sparse.hstack([sparse.csr_matrix(rows), sparse.csr_matrix((len(offsets), 1))]), sparse.hstack([-eye, column]),
                sparse.hstack([eye, column]),
            ]),
            row_lower=np.concatenate([-offsets, np.zeros(2 * n)]), row_upper=np.concatenate([free, np.full(2 * n, inf)]),
            lower=np.append(low, 0.0), upper=np.append(high, reach),
        )  # fmt: skip
        solution = _run(program, self.solver, time_limit)
        return solution, None if solution.x is None else solution.x[:n]

    def _euclidean(
        self, a: Array, rows: Array, offsets: Array, low: Array, high: Array, time_limit: float | None
    ) -> tuple[Solution, Array | None]:
        """For power 1: t goes to the length of the maximiser for rate / (2 t) ||d||^2, by secants in the logarithms."""
        assert self.rate is not None
        free, n = np.full(len(offsets), inf), len(a)
        reach = sqrt(float((np.maximum(-low, high) ** 2).sum()))
        if not 0.0 < reach < inf:
            reach = 1.0

        def solved(quadratic: float) -> Solution:
            program = ConvexProgram(
                cost=-a, quadratic=np.full(n, quadratic), matrix=rows, row_lower=-offsets, row_upper=free, lower=low, upper=high
            )  # fmt: skip
            return _run(program, self.solver, time_limit)

        if self.power == 2:
            solution = solved(2.0 * self.rate)
            return solution, solution.x
        t = 0.25 * reach
        for _ in range(LENGTHS):
            solution = solved(self.rate / t)
            if solution.x is None or solution.proves_infeasible:
                break
            length = float(np.linalg.norm(solution.x))
            if not isfinite(length) or abs(length - t) <= SAME_LENGTH * t or length < 1e-9 * reach:
                break
            t = min(length, reach)
        return solution, solution.x


def combined(form: Form, multipliers: Array, cell: leaf.Cell, lower: Array, upper: Array) -> Form:
    """The form plus the multipliers (M,) >= 0 times the cell's rows, which are >= 0 on the piece; rounding charged to the constant."""
    (a,), (constant,) = form
    used = np.isfinite(multipliers) & (multipliers > 0.0)
    y, rows, offsets = multipliers[used], cell.matrix[used], cell.offsets[used]
    slope = a + y @ rows
    size = (np.abs(a) + y @ np.abs(rows)) @ np.maximum(np.abs(lower), np.abs(upper)) + abs(constant) + y @ np.abs(offsets)
    total = constant + y @ offsets + 2.0 * gamma(len(y) + len(a) + 8) * size
    return slope[None], up(np.array([total]))


def _run(program: ConvexProgram, solver: str, time_limit: float | None) -> Solution:
    with open_session(program, solver=leaf.able(solver, program)) as session:
        return session.solve(time_limit=time_limit)

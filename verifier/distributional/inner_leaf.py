"""Pieces without open neurons: the maximum of an affine function less a price for the distance, over a polyhedron.

The program is solved in d = x - center, in floats: a linear program (l1, linf) or one with a quadratic objective (power 2). For l2 and
power 1 the norm is the smallest of the quadratic functions (||d||^2 / t + t) / 2, and t = ||d|| is found by iteration. Of the solver's
answer only the multipliers of the piece's rows are used: with y >= 0, a.x + c <= (a + y S).x + c + y.o on {S x + o >= 0}, a linear function
that `Ball.penalised` maximises over the box with a proven value, for this rate and for others. By duality it is tight for this one.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from math import exp, inf, log, sqrt
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
LENGTHS, SAME_LENGTH = 30, 1e-8

# Share of the tolerance within which a bound and a point's value settle a piece.
SETTLED = 0.1
# Lengths, as shares of the region's, at which the search for multipliers in l2 begins.
STARTS = (0.3, 0.05)
# Relative violation of a row that counts as none.
INSIDE = 1e-8

Form = tuple[Array, Array]


@dataclass(frozen=True, eq=False)
class Multipliers:
    """Of a method: multipliers (M,) of the rows, a displacement (n,) from the center, a guess at a Farkas ray (M,), or None each."""

    multipliers: Array | None
    displacement: Array | None
    ray: Array | None = None


Method = Callable[[Array, Array, Array, Array, Array, float, Budget], Multipliers]


@dataclass(frozen=True, eq=False)
class Program:
    """The program of one rate (None: within the regions' own radius instead of for a price)."""

    ball: Ball
    rate: float | None
    power: int
    solver: str

    def solve(
        self, inner: "Inner", node: Node, pieces: Propagation, linear: Linear, budget: Budget
    ) -> tuple[Form, float, list[Array]] | None:
        """(a linear upper bound of the piece: (1, n), (1,); a proven upper bound of its value; points (n,)), or None for an empty piece.

        linear: the target's function on the single piece of `pieces`.
        """
        cell, row = inner.rows_of(node, pieces), leaf.output_rows(linear)
        lower, upper = pieces.lower[0], pieces.upper[0]
        form = row.matrix, up(row.offsets)
        if self.rate is None:
            region = inner.region(node.target, -inf)
            solution = leaf.largest_smallest_row(
                region.lift(with_norm=False), lower, upper, cell, row, solver=self.solver, time_limit=leaf.time_left(budget)
            )  # fmt: skip
            if solution.proves_infeasible:
                return None
            return form, -solution.safe_bound, [] if solution.x is None else [solution.x[: len(lower)]]
        center, enough = self.ball.center, inner.target_value + inner.tolerance
        low, high = down(np.maximum(lower, self.ball.limits.lower) - center), up(np.minimum(upper, self.ball.limits.upper) - center)
        size = np.abs(cell.matrix) @ np.abs(center) + np.abs(cell.offsets)
        offsets = up(cell.matrix @ center + cell.offsets + 2.0 * gamma(len(center) + 4) * size)
        bound, points = inf, list[Array]()
        # Compiled methods first; where they leave a gap, a general solver.
        for method in self._methods():
            found = method(row.matrix[0], cell.matrix, offsets, low, high, enough - float(row.offsets[0] + row.matrix[0] @ center), budget)
            if found.ray is not None and self._empty(found.ray, cell, lower, upper):
                return None
            multipliers = np.zeros(len(offsets)) if found.multipliers is None else np.maximum(found.multipliers, 0.0)
            summed = combined((row.matrix, up(row.offsets)), multipliers, cell, lower, upper)
            value = float(up(self._penalised(summed[0][None], lower, upper) + summed[1])[0])
            if value < bound:
                form, bound = summed, value
            if found.displacement is not None:
                points.append(center + found.displacement)
            # A bound can be right without its point: where the price is not strictly convex the multipliers leave the length open.
            if bound <= enough or any(bound - self._value(row, cell, point) <= SETTLED * inner.tolerance for point in points):
                break
        return form, bound, points

    def _penalised(self, coefficients: Array, lower: Array, upper: Array) -> Array:
        assert self.rate is not None
        return self.ball.penalised(coefficients, self.rate, self.power, lower[None], upper[None])[0][0]

    def _value(self, row: leaf.Cell, cell: leaf.Cell, point: Array) -> float:
        """What a point (n,) is about worth; -inf where it lies outside the cell by more than rounding."""
        assert self.rate is not None
        slack, size = cell.matrix @ point + cell.offsets, np.abs(cell.matrix) @ np.abs(point) + np.abs(cell.offsets)
        if (slack < -INSIDE * size).any():
            return -inf
        distance = float(np.linalg.norm(point - self.ball.center, ord=self.ball.norm))
        return float(row.matrix[0] @ point + row.offsets[0]) - self.rate * distance**self.power

    def _empty(self, ray: Array, cell: leaf.Cell, lower: Array, upper: Array) -> bool:
        """Whether the rows' sum with weights `ray` (M,), which is >= 0 on the piece, is proved negative on its box."""
        (row,), (constant,) = combined((np.zeros((1, len(lower))), np.zeros(1)), np.maximum(ray, 0.0), cell, lower, upper)
        return bool(up(self.ball.limits.support(row[None, None], lower[None], upper[None])[0] + constant)[0, 0] < 0.0)

    def _methods(self) -> list[Method]:
        if self.solver != "auto":
            return [self._general]
        if self.ball.norm == 2:
            return [self._newton, self._general]
        return [self._simplex, self._general] if self.power == 1 else [self._general]

    def _newton(self, a: Array, rows: Array, offsets: Array, low: Array, high: Array, floor: float, budget: Budget) -> Multipliers:
        """l2, on rows of length 1."""
        from verifier.distributional import kernel_leaf  # compiled: loaded when first used

        length = np.maximum(np.linalg.norm(rows, axis=1), 1e-300)
        a, scaled, shifts = np.ascontiguousarray(a), np.ascontiguousarray(rows / length[:, None]), offsets / length
        low, high = np.minimum(low, 0.0), np.maximum(high, 0.0)
        y, d = np.zeros(len(offsets)), np.zeros(len(a))
        if self.power == 2:
            kernel_leaf.descend(a, scaled, shifts, self.rate, 2, low, high, floor, y, d)
            return Multipliers(y / length, d)
        reach = float(np.linalg.norm(np.maximum(-low, high)))
        for share in STARTS:  # power 1 has a kink at d = 0: begin where the smooth price that touches it at some length leads
            y[:] = 0.0
            if 0.0 < share * reach < inf:
                kernel_leaf.descend(a, scaled, shifts, 0.5 * float(self.rate or 0.0) / (share * reach), 2, low, high, floor, y, d)
            if kernel_leaf.descend(a, scaled, shifts, self.rate, 1, low, high, floor, y, d):
                break
        return Multipliers(y / length, d)

    def _simplex(self, a: Array, rows: Array, offsets: Array, low: Array, high: Array, floor: float, budget: Budget) -> Multipliers:
        """l1 in the parts p - q = d, linf in d and a bound t of its coordinates: a linear program for the compiled simplex method."""
        from solvers import dense  # compiled: loaded when first used

        n, m, rate = len(a), len(offsets), float(self.rate or 0.0)
        if self.ball.norm == 1:
            matrix, cost, more = np.hstack([rows, -rows]), np.concatenate([a - rate, -a - rate]), np.zeros(0)
            lower, upper = np.zeros(2 * n), np.concatenate([np.maximum(high, 0.0), np.maximum(-low, 0.0)])
        else:
            matrix = np.zeros((m + 2 * n, n + 1))
            matrix[:m, :n], matrix[m : m + n, :n], matrix[m + n :, :n], matrix[m:, n] = rows, np.eye(n), -np.eye(n), 1.0
            cost, more = np.append(a, -rate), np.zeros(2 * n)
            lower, upper = np.append(low, 0.0), np.append(high, max(float(np.maximum(-low, high).max(initial=0.0)), 0.0))
        constants, reach = np.concatenate([offsets, more]), np.maximum(np.abs(lower), np.abs(upper))
        polytope = dense.Polytope(
            matrix, constants, np.zeros(len(constants)), np.abs(matrix) @ reach + np.abs(constants), lower, upper, reach
        )
        room, y = dense.room_for(len(cost), len(constants)), np.zeros(len(constants))
        result = dense.multipliers(polytope, len(constants), cost, room, y)
        if result == dense.CLOSED:
            return Multipliers(None, None, y[:m])
        d = room.vertex[:n] - room.vertex[n:] if self.ball.norm == 1 else room.vertex[:n].copy()
        return Multipliers(y[:m], d if result == dense.OPEN else None)

    def _general(self, a: Array, rows: Array, offsets: Array, low: Array, high: Array, floor: float, budget: Budget) -> Multipliers:
        """A general solver; a length that the l2 norm does not have is found by iteration."""
        solution, displacement = self._solved(a, rows, offsets, low, high, leaf.time_left(budget))
        m = len(offsets)
        ray = solution.ray[:m] if solution.ray is not None else None
        return Multipliers(None if solution.row_duals is None else solution.row_duals[:m], displacement, ray)

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
        """The program scaled to 1/2 ||d||^2. For power 1 the ratio ||d|| / t falls in t, and is 1 at the root: regula falsi (Illinois)."""
        assert self.rate is not None
        reach = sqrt(float((np.maximum(-low, high) ** 2).sum()))
        reach = reach if 0.0 < reach < inf else 1.0
        t = 0.5 if self.power == 2 else 0.1 * reach
        program = ConvexProgram(
            cost=-a * (t / self.rate), quadratic=np.ones(len(a)), matrix=rows, row_lower=-offsets, row_upper=np.full(len(offsets), inf),
            lower=low, upper=high,
        )  # fmt: skip
        ends: dict[bool, tuple[float, float]] = {}  # (log t, log of the ratio) on either side of the root
        with open_session(program, solver=leaf.able(self.solver, program)) as session:
            for _ in range(LENGTHS):
                solution = session.solve(time_limit=time_limit)
                if self.power == 2 or solution.x is None or solution.proves_infeasible:
                    break
                ratio = float(np.linalg.norm(solution.x)) / t
                if abs(ratio - 1.0) <= SAME_LENGTH or ratio == 0.0 or not 1e-9 * reach < t < 2.0 * reach:
                    break
                side, here = ratio > 1.0, (log(t), log(ratio))
                last = ends.get(side)
                ends[side] = here
                if len(ends) < 2:
                    t = min(t * ratio * (2.0 if side else 0.5), 1.5 * reach)
                else:
                    other = ends[not side]
                    if last is not None:
                        ends[not side] = other = (other[0], 0.5 * other[1])
                    t = exp(here[0] - here[1] * (other[0] - here[0]) / (other[1] - here[1]))
                session.set_cost(-a * (t / self.rate))
        if solution.row_duals is not None:
            solution = replace(solution, row_duals=solution.row_duals * (self.rate / t))
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

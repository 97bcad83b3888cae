"""The exact minimum of tiny programs, by brute force in rational arithmetic: the oracle of the safe bounds."""

from fractions import Fraction
from itertools import combinations, product
from math import inf

import numpy as np

from solvers import Program

Exact = list[Fraction]


def exact_minimum(program: Program) -> Fraction | float:
    """The minimum of a program with linear cost and finite variable bounds, integer variables binary; inf if infeasible.

    All values of the integer variables, and for each all vertices of what remains.
    """
    binary = np.flatnonzero(program.integer)
    best: Fraction | float = inf
    for values in product((0.0, 1.0), repeat=len(binary)):
        lower, upper = program.lower.copy(), program.upper.copy()
        if np.any(np.array(values) < lower[binary]) or np.any(np.array(values) > upper[binary]):
            continue
        lower[binary] = upper[binary] = values
        fixed = program.replaced(lower=lower, upper=upper, integer=np.zeros(program.variables, dtype=bool))
        best = min(best, _vertices(fixed))
    return best


def _vertices(program: Program) -> Fraction | float:
    n = program.variables
    rows = [[Fraction(v) for v in row] for row in program.matrix.toarray().tolist()]
    unit = [[Fraction(int(i == j)) for j in range(n)] for i in range(n)]
    sides: list[tuple[Exact, Fraction]] = []
    for row, low, high in zip(rows + unit, [*program.row_lower, *program.lower], [*program.row_upper, *program.upper], strict=True):
        sides += [(row, Fraction(float(side))) for side in {float(low), float(high)} if np.isfinite(side)]
    cost = [Fraction(v) for v in program.cost.tolist()]
    best: Fraction | float = inf
    for chosen in combinations(sides, n):
        x = solve([row for row, _ in chosen], [side for _, side in chosen])
        if x is not None and feasible(program, x):
            best = min(best, sum((c * v for c, v in zip(cost, x, strict=True)), Fraction(program.offset)))
    return best


def feasible(program: Program, x: Exact) -> bool:
    """Whether x satisfies rows, bounds and cones exactly."""
    for value, low, high in zip(x, program.lower.tolist(), program.upper.tolist(), strict=True):
        if not low <= value <= high:
            return False
    for row, low, high in zip(program.matrix.toarray().tolist(), program.row_lower.tolist(), program.row_upper.tolist(), strict=True):
        if not low <= sum((Fraction(a) * v for a, v in zip(row, x, strict=True) if a), Fraction(0)) <= high:
            return False
    for cone in program.cones:
        square = sum(((x[i] - Fraction(s)) ** 2 for i, s in zip(cone.indices.tolist(), cone.shift.tolist(), strict=True)), Fraction(0))
        if square > Fraction(cone.limit) ** 2:
            return False
    return True


def exact_objective(program: Program, x: Exact) -> Fraction:
    """The objective at x."""
    total = Fraction(program.offset)
    for c, q, v in zip(program.cost.tolist(), program.quadratic.tolist(), x, strict=True):
        total += Fraction(c) * v + Fraction(q) * v * v / 2
    return total


def solve(rows: list[Exact], sides: Exact) -> Exact | None:
    """The solution of a square system, or None if it is singular."""
    n = len(rows)
    table = [[*row, side] for row, side in zip(rows, sides, strict=True)]
    for column in range(n):
        pivot = next((i for i in range(column, n) if table[i][column]), None)
        if pivot is None:
            return None
        table[column], table[pivot] = table[pivot], table[column]
        head = table[column]
        for i in range(n):
            if i != column and table[i][column]:
                factor = table[i][column] / head[column]
                table[i] = [a - factor * b for a, b in zip(table[i], head, strict=True)]
    return [table[i][n] / table[i][i] for i in range(n)]

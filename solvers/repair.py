"""Moves dual multipliers by tiny rational amounts until chosen residuals are exactly zero.

A variable without bounds needs a residual that is exactly zero, and a solver in floats never delivers one. The equations
matrix_F^T d = residual_F of the stray columns F are solved in rational arithmetic by elimination, changing as few multipliers as there
are columns: those that may have either sign, or whose size leaves most room.

Source: the projection step of Steffy & Wolter,
Valid linear programming bounds for exact mixed-integer programming, INFORMS J. Comput. 25 (2013).
"""

from fractions import Fraction

import numpy as np

from solvers.dyadic import Dyadic, scaled
from solvers.program import Array, Program

# Beyond this many elementary steps the elimination would take seconds: the bound stays -inf.
_MOST_STEPS = 2_000_000
# Residuals that are not small beside their column are no rounding errors: the dual guess itself is wrong.
_NOISE = 1e-3

Row = dict[int, Fraction]


def repaired(program: Program, y: Array, residual: Dyadic, stray: Array) -> list[Fraction] | None:
    """Exact multipliers (m,) near y (m,) whose residuals in the columns `stray` vanish, with signs that the rows allow; None if not found.

    residual (n,): the exact residuals at y.
    """
    room = _room(program, y)
    candidates = np.flatnonzero(room > 0)
    if not len(candidates) or len(stray) ** 2 * len(candidates) > _MOST_STEPS:
        return None
    size = np.abs(program.cost) + program.transposed.absolute @ np.abs(y)
    columns = program.matrix[candidates].tocsc()
    equations: list[tuple[Row, Fraction]] = []
    for j in stray:
        start, end = columns.indptr[j], columns.indptr[j + 1]
        rows = candidates[columns.indices[start:end]]
        wanted = scaled(int(residual.numerators[j]), residual.exponent)
        if abs(wanted) > _NOISE * float(size[j]):
            return None
        equations.append(({int(row): Fraction(float(value)) for row, value in zip(rows, columns.data[start:end], strict=True)}, wanted))
    steps = _solved(equations, room)
    if steps is None:
        return None
    moved = [Fraction(float(value)) for value in y]
    for row, step in steps.items():
        moved[row] += step
        side = program.row_lower[row] if moved[row] > 0 else program.row_upper[row]
        if moved[row] != 0 and np.isinf(side):
            return None
    return moved


def _room(program: Program, y: Array) -> Array:
    """How far each multiplier may move (m,): infinitely with two finite sides, by its size with one."""
    two_sided = np.isfinite(program.row_lower) & np.isfinite(program.row_upper)
    return np.where(two_sided, np.inf, np.abs(y))


def _solved(equations: list[tuple[Row, Fraction]], room: Array) -> Row | None:
    """Gauss-Jordan elimination: a solution with one nonzero unknown per independent equation; None if the equations contradict."""
    pivots: list[tuple[int, Row, Fraction]] = []
    for row, wanted in equations:
        for pivot, known, value in pivots:
            factor = row.get(pivot)
            if factor:
                row, wanted = _combined(row, known, -factor), wanted - factor * value
        if not row:
            if wanted != 0:
                return None
            continue
        pivot = max(row, key=lambda index: abs(float(row[index])) * min(float(room[index]), 1e6))
        inverse = 1 / row[pivot]
        row, wanted = {index: value * inverse for index, value in row.items()}, wanted * inverse
        pivots = [
            (other, _combined(known, row, -known[pivot]), value - known[pivot] * wanted) if pivot in known else (other, known, value)
            for other, known, value in pivots
        ]
        pivots.append((pivot, row, wanted))
    return {pivot: value for pivot, _, value in pivots}


def _combined(row: Row, other: Row, factor: Fraction) -> Row:
    """row + factor * other, without zeros."""
    result = dict(row)
    for index, value in other.items():
        total = result.get(index, Fraction(0)) + factor * value
        if total:
            result[index] = total
        else:
            result.pop(index, None)
    return result

"""Bounds that the cones imply, and finite bounds that the rows imply for variables whose own bounds are infinite.

A safe dual bound is -infinity as soon as a variable without bounds has a residual that is not exactly zero; with any finite bound
in its place, the loss is the size of rounding. Rows only fill in infinite sides; cones tighten every side. All results are
rounded outward by their a-priori error, so that every feasible point of the program satisfies them.
"""

import numpy as np

from solvers.program import Array, Program

_SWEEPS = 20
_UNIT = 2.0**-52


def implied_bounds(program: Program) -> tuple[Array, Array]:
    """(lower, upper), (n,) each: at least as tight as the program's own, and implied by the program. Cached on the program."""
    cached = program.__dict__.get("implied_bounds")
    if cached is None:
        cached = program.__dict__["implied_bounds"] = _implied(program)
    return cached


def _implied(program: Program) -> tuple[Array, Array]:
    lower, upper = program.lower.copy(), program.upper.copy()
    for cone in program.cones:
        reach = np.abs(cone.shift) + cone.limit
        low = cone.shift - cone.limit - 4 * _UNIT * reach
        high = cone.shift + cone.limit + 4 * _UNIT * reach
        lower[cone.indices] = np.maximum(lower[cone.indices], low)
        upper[cone.indices] = np.minimum(upper[cone.indices], high)
    for _ in range(_SWEEPS):
        missing = int(np.isinf(lower).sum() + np.isinf(upper).sum())
        if not missing:
            break
        # a.x <= side read from both sides of each row: entries and sides with both signs.
        _sweep(program, 1.0, program.row_upper, lower, upper)
        _sweep(program, -1.0, -program.row_lower, lower, upper)
        if int(np.isinf(lower).sum() + np.isinf(upper).sum()) == missing:
            break
    return lower, upper


def _sweep(program: Program, sign: float, sides: Array, lower: Array, upper: Array) -> None:
    """Fill infinite entries of lower, upper (in place) from the rows sign * matrix x <= sides."""
    matrix = program.matrix
    entries = sign * matrix.data
    columns = matrix.indices
    rows = np.repeat(np.arange(matrix.shape[0]), np.diff(matrix.indptr))
    with np.errstate(all="ignore"):
        least = entries * np.where(entries > 0, lower[columns], upper[columns])  # least value of each product
    free = ~np.isfinite(least)
    known = np.where(free, 0.0, least)
    frees = np.bincount(rows, free, len(sides))
    sums = np.bincount(rows, known, len(sides))
    sizes = np.bincount(rows, np.abs(known), len(sides)) + np.abs(np.where(np.isfinite(sides), sides, 0.0))
    counts = np.diff(matrix.indptr)
    alone = np.where(free, frees[rows] == 1, frees[rows] == 0)  # every other product is finite
    wanted = np.where(entries > 0, np.isinf(upper[columns]), np.isinf(lower[columns]))
    for entry in np.flatnonzero(alone & wanted & np.isfinite(sides[rows])):
        row, column, factor = rows[entry], columns[entry], entries[entry]
        rest = sides[row] - (sums[row] - known[entry])
        # gamma_n for the sum, doubled; three more roundings; the quotient's own rounding last.
        rest += (counts[row] + 10) * 2 * _UNIT * sizes[row] + np.finfo(np.float64).tiny
        bound = float(np.nextafter(rest / factor, np.inf if factor > 0 else -np.inf))
        if not np.isfinite(bound):
            continue
        if factor > 0:
            upper[column] = min(upper[column], bound)
        else:
            lower[column] = max(lower[column], bound)

"""Safe dual bounds: what leaves this package as proved.

For ANY multipliers y of the rows and vectors z_k of the cones, every feasible x satisfies, with r = cost - matrix^T y - sum_k E_k^T z_k,

    cost.x + 1/2 x.Qx  >=  sum_i y_i side_i + sum_k (z_k.shift_k - ‖z_k‖ limit_k) + sum_j min {r_j t + 1/2 q_j t^2 : l_j <= t <= u_j}

where side_i is row_lower_i for y_i > 0 and row_upper_i for y_i < 0 (y_i = 0 where that side is infinite). (z_k, ‖z_k‖) is the
projection of a dual guess into the dual cone; what the guess misses stands in r and is charged to the bounds of the variables.
The solver supplies y and z, and is trusted in nothing: a bad guess gives a weak bound, never a wrong one.

In floats: r is computed with its a-priori error (gamma_n times |cost| + |matrix|^T |y|), each term is the minimum over that interval
rounded down, and the terms are added without error (fsum) before the last rounding down.

Sources: Neumaier & Shcherbina, Safe bounds in linear and mixed-integer linear programming, Math. Program. 99 (2004), section 3;
Jansson, Chaykin & Keil, Rigorous error bounds for the optimal value in semidefinite programming, SIAM J. Numer. Anal. 46 (2007), and
Jansson, Rigorous lower and upper bounds in linear programming, SIAM J. Optim. 14 (2004), for cones and infinite bounds;
Higham, Accuracy and Stability of Numerical Algorithms, section 3.1 (gamma_n).
"""

from collections.abc import Sequence
from fractions import Fraction
from math import fsum, inf, nextafter

import numpy as np
from numpy.typing import ArrayLike

from solvers.dyadic import rounded_down
from solvers.exact import dual_bound, exact_residuals
from solvers.implied import implied_bounds
from solvers.program import Array, Program

# Twice the unit roundoff: covers that the sums of absolute values are themselves computed in floats.
_UNIT = 2.0**-52
# Multipliers below this are dropped, so that no product underflows with entries above _SMALL_ENTRY.
_SMALL_DUAL = 1e-140
_SMALL_ENTRY = 1e-160
_HUGE = 1e300
# Residuals below this share of a cone's multiplier are taken for noise of the solver.
_NOISE = 1e-3
_TINY = float(np.finfo(np.float64).tiny)


def safe_bound(program: Program, row_duals: ArrayLike | None = None, cone_duals: Sequence[ArrayLike] | None = None) -> float:
    """A proven lower bound of the minimum of the continuous relaxation (hence of the program), from any dual guess.

    row_duals (m,), positive where the lower side of the row pushes the minimum up; cone_duals one vector (k,) per cone, or None for
    zeros. Returns -inf when the guess proves nothing. Nothing of the solver is trusted.
    """
    y, z = guess(program, row_duals, cone_duals)
    return _float_bound(program, y, z)


def exact_safe_bound(
    program: Program, row_duals: ArrayLike | None = None, cone_duals: Sequence[ArrayLike] | None = None
) -> Fraction | float:
    """The bound of `safe_bound` in exact arithmetic (only ‖z_k‖ is rounded up, by 2^-200): a Fraction, or -inf. About 50 times slower."""
    y, z = guess(program, row_duals, cone_duals)
    return dual_bound(program, y, z)


def proves_infeasible(program: Program, ray: ArrayLike | None, cone_ray: Sequence[ArrayLike] | None = None) -> bool:
    """Whether the ray (m,) proves that the continuous relaxation has no feasible point (Farkas: its bound of the minimum of 0 is positive).

    First in floats with the a-priori error, then in exact arithmetic. A False says nothing about the program.
    """
    if ray is None and cone_ray is None:
        return False
    nothing = np.zeros(program.variables)
    target = program.replaced(cost=nothing, quadratic=nothing, offset=0.0)
    parts = [np.array(part, dtype=np.float64) for part in (np.zeros(0) if ray is None else ray, *(cone_ray or ()))]
    largest = max(float(np.abs(part[np.isfinite(part)]).max(initial=0.0)) for part in parts)
    # A power of two keeps rays of any length in range; what it rounds or overflows makes the ray worse, never the proof wrong.
    with np.errstate(all="ignore"):
        row_ray, *cone_rays = [np.ldexp(part, -int(np.frexp(largest)[1])) for part in parts]
    y, z = guess(target, None if ray is None else row_ray, cone_rays)
    return _float_bound(target, y, z) > 0 or dual_bound(target, y, z) > 0


def guess(program: Program, row_duals: ArrayLike | None, cone_duals: Sequence[ArrayLike] | None) -> tuple[Array, list[Array]]:
    """Duals that can be used: y (m,) finite, zero where its side of the row is infinite; one finite vector per cone.

    Anything of the wrong shape counts as no guess: the bound then stays sound and becomes weak.
    """
    y = np.zeros(program.rows) if row_duals is None else np.array(row_duals, dtype=np.float64)
    if y.shape != (program.rows,):
        y = np.zeros(program.rows)
    useless = ~(np.abs(y) >= _SMALL_DUAL) | np.isinf(np.where(y > 0, program.row_lower, program.row_upper)) | np.isinf(y)
    y[useless] = 0.0
    z = []
    for number, cone in enumerate(program.cones):
        part = np.array(cone_duals[number], dtype=np.float64) if cone_duals is not None and number < len(cone_duals) else np.zeros(0)
        if part.shape != cone.shift.shape or not np.isfinite(part).all():
            part = np.zeros(len(cone.shift))
        z.append(part)
    return y, _absorbed(program, y, z) if z else z


def _absorbed(program: Program, y: Array, z: list[Array]) -> list[Array]:
    """Cone multipliers that take over residuals which are small beside them: cheaper than to charge those to wide variable bounds.

    Any multipliers are sound, so that nothing here needs care about rounding; large residuals belong to variables at their bounds.
    """
    with np.errstate(all="ignore"):
        residual = program.cost - program.transposed.matrix @ y
        for cone, part in zip(program.cones, z, strict=True):
            residual[cone.indices] -= part
        improved = []
        for cone, part in zip(program.cones, z, strict=True):
            rest = residual[cone.indices]
            moved = part + np.where(np.abs(rest) <= _NOISE * np.abs(part).max(initial=0.0), rest, 0.0)
            residual[cone.indices] -= moved - part
            moved = np.where(np.isfinite(moved), moved, part)
            improved.append(np.where(np.abs(moved) < _SMALL_DUAL, 0.0, moved))
    return improved


def _float_bound(program: Program, y: Array, z: list[Array]) -> float:
    with np.errstate(all="ignore"):
        side = np.where(y > 0, program.row_lower, program.row_upper)
        used = (y != 0) & (side != 0)
        parts = [np.nextafter((y * side)[used], -inf), np.array([program.offset])]
        columns = program.transposed
        residual = program.cost - columns.matrix @ y
        size = np.abs(program.cost) + columns.absolute @ np.abs(y)
        for cone, part in zip(program.cones, z, strict=True):
            residual[cone.indices] -= part
            size[cone.indices] += np.abs(part)
            parts.append(_cone_terms(cone.shift, cone.limit, part))
        if not np.all(size < _HUGE):
            return -inf
        # n_j products and sums, one for the cost, one per cone, one for the ends of the interval; _UNIT doubles it.
        error = (columns.counts + (4 + len(z))) * _UNIT * size
        if columns.smallest < _SMALL_ENTRY:
            error += (columns.counts + 4) * _TINY  # products may have underflowed
        low, high = residual - error, residual + error
        lower, upper = implied_bounds(program) if z else (program.lower, program.upper)
        terms = _variable_terms(low, high, program.quadratic if program.has_quadratic else None, lower, upper)
        if np.any(terms == -inf):
            terms = _try_harder(program, y, z, low, high)
            if np.any(terms == -inf):
                exact = dual_bound(program, y, z)
                return rounded_down(exact) if isinstance(exact, Fraction) else -inf
        parts.append(terms)
        return sum_down(np.concatenate(parts))


def _variable_terms(low: Array, high: Array, quadratic: Array | None, lower: Array, upper: Array) -> Array:
    """Lower bounds (n,) of min {r x + 1/2 q x^2 : x in [lower, upper]} over all r in [low, high]: concave in r, linear parts by corners."""
    at_lower = np.where(lower >= 0, low, high) * lower
    at_upper = np.where(upper >= 0, low, high) * upper
    use_lower = (low >= 0) | (~(high <= 0) & (at_lower <= at_upper))
    x = np.where(use_lower, lower, upper)
    slope = np.where(x >= 0, low, high)
    terms = np.where((slope == 0) | (x == 0), 0.0, np.nextafter(slope * x, -inf))
    if quadratic is not None:
        curved = np.flatnonzero(quadratic)
        sides = quadratic[curved], lower[curved], upper[curved]
        terms[curved] = np.minimum(_parabola(low[curved], *sides), _parabola(high[curved], *sides))
    return terms


def _parabola(slope: Array, q: Array, lower: Array, upper: Array) -> Array:
    """Lower bounds of min {slope x + 1/2 q x^2 : x in [lower, upper]}, q > 0: an end where it is surely monotone, else the vertex."""
    vertex = -np.nextafter(np.nextafter(slope * slope, inf) / (2 * q), inf)
    rising = np.nextafter(slope + np.nextafter(q * lower, -inf), -inf) >= 0
    falling = np.nextafter(slope + np.nextafter(q * upper, inf), inf) <= 0
    x = np.where(rising, lower, upper)
    square = np.maximum(np.nextafter(x * x, -inf), 0.0)
    end = np.nextafter(np.nextafter(slope * x, -inf) + np.maximum(np.nextafter(0.5 * q * square, -inf), 0.0), -inf)
    inside = np.where(slope == 0, 0.0, vertex)  # a parabola through 0 that never falls below it
    return np.where(rising | falling, np.maximum(end, inside), inside)


def _cone_terms(shift: Array, limit: float, part: Array) -> Array:
    """Terms whose sum is a lower bound of min {part.x : ‖x - shift‖ <= limit} = part.shift - ‖part‖ limit."""
    largest = float(np.abs(part).max(initial=0.0))
    if largest == 0:
        return np.zeros(0)
    # Scaled, so that no square overflows; squares that underflow are far below the relative error granted here.
    norm = largest * float(np.sqrt(np.sum((part / largest) ** 2))) * (1 + (len(part) + 10) * _UNIT)
    used = (part != 0) & (shift != 0)
    products = np.nextafter((part * shift)[used], -inf)
    return np.append(products, -nextafter(norm * limit, inf) if limit else 0.0)


def _try_harder(program: Program, y: Array, z: list[Array], low: Array, high: Array) -> Array:
    """Infinite bounds met a residual that may be nonzero: bounds implied by the rows, then the exact sign of the residual.

    What stays -inf after that is left to the exact bound, which also repairs the multipliers."""
    lower, upper = implied_bounds(program)
    quadratic = program.quadratic if program.has_quadratic else None
    terms = _variable_terms(low, high, quadratic, lower, upper)
    open_columns = np.flatnonzero(terms == -inf)
    if len(open_columns):
        low, high = low.copy(), high.copy()
        low[open_columns], high[open_columns] = exact_residuals(program, y, z, open_columns)
        terms = _variable_terms(low, high, quadratic, lower, upper)
    return terms


def sum_down(terms: Array) -> float:
    """A float <= the exact sum of the terms; -inf where a term is -inf or NaN, or the sum leaves the range of floats."""
    if not np.all(terms < inf):  # NaN included: an overflow on the way; nothing is proved
        return -inf
    values = terms[terms != 0].tolist()
    try:
        total = fsum(values)
        if total == -inf:
            return -inf
        return total if fsum([*values, -total]) >= 0 else nextafter(total, -inf)
    except (OverflowError, ValueError):
        return -inf

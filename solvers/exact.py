"""The safe dual bound in exact arithmetic, for margins that lie inside the error of the float version.

Only the norms of cone multipliers are rounded (up, by a relative 2^-200). See solvers/safe.py for the inequality and its sources.
"""

from fractions import Fraction
from math import inf, isqrt, lcm

import numpy as np

from solvers.dyadic import Dyadic, dyadic, grouped, rounded_down, rounded_up, scaled
from solvers.implied import implied_bounds
from solvers.program import Array, Program
from solvers.repair import repaired


def dual_bound(program: Program, y: Array, z: list[Array]) -> Fraction | float:
    """The exact dual bound at finite multipliers y (m,), zero where their side is infinite, and z, one vector per cone; or -inf.

    Where a residual meets an infinite bound, bounds implied by the rows stand in, then the multipliers are moved until it is exactly zero.
    """
    multipliers = dyadic(y)
    residual = residuals(program, multipliers, 1, z)
    lower, upper = implied_bounds(program) if z else (program.lower, program.upper)
    if np.any(_unbounded(residual, program.quadratic, lower, upper)):
        lower, upper = implied_bounds(program)
        stray = np.flatnonzero(_unbounded(residual, program.quadratic, lower, upper))
        if len(stray):
            return _repaired_bound(program, y, z, residual, stray)
    return _bound(program, multipliers, 1, z, residual, lower, upper)


def exact_residuals(program: Program, y: Array, z: list[Array], columns: Array) -> tuple[Array, Array]:
    """Floats (low, high) around the exact residuals cost - matrix^T y - sum_k E_k^T z_k of some columns, equal where they are floats."""
    residual = residuals(program, dyadic(y), 1, z)
    values = [scaled(int(residual.numerators[j]), residual.exponent) for j in columns]
    return np.array([rounded_down(value) for value in values]), np.array([rounded_up(value) for value in values])


def residuals(program: Program, multipliers: Dyadic, divisor: int, z: list[Array]) -> Dyadic:
    """divisor * (cost - sum_k E_k^T z_k) - matrix^T multipliers, (n,): the residuals of multipliers / divisor, times divisor."""
    used = np.flatnonzero(multipliers.numerators)
    columns = program.matrix[used].tocsc()
    products = grouped(dyadic(columns.data) * multipliers[used][columns.indices], columns.indptr)
    cost = dyadic(program.cost)
    for cone, part in zip(program.cones, z, strict=True):
        spread = np.zeros(program.variables)
        spread[cone.indices] = part
        cost = cost + -dyadic(spread)
    return Dyadic(cost.numerators * divisor, cost.exponent) + -products


def _bound(program: Program, multipliers: Dyadic, divisor: int, z: list[Array], residual: Dyadic, lower: Array, upper: Array) -> Fraction:
    """The bound at multipliers / divisor; every residual has a minimum over [lower, upper]."""
    used = np.flatnonzero(multipliers.numerators)
    side = np.where((multipliers.numerators > 0).astype(bool), program.row_lower, program.row_upper)[used]
    total = (multipliers[used] * dyadic(side)).total() / divisor + Fraction(program.offset)
    for cone, part in zip(program.cones, z, strict=True):
        direction = dyadic(part)
        total += (direction * dyadic(cone.shift)).total()
        total -= _norm_above((direction * direction).total()) * Fraction(cone.limit)
    signs = residual.numerators
    x = np.where((signs > 0).astype(bool), lower, np.where((signs < 0).astype(bool), upper, 0.0))
    straight = program.quadratic == 0
    total += (residual[straight] * dyadic(x[straight])).total() / divisor
    for j in np.flatnonzero(~straight):
        slope = scaled(int(residual.numerators[j]), residual.exponent) / divisor
        total += _parabola(slope, Fraction(float(program.quadratic[j])), float(lower[j]), float(upper[j]))
    return total


def _repaired_bound(program: Program, y: Array, z: list[Array], residual: Dyadic, stray: Array) -> Fraction | float:
    """Three rounds: moving multipliers for some columns may disturb others that have infinite bounds too."""
    lower, upper = implied_bounds(program)
    for _ in range(3):
        moved = repaired(program, y, residual, stray)
        if moved is None:
            return -inf
        divisor = lcm(*(value.denominator for value in moved))
        numerators = np.empty(len(moved), dtype=object)
        numerators[:] = [value.numerator * (divisor // value.denominator) for value in moved]
        multipliers = Dyadic(numerators, 0)
        after = residuals(program, multipliers, divisor, z)
        still = np.flatnonzero(_unbounded(after, program.quadratic, lower, upper))
        if not len(still):
            return _bound(program, multipliers, divisor, z, after, lower, upper)
        stray = np.union1d(stray, still)
    return -inf


def _unbounded(residual: Dyadic, quadratic: Array, lower: Array, upper: Array) -> Array:
    """Where a linear term has no minimum: (n,) bool."""
    positive, negative = (residual.numerators > 0).astype(bool), (residual.numerators < 0).astype(bool)
    return (quadratic == 0) & ((positive & np.isinf(lower)) | (negative & np.isinf(upper)))


def _parabola(slope: Fraction, q: Fraction, lower: float, upper: float) -> Fraction:
    x = -slope / q
    if x < lower:
        x = Fraction(lower)
    elif x > upper:
        x = Fraction(upper)
    return slope * x + q * x * x / 2


def _norm_above(square: Fraction) -> Fraction:
    """A rational >= sqrt(square), above it by at most a relative 2^-200."""
    if square == 0:
        return Fraction(0)
    shift = max(0, 420 - square.numerator.bit_length() + square.denominator.bit_length())
    shift += shift % 2
    return Fraction(isqrt((square.numerator << shift) // square.denominator) + 1, 1 << (shift // 2))

"""The exact slope at infinity (T4): max {<g, u> : u in rec(C_D), ‖u‖_r <= 1}, between a checked direction and a dual certificate.

Upper end. For any multipliers l >= 0 of the rows, <g, u> <= <g + rows^T l, u> <= ‖g + rows^T l‖_s on the cone: no multiplier can make it
wrong, and the least such norm is the maximum (duality; for r = 2 it is the length of the projection of g on the cone, Moreau). Norms are
rounded up. Lower end: a direction that satisfies every row in exact arithmetic.
"""

from fractions import Fraction
from math import inf

import numpy as np

import solvers
from problems.exact import homogeneous
from problems.maps import Array
from problems.network import Network
from problems.regions import Ball
from problems.rounding import round_down
from verifier.bounds.rounding import gamma
from verifier.recession.region import Directions
from verifier.recession.rows import LinearParts, exact_parts
from verifier.recession.unbounded import cone_rows, exact_rows, normalised

# How far a direction is moved into the cone, where it has an interior, so that rounding leaves it inside.
_INWARD = 1e-10


def dual_norm(g: Array, error: Array, norm: float) -> tuple[Array, Array]:
    """(lower (...), upper (...)) of ‖g‖_s for g (..., n) with its error, 1/norm + 1/s = 1, rounded outward."""
    low, high = np.maximum(np.abs(g) - error, 0.0), np.nextafter(np.abs(g) + error, inf)
    slack = gamma(g.shape[-1] + 8)
    return _size(low, norm) * (1 - slack), _size(high, norm) * (1 + slack)


def project(rows: Array, g: Array) -> tuple[Array, Array]:
    """(multipliers (m,), projection (d,)) of g (d,) on the cone {u : rows u >= 0}, up to rounding, for normalised rows (m, d)."""
    from solvers.nonnegative import least_squares

    multipliers = np.zeros(len(rows))
    size = float(np.sqrt(g @ g))
    if size > 0:
        least_squares(rows, -g / size, multipliers)
        multipliers *= size
    return multipliers, g + multipliers @ rows


def maximise(rows: Array, g: Array, norm: float) -> tuple[Array, Array]:
    """(multipliers (m,) >= 0, direction (d,) with ‖direction‖_norm <= 1), optimal up to the solver's tolerances; rows (m, d) normalised."""
    if norm == 2:
        multipliers, p = project(rows, g)
        size = float(np.sqrt(p @ p))
        return multipliers, p / size if size > 0 else p
    m, d = rows.shape
    if norm == inf:
        program = solvers.Program(
            cost=-g, matrix=rows, row_lower=np.zeros(m), row_upper=np.full(m, inf), lower=np.full(d, -1.0), upper=np.ones(d)
        )
    else:
        matrix = np.concatenate([np.concatenate([rows, -rows], axis=1), np.ones((1, 2 * d))])
        low, high = np.append(np.zeros(m), -inf), np.append(np.full(m, inf), 1.0)
        cost = np.concatenate([-g, g])
        program = solvers.Program(cost=cost, matrix=matrix, row_lower=low, row_upper=high, lower=np.zeros(2 * d), upper=np.ones(2 * d))
    with solvers.open_session(program) as session:
        solution = session.solve()
    multipliers = np.zeros(m) if solution.row_duals is None else np.maximum(solution.row_duals[:m], 0.0)
    u = np.zeros(program.variables) if solution.x is None else solution.x
    return multipliers, u if norm == inf else u[:d] - u[d:]


def above(rows: Array, errors: Array, g: Array, g_error: Array, multipliers: Array, norm: float) -> float:
    """‖g + rows^T multipliers‖_s rounded up: proved to be at least the slope at infinity. multipliers (m,) >= 0 of rows (m, d)."""
    used = multipliers > 0
    share, part = multipliers[used], rows[used]
    total = g + share @ part
    error = g_error + share @ errors[used] + gamma(len(share) + 4) * (np.abs(g) + share @ np.abs(part))
    return float(dual_norm(total, error * (1 + 1e-12), norm)[1])


def slope(network: Network, parts: LinearParts, pair: tuple[int, int], norm: float, where: Directions) -> tuple[float, float, Array]:
    """(lower, upper, direction (n,)) of the slope at infinity of one cell (`parts` of length 1) for one pair (y, k).

    The direction attains `lower` in exact arithmetic; it is zero, and lower 0, where none was found.
    """
    n, free = network.input_size, where.free
    direction = np.zeros(n)
    if not len(free):
        return 0.0, 0.0, direction
    g, g_error = (part[0, 0, free] for part in parts.gradients(np.array([pair])))
    rows, errors = (part[0] for part in cone_rows(parts, where))
    scaled, lengths = (part[0] for part in normalised(rows[None]))
    multipliers, u = maximise(scaled, g, norm)
    upper = above(rows, errors, g, g_error, multipliers / np.where(lengths == 0, 1.0, lengths), norm)
    lower = 0.0
    inward = interior(scaled)
    for candidate in (u, u + _INWARD * inward, _snapped(exact_rows(network, parts.patterns[0], where), scaled, u)):
        value, point = _checked(network, parts.patterns[0], pair, norm, where, candidate)
        if value > lower:
            lower, direction = value, point
    return lower, max(lower, upper), direction


def size_up(direction: Array, norm: float) -> float:
    """‖direction‖_norm, rounded up from its exact value."""
    return Ball(np.zeros(len(direction)), inf, norm).norm_upper(direction)


def _size(values: Array, norm: float) -> Array:
    """The dual norm of non-negative values."""
    if norm == inf:
        return values.sum(axis=-1)
    return values.max(axis=-1, initial=0.0) if norm == 1 else np.sqrt((values * values).sum(axis=-1))


def interior(scaled: Array) -> Array:
    """A direction of length at most 1 that makes the rows positive, if there is one; else about zero."""
    from solvers.nonnegative import least_squares

    used = (scaled != 0).any(axis=1)
    weights, target = np.zeros(len(scaled)), np.append(np.zeros(scaled.shape[1]), 1.0)
    least_squares(np.concatenate([scaled, used[:, None].astype(np.float64)], axis=1), target, weights)
    q = weights @ scaled
    return q / max(float(np.sqrt(q @ q)), 1e-300) if np.abs(q).max(initial=0.0) > 1e-12 else np.zeros_like(q)


def _snapped(rows: list[list[Fraction]], scaled: Array, u: Array) -> list[Fraction]:
    """u moved, exactly, onto the hyperplanes of the rows that are nearly zero there: the way into a cone without interior."""
    point = [Fraction(v) for v in u.tolist()]
    basis: list[list[Fraction]] = []
    for i in np.flatnonzero(np.abs(scaled @ u) <= 1e-9):
        row = list(rows[i])
        for b in basis:
            factor = _dot(row, b) / _dot(b, b)
            row = [a - factor * c for a, c in zip(row, b, strict=True)]
        if any(row):
            basis.append(row)
    for b in basis:
        factor = _dot(point, b) / _dot(b, b)
        point = [a - factor * c for a, c in zip(point, b, strict=True)]
    return point


def _checked(
    network: Network, pattern: Array, pair: tuple[int, int], norm: float, where: Directions, candidate: Array | list[Fraction]
) -> tuple[float, Array]:
    """(the slope along the candidate rounded down, the direction in R^n as floats); 0 where it is zero or not in the cone exactly."""
    n = network.input_size
    point = [Fraction(0)] * n
    for j, value in zip(where.free, candidate, strict=True):
        point[j] = Fraction(value)
    rounded = np.array([float(v) for v in point])
    rows, logits = homogeneous(network, pattern, point)
    inside = all(v >= 0 if sign > 0 else v <= 0 for v, sign in zip(rows, pattern, strict=True))
    if not inside or any(_dot(row, point) < 0 for row in where.rows()) or not any(point):
        return 0.0, np.zeros(n)
    rise = logits[pair[1]] - logits[pair[0]]
    if norm == 2:
        from problems.rounding import root_down

        return (root_down(rise * rise / _dot(point, point)) if rise > 0 else 0.0), rounded
    size = sum(abs(v) for v in point) if norm == 1 else max(abs(v) for v in point)
    return max(0.0, round_down(rise / size)), rounded


def _dot(a: list[Fraction], b: list[Fraction]) -> Fraction:
    return sum((v * w for v, w in zip(a, b, strict=True)), Fraction(0))


__all__ = ["above", "dual_norm", "exact_parts", "maximise", "project", "size_up", "slope"]

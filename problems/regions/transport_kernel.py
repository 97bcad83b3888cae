"""Transport balls: support and distance by one-dimensional duality, compiled (the engine's twin of `problems.transport.support`).

With F(lam) = sum_p mu_p max_q [c_q - lam d(p, q)] (THEORY.md F1), for EVERY lam >= 0

    max {c.nu : nu >= 0, W1(mu, nu) <= r}                <=  lam r + F(lam)                      (support)
    min {W1(mu, nu) : nu >= 0, c.nu + offset >= 0}       >=  -(offset + F(lam)) / lam            (distance)

Both are equalities at the best lam, a breakpoint of the convex piecewise-linear F, found by intersecting the tangents of two plans: one
that costs more than the radius (or reaches the half-space), one that does not. The search proves nothing; the right-hand sides are
evaluated with care.

Rounding. For L1 the maximum runs along the axes: f <- max(c, f - lam). Where f - lam is larger, it lies in [-M, M], M = max |c|, so each
step adds at most u M, and a pixel is at most H + W - 2 steps from its target. For L2 each of the three operations on a pair adds
at most u (M + lam d). The mass-weighted sum, in any order, adds gamma_n of the sum of absolute values. A pixel cap nu <= u
enters through multipliers beta >= 0: c - beta inside the maximum and beta.u outside, sound for any beta (F2).
"""

import numpy as np

from problems.regions.compiled import strict
from problems.regions.transport_transform import cheapest_largest, far, near, near_plan, steepest
from problems.rounding import UNIT

Array = np.ndarray

EVALUATIONS = 60
GUESSES = 4  # multipliers tried from a hint downwards before the plan without a price is asked for
CAP_STEPS = 24


@strict
def _bound(
    reaches: bool, limit: float, lam: float, value: float, size: float, mass: float, largest: float, extent: float, extra: float, n: int
) -> float:
    """The right-hand side of (support), rounded up, or of (distance), rounded down and at least 0 (inf: proved out of reach)."""
    error = (n + 32.0) * 1.001 * UNIT * (size + abs(limit) * (1.0 if reaches else lam) + abs(extra))
    error += 1.001 * UNIT * ((extent + 4.0) * largest + 4.0 * lam * extent) * mass + 1e-290
    if not reaches:
        moved = lam * limit if lam > 0.0 else 0.0
        bound = np.nextafter(moved + value + extra + error, np.inf)
        return np.inf if np.isnan(bound) else bound
    gap = -(limit + value + extra) - error
    if not gap > 0.0:
        return 0.0
    if lam == 0.0:
        return np.inf
    bound = gap / lam * (1.0 - 8.0 * UNIT)
    return max(0.0, np.nextafter(bound, 0.0)) if bound < np.inf else 0.0


@strict
def search(
    c: Array, mu: Array, turned: Array, mass: float, shape: tuple[int, int, int], euclidean: bool, distances: Array,
    reaches: bool, limit: float, beta: Array, cap: float, hint: float, work: Array, targets: Array, nu: Array,
) -> tuple[float, float]:  # fmt: skip
    """(the bound for one row c (n,), the best multiplier), and its point nu (n,). limit: the radius, or the half-space's offset.

    beta (n,) multipliers of nu <= cap, whose part is already taken off c; hint: where to begin (over max |c|), 0 at no multiplier.
    """
    n = c.shape[0]
    largest = 0.0
    base = 0.0
    extra = 0.0
    for p in range(n):
        largest = max(largest, abs(c[p]))
        base += c[p] * mu[p]
        extra += beta[p] * cap if beta[p] > 0.0 else 0.0
    nu[:] = mu
    if not largest < np.inf:
        return (0.0 if reaches else np.inf), 0.0
    extent = float(shape[1] + shape[2])
    order = np.empty(n if euclidean else 0, dtype=np.int64)
    if euclidean:
        pixels = shape[1] * shape[2]
        for channel in range(shape[0]):
            order[channel * pixels : (channel + 1) * pixels] = np.argsort(-c[channel * pixels : (channel + 1) * pixels])
    needed = limit + base + extra
    over, under = targets[0], targets[1]
    over_cost, over_gain, over_lam = np.inf, np.inf, 0.0
    under_cost, under_gain, under_lam = 0.0, 0.0, steepest(c, shape, euclidean)  # nothing moves
    still = 0.0
    for p in range(n):
        still += abs(c[p]) * mu[p]
    bound = 0.0 if reaches else _bound(reaches, limit, under_lam, base, still, mass, largest, extent, extra, n)
    if reaches and under_lam > 0.0:
        bound = _bound(reaches, limit, under_lam, base, still, mass, largest, extent, extra, n)
    if (reaches and needed >= 0.0) or (not reaches and limit <= 0.0):
        return bound, 0.0
    share = 0.0
    between = 0.0
    guess = hint * largest
    for evaluation in range(EVALUATIONS):
        if over_cost < np.inf:
            if not over_cost > under_cost:
                break
            lam = max((over_gain - under_gain) / (over_cost - under_cost), 0.0)
        elif guess > 0.0 and evaluation < GUESSES:
            lam = guess
            guess *= 0.7
        else:
            lam = 0.0
        if lam == 0.0:
            value, size, cost = cheapest_largest(c, mu, shape, euclidean, distances, targets[2], work[4], work)
        elif euclidean:
            value, size, cost = far(c, mu, shape, lam, order, distances, targets[2])
        else:
            value, size, cost = near(c, turned, shape, lam, work)
        here = _bound(reaches, limit, lam, value, size, mass, largest, extent, extra, n)
        bound = max(bound, here) if reaches else min(bound, here)
        gain = value - base + lam * cost
        beyond = needed + gain > 0.0 if reaches else cost > limit
        if lam == 0.0 and over_cost == np.inf:
            if not gain > 0.0:
                return bound, 0.0
            over_cost, over_gain = cost, gain
            over[:] = targets[2]
            if not beyond:
                share = 1.0
                break
            continue
        if over_cost < np.inf:
            tangent = under_gain - lam * under_cost
            flat = not value - base > tangent + 1e-13 * (abs(tangent) + over_gain + 1e-3 * abs(base))
            if flat and not under_cost < cost < over_cost:
                break
            if not (cost < over_cost if beyond else cost > under_cost):
                break
        if beyond:
            over_cost, over_gain, over_lam = cost, gain, lam
            if euclidean:
                over[:] = targets[2]
        elif cost > under_cost:
            under_cost, under_gain, under_lam = cost, gain, lam
            if euclidean:
                under[:] = targets[2]
    if share < 1.0:
        if not euclidean and over_lam > 0.0:
            near_plan(c, shape, over_lam, work, over)
        if reaches:
            share = (-needed - under_gain) / (over_gain - under_gain) if over_gain > under_gain else 1.0
        else:
            share = (limit - under_cost) / (over_cost - under_cost) if over_cost > under_cost else 0.0
        share = min(max(share, 0.0), 1.0)
        between = (over_gain - under_gain) / (over_cost - under_cost) if over_cost > under_cost else over_lam
    if share < 1.0:
        if under_cost == 0.0:
            for p in range(n):
                under[p] = p
        elif not euclidean:
            near_plan(c, shape, under_lam, work, under)
    nu[:] = 0.0
    for p in range(n):
        if mu[p] > 0.0:
            nu[over[p]] += share * mu[p]
            if share < 1.0:
                nu[under[p]] += (1.0 - share) * mu[p]
    return bound, between


@strict
def images(
    c: Array, mu: Array, turned: Array, masses: Array, shape: tuple[int, int, int], euclidean: bool, distances: Array, radii: Array,
    value: Array, point: Array, multiplier: Array,
) -> None:  # fmt: skip
    """The supports of balls around images mu (B, n) in directions c (B, n), one each: fills value, multiplier (B,), point (B, n)."""
    n = c.shape[1]
    work = np.empty((5, n))
    targets = np.empty((3, n), dtype=np.int64)
    free = np.zeros(n)
    for b in range(c.shape[0]):
        value[b], multiplier[b] = search(
            c[b], mu[b], turned[b], masses[b], shape, euclidean, distances, False, radii[b], free, np.inf, 0.0, work, targets, point[b]
        )  # fmt: skip


@strict
def rows(
    c: Array, mu: Array, turned: Array, mass: float, shape: tuple[int, int, int], euclidean: bool, distances: Array,
    reaches: bool, limits: Array, cap: float, value: Array, point: Array,
) -> None:  # fmt: skip
    """`search` for every row of c (B, S, n) with limits (B or 1, S or 1): fills value (B, S) and point (B, S, n)."""
    n = c.shape[2]
    work = np.empty((5, n))
    targets = np.empty((3, n), dtype=np.int64)
    beta = np.zeros(n)
    row = np.empty(n)
    best = np.empty(n)
    hint = 0.0
    for b in range(point.shape[0]):
        for s in range(point.shape[1]):
            full = c[b if c.shape[0] > 1 else 0, s]
            limit = limits[b if limits.shape[0] > 1 else 0, s if limits.shape[1] > 1 else 0]
            beta[:] = 0.0
            nu = point[b, s]
            value[b, s], lam = search(
                full, mu, turned, mass, shape, euclidean, distances, reaches, limit, beta, cap, hint, work, targets, nu
            )
            largest = np.max(np.abs(full))
            if lam > 0.0 and largest > 0.0:
                hint = 0.97 * lam / largest  # rows that follow each other are alike
            if not cap < np.inf or (reaches and value[b, s] == np.inf):
                continue
            best[:] = nu
            for step in range(CAP_STEPS):
                if not _raised(beta, nu, cap, lam / np.sqrt(step + 1.0)):
                    break
                for p in range(n):
                    row[p] = full[p] - beta[p]
                bound, here = search(row, mu, turned, mass, shape, euclidean, distances, reaches, limit, beta, cap, hint, work, targets, nu)
                lam = here if here > 0.0 else lam
                if (bound > value[b, s]) == reaches and bound != value[b, s]:
                    value[b, s] = bound
                    best[:] = nu
            nu[:] = best


@strict
def _raised(beta: Array, nu: Array, cap: float, rate: float) -> bool:
    """One subgradient step of the cap's multipliers; whether anything is left to do."""
    wrong = False
    for p in range(beta.shape[0]):
        surplus = nu[p] - cap
        if surplus > 1e-9 * cap or (beta[p] > 0.0 and surplus < -1e-9 * cap):
            wrong = True
            beta[p] = max(beta[p] + rate * max(min(surplus / cap, 1.0), -1.0), 0.0)
    return wrong

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

from problems.regions.compiled import any_order, strict
from problems.rounding import UNIT

Array = np.ndarray

EVALUATIONS = 60
CAP_STEPS = 24


@strict
def _along(f: Array, t: Array, lam: float) -> None:
    """f_ij <- max_k f_kj - lam |i - k| down the first axis, t the distance of the k chosen plus that which t held: both (rows, columns)."""
    rows, columns = f.shape
    for i in range(1, rows):
        for j in range(columns):
            other = f[i - 1, j] - lam
            better = other > f[i, j]
            f[i, j] = other if better else f[i, j]
            t[i, j] = t[i - 1, j] + 1.0 if better else t[i, j]
    for i in range(rows - 2, -1, -1):
        for j in range(columns):
            other = f[i + 1, j] - lam
            better = other > f[i, j]
            f[i, j] = other if better else f[i, j]
            t[i, j] = t[i + 1, j] + 1.0 if better else t[i, j]


@strict
def _targets_along(f: Array, target: Array, lam: float) -> None:
    """The same, carrying the target pixel along."""
    rows, columns = f.shape
    for i in range(1, rows):
        for j in range(columns):
            other = f[i - 1, j] - lam
            if other > f[i, j]:
                f[i, j] = other
                target[i, j] = target[i - 1, j]
    for i in range(rows - 2, -1, -1):
        for j in range(columns):
            other = f[i + 1, j] - lam
            if other > f[i, j]:
                f[i, j] = other
                target[i, j] = target[i + 1, j]


@any_order
def _weigh(mu: Array, f: Array, t: Array) -> tuple[float, float, float]:
    """(mu.f, mu.|f|, mu.t)."""
    value = 0.0
    size = 0.0
    cost = 0.0
    for i in range(f.shape[0]):
        value += mu[i] * f[i]
        size += mu[i] * abs(f[i])
        cost += mu[i] * t[i]
    return value, size, cost


@strict
def _turned(source: Array, target: Array) -> None:
    """target (W, H) = source (H, W) transposed."""
    for i in range(source.shape[0]):
        for j in range(source.shape[1]):
            target[j, i] = source[i, j]


@strict
def _near(c: Array, turned: Array, shape: tuple[int, int, int], lam: float, work: Array) -> tuple[float, float, float]:
    """(F, the same over absolute values, cost of the plan) for L1: c (n,), turned (n,): the masses, every channel transposed."""
    channels, height, width = shape
    pixels = height * width
    value = 0.0
    size = 0.0
    cost = 0.0
    for channel in range(channels):
        part = slice(channel * pixels, (channel + 1) * pixels)
        work[0, :pixels] = c[part]
        work[1, :pixels] = 0.0
        down = work[0, :pixels].reshape(height, width)
        steps = work[1, :pixels].reshape(height, width)
        across = work[2, :pixels].reshape(width, height)
        taken = work[3, :pixels].reshape(width, height)
        _along(down, steps, lam)
        _turned(down, across)
        _turned(steps, taken)
        _along(across, taken, lam)
        a, b, t = _weigh(turned[part], work[2, :pixels], work[3, :pixels])
        value += a
        size += b
        cost += t
    return value, size, cost


@strict
def _near_targets(c: Array, shape: tuple[int, int, int], lam: float, work: Array, target: Array) -> None:
    """The plan of the transform for L1: target (n,) of every pixel, as a position in the image."""
    channels, height, width = shape
    pixels = height * width
    places = np.empty((width, height), dtype=np.int64)
    for channel in range(channels):
        part = slice(channel * pixels, (channel + 1) * pixels)
        work[0, :pixels] = c[part]
        down = work[0, :pixels].reshape(height, width)
        across = work[2, :pixels].reshape(width, height)
        mine = target[part].reshape(height, width)
        for i in range(height):
            for j in range(width):
                mine[i, j] = channel * pixels + i * width + j
        _targets_along(down, mine, lam)
        _turned(down, across)
        for i in range(height):
            for j in range(width):
                places[j, i] = mine[i, j]
        _targets_along(across, places, lam)
        for i in range(height):
            for j in range(width):
                mine[i, j] = places[j, i]


@strict
def _far(
    c: Array, mu: Array, shape: tuple[int, int, int], lam: float, order: Array, distances: Array, target: Array
) -> tuple[float, float, float]:
    """(F, its absolute values, cost) and the plan for any ground distance: order (n,): the pixels of every channel by falling c."""
    channels, height, width = shape
    pixels = height * width
    value = 0.0
    size = 0.0
    cost = 0.0
    for channel in range(channels):
        start = channel * pixels
        for p in range(pixels):
            target[start + p] = start + p
            mass = mu[start + p]
            if mass == 0.0:
                continue
            best = c[start + p]
            length = 0.0
            for k in range(pixels):
                q = order[start + k]
                if c[start + q] - lam <= best:  # all that follow are smaller, and no other pixel is nearer than 1
                    break
                other = c[start + q] - lam * distances[p, q]
                if other > best:
                    best = other
                    length = distances[p, q]
                    target[start + p] = start + q
            value += mass * best
            size += mass * abs(best)
            cost += mass * length
    return value, size, cost


@strict
def _largest(
    c: Array, mu: Array, shape: tuple[int, int, int], euclidean: bool, distances: Array, target: Array, marks: Array, work: Array
) -> tuple[float, float, float]:
    """(F(0), its absolute values, cost) and the cheapest plan: all mass of a channel to the nearest of its largest entries."""
    channels, height, width = shape
    pixels = height * width
    value = 0.0
    size = 0.0
    cost = 0.0
    far = -4.0 * (height + width)
    for channel in range(channels):
        part = slice(channel * pixels, (channel + 1) * pixels)
        top = np.max(c[part])
        mass = 0.0
        for p in range(pixels):
            marks[channel * pixels + p] = 0.0 if c[channel * pixels + p] == top else far
            mass += mu[channel * pixels + p]
        value += mass * top
        size += mass * abs(top)
    if not euclidean:
        _near_targets(marks, shape, 1.0, work, target)
    for p in range(c.shape[0]):
        start = p // pixels * pixels
        if euclidean and mu[p] > 0.0:
            nearest = np.inf
            for q in range(pixels):
                if marks[start + q] == 0.0 and distances[p - start, q] < nearest:
                    nearest = distances[p - start, q]
                    target[p] = start + q
            cost += mu[p] * nearest
        elif euclidean:
            target[p] = p
        else:
            a, b = (p - start) // width, (p - start) % width
            i, j = (target[p] - start) // width, (target[p] - start) % width
            cost += mu[p] * (abs(a - i) + abs(b - j))
    return value, size, cost


@strict
def _steepest(c: Array, shape: tuple[int, int, int], euclidean: bool) -> float:
    """A lam at which nothing moves: the largest difference of neighbours; an L2 distance is at least the L1 distance over sqrt 2."""
    channels, height, width = shape
    image = c.reshape(shape)
    largest = 0.0
    for channel in range(channels):
        for i in range(height):
            for j in range(width):
                if i + 1 < height:
                    largest = max(largest, abs(image[channel, i + 1, j] - image[channel, i, j]))
                if j + 1 < width:
                    largest = max(largest, abs(image[channel, i, j + 1] - image[channel, i, j]))
    return largest * (1.5 if euclidean else 1.0 + 4.0 * UNIT)


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
    reaches: bool, limit: float, beta: Array, cap: float, work: Array, targets: Array, nu: Array,
) -> tuple[float, float]:  # fmt: skip
    """(the bound for one row c (n,), the last multiplier), and its point nu (n,). limit: the radius, or the half-space's offset.

    beta (n,) multipliers of nu <= cap, whose part is already taken off c.
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
    value, size, over_cost = _largest(c, mu, shape, euclidean, distances, over, work[4], work)
    bound = _bound(reaches, limit, 0.0, value, size, mass, largest, extent, extra, n)
    over_gain = value - base
    under_cost = 0.0
    under_gain = 0.0
    under_lam = _steepest(c, shape, euclidean)
    still = 0.0
    for p in range(n):
        still += abs(c[p]) * mu[p]
    if not reaches:
        bound = min(bound, _bound(reaches, limit, under_lam, base, still, mass, largest, extent, extra, n))
    elif under_lam > 0.0:
        bound = max(bound, _bound(reaches, limit, under_lam, base, still, mass, largest, extent, extra, n))
    share = 0.0
    over_lam = 0.0
    if (reaches and needed >= 0.0) or (not reaches and limit <= 0.0) or not over_gain > 0.0:
        return bound, 0.0
    if (reaches and needed + over_gain <= 0.0) or (not reaches and over_cost <= limit):
        share = 1.0
    else:
        for _ in range(EVALUATIONS):
            if not over_cost > under_cost:
                break
            lam = max((over_gain - under_gain) / (over_cost - under_cost), 0.0)
            if euclidean:
                value, size, cost = _far(c, mu, shape, lam, order, distances, targets[2])
            else:
                value, size, cost = _near(c, turned, shape, lam, work)
            here = _bound(reaches, limit, lam, value, size, mass, largest, extent, extra, n)
            bound = max(bound, here) if reaches else min(bound, here)
            gain = value - base + lam * cost
            tangent = under_gain - lam * under_cost
            flat = not value - base > tangent + 1e-13 * (abs(tangent) + over_gain + 1e-3 * abs(base))
            if flat and not under_cost < cost < over_cost:
                break
            beyond = needed + gain >= 0.0 if reaches else cost > limit
            if beyond and cost < over_cost:
                over_cost, over_gain, over_lam = cost, gain, lam
                if euclidean:
                    over[:] = targets[2]
            elif not beyond and cost > under_cost:
                under_cost, under_gain, under_lam = cost, gain, lam
                if euclidean:
                    under[:] = targets[2]
            else:
                break
        if not euclidean and over_lam > 0.0:
            _near_targets(c, shape, over_lam, work, over)
        if reaches:
            share = (-needed - under_gain) / (over_gain - under_gain) if over_gain > under_gain else 1.0
        else:
            share = (limit - under_cost) / (over_cost - under_cost) if over_cost > under_cost else 0.0
        share = min(max(share, 0.0), 1.0)
    if share < 1.0:
        if under_cost == 0.0:
            for p in range(n):
                under[p] = p
        elif not euclidean:
            _near_targets(c, shape, under_lam, work, under)
    nu[:] = 0.0
    for p in range(n):
        if mu[p] > 0.0:
            nu[over[p]] += share * mu[p]
            if share < 1.0:
                nu[under[p]] += (1.0 - share) * mu[p]
    return bound, over_lam


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
    for b in range(point.shape[0]):
        for s in range(point.shape[1]):
            full = c[b if c.shape[0] > 1 else 0, s]
            limit = limits[b if limits.shape[0] > 1 else 0, s if limits.shape[1] > 1 else 0]
            beta[:] = 0.0
            nu = point[b, s]
            value[b, s], lam = search(full, mu, turned, mass, shape, euclidean, distances, reaches, limit, beta, cap, work, targets, nu)
            if not cap < np.inf or (reaches and value[b, s] == np.inf):
                continue
            best[:] = nu
            for step in range(CAP_STEPS):
                if not _raised(beta, nu, cap, lam / np.sqrt(step + 1.0)):
                    break
                for p in range(n):
                    row[p] = full[p] - beta[p]
                bound, here = search(row, mu, turned, mass, shape, euclidean, distances, reaches, limit, beta, cap, work, targets, nu)
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

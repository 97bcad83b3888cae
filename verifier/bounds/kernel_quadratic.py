"""The compiled part of quadratic.py: one pass up the stack and one down, and the multipliers' improvement."""

import numpy as np
from numba import njit

UNIT = 2.0**-53
TINY = 1e-280
# A Cholesky factorisation that runs to its end proves that the matrix plus SHIFT m u trace is positive definite
# (Rump 2006, Verification of positive definiteness: the constant there is below 2 for m u << 1).
SHIFT = 4.0
DECAY, PATIENCE = 0.97, 10
TOP = 8  # directions that share in an update, for bounds at which several are largest


@njit(cache=True, nogil=True)
def _cholesky(s, factor):  # type: ignore[no-untyped-def]
    """factor (m, m), lower triangular, of s; False where s is not safely positive definite."""
    m = s.shape[0]
    trace = 0.0
    for i in range(m):
        trace += abs(s[i, i])
    shift = SHIFT * (m + 4) * UNIT * trace + TINY
    for j in range(m):
        total = s[j, j] - shift
        for k in range(j):
            total -= factor[j, k] * factor[j, k]
        if not total > 0.0:
            return False
        root = np.sqrt(total)
        factor[j, j] = root
        for i in range(j + 1, m):
            total = s[i, j]
            for k in range(j):
                total -= factor[i, k] * factor[j, k]
            factor[i, j] = total / root
    return True


@njit(cache=True, nogil=True)
def _solve(factor, right):  # type: ignore[no-untyped-def]
    """In place: right (m, c) becomes (L L^T)^-1 right."""
    m, columns = right.shape
    for i in range(m):
        for k in range(i):
            f = factor[i, k]
            if f != 0.0:
                for c in range(columns):
                    right[i, c] -= f * right[k, c]
        d = 1.0 / factor[i, i]
        for c in range(columns):
            right[i, c] *= d
    for i in range(m - 1, -1, -1):
        for k in range(i + 1, m):
            f = factor[k, i]
            if f != 0.0:
                for c in range(columns):
                    right[i, c] -= f * right[k, c]
        d = 1.0 / factor[i, i]
        for c in range(columns):
            right[i, c] *= d


@njit(cache=True, nogil=True)
def _frobenius(a):  # type: ignore[no-untyped-def]
    total = 0.0
    for i in range(a.shape[0]):
        for j in range(a.shape[1]):
            total += a[i, j] * a[i, j]
    return np.sqrt(total) * (1.0 + (a.shape[0] * a.shape[1] + 8) * UNIT)


@njit(cache=True, nogil=True)
def _symmetric(a):  # type: ignore[no-untyped-def]
    return 0.5 * (a + a.T)


@njit(cache=True, nogil=True)
def climb(sizes, flat, weights, half, free, multipliers, relative, gains):  # type: ignore[no-untyped-def]
    """(whether it worked, the last form Q (c, c), its error): x^T Q x + error |x|^2 >= ||diag(weights)^-1/2 J^T x||^2 for all derivatives.

    sizes (L + 2,); flat: the matrices; weights (sizes[0],) > 0; half (H,): the middle of each derivative's range (0, 1/2 or 1) and free
    (H,) whether it is open; multipliers (H,) >= 0; relative: gamma of a product. gains (H, widest): receives, for open neurons, the rows
    of P, for `descend`. See quadratic.py for the mathematics and the errors.
    """
    layers = len(sizes) - 1
    first = flat[: sizes[0] * sizes[1]].reshape((sizes[1], sizes[0]))
    q = _symmetric(np.dot(first / weights, first.T))
    error = 4.0 * relative * np.trace(q) + TINY
    place, start = sizes[0] * sizes[1], 0
    for layer in range(1, layers):
        size = sizes[layer]
        matrix = flat[place : place + size * sizes[layer + 1]].reshape((sizes[layer + 1], size))
        place += size * sizes[layer + 1]
        for i in range(size):
            q[i, i] += error * (1.0 + 4.0 * UNIT)  # one more rounding per entry: below what the next error grants
        d = half[start : start + size]
        count = 0
        opened = np.empty(size, dtype=np.int64)
        for i in range(size):
            if free[start + i]:
                opened[count] = i
                count += 1
        opened = opened[:count]
        after = np.empty((size, size))
        for i in range(size):
            for j in range(size):
                after[i, j] = d[i] * q[i, j] * d[j]
        extra = 2.0 * UNIT * _frobenius(q)
        if count:
            b, s, factor = np.empty((count, size)), np.empty((count, count)), np.zeros((count, count))
            for i in range(count):
                for j in range(size):
                    b[i, j] = q[opened[i], j] * d[j]
                for j in range(count):
                    s[i, j] = -q[opened[i], opened[j]]
                s[i, i] += multipliers[start + opened[i]]
            if not _cholesky(s, factor):
                return False, q, 0.0
            p = b.copy()
            _solve(factor, p)
            residual = b - np.dot(s, p)
            product = np.dot(p.T, b)
            for i in range(size):
                for j in range(size):
                    after[i, j] += 0.5 * (product[i, j] + product[j, i])
            trace = 0.0
            largest = 0.0
            for i in range(count):
                t = multipliers[start + opened[i]]
                after[opened[i], opened[i]] += 0.25 * t
                largest = max(largest, t)
                trace += abs(s[i, i])
                for j in range(size):
                    gains[start + opened[i], j] = p[i, j]
            # lambda_min(s) is at least what the factorisation was shifted by, less its own error: half of it.
            floor = 0.5 * SHIFT * (count + 4) * UNIT * trace
            size_b, size_p, size_s = _frobenius(b), _frobenius(p), _frobenius(s)
            left = _frobenius(residual) + relative * (size_b + size_s * size_p) + 2.0 * UNIT * size_s * size_p
            extra += size_p * left + left * (left / (floor + TINY)) + relative * size_p * size_b + 4.0 * UNIT * (size_p * size_b + largest)
        extra += 4.0 * UNIT * _frobenius(after)
        for i in range(size):
            after[i, i] += extra
        q = _symmetric(np.dot(np.dot(matrix, after), matrix.T))
        error = (4.0 * relative * _frobenius(matrix) ** 2 * _frobenius(after)) * (1.0 + 1e-12) + TINY
        start += size
    return True, q, error


@njit(cache=True, nogil=True)
def _directions(q, shares, many):  # type: ignore[no-untyped-def]
    """(value, directions (t, c), their weights (t,)) that attain the largest eigenvalue of shares^-1/2 q shares^-1/2 times sum shares,
    or (many) the largest diagonal entry; near ones have their part, so that updates do not jump between them."""
    size = q.shape[0]
    count = min(TOP, size)
    found, part = np.zeros((count, size)), np.zeros(count)
    if many:
        order = np.argsort(-np.diag(q))
        value = q[order[0], order[0]]
        for t in range(count):
            found[t, order[t]] = 1.0
            part[t] = np.exp((q[order[t], order[t]] - value) / (0.01 * value + TINY))
        return value, found, part / part.sum()
    root = np.sqrt(shares)
    if size == 1:
        found[0, 0] = 1.0
        part[0] = 1.0
        return q[0, 0], found, part
    scaled = np.empty((size, size))
    for i in range(size):
        for j in range(size):
            scaled[i, j] = q[i, j] / (root[i] * root[j])
    values, vectors = np.linalg.eigh(scaled)
    value = values[size - 1]
    for t in range(count):
        found[t] = vectors[:, size - 1 - t] / root
        part[t] = np.exp((values[size - 1 - t] - value) / (0.01 * abs(value) + TINY))
    return value * shares.sum(), found, part / part.sum()


@njit(cache=True, nogil=True)
def _descend(sizes, flat, half, free, gains, found, part, pushed, met):  # type: ignore[no-untyped-def]
    """Mean squares over the directions of p and of y / 2 at every neuron into pushed, met (H,); returns those of the last vector."""
    layers = len(sizes) - 1
    places = np.zeros(layers + 1, dtype=np.int64)
    starts = np.zeros(layers + 1, dtype=np.int64)
    for layer in range(layers):
        places[layer + 1] = places[layer] + sizes[layer] * sizes[layer + 1]
        if layer:
            starts[layer + 1] = starts[layer] + sizes[layer]
    pushed[:] = 0.0
    met[:] = 0.0
    last = np.zeros(sizes[0])
    for t in range(len(part)):
        v = found[t].copy()
        for layer in range(layers - 1, -1, -1):
            matrix = flat[places[layer] : places[layer + 1]].reshape((sizes[layer + 1], sizes[layer]))
            y = np.dot(v, matrix)
            if layer == 0:
                last += part[t] * y * y
                break
            start = starts[layer]
            v = half[start : start + sizes[layer]] * y
            for i in range(sizes[layer]):
                if free[start + i]:
                    p = 0.0
                    for j in range(sizes[layer]):
                        p += gains[start + i, j] * y[j]
                    v[i] += p
                    pushed[start + i] += part[t] * p * p
                    met[start + i] += part[t] * 0.25 * y[i] * y[i]
    return last


@njit(cache=True, nogil=True)
def improve(sizes, flat, weights, half, free, multipliers, shares, many, weigh, share, relative, steps, enough, scores):  # type: ignore[no-untyped-def]
    """(value, whether any pass worked): multipliers, weights and shares are improved in place by up to `steps` passes.

    weigh, share: whether weights and shares may move. Ends once the value is below `enough`. scores (H,): what each open neuron adds to
    the value at the end. The value is not rounded: evaluate the result with `climb`.
    """
    neurons = len(half)
    widest = 1
    for layer in range(len(sizes)):
        widest = max(widest, sizes[layer])
    gains = np.zeros((neurons, widest))
    pushed, met = np.zeros(neurons), np.zeros(neurons)
    best = np.inf
    best_multipliers, best_weights, best_shares = multipliers.copy(), weights.copy(), shares.copy()
    base_multipliers, base_weights, base_shares = multipliers.copy(), weights.copy(), shares.copy()
    move_multipliers, move_weights, move_shares = np.zeros(neurons), np.zeros(len(weights)), np.zeros(len(shares))
    step, stalled = 0.35, 0
    for _ in range(steps):
        worked, q, _ = climb(sizes, flat, weights, half, free, multipliers, relative, gains)
        value = np.inf
        if worked:
            value, found, part = _directions(q, shares, many)
            if weigh:
                value *= weights.sum()
        if value < best * 1.1:
            stalled = stalled + 1 if value > best * (1.0 - 1e-5) else 0
            if value < best:
                best = value
                best_multipliers[:], best_weights[:], best_shares[:] = multipliers, weights, shares
            base_multipliers[:], base_weights[:], base_shares[:] = multipliers, weights, shares
            last = _descend(sizes, flat, half, free, gains, found, part, pushed, met)
            largest = met.max() if neurons else 0.0
            for i in range(neurons):
                move_multipliers[i] = 0.0
                if free[i]:
                    move_multipliers[i] = 0.5 * np.log((pushed[i] + 1e-12 * largest + TINY) / (met[i] + 1e-12 * largest + TINY))
                    scores[i] = multipliers[i] * met[i]
                else:
                    scores[i] = 0.0
            if weigh:
                top = last.max()
                for i in range(len(weights)):
                    move_weights[i] = 0.5 * np.log((last[i] + 1e-6 * top + TINY) / (weights[i] * weights[i] + TINY))
                move_weights -= move_weights.mean()
            if share:
                for i in range(len(shares)):
                    entry = 0.0
                    for t in range(len(part)):
                        entry += part[t] * found[t, i] * found[t, i]
                    move_shares[i] = 0.5 * np.log((entry + 1e-6) * shares.sum())
                move_shares -= move_shares.mean()
            if best <= enough or stalled >= PATIENCE:
                break
            step *= DECAY
        else:
            step *= 0.5
            if step < 0.01:
                break
            base_multipliers[:], base_weights[:], base_shares[:] = best_multipliers, best_weights, best_shares
        for i in range(neurons):
            multipliers[i] = base_multipliers[i] * np.exp(step * min(max(move_multipliers[i], -2.0), 2.0))
        if weigh:
            for i in range(len(weights)):
                weights[i] = base_weights[i] * np.exp(step * min(max(move_weights[i], -2.0), 2.0))
            weights /= weights.mean()
        if share:
            for i in range(len(shares)):
                shares[i] = base_shares[i] * np.exp(step * min(max(move_shares[i], -2.0), 2.0))
            shares /= shares.mean()
    multipliers[:], weights[:], shares[:] = best_multipliers, best_weights, best_shares
    return best, best < np.inf


@njit(cache=True, nogil=True)
def begin(sizes, flat, weights, half, free, multipliers, relative):  # type: ignore[no-untyped-def]
    """Multipliers (H,) that are large enough for every factorisation to work: twice the row sums of the forms as they grow."""
    layers = len(sizes) - 1
    first = flat[: sizes[0] * sizes[1]].reshape((sizes[1], sizes[0]))
    q = np.dot(first / weights, first.T)
    place, start = sizes[0] * sizes[1], 0
    for layer in range(1, layers):
        size = sizes[layer]
        matrix = flat[place : place + size * sizes[layer + 1]].reshape((sizes[layer + 1], size))
        place += size * sizes[layer + 1]
        d = half[start : start + size]
        opened = np.flatnonzero(free[start : start + size])
        after = np.empty((size, size))
        for i in range(size):
            for j in range(size):
                after[i, j] = d[i] * q[i, j] * d[j]
        count = len(opened)
        if count:
            b, s, factor = np.empty((count, size)), np.empty((count, count)), np.zeros((count, count))
            largest = 0.0
            for i in range(count):
                total = 0.0
                for j in range(count):
                    s[i, j] = -q[opened[i], opened[j]]
                    total += abs(s[i, j])
                multipliers[start + opened[i]] = 1.5 * total
                largest = max(largest, total)
            for i in range(count):
                multipliers[start + opened[i]] += 1e-9 * largest + TINY
                s[i, i] += multipliers[start + opened[i]]
                for j in range(size):
                    b[i, j] = q[opened[i], j] * d[j]
            if not _cholesky(s, factor):
                return
            p = b.copy()
            _solve(factor, p)
            product = np.dot(p.T, b)
            for i in range(size):
                for j in range(size):
                    after[i, j] += 0.5 * (product[i, j] + product[j, i])
            for i in range(count):
                after[opened[i], opened[i]] += 0.25 * multipliers[start + opened[i]]
        q = np.dot(np.dot(matrix, after), matrix.T)
        start += size

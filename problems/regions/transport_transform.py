"""max_q [c_q - lam d(p, q)] for every pixel p of an image, weighed with masses: distance transforms, compiled.

For the L1 distance by running maxima along the axes, forward and backward (after Felzenszwalb and Huttenlocher 2012); for any other
distance by all pairs, the largest c first, so that most are never looked at. Rounding: see `transport_kernel`.
"""

import numpy as np

from problems.regions.compiled import any_order, strict
from problems.rounding import UNIT

Array = np.ndarray


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
def near(c: Array, turned: Array, shape: tuple[int, int, int], lam: float, work: Array) -> tuple[float, float, float]:
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
def near_plan(c: Array, shape: tuple[int, int, int], lam: float, work: Array, target: Array) -> None:
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
def far(
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
def cheapest_largest(
    c: Array, mu: Array, shape: tuple[int, int, int], euclidean: bool, distances: Array, target: Array, marks: Array, work: Array
) -> tuple[float, float, float]:
    """(F(0), its absolute values, cost) and the cheapest plan: all mass of a channel to the nearest of its largest entries."""
    channels, height, width = shape
    pixels = height * width
    value = 0.0
    size = 0.0
    cost = 0.0
    other = -4.0 * (height + width)
    for channel in range(channels):
        part = slice(channel * pixels, (channel + 1) * pixels)
        top = np.max(c[part])
        mass = 0.0
        for p in range(pixels):
            marks[channel * pixels + p] = 0.0 if c[channel * pixels + p] == top else other
            mass += mu[channel * pixels + p]
        value += mass * top
        size += mass * abs(top)
    if not euclidean:
        near_plan(marks, shape, 1.0, work, target)
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
def steepest(c: Array, shape: tuple[int, int, int], euclidean: bool) -> float:
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

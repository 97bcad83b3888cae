"""The walk of `Propagation` over a chain of dense layers, compiled: one piece after the other, everything in cache.

What is computed is what `interval.py`, `crown.py` and `Lines.of` say, and what is proved is proved as there. Per piece only the
neurons that its own intervals leave open are bounded backward, and coefficients that are zero (neurons proved inactive, lower slopes
of zero) cost nothing. Node 2k + 1 of the network is affine layer k = 0, ..., K - 1 here, node 2k + 2 the ReLU behind it.

Rounding. Sums and products run in any order and may fuse a multiplication with an addition, which only saves roundings: the bound
gamma(n) of `rounding.py` holds for them. No sum here goes through more roundings than `interval.operations` counts (one product,
fewer than `size` additions, the bias), so that the constants of the numpy code hold, and they are handed in from there:
`interval_errors[k]` = 4 gamma, `crown_errors[k]` = 2 gamma of layer k. A pushed row A at the output of layer k is charged
    crown_errors[k] |A| magnitude_k + floor_k,
which pays for fl(A W) instead of A W on the layer's inputs, for A . bias, for the product with the slope of the ReLU above that layer
and with its intercept (which is at most magnitude_k times that slope, up to rounding). floor_k pays for underflow: each of the at most
`size` products per entry of A W, and of A itself, may lose 2^-1074, times the largest |input| or |output| that meets it.
A row that is multiplied by zero is skipped only where it is a zero coefficient of a finite weight; infinities and NaN from overflow are
carried along and end as the bound inf.

The kernels (this file and kernel_slopes.py) call nothing from elsewhere; what they need of the numpy code comes as numbers.
"""

from pathlib import Path

import numpy as np

from problems.regions.compiled import discard_outdated, kept_on_disk

Array = np.ndarray

UNIT = 2.0**-53
SMALLEST = 2.0**-1074
TINY = 1e-280  # as in rounding.py
# Layers with fewer inputs are multiplied column by column (measured).
NARROW = 16

discard_outdated(Path(__file__).parent, "kernel*")

strict = kept_on_disk()
# a * b + c in one rounding instead of two
fused = kept_on_disk(fastmath={"contract"})
# and sums in any order (vectorised)
any_order = kept_on_disk(fastmath={"contract", "reassoc"})


@fused
def combine(a: Array, matrix: Array, out: Array, used: Array) -> None:
    """out (n,) = a (m,) @ matrix (m, n), four rows at a time, leaving out zero coefficients. used: room for m indices."""
    n = matrix.shape[1]
    out[:n] = 0.0
    count = 0
    for t in range(matrix.shape[0]):
        used[count] = t
        count += a[t] != 0.0
    whole = count - count % 4
    for first in range(0, whole, 4):
        t0, t1, t2, t3 = used[first], used[first + 1], used[first + 2], used[first + 3]
        a0, a1, a2, a3 = a[t0], a[t1], a[t2], a[t3]
        row0, row1, row2, row3 = matrix[t0], matrix[t1], matrix[t2], matrix[t3]
        for c in range(n):
            out[c] += (a0 * row0[c] + a1 * row1[c]) + (a2 * row2[c] + a3 * row3[c])
    for rest in range(whole, count):
        factor, row = a[used[rest]], matrix[used[rest]]
        for c in range(n):
            out[c] += factor * row[c]


@any_order
def _dot(a: Array, b: Array) -> float:
    total = 0.0
    for t in range(a.shape[0]):
        total += a[t] * b[t]
    return total


@any_order
def sums(a: Array, magnitude: Array, bias: Array) -> tuple[float, float]:
    """(|a| . magnitude, a . bias)."""
    size, value = 0.0, 0.0
    for t in range(a.shape[0]):
        size += abs(a[t]) * magnitude[t]
        value += a[t] * bias[t]
    return size, value


@any_order
def _intercepts(a: Array, intercept: Array) -> float:
    """max(a, 0) . intercept."""
    value = 0.0
    for t in range(a.shape[0]):
        value += max(a[t], 0.0) * intercept[t]
    return value


@strict
def _through_relu(a: Array, upper_slope: Array, slope: Array) -> None:
    """Coefficients of relu(z) become coefficients of z: the upper line where positive, the lower slope elsewhere (NaN included)."""
    for t in range(a.shape[0]):
        a[t] = a[t] * (upper_slope[t] if a[t] > 0.0 else slope[t])


@strict
def concretise(c: Array, lower: Array, upper: Array, constant: float, error: float, relative: float, point: Array) -> float:
    """An upper bound of c . x + constant + error over the box, and where it is reached; inf for NaN.

    The sum of n products is off by at most relative = gamma(n + 8) times the sum of absolute values and n 2^-1074, and its own error
    bound by less than the rest of that factor; the last additions are paid as in crown.upper_bound.
    """
    n = c.shape[0]
    value, absolute = 0.0, 0.0
    for i in range(n):
        point[i] = upper[i] if c[i] > 0.0 else lower[i]
        if c[i] == 0.0:
            point[i] = min(max(0.5 * lower[i] + 0.5 * upper[i], lower[i]), upper[i])
        term = c[i] * point[i]
        value += term
        absolute += abs(term)
    value += relative * absolute + (4.0 * n + 40.0) * SMALLEST
    total = value + (constant + error)
    total += 4.0 * UNIT * (abs(value) + abs(constant) + error) + SMALLEST
    return np.inf if np.isnan(total) else total


@strict
def _lines(low: float, high: float) -> tuple[float, float, float]:
    """(upper slope, intercept, lower slope) as Lines.of; an infinite width gives the intercept inf, that is no bound."""
    if low >= 0.0:
        return 1.0, 0.0, 1.0
    if high <= 0.0:
        return 0.0, 0.0, 0.0
    slope = 1.0 if high > -low else 0.0
    width = high - low
    if not width < np.inf:
        return 1.0, np.inf, slope
    upper_slope = min(max(high / width, 0.0), 1.0)
    needed = max(-upper_slope * low, (1.0 - upper_slope) * high)
    return upper_slope, needed * (1.0 + 1e-15) + TINY, slope


@strict
def _bound_layer(
    transposed: Array, absolute: Array, bias: Array, lower: Array, upper: Array, centre_values: Array, error: float,
    low: Array, high: Array, magnitude: Array, guess: Array, centre: Array, radius: Array, largest: Array, used: Array,
) -> float:  # fmt: skip
    """Fills low, high, magnitude (m,) of an affine layer from bounds of its inputs, and guess, its value at about the centre.

    As interval.affine_interval. Returns floor: what underflow may cost a row that is pushed through this layer.
    """
    m, n = len(bias), len(lower)
    inputs = 0.0
    for i in range(n):
        centre[i] = 0.5 * lower[i] + 0.5 * upper[i]
        largest[i] = max(abs(lower[i]), abs(upper[i]))
        # the radius around the rounded centre, with the rounding of the differences added
        radius[i] = max(upper[i] - centre[i], centre[i] - lower[i]) + 4.0 * UNIT * largest[i]
        inputs += largest[i]
    combine(centre[:n], transposed, low, used)
    combine(radius[:n], absolute, high, used)
    combine(largest[:n], absolute, magnitude, used)
    combine(centre_values[:n], transposed, guess, used)
    floor = TINY
    for t in range(m):
        guess[t] += bias[t]
        size = magnitude[t] + abs(bias[t])
        middle, spread, slack = low[t] + bias[t], high[t], error * size + TINY
        low[t], high[t] = middle - spread - slack, middle + spread + slack
        magnitude[t] = size * (1.0 + error)
        floor += (m + n) * SMALLEST * magnitude[t]
        # NaN comes from overflow only, and bounds nothing
        low[t] = -np.inf if np.isnan(low[t]) else low[t]
        high[t] = np.inf if np.isnan(high[t]) else high[t]
    floor += (m + n) * SMALLEST * inputs
    return np.inf if np.isnan(floor) else floor


@strict
def descend(
    layer: int, a: Array, spare: Array, used: Array, constant: float, error: float,
    sizes: Array, starts: Array, places: Array, weights: Array, transposed: Array, biases: Array, crown_errors: Array, floors: Array,
    magnitude: Array, upper_slope: Array, intercept: Array, slope: Array, kept: Array,
) -> tuple[Array, float, float]:  # fmt: skip
    """Push coefficients a (at least the widest layer long) of the inputs of `layer` down to the network's input.

    Returns (coefficients (n,), constant, error). kept (h,) or (0,): takes the coefficients of every ReLU output on the way.
    """
    for k in range(layer - 1, -1, -1):
        m, n, first = sizes[k + 1], sizes[k], starts[k]
        last = first + m
        row = a[:m]
        if len(kept):
            kept[first:last] = row
        constant += _intercepts(row, intercept[first:last])
        _through_relu(row, upper_slope[first:last], slope[first:last])
        size, value = sums(row, magnitude[first:last], biases[first:last])
        error += crown_errors[k] * size + floors[k]
        constant += value
        if n < NARROW:
            columns = transposed[places[k] : places[k + 1]].reshape(n, m)
            for i in range(n):
                spare[i] = _dot(row, columns[i])
        else:
            combine(row, weights[places[k] : places[k + 1]].reshape(m, n), spare, used)
        a, spare = spare, a
    return a[: sizes[0]], constant, error


@strict
def _tighten(low: Array, high: Array, known_low: Array, known_high: Array) -> bool:
    """Intersect with known bounds (m,); whether they contradict each other somewhere."""
    crossed = False
    for t in range(low.shape[0]):
        low[t] = max(low[t], known_low[t])
        high[t] = min(high[t], known_high[t])
        crossed |= low[t] > high[t]
    return crossed


@strict
def _exchange(low: Array, high: Array) -> None:
    """Contradicting bounds are exchanged, to keep the arithmetic clean: the piece is answered by `empty`."""
    for t in range(low.shape[0]):
        if low[t] > high[t]:
            low[t], high[t] = high[t], low[t]


@strict
def _piece(
    sizes: Array, starts: Array, places: Array, weights: Array, transposed: Array, absolute: Array, biases: Array,
    interval_errors: Array, crown_errors: Array, support_error: float,
    lower: Array, upper: Array, known_lower: Array, known_upper: Array,
    low: Array, high: Array, magnitude: Array, upper_slope: Array, intercept: Array, slope: Array,
    post_low: Array, post_high: Array, floors: Array, empty: bool, room: Array, used: Array,
) -> bool:  # fmt: skip
    """`walk` for one piece; returns whether it is empty. room (9, widest): scratch."""
    a, spare, centre_values, guess, centre, radius, largest, point, unused = (
        room[0], room[1], room[2], room[3], room[4], room[5], room[6], room[7], room[8][:0],
    )  # fmt: skip
    layers = len(sizes) - 1
    for i in range(sizes[0]):
        centre_values[i] = 0.5 * lower[i] + 0.5 * upper[i]
    before_low, before_high = lower, upper
    for k in range(layers):
        m, n, first, place = sizes[k + 1], sizes[k], starts[k], places[k]
        last = first + m
        low_k, high_k, magnitude_k, bias_k = low[first:last], high[first:last], magnitude[first:last], biases[first:last]
        floors[k] = _bound_layer(
            transposed[place : places[k + 1]].reshape(n, m), absolute[place : places[k + 1]].reshape(n, m), bias_k,
            before_low, before_high, centre_values, interval_errors[k],
            low_k, high_k, magnitude_k, guess, centre, radius, largest, used,
        )  # fmt: skip
        if k == layers - 1:
            break
        if _tighten(low_k, high_k, known_lower[first:last], known_upper[first:last]):
            empty = True
            _exchange(low_k, high_k)
        if k > 0 and not empty:
            for t in range(m):
                if not low_k[t] < 0.0 < high_k[t]:
                    continue
                # The direction that may prove the neuron inactive goes first: then the other one is of no use to anybody.
                sign = 1.0 if guess[t] < 0.0 else -1.0
                for _ in range(2):
                    row = weights[place + t * n : place + (t + 1) * n]
                    for s in range(n):
                        a[s] = sign * row[s]
                    c, constant, error = descend(
                        k, a, spare, used, sign * bias_k[t], crown_errors[k] * magnitude_k[t] + floors[k],
                        sizes, starts, places, weights, transposed, biases, crown_errors, floors,
                        magnitude, upper_slope, intercept, slope, unused,
                    )  # fmt: skip
                    bound = concretise(c, lower, upper, constant, error, support_error, point)
                    if sign > 0.0:
                        high_k[t] = min(high_k[t], bound)
                        if high_k[t] <= 0.0:
                            break
                    else:
                        low_k[t] = max(low_k[t], -bound)
                    sign = -sign
                empty |= low_k[t] > high_k[t]
            if empty:
                _exchange(low_k, high_k)
        before_low, before_high = post_low[first:last], post_high[first:last]
        for t in range(m):
            upper_slope[first + t], intercept[first + t], slope[first + t] = _lines(low_k[t], high_k[t])
            before_low[t], before_high[t], centre_values[t] = max(low_k[t], 0.0), max(high_k[t], 0.0), max(guess[t], 0.0)
    return empty


@strict
def walk(
    sizes: Array, starts: Array, places: Array, weights: Array, transposed: Array, absolute: Array, biases: Array,
    interval_errors: Array, crown_errors: Array, support_error: float,
    lower: Array, upper: Array, known_lower: Array, known_upper: Array,
    low: Array, high: Array, magnitude: Array, upper_slope: Array, intercept: Array, slope: Array,
    post_low: Array, post_high: Array, floors: Array, empty: Array,
) -> None:  # fmt: skip
    """Fills low, high, magnitude (B, H), the lines and bounds of every ReLU (B, h), floors (B, K) and empty (B,) for boxes lower, upper
    (B, n). known_lower, known_upper (B or 1, h): pre-activation bounds that hold on the pieces. H counts the outputs, h does not."""
    widest = sizes.max()
    room, used = np.empty((9, widest)), np.empty(widest + 1, np.int64)
    for b in range(len(lower)):
        known = b if len(known_lower) > 1 else 0
        empty[b] = _piece(
            sizes, starts, places, weights, transposed, absolute, biases, interval_errors, crown_errors, support_error,
            lower[b], upper[b], known_lower[known], known_upper[known],
            low[b], high[b], magnitude[b], upper_slope[b], intercept[b], slope[b], post_low[b], post_high[b], floors[b], empty[b],
            room, used,
        )  # fmt: skip

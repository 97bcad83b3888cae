"""Rows of the output over pieces that kernel.walk bounded: their linear bounds, better slopes for them, and scores of the input axes.

Whatever slopes in [0, 1] and whatever scores come out here, a bound is proved by `backward` alone, whose error analysis is kernel.py's.
"""

import numpy as np

from verifier.bounds.kernel import Array, combine, concretise, descend, strict, sums


@strict
def backward(
    sizes: Array, starts: Array, places: Array, weights: Array, transposed: Array, biases: Array, crown_errors: Array, floors: Array,
    magnitude: Array, upper_slope: Array, intercept: Array, slope: Array, rows: Array,
    coefficients: Array, constant: Array, error: Array, kept: Array,
) -> None:  # fmt: skip
    """Linear upper bounds of rows (B, S, K) of the network's output: fills coefficients (B, S, n), constant, error (B, S), and kept
    (B, S, h), the coefficients of the ReLU outputs. slope (B, S or 1, h) may be any in [0, 1]; the rest is as `walk` filled it."""
    widest = sizes.max()
    a, spare, used = np.empty(widest), np.empty(widest), np.empty(widest + 1, np.int64)
    for b in range(rows.shape[0]):
        for s in range(rows.shape[1]):
            c, constant[b, s], error[b, s] = _push(
                sizes, starts, places, weights, transposed, biases, crown_errors, floors[b], magnitude[b], upper_slope[b], intercept[b],
                slope[b, s if slope.shape[1] > 1 else 0], rows[b, s], kept[b, s], a, spare, used,
            )  # fmt: skip
            coefficients[b, s] = c


@strict
def _push(
    sizes: Array, starts: Array, places: Array, weights: Array, transposed: Array, biases: Array, crown_errors: Array, floors: Array,
    magnitude: Array, upper_slope: Array, intercept: Array, slope: Array, row: Array, kept: Array, a: Array, spare: Array, used: Array,
) -> tuple[Array, float, float]:  # fmt: skip
    """One row of the output of one piece: (coefficients (n,), constant, error)."""
    last = len(sizes) - 2
    outputs = slice(starts[last], starts[last + 1])
    size, value = sums(row, magnitude[outputs], biases[outputs])
    combine(row, weights[places[last] : places[last + 1]].reshape(sizes[last + 1], sizes[last]), a, used)
    return descend(
        last, a, spare, used, value, crown_errors[last] * size + floors[last],
        sizes, starts, places, weights, transposed, biases, crown_errors, floors, magnitude, upper_slope, intercept, slope, kept,
    )  # fmt: skip


@strict
def improve(
    sizes: Array, starts: Array, places: Array, weights: Array, transposed: Array, biases: Array, crown_errors: Array, floors: Array,
    low: Array, high: Array, magnitude: Array, upper_slope: Array, intercept: Array, slope: Array,
    lower: Array, upper: Array, rows: Array, inputs: Array, offsets: Array, support_error: float, steps: int, rate: float, enough: float,
    best: Array,
) -> None:  # fmt: skip
    """optimise.optimise without multipliers, row by row: fills best (B, S, h) with the slopes of the best of `steps` steps.

    A row is rows (B, S, K) of the outputs plus inputs (B, S, n) of the inputs plus offsets (B, S). Once a row's bound is below `enough`,
    the piece's rows are left as they are. Proves nothing.
    """
    widest, h = sizes.max(), starts[-2]
    a, spare, used = np.empty(widest), np.empty(widest), np.empty(widest + 1, np.int64)
    point, c = np.empty(sizes[0]), np.empty(sizes[0])
    kept, alpha, values, first, second = np.empty(h), np.empty(h), np.empty(h), np.empty(h), np.empty(h)
    for b in range(rows.shape[0]):
        done = False
        for s in range(rows.shape[1]):
            alpha[:] = slope[b]
            best[b, s] = slope[b]
            if done:
                continue
            first[:] = 0.0
            second[:] = 0.0
            least = np.inf
            for step in range(steps):
                pushed, constant, error = _push(
                    sizes, starts, places, weights, transposed, biases, crown_errors, floors[b],
                    magnitude[b], upper_slope[b], intercept[b], alpha, rows[b, s], kept, a, spare, used,
                )  # fmt: skip
                for i in range(sizes[0]):
                    c[i] = pushed[i] + inputs[b, s, i]
                value = concretise(c, lower[b], upper[b], constant + offsets[b, s], error, support_error, point)
                if value < least:
                    least = value
                    best[b, s] = alpha
                done = least < enough
                if done or step == steps - 1:
                    break
                _forward(
                    sizes, starts, places, transposed, biases, upper_slope[b], intercept[b], alpha, kept, point, values, a, spare, used
                )
                scale = rate * 0.97**step
                for t in range(h):
                    if low[b, t] < 0.0 < high[b, t]:
                        # Adam (Kingma and Ba 2015) on the envelope gradient, as in optimise.py
                        gradient = min(kept[t], 0.0) * values[t]
                        first[t] = 0.9 * first[t] + 0.1 * gradient
                        second[t] = 0.999 * second[t] + 0.001 * gradient * gradient
                        direction = first[t] / (1.0 - 0.9 ** (step + 1.0))
                        direction /= np.sqrt(second[t] / (1.0 - 0.999 ** (step + 1.0))) + 1e-12
                        moved = alpha[t] - scale * direction
                        alpha[t] = min(max(moved, 0.0), 1.0) if moved == moved else alpha[t]


@strict
def _forward(
    sizes: Array, starts: Array, places: Array, transposed: Array, biases: Array,
    upper_slope: Array, intercept: Array, slope: Array, kept: Array, point: Array, values: Array, a: Array, spare: Array, used: Array,
) -> None:  # fmt: skip
    """Fills values (h,): the pre-activations when the point runs through the lines that the row chose (optimise.replay)."""
    a[: sizes[0]] = point
    for k in range(len(sizes) - 2):
        m, n, start = sizes[k + 1], sizes[k], starts[k]
        combine(a[:n], transposed[places[k] : places[k + 1]].reshape(n, m), spare, used)
        for t in range(m):
            z = spare[t] + biases[start + t]
            values[start + t] = z
            a[t] = upper_slope[start + t] * z + intercept[start + t] if kept[start + t] > 0.0 else slope[start + t] * z


@strict
def gains(
    sizes: Array, starts: Array, places: Array, transposed: Array, width: Array,
    low: Array, high: Array, upper_slope: Array, costs: Array, score: Array,
) -> None:  # fmt: skip
    """branching.axis_scores: adds to score (B, n) what halving each axis saves of costs (B, h). Proves nothing."""
    widest = sizes.max()
    a, spare, used = np.empty(widest), np.empty(widest), np.empty(widest + 1, np.int64)
    for b in range(score.shape[0]):
        for i in range(sizes[0]):
            a[: sizes[0]] = 0.0
            a[i] = width[b, i]
            for k in range(len(sizes) - 2):
                m, n, first = sizes[k + 1], sizes[k], starts[k]
                combine(a[:n], transposed[places[k] : places[k + 1]].reshape(n, m), spare, used)
                for t in range(m):
                    place = first + t
                    if low[b, place] < 0.0 < high[b, place]:
                        score[b, i] += abs(spare[t]) * costs[b, place] / (high[b, place] - low[b, place])
                    a[t] = spare[t] * upper_slope[b, place]

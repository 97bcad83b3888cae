"""Images with exactly the mass of another one.

Attacks and searches find images in floating point, where mass is kept only up to rounding. Here such an image becomes float64
numbers whose sum, as real numbers, is exactly the sum of the original's; its distance is then decided in `problems.transport.flows`.
"""

from fractions import Fraction
from math import floor, inf, log2

import numpy as np

from problems.rounding import is_float64
from problems.transport.grid import Grid

Array = np.ndarray

# Binary digits of the grid on which moved pixels lie: three fewer than float64 has, so that their sums are exact.
DIGITS = 50


def conserved(x: Array, target: Array, grid: Grid, *, cap: float = inf) -> Array | None:
    """An image (n,) near `target` (n,) with exactly the mass of x (n,) in every channel and with 0 <= pixels <= cap.

    Pixels that move lie on a dyadic grid of 2^-50 times the largest of them, so the result is that near to the target, but where the target
    itself breaks mass, sign or cap. None where float64 holds no such image: some pixel of x that moves has digits finer than any other
    can keep beside its own.
    """
    result = np.array(x, dtype=np.float64)
    for channel in range(grid.channels):
        part = slice(channel * grid.pixels, (channel + 1) * grid.pixels)
        moved = _channel(result[part], np.asarray(target, dtype=np.float64)[part], cap)
        if moved is None:
            return None
        result[part] = moved
    return result


def _channel(x: Array, target: Array, cap: float) -> Array | None:
    target = np.clip(target, 0.0, cap)
    top = max(float(x.max()), float(target.max()))
    if top == 0.0:
        return x
    unit = 2.0 ** (floor(log2(top)) + 1 - DIGITS)
    places = np.flatnonzero(np.abs(target - x) > 8.0 * unit)
    if not len(places):
        return x
    steps = [round(value) for value in (target[places] / unit).tolist()]
    most = inf if cap == inf else floor(Fraction(cap) / Fraction(unit))
    total = sum((Fraction(value) for value in x[places].tolist()), Fraction(0)) / Fraction(unit)
    rest = total - floor(total)
    # What is finer than the grid stays together in one pixel, with as much else as float64 can hold beside it.
    fine = min(range(len(steps)), key=steps.__getitem__)
    if rest:
        while steps[fine] > 0 and not is_float64((steps[fine] + rest) * Fraction(unit)):
            steps[fine] //= 2
        if not is_float64((steps[fine] + rest) * Fraction(unit)):
            return None
    surplus = floor(total) - sum(steps)
    for place in sorted((k for k in range(len(steps)) if k != fine or not rest), key=steps.__getitem__, reverse=True):
        if not surplus:
            break
        value = min(max(steps[place] + surplus, 0), most)
        surplus -= value - steps[place]
        steps[place] = int(value)
    if surplus:
        return None
    result = x.copy()
    result[places] = [float(step * Fraction(unit)) for step in steps]
    if rest:
        result[places[fine]] = float((steps[fine] + rest) * Fraction(unit))
        if result[places[fine]] > cap:
            return None
    return result

"""The inscribed radius of a cell in a bounded region, from an exact linear program: for cells that are thin beside the rounding of floats.

    maximise s:  row_i(x) >= s |row_i|_2,  x_k +- s within the sides of the box,  |x - center|_1 <= radius - sqrt(n) s

in the unit variables of exact_rows.py. Norms are rounded up to floats, so that the radius is one from below, by a share of 2^-52.
"""

from fractions import Fraction
from math import lcm

import numpy as np

from problems.maps import Array
from problems.rounding import root_up, round_down
from solvers.rational import largest
from verifier.enumeration.exact_rows import ExactComposer

# More variables make rational programs too slow for what is only printed.
MOST_VARIABLES = 128


def inscribed_radius(composer: ExactComposer, pattern: Array) -> float:
    """A lower bound of the inscribed radius of the full cell with this pattern (h,), in input space, relative to sides of width zero.

    The frame is no cone and has no l2 ball.
    """
    frame, n = composer.frame, composer.frame.variables
    shared = [sum(1 for a in frame.matrix[i] if a) for i in range(len(frame.matrix))]
    weights = [sum((Fraction(1, shared[i]) for i in np.flatnonzero(frame.matrix[:, k])), Fraction(0)) for k in range(n)]
    unit = max(composer.width)  # s is counted in this unit
    rows: list[list[Fraction]] = []
    for k, part in enumerate(composer.layout.slices):
        for sign, row in zip(pattern[part].tolist(), composer.layer(k, pattern), strict=True):
            rows.append([Fraction(int(a) * sign) for a in row])
    rows = [row for row in rows if any(row[:-1])]
    slopes = [_norm(row, weights, composer.width) for row in rows]
    for row in composer.own_rows():
        rows.append([Fraction(int(a)) for a in row])
        # The row of an l1 ball, radius - sum p + q, has the norm sqrt(n) in input space: as much as the norm of its coefficients by p.
        slopes.append(_norm(rows[-1], weights, composer.width))
    for k in range(n):
        for sign in (1, -1):
            if sign > 0 and any(shared[i] > 1 for i in np.flatnonzero(frame.matrix[:, k])):
                continue  # p >= 0 and q >= 0 are no sides of an l1 ball
            row = [Fraction(0)] * (n + 1)
            row[k], row[n] = Fraction(sign), Fraction(0 if sign > 0 else 1)
            rows.append(row)
            slopes.append(Fraction(1) / composer.width[k])
    system, offsets = np.zeros((len(rows), n + 1), dtype=object), np.zeros(len(rows), dtype=object)
    for i, (row, slope) in enumerate(zip(rows, slopes, strict=True)):
        whole = [*row[:n], -slope * unit, row[n]]
        common = lcm(*(value.denominator for value in whole))
        system[i] = [int(value * common) for value in whole[:-1]]
        offsets[i] = int(whole[-1] * common)
    objective = np.zeros(n + 1, dtype=object)
    objective[n] = 1
    found = largest(objective, 0, system, offsets, above=0)
    return 0.0 if found is None else max(0.0, round_down(found.value * unit))


def _norm(row: list[Fraction], weights: list[Fraction], width: list[Fraction]) -> Fraction:
    """The norm of a row in input space, rounded up."""
    square = sum((w * (a / side) ** 2 for a, w, side in zip(row[:-1], weights, width, strict=True) if a), Fraction(0))
    return _root(square)


def _root(square: Fraction) -> Fraction:
    """A rational >= sqrt(square), within a share of 2^-52, whatever its size."""
    exponent = 0
    if square:
        exponent = (square.numerator.bit_length() - square.denominator.bit_length()) // 2
    scaled = square / Fraction(4) ** exponent
    return Fraction(root_up(scaled)) * Fraction(2) ** exponent

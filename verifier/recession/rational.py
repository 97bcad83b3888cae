"""Questions about cones in exact rational arithmetic."""

from collections.abc import Sequence
from fractions import Fraction
from math import gcd, lcm

import numpy as np

from solvers.rational import largest

Exact = Sequence[Fraction]


def grows(cost: Exact, rows: Sequence[Exact]) -> bool:
    """Whether cost . w > 0 for some w >= 0 with rows w >= 0: a linear program over the unit box, which cuts directions but loses none."""
    matrix = np.zeros((len(rows), len(cost)), dtype=object)
    for i, row in enumerate(rows):
        matrix[i] = whole(row)
    objective, zeros = np.zeros(len(cost), dtype=object), np.zeros(len(rows), dtype=object)
    objective[:] = whole(cost)
    found = largest(objective, 0, matrix, zeros, above=0)
    return found is not None and found.value > 0


def exactly(rows: Sequence[Exact]) -> bool:
    """Whether {u : rows u >= 0} != {0}, in rational arithmetic.

    If sum_i rows_i u is positive somewhere on the cone there is a direction; if not, all rows vanish on the cone, a linear space.
    """
    rows = _distinct(rows)
    if not rows:
        return True
    d = len(rows[0])
    total = [sum((row[j] for row in rows), Fraction(0)) for j in range(d)]
    return grows([*total, *(-v for v in total)], [[*row, *(-v for v in row)] for row in rows]) or rank(rows) < d


def _distinct(rows: Sequence[Exact]) -> list[Exact]:
    """The rows without zeros, and without positive multiples of others."""
    seen = {}
    for row in rows:
        head = next((abs(v) for v in row if v), None)
        if head is not None:
            seen[tuple(v / head for v in row)] = True
    return [list(row) for row in seen]


def rank(rows: Sequence[Exact]) -> int:
    """The rank of a matrix of fractions, given by its rows."""
    left = [whole(row) for row in rows]
    found = 0
    for column in range(len(left[0]) if left else 0):
        pivot = next((i for i in range(found, len(left)) if left[i][column]), None)
        if pivot is None:
            continue
        left[found], left[pivot] = left[pivot], left[found]
        head = left[found]
        for i in range(found + 1, len(left)):
            if left[i][column]:
                a, b = head[column], left[i][column]
                left[i] = _reduced([a * v - b * w for v, w in zip(left[i], head, strict=True)])
        found += 1
    return found


def whole(values: Exact) -> list[int]:
    """A positive multiple of the values, in small integers."""
    fractions = [Fraction(value) for value in values]
    denominator = lcm(*(value.denominator for value in fractions))
    return _reduced([value.numerator * (denominator // value.denominator) for value in fractions])


def _reduced(values: list[int]) -> list[int]:
    divisor = gcd(*values)
    return values if divisor < 2 else [v // divisor for v in values]

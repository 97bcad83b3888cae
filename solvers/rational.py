"""Small linear programs over the unit box in exact integer arithmetic: where floats cannot decide a sign.

    maximise  d.w + o   over  0 <= w <= 1,  R w + r >= 0        (all data integers; scale a row by any positive number)

The dual simplex method on an integer dictionary with one common denominator (Edmonds; Bareiss): after a pivot every entry is again an
integer over the new pivot. Variables at their upper side are replaced by 1 - w. Bland's rule makes it end: the violated basic variable of
smallest index leaves, and among the smallest ratios the smallest index enters.
"""

from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]


@dataclass(frozen=True, eq=False)
class Optimum:
    """The largest value and a point w (N,) where it is reached."""

    value: Fraction
    point: tuple[Fraction, ...]


def largest(objective: Array, constant: int, rows: Array, offsets: Array, *, above: int | None = None) -> Optimum | None:
    """The maximum of objective.w + constant over the unit box and rows w + offsets >= 0; None if that set is empty.

    objective (N,), rows (M, N), offsets (M,): Python integers in object arrays. above: None is also returned as soon as the maximum is
    proved to be at most this number.
    """
    dictionary = _Dictionary(objective, constant, rows, offsets)
    while True:
        if above is not None and dictionary.value() <= above:
            return None
        row = dictionary.violated()
        if row is None:
            return Optimum(dictionary.value(), dictionary.point())
        column = dictionary.entering(row)
        if column is None:
            return None
        dictionary.pivot(row, column)


class _Dictionary:
    """basic_i = (table[i, 0] + table[i, 1:] . nonbasic) / scale; the last row is the objective. Ids: variables 0..N-1, slacks N..N+M-1."""

    def __init__(self, objective: Array, constant: int, rows: Array, offsets: Array) -> None:
        n, m = len(objective), len(offsets)
        self.table = np.zeros((m + 1, n + 1), dtype=object)
        self.table[:m, 0], self.table[:m, 1:] = offsets, rows
        self.table[m, 0], self.table[m, 1:] = constant, objective
        self.scale = 1
        self.variables = n
        self.nonbasic = list(range(n))
        self.basic = list(range(n, n + m))
        self.flipped = [False] * n
        for j in range(n):
            if self.table[m, j + 1] > 0:
                self._flip_nonbasic(j)

    def value(self) -> Fraction:
        return Fraction(int(self.table[-1, 0]), self.scale)

    def _flip_nonbasic(self, j: int) -> None:
        self.flipped[self.nonbasic[j]] ^= True
        self.table[:, 0] += self.table[:, j + 1]
        self.table[:, j + 1] = -self.table[:, j + 1]

    def violated(self) -> int | None:
        """The row of the violated basic variable of smallest id; one above its upper side is flipped first."""
        best = None
        for i, name in enumerate(self.basic):
            above = name < self.variables and self.table[i, 0] > self.scale
            if (self.table[i, 0] < 0 or above) and (best is None or name < self.basic[best]):
                best = i
        if best is not None and self.table[best, 0] > 0:
            self.flipped[self.basic[best]] ^= True
            self.table[best] = -self.table[best]
            self.table[best, 0] += self.scale
        return best

    def entering(self, row: int) -> int | None:
        best: int | None = None
        for j, name in enumerate(self.nonbasic):
            a, d = self.table[row, j + 1], self.table[-1, j + 1]
            if a <= 0:
                continue
            if best is None:
                best = j
                continue
            other = d * self.table[row, best + 1] - self.table[-1, best + 1] * a  # both costs are <= 0: the larger ratio is nearer to zero
            if other > 0 or (other == 0 and name < self.nonbasic[best]):
                best = j
        return best

    def pivot(self, row: int, column: int) -> None:
        c = column + 1
        p = int(self.table[row, c])  # positive
        leaving = self.table[row].copy()
        factors = self.table[:, c].copy()
        table = (self.table * p - np.multiply.outer(factors, leaving)) // self.scale
        table[:, c] = factors
        table[row] = -leaving
        table[row, c] = self.scale
        self.table, self.scale = table, p
        self.basic[row], self.nonbasic[column] = self.nonbasic[column], self.basic[row]

    def point(self) -> tuple[Fraction, ...]:
        values = [Fraction(0)] * self.variables
        for i, name in enumerate(self.basic):
            if name < self.variables:
                values[name] = Fraction(int(self.table[i, 0]), self.scale)
        return tuple(1 - v if flip else v for v, flip in zip(values, self.flipped, strict=True))

"""Pre-activations as exact affine functions of a frame's variables, given the signs of the layers before.

A function is a column of Python integers (N + 1,), coefficients first and the constant last, over one positive denominator per layer.
Variables are w in [0, 1]: v = lower + (upper - lower) w.
"""

from fractions import Fraction
from math import gcd, lcm

import numpy as np

from problems.exact import integers
from problems.maps import Array, LinearMap
from problems.network import Affine, Input, Network, Relu
from verifier.bounds import Layout
from verifier.enumeration.frame import Frame

Value = tuple[Array, int]  # numerators (N + 1, size), denominator


class ExactComposer:
    """As compose.Composer, without rounding."""

    def __init__(self, network: Network, frame: Frame) -> None:
        self.network, self.frame = network, frame
        self.layout = Layout.of(network)
        self.width = [high - low for low, high in zip(frame.exact_lower, frame.exact_upper, strict=True)]
        self._values: dict[int, Value] = {}
        self._known: dict[int, bytes] = {}
        self._rows: dict[int, tuple[bytes, Array]] = {}

    def own_rows(self) -> Array:
        """(S, N + 1): the rows of the frame, each times a positive number; for a cone t >= 0 besides, which inner points must not touch."""
        frame = self.frame
        floats = list(zip(frame.rows.tolist(), frame.offsets.tolist(), strict=True))
        if frame.cone:
            floats.append(([0.0] * (frame.variables - 1) + [1.0], 0.0))
        rows = [self._in_unit_box([Fraction(a) for a in row], Fraction(c)) for row, c in floats]
        result = np.zeros((len(rows), self.frame.variables + 1), dtype=object)
        for i, row in enumerate(rows):
            result[i] = _whole(row)
        return result

    def _in_unit_box(self, coefficients: list[Fraction], constant: Fraction) -> list[Fraction]:
        moved = constant + sum((a * low for a, low in zip(coefficients, self.frame.exact_lower, strict=True) if a), Fraction(0))
        return [a * width for a, width in zip(coefficients, self.width, strict=True)] + [moved]

    def layer(self, k: int, pattern: Array) -> Array:
        """(m, N + 1): the pre-activations of ReLU layer k, each times a positive number."""
        last = self.network.nodes[self.layout.relus[k]].parent  # type: ignore[union-attr]
        for index in range(last + 1):
            before = sum(part.stop - part.start for relu, part in zip(self.layout.relus, self.layout.slices, strict=True) if relu <= index)
            key = np.asarray(pattern[:before], dtype=np.int8).tobytes()
            if self._known.get(index) != key:
                self._values[index] = self._compute(index, pattern)
                self._known[index] = key
        key = self._known[last]
        if k not in self._rows or self._rows[k][0] != key:
            rows = self._values[last][0].T.copy()
            for i in range(len(rows)):
                divisor = gcd(*rows[i].tolist())
                if divisor > 1:
                    rows[i] //= divisor
            self._rows[k] = key, rows
        return self._rows[k][1]

    def _compute(self, index: int, pattern: Array) -> Value:
        node, n = self.network.nodes[index], self.frame.variables
        if isinstance(node, Input):
            return self._input()
        if isinstance(node, Relu):
            active = pattern[self.layout.slices[self.layout.relus.index(index)]] > 0
            numerators, denominator = self._values[node.parent]
            masked = np.zeros(numerators.shape, dtype=object)
            masked[:, active] = numerators[:, active]
            return masked, denominator
        assert isinstance(node, Affine)
        bias, denominator = integers(node.bias)
        total = np.zeros((n + 1, node.size), dtype=object)
        if self.frame.cone:  # t = w_t: its sides are 0 and 1
            total[n - 1] = bias
        else:
            total[n] = bias
        for parent, linear in zip(node.parents, node.maps, strict=True):
            added, own = _applied(linear, *self._values[parent])
            common = lcm(denominator, own)
            total, denominator = total * (common // denominator) + added * (common // own), common
        return total, denominator

    def _input(self) -> Value:
        columns = [
            _with_shift(self._in_unit_box([Fraction(a) for a in row], Fraction(0)), shift)
            for row, shift in zip(self.frame.matrix.tolist(), self.frame.exact_shift, strict=True)
        ]
        flat, denominator = integers([value for column in columns for value in column])
        return flat.reshape(len(columns), -1).T.copy(), denominator


def _with_shift(row: list[Fraction], shift: Fraction) -> list[Fraction]:
    return [*row[:-1], row[-1] + shift]


def _whole(row: list[Fraction]) -> Array:
    numerators, _ = integers(row)
    return numerators


def _applied(linear: LinearMap, numerators: Array, denominator: int) -> Value:
    """The map on every row of numerators (N + 1, in)."""
    matrix, divisors = linear.rows()
    weights, scale = integers(np.asarray(matrix.data, dtype=np.float64))
    result = np.zeros((len(numerators), matrix.shape[0]), dtype=object)
    filled = np.flatnonzero(np.diff(matrix.indptr))  # reduceat would give an empty row its neighbour's first entry
    if len(filled):
        result[:, filled] = np.add.reduceat(numerators[:, matrix.indices] * weights, matrix.indptr[:-1][filled], axis=1)
    if divisors is None:
        return result, denominator * scale
    tops, bottom = integers(divisors)
    common = lcm(*tops.tolist())
    factors = np.empty(len(tops), dtype=object)
    factors[:] = [bottom * (common // top) for top in tops]
    return result * factors, denominator * scale * abs(common)

"""The full cells below a prefix of signs, in exact arithmetic: what floats left undecided.

The same search as kernel.py without errors: a partial cell has a rational inner point; the sign of the next neuron is free where the
point is not on its row, and for another sign the exact maximum decides. Slow: it is meant for subtrees that hardly exist.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from fractions import Fraction

import numpy as np

from problems.maps import Array
from solvers.rational import largest
from verifier.enumeration.exact_rows import ExactComposer
from verifier.enumeration.frame import Frame

Point = tuple[Fraction, ...]


@dataclass(frozen=True, eq=False)
class ExactLeaf:
    """A full cell: pattern (h,), an exact inner point in the frame's variables (N,), and which neurons are identically zero (h,)."""

    pattern: Array
    point: Point
    vanishing: Array


@dataclass(eq=False)
class _Node:
    pattern: Array
    position: int
    point: Point
    rows: Array


class ExactSearch:
    """Full cells below prefixes, lexicographically; `stop` is the position at which leaves are (default: all neurons)."""

    def __init__(self, composer: ExactComposer, stop: int | None = None) -> None:
        self.composer, self.frame = composer, composer.frame
        self.neurons = composer.layout.neurons
        self.stop = self.neurons if stop is None else stop
        self.layer_of = np.repeat(np.arange(len(composer.layout.slices)), [part.stop - part.start for part in composer.layout.slices])

    def leaves(
        self, prefix: Array, *, start: Array | None = None, forced: Array | None = None, late: Callable[[], object] = lambda: None
    ) -> Iterator[ExactLeaf | None]:
        """The leaves below `prefix` (k,), behind `start` (h,), with the signs `forced` (h,), 0 where free; None if `late` says to stop."""
        root = self._root(prefix)
        stack = [] if root is None else [root]
        while stack:
            if late():
                yield None
                return
            node = stack.pop()
            if node.position == self.stop:
                leaf = ExactLeaf(node.pattern[: self.stop], self._variables(node.point), self._vanishing(node.pattern))
                if start is None or tuple(leaf.pattern) > tuple(start[: self.stop]):
                    yield leaf
                continue
            stack += reversed(self._children(node, forced, start))

    def _row(self, j: int, pattern: Array) -> Array:
        k = int(self.layer_of[j])
        return self.composer.layer(k, pattern)[j - self.composer.layout.slices[k].start]

    def _root(self, prefix: Array) -> _Node | None:
        """The partial cell of a prefix with an inner point, or None if it is not full.

        The point maximises the smallest value of the rows. It may lie on sides of the box: an open set that meets a box of full dimension
        meets its interior.
        """
        pattern = np.zeros(self.neurons, np.int8)
        pattern[: len(prefix)] = prefix
        rows = list(self.composer.own_rows())
        for j in range(len(prefix)):
            row = self._row(j, pattern)
            if not row.any():
                if prefix[j] > 0:
                    return None
                continue
            if not row[:-1].any():
                if (row[-1] > 0) != (prefix[j] > 0):
                    return None
                continue
            rows.append(row * int(prefix[j]))
        matrix = np.array(rows, dtype=object).reshape(len(rows), self.frame.variables + 1)
        point = self._centre(matrix)
        return None if point is None else _Node(pattern, len(prefix), point, matrix)

    def _centre(self, rows: Array) -> Point | None:
        n = self.frame.variables
        objective = np.zeros(n + 1, dtype=object)
        objective[n] = 1
        # rows w + offset - size s >= 0 with s in [0, 1]: every row is weighed by its own size
        sizes = np.zeros(len(rows), dtype=object)
        for i, row in enumerate(rows):
            sizes[i] = -sum(abs(int(a)) for a in row)
        system = np.concatenate([rows[:, :n], sizes[:, None]], axis=1)
        found = largest(objective, 0, system, rows[:, n], above=0)
        if found is None or found.value <= 0:
            return None
        return self._simple(rows, found.point[:n])

    def _children(self, node: _Node, forced: Array | None, start: Array | None) -> list[_Node]:
        j, n = node.position, self.frame.variables
        row = self._row(j, node.pattern)
        if not row[:-1].any():
            points: dict[int, Point] = {1 if row[-1] > 0 else -1: node.point}
            cut = False
        else:
            value = _value(row, node.point)
            points, cut = {}, True
            for sign in (-1, 1):
                if forced is not None and forced[j] == -sign:
                    continue
                if value * sign > 0:
                    points[sign] = node.point
                    continue
                signed = row * sign
                found = largest(signed[:n], int(signed[n]), node.rows[:, :n], node.rows[:, n], above=0)
                if found is not None and found.value > 0:
                    first = -value * sign / (found.value - value * sign)
                    share = (1 + first) / 2
                    moved = tuple(p + share * (v - p) for p, v in zip(node.point, found.point, strict=True))
                    points[sign] = self._simple(np.concatenate([node.rows, signed[None]]), moved)
        children = []
        for sign in sorted(points):
            if forced is not None and forced[j] == -sign:
                continue
            pattern = node.pattern.copy()
            pattern[j] = sign
            if start is not None and tuple(pattern[: j + 1]) < tuple(start[: j + 1]):
                continue
            rows = np.concatenate([node.rows, row[None] * sign]) if cut else node.rows
            children.append(_Node(pattern, j + 1, points[sign], rows))
        return children

    def _simple(self, rows: Array, point: Point) -> Point:
        """A point of few digits near an inner one, if it is one as well: fractions would grow from step to step."""
        for bits in (20, 60, 200):
            rounded = tuple(Fraction(round(w * 2**bits), 2**bits) for w in point)
            if all(_value(row, rounded) > 0 for row in rows):
                return rounded
        return point

    def _variables(self, point: Point) -> Point:
        low, width = self.frame.exact_lower, self.composer.width
        return tuple(a + b * w for a, b, w in zip(low, width, point, strict=True))

    def _vanishing(self, pattern: Array) -> Array:
        parts = self.composer.layout.slices
        rows = [~self.composer.layer(k, pattern).any(axis=1) for k, part in enumerate(parts) if part.start < self.stop]
        return np.concatenate([np.zeros(0, bool), *rows]).astype(bool)[: self.stop]


def _value(row: Array, point: Point) -> Fraction:
    return sum((int(a) * w for a, w in zip(row[:-1], point, strict=True) if a), Fraction(int(row[-1])))


def inputs(frame: Frame, point: Point) -> list[Fraction]:
    """The exact inputs x (n,) of exact variables (N,)."""
    x = [sum((int(a) * v for a, v in zip(row, point, strict=True) if a), Fraction(0)) for row in frame.matrix.tolist()]
    if frame.cone:
        return [v / point[-1] for v in x]
    return [v + shift for v, shift in zip(x, frame.exact_shift, strict=True)]

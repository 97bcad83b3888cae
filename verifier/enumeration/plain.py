"""The enumeration with a general solver: depth first over the neurons, one linear program per undecided sign. Slow and simple.

The partial pattern of neurons 0..j-1 has a partial cell with an interior point p. The sign of neuron j at p is free; for the other
sign the largest value s (a.v + c) over the closed partial cell decides: positive, then a point of the interior lies between p and the
maximiser; at most zero, proved by a safe dual bound, then no full cell has that sign. In between nothing is proved, and the side is
kept without a point. Cells come in lexicographic order, -1 before +1.

It is the cross-check of the compiled search (kernel.py), and the only search for l2 balls: their programs have a cone.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from math import inf

import numpy as np

from problems.maps import Array
from problems.network import Network
from solvers import Program, Session, open_session
from verifier.bounds.rounding import gamma
from verifier.enumeration.compiled import Found
from verifier.enumeration.compose import Composer, Rows
from verifier.enumeration.frame import Frame


@dataclass(eq=False)
class Leaf:
    """A full pattern (h,), an interior point in the frame's variables (N,) or None, and the neurons that are identically zero (h,)."""

    pattern: Array
    point: Array | None
    vanishing: Array


@dataclass(eq=False)
class _Node:
    """pattern: decided up to neuron `position`, zero behind. constraints: the neurons whose rows cut the region here, in order."""

    pattern: Array
    position: int
    point: Array | None
    constraints: tuple[int, ...] = ()


@dataclass(eq=False)
class PlainSearch:
    """The leaves of the region after `start` (a pattern, or None), within `prefix` (signs, 0 where free), over the first `stop` neurons."""

    composer: Composer
    frame: Frame
    start: Array | None = None
    prefix: Array | None = None
    stop: int | None = None
    solver: str = "auto"
    programs: int = 0
    late: Callable[[], object] = lambda: None
    _session: Session | None = None
    _held: list[tuple[int, int]] = field(default_factory=list)
    _stale: set[int] = field(default_factory=set)

    def leaves(self) -> Iterator[Leaf | None]:
        """The leaves in order; None, as the last, where `late` says to stop."""
        layout, h = self.composer.layout, self.composer.layout.neurons
        h = h if self.stop is None else self.stop
        rows: dict[int, tuple[Array, float, float, float]] = {}
        stack = [_Node(np.zeros(layout.neurons, np.int8), 0, self.frame.start())]
        layer_of = np.concatenate([np.full(part.stop - part.start, k) for k, part in enumerate(layout.slices)] or [np.zeros(0, int)])
        while stack:
            node = stack.pop()
            pattern, point, constraints = node.pattern, node.point, node.constraints
            loaded = -1
            for j in range(node.position, h):
                if self.late():
                    yield None
                    return
                k = int(layer_of[j])
                if k != loaded:
                    self._load(rows, self.composer.layer(k, pattern), layout.slices[k].start)
                    loaded = k
                sides = self._sides(rows, j, pattern, point, constraints)
                if self.prefix is not None and self.prefix[j]:
                    sides = {s: p for s, p in sides.items() if s == self.prefix[j]}
                if not sides:
                    break
                both = len(sides) == 2
                if both:
                    pattern_up = pattern.copy()
                    pattern_up[j] = 1
                    stack.append(_Node(pattern_up, j + 1, sides[1], (*constraints, j)))
                sign = min(sides)
                pattern[j], point = sign, sides[sign]
                if both or (self.prefix is not None and self.prefix[j]) or point is None:
                    constraints = (*constraints, j)
            else:
                if self.start is None or tuple(pattern[:h]) > tuple(self.start[:h]):
                    yield Leaf(pattern[:h].copy(), point, np.array([_vanishes(rows[j]) for j in range(h)], dtype=bool))

    def _load(self, rows: dict[int, tuple[Array, float, float, float]], layer: Rows, first: int) -> None:
        for t in range(len(layer.constants)):
            new = layer.coefficients[t], float(layer.constants[t]), float(layer.error[t]), float(layer.size[t])
            j = first + t
            if j in rows and (rows[j][0] is not new[0]):
                self._stale.add(j)
            rows[j] = new

    def _sides(
        self, rows: dict[int, tuple[Array, float, float, float]], j: int, pattern: Array, point: Array | None, constraints: tuple[int, ...]
    ) -> dict[int, Array | None]:
        """The signs of neuron j that are not proved empty, each with an interior point of its side or None."""
        a, c, error, size = rows[j]
        if not a.any():
            if abs(c) > error:
                return {1 if c > 0 else -1: point}
            if _vanishes(rows[j]):  # one cell, counted as inactive
                return {-1: point}
        rounding = error + 2.0 * gamma(len(a) + 2) * size
        value = -inf if point is None else float(a @ point) + c
        sides: dict[int, Array | None] = {}
        if point is not None and abs(value) > rounding:
            sides[1 if value > 0 else -1] = point
        for sign in (-1, 1):
            if sign not in sides and not self._far(a * sign, c * sign, rounding):
                reached, proved = self._largest(rows, j, sign, pattern, constraints)
                if not proved:
                    sides[sign] = self._between(rows, (j, sign), pattern, constraints, point, reached)
        return sides

    def _far(self, a: Array, c: float, rounding: float) -> bool:
        """Whether a.v + c is at most zero on the whole l2 ball: no program is needed."""
        ball = self.frame.ball
        if ball is None:
            return False
        centre = ball.center[self.frame.matrix.any(axis=1)]
        slack = 4.0 * gamma(len(a) + 4) * (abs(c) + float(np.abs(a) @ np.abs(centre)) + ball.radius * float(np.linalg.norm(a)))
        return float(a @ centre) + c + ball.radius * float(np.linalg.norm(a)) + slack + rounding <= 0.0

    def _largest(
        self, rows: dict[int, tuple[Array, float, float, float]], j: int, sign: int, pattern: Array, constraints: tuple[int, ...]
    ) -> tuple[Array | None, bool]:
        """(a maximiser of sign (a.v + c) over the partial cell, whether the maximum is proved to be <= 0)."""
        a, c, error, _ = rows[j]
        session = self._synchronised(rows, pattern, constraints)
        scale = _power(a)
        session.set_cost(-sign * a * scale, offset=-sign * c * scale)
        self.programs += 1
        solution = session.solve()
        bound, multipliers = -solution.safe_bound, solution.row_duals
        own = 0 if multipliers is None else len(self.frame.offsets)
        charged = error * scale
        if multipliers is not None:
            errors = np.array([rows[i][2] * _power(rows[i][0]) for i in constraints])
            charged += float(np.abs(multipliers[own:]) @ errors) * (1.0 + 1e-12)
        return solution.x, bool(np.nextafter(bound + charged * (1.0 + 1e-12), inf) <= 0.0)

    def _synchronised(self, rows: dict[int, tuple[Array, float, float, float]], pattern: Array, constraints: tuple[int, ...]) -> Session:
        """The session with exactly these constraints: rows that differ from what it holds are replaced."""
        wanted = [(i, int(pattern[i])) for i in constraints]
        frame = self.frame
        if self._session is None:
            self._session = open_session(Program(
                cost=np.zeros(frame.variables), matrix=frame.rows, row_lower=-frame.offsets, row_upper=np.full(len(frame.offsets), inf),
                lower=frame.lower, upper=frame.upper, cones=frame.cones(),
            ), self.solver)  # fmt: skip
        same = 0
        while same < min(len(wanted), len(self._held)) and wanted[same] == self._held[same] and wanted[same][0] not in self._stale:
            same += 1
        own = len(frame.offsets)
        self._session.delete_rows(own + same)
        new = wanted[same:]
        if new:
            scales = [sign * _power(rows[i][0]) for i, sign in new]
            matrix = np.array([rows[i][0] * s for (i, _), s in zip(new, scales, strict=True)])
            lower = np.array([-rows[i][1] * s for (i, _), s in zip(new, scales, strict=True)])
            self._session.add_rows(matrix, lower, np.full(len(new), inf))
        self._held, self._stale = wanted, set()
        return self._session

    def _between(
        self, rows: dict[int, tuple[Array, float, float, float]], side: tuple[int, int], pattern: Array, constraints: tuple[int, ...],
        point: Array | None, reached: Array | None,
    ) -> Array | None:  # fmt: skip
        """A verified interior point of the side between `point` and the maximiser `reached`, or None."""
        if point is None or reached is None:
            return None
        matrix, offsets, errors = self.slacks(rows, [*((i, int(pattern[i])) for i in constraints), side])
        move = np.clip(reached, self.frame.lower, self.frame.upper) - point
        begin, slope = matrix @ point + offsets, matrix @ move

        def smallest(share: float) -> float:
            return min(float((begin + share * slope).min(initial=inf)), self.frame.gap(point + share * move))

        middle = point + best_share(smallest) * move
        return middle if np.all(matrix @ middle + offsets > errors) and self.frame.gap(middle) > 0.0 else None

    def slacks(self, rows: dict[int, tuple[Array, float, float, float]], signed: list[tuple[int, int]]) -> tuple[Array, Array, Array]:
        """(matrix, offsets, errors): matrix v + offsets are the distances of v to the sides of box, rows and constraints, if positive."""
        frame, eye = self.frame, np.eye(self.frame.variables)
        parts = [(eye, -frame.lower, np.zeros(len(eye))), (-eye, frame.upper, np.zeros(len(eye)))]
        listed = [
            (frame.rows[s], float(frame.offsets[s]), 0.0, self._reach(frame.rows[s], frame.offsets[s])) for s in range(len(frame.rows))
        ]
        listed += [(sign * rows[i][0], sign * rows[i][1], rows[i][2], rows[i][3]) for i, sign in signed]
        for a, c, error, size in listed:
            norm = float(np.linalg.norm(a)) or 1.0
            parts.append((a[None] / norm, np.array([c / norm]), np.array([(error + 4.0 * gamma(len(a) + 4) * size) / norm])))
        matrix, offsets, errors = (np.concatenate(group) for group in zip(*parts, strict=True))
        return matrix, offsets, errors

    def _reach(self, a: Array, c: float) -> float:
        return float(np.abs(a) @ self.composer.reach + abs(c)) * (1.0 + 1e-12)


def best_share(smallest: Callable[[float], float]) -> float:
    """The t in [0, 1] at which a concave function is about largest."""
    low, high = 0.0, 1.0
    for _ in range(40):
        one, two = low + (high - low) / 3.0, high - (high - low) / 3.0
        if smallest(one) < smallest(two):
            low = one
        else:
            high = two
    return 0.5 * (low + high)


def _vanishes(row: tuple[Array, float, float, float]) -> bool:
    """Whether a row is proved to be identically zero: no part of it is anything else."""
    return row[2] == 0.0 and row[1] == 0.0 and not row[0].any()


def _power(a: Array) -> float:
    """The power of two that brings the row's norm into [1, 2)."""
    norm = float(np.linalg.norm(a))
    return 1.0 if norm == 0.0 or not np.isfinite(norm) else float(2.0 ** (1 - np.frexp(norm)[1]))


class SolverSearch:
    """PlainSearch in the form of CompiledSearch: `advance` returns leaves, None for a pause, or False at the end. Leaves without a verified
    point have the point NaN."""

    def __init__(
        self, network: Network, frame: Frame, start: Array | None = None, prefix: Array | None = None, stop: int | None = None,
        size: int = 64, late: Callable[[], object] = lambda: None,
    ) -> None:  # fmt: skip
        self.seconds, self.frame = 0.0, frame
        self._composer = Composer(network, frame)
        self._leaves = PlainSearch(self._composer, frame, start, prefix, stop, late=late).leaves()

    def advance(self) -> Found | bool | None:
        """The next leaf."""
        try:
            leaf = next(self._leaves)
        except StopIteration:
            return False
        if leaf is None:
            return None
        point = np.full(self.frame.variables, np.nan) if leaf.point is None else leaf.point
        return Found(leaf.pattern[None], leaf.vanishing[None], point[None], np.full(1, np.nan))

    def taken(self) -> Found:
        """No leaves: none is held back."""
        h, n = self._composer.layout.neurons, self.frame.variables
        return Found(np.zeros((0, h), np.int8), np.zeros((0, h), bool), np.zeros((0, n)), np.zeros(0))

"""Branch and bound whose bound is proved: every node is closed by a safe dual bound, never by a solver's word.

Programs with integer variables have no dual that proves their optimum, and solvers claim wrong ones on badly scaled models. This small
tree search solves the continuous relaxations in one persistent session and keeps, for every leaf, the safe bound that closed it; the
least of them bounds the minimum. Points that it finds are claims, as everywhere. Meant for the small decision programs that close a
search node, and for checking a faster solver's claim; not a rival in speed.
"""

from dataclasses import dataclass, field
from heapq import heappop, heappush
from itertools import count
from math import inf
from time import perf_counter
from typing import Any, ClassVar

import numpy as np

from solvers.program import Array, Capability
from solvers.session import Limits, Outcome, Session
from solvers.solution import Level, Solution, Status

# A node is closed once its bound is this close to the best point, relative to max(1, |objective|).
_GAP = 1e-8
_CONIC_GAP = 1e-6
# How far an entry of x may be from an integer and count as one: only claims depend on it.
_INTEGRAL = 1e-6


@dataclass(order=True)
class _Node:
    """A box of values of the integer variables, (k,) each, and the bound of its parent."""

    bound: float
    number: int
    lower: Array = field(compare=False)
    upper: Array = field(compare=False)
    branched: tuple[int, int, float] | None = field(compare=False, default=None)  # variable, side (0 below, 1 above), distance moved


class _Gains:
    """Pseudocosts: how much the bound rose per unit of rounding, by variable and side. They choose the branch, nothing depends on them.

    Source: Benichou et al., Experiments in mixed-integer linear programming, Math. Program. 1 (1971); the product rule of
    Achterberg, Koch & Martin, Branching rules revisited, Oper. Res. Lett. 33 (2005).
    """

    def __init__(self, variables: int) -> None:
        self.sums, self.counts = np.zeros((2, variables)), np.zeros((2, variables))

    def observe(self, node: _Node, bound: float, closing: float) -> None:
        """The bound of a solved child; one that is closed at once counts as having risen to the closing bound."""
        rise = min(bound, closing) - node.bound
        if node.branched is not None and np.isfinite(rise):
            variable, side, distance = node.branched
            self.sums[side, variable] += max(rise, 0.0) / distance
            self.counts[side, variable] += 1

    def best(self, free: Array, down: Array) -> int:
        """Position in `free` (k,) of the variable whose two children promise most; down (k,): distance to the integer below."""
        total = self.counts.sum()
        mean = self.sums.sum() / total if total and self.sums.sum() > 0 else 1.0
        rates = np.where(self.counts[:, free] > 0, self.sums[:, free] / np.maximum(self.counts[:, free], 1), mean)
        least = 1e-6 * mean
        return int(np.argmax(np.maximum(rates[0] * down, least) * np.maximum(rates[1] * (1 - down), least)))


class BranchSession(Session):
    """Best bound first, with plunging: the child nearer to the relaxation's point is solved at once, from its parent's basis."""

    name = "branch"
    capabilities: ClassVar[frozenset[Capability]] = frozenset(
        {
            Capability.LINEAR, Capability.INTEGER, Capability.STRICTLY_CONVEX, Capability.QUADRATIC, Capability.CONES,
            Capability.INTEGER_QUADRATIC, Capability.OBJECTIVE_LIMIT, Capability.INTERRUPT,
        }
    )  # fmt: skip

    def _load(self) -> None:
        from solvers.registry import choose, session_class

        relaxed = self._program.relaxed()
        self._inner: Session = session_class(choose(relaxed))(relaxed)
        self._numbers = count()

    def _solve(self, limits: Limits) -> Outcome:
        program = self._program
        where = np.flatnonzero(program.integer)
        if not len(where):
            only = self._inner.solve(time_limit=limits.time_limit, interrupt=limits.interrupt, objective_limit=limits.objective_limit)
            return Outcome.repeated(only, self._inner.name)
        root = _Node(-inf, next(self._numbers), np.ceil(program.lower[where]), np.floor(program.upper[where]))
        limit = inf if limits.objective_limit is None else limits.objective_limit
        gap = _CONIC_GAP if program.has_quadratic or program.cones else _GAP
        deadline = perf_counter() + limits.time_limit
        heap = [root] if np.all(root.lower <= root.upper) else []
        plunge: _Node | None = None
        gains = _Gains(len(where))
        least, best, x, nodes, stopped = inf, inf, None, 0, None
        while heap or plunge is not None:
            if perf_counter() > deadline:
                stopped = Status.TIME_LIMIT
            elif limits.interrupt is not None and limits.interrupt():
                stopped = Status.INTERRUPTED
            if stopped is not None or best <= limit < inf:
                break
            node = plunge if plunge is not None else heappop(heap)
            plunge = None
            closing = min(limit, best - gap * max(1.0, abs(best)) if best < inf else inf)
            if node.bound > closing:
                least = min(least, node.bound)
                continue
            nodes += 1
            self._inner.set_bounds(where, node.lower, node.upper)
            cutoff, seconds = closing if closing < inf else None, max(0.0, deadline - perf_counter())
            solution = self._inner.solve(time_limit=seconds, interrupt=limits.interrupt, objective_limit=cutoff)
            bound = max(node.bound, solution.safe_bound)
            gains.observe(node, bound, closing)
            if bound > closing:
                least = min(least, bound)
                continue
            if solution.status is Status.OPTIMAL and solution.x is not None and solution.objective is not None:
                distance = np.abs(solution.x[where] - np.round(solution.x[where]))
                if distance.max(initial=0.0) <= _INTEGRAL and solution.objective < best:
                    best, x = solution.objective, solution.x
                if distance.max(initial=0.0) <= _INTEGRAL and bound >= solution.objective - gap * max(1.0, abs(solution.objective)):
                    least = min(least, bound)
                    continue
            free = np.flatnonzero(node.lower < node.upper)
            if solution.status.level is Level.STOPPED:
                heappush(heap, _Node(bound, node.number, node.lower, node.upper))
            elif not len(free) or solution.status is Status.UNBOUNDED:
                least = min(least, bound)  # a leaf: its bound is all that is proved
            else:
                plunge, other = self._children(node, bound, solution, where, free, gains)
                heappush(heap, other)
        open_bounds = [node.bound for node in heap] + ([plunge.bound] if plunge is not None else [])
        proved = min([least, *open_bounds])
        status = self._status(stopped, proved, best, limit)
        found: dict[str, Any] = {} if x is None else {"x": x, "objective": best}
        word = f"{nodes} nodes, {len(open_bounds)} open"
        return Outcome(status=status, raw_status=word, claimed_bound=proved, proved_bound=proved, iterations=nodes, **found)

    @staticmethod
    def _status(stopped: Status | None, proved: float, best: float, limit: float) -> Status:
        if best <= limit < inf:
            return Status.BELOW_LIMIT
        if stopped is not None:
            return stopped
        if proved == inf:
            return Status.INFEASIBLE
        if proved > limit:
            return Status.ABOVE_LIMIT
        if best < inf:
            return Status.OPTIMAL
        return Status.INFEASIBLE_OR_UNBOUNDED if proved == -inf else Status.CLAIMED_INFEASIBLE

    def _children(self, node: _Node, bound: float, solution: Solution, where: Array, free: Array, gains: _Gains) -> tuple[_Node, _Node]:
        """Two halves of the box, split at the free variable that promises most; first the one nearer to the relaxation's point."""
        lower, upper = node.lower[free], node.upper[free]
        middle = np.where(np.isinf(lower), np.where(np.isinf(upper), 0.0, upper), np.where(np.isinf(upper), lower, (lower + upper) / 2))
        point = middle if solution.x is None else np.clip(solution.x[where][free], lower, upper)
        cuts = np.clip(np.floor(point), lower, upper - 1)
        chosen = gains.best(free, np.clip(point - cuts, 0.0, 1.0))
        index, value, cut = int(free[chosen]), float(point[chosen]), float(cuts[chosen])
        down = min(max(value - cut, 1e-3), 1 - 1e-3)
        below_upper, above_lower = node.upper.copy(), node.lower.copy()
        below_upper[index], above_lower[index] = cut, cut + 1
        below = _Node(bound, next(self._numbers), node.lower, below_upper, (index, 0, down))
        above = _Node(bound, next(self._numbers), above_lower, node.upper, (index, 1, 1 - down))
        return (below, above) if value - cut <= 0.5 else (above, below)

    def _bounds_changed(self, indices: Array, lower: Array, upper: Array) -> None:
        self._inner.set_bounds(indices, lower, upper)

    def _row_bounds_changed(self, indices: Array, lower: Array, upper: Array) -> None:
        self._inner.set_row_bounds(indices, lower, upper)

    def _rows_added(self, matrix: Any, lower: Array, upper: Array) -> None:
        self._inner.add_rows(matrix, lower, upper)

    def _rows_deleted(self, first: int, last: int) -> None:
        self._inner.delete_rows(first)

    def _cost_changed(self) -> None:
        self._inner.set_cost(self._program.cost, self._program.offset)

    def close(self) -> None:
        self._inner.close()

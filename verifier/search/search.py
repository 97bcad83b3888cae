"""The one branch and bound. It knows nothing of networks; a `Question` bounds, proposes, branches and closes.

Best first: the piece with the largest bound is opened next, in batches. The bracket at any moment is
[value of the best verified witness, largest bound among open, discarded and stuck pieces].
"""

import heapq
import itertools
from collections.abc import Callable
from concurrent.futures import Executor
from dataclasses import dataclass, field
from math import inf
from typing import Any

from verifier.bracket import Status
from verifier.search.alarm import TimeUp
from verifier.search.budget import Budget
from verifier.search.question import Node, Question, Witness

Progress = Callable[["Search"], None]


@dataclass(eq=False)
class Search:
    """Resumable: `step` works through one batch, `run` until an end; `retarget` changes the parameter and keeps the frontier.

    batch is the number of pieces opened per step. With an executor (anything that follows concurrent.futures.Executor and shares
    this process's memory) a batch is bounded in parallel parts.
    """

    question: Question
    batch: int = 64
    executor: Executor | None = None
    workers: int = 1
    lower: float = -inf
    witness: Witness | None = None
    parameter: float = -inf
    closed_bound: float = -inf
    stuck_bound: float = -inf
    opened: int = 0
    bounded: int = 0
    started: bool = False
    _frontier: list[tuple[float, int, Node]] = field(default_factory=list)
    _working: list[Node] = field(default_factory=list)
    _lent: dict[int, list[Node]] = field(default_factory=dict)
    _order: Any = field(default_factory=itertools.count)

    @property
    def upper(self) -> float:
        """The proven end: no piece can exceed it."""
        top = -self._frontier[0][0] if self._frontier else -inf
        aside = (node.bound for part in (self._working, *self._lent.values()) for node in part)
        top = max([top, *aside]) if self.started else inf
        return max(top, self.closed_bound, self.stuck_bound, self.lower)

    @property
    def open_pieces(self) -> int:
        return len(self._frontier) + len(self._working) + sum(map(len, self._lent.values()))

    def frontier(self) -> list[Node]:
        """The open pieces, in no particular order."""
        return [node for _, _, node in self._frontier] + [node for part in (self._working, *self._lent.values()) for node in part]

    def offer(self, witness: Witness | None) -> None:
        """Take a verified witness, from an attack or a proposal, if it is better."""
        if witness is not None and witness.value > self.lower:
            self.lower, self.witness = witness.value, witness
            self.parameter = max(self.parameter, witness.value)

    def retarget(self, parameter: float) -> None:
        """Bound later pieces with a new parameter. The frontier and its bounds, which stay valid, are kept."""
        self.parameter = parameter

    def start(self, budget: Budget) -> None:
        """Bound the roots."""
        roots = self.question.roots(budget)
        self._admit(roots)
        self.started = True

    def step(self, budget: Budget) -> None:
        """Open one batch of the pieces with the largest bounds.

        An exception at any moment, Ctrl-C included, loses no piece: those taken from the frontier stay in `_working` until all their
        children have entered it. At worst a piece is looked at twice.
        """
        self._put_back()
        while self._frontier and len(self._working) < self.batch:
            key, _, node = self._frontier[0]
            if self.question.discards(-key, self.lower):
                self.closed_bound = max(self.closed_bound, -key)
            else:
                self._working.append(node)
            heapq.heappop(self._frontier)
        children: list[Node] = []
        unopened = list(self._working)
        while unopened and not self.question.finished(self.lower, inf):
            self.opened += 1
            children.extend(self._open(unopened.pop(), budget))
        self._admit(children)
        self._push(unopened)
        self._working.clear()

    def _put_back(self) -> None:
        """Return the pieces of a step that was broken off to the frontier."""
        self._push(self._working)
        self._working.clear()

    def _open(self, node: Node, budget: Budget) -> list[Node]:
        finished = self.question.close(node, self.parameter, budget)
        if finished is None:
            children = self.question.branch(node)
            if not children:
                self.stuck_bound = max(self.stuck_bound, node.bound)
            for child in children:
                child.bound = node.bound
            return children
        closed, witness = finished
        self.offer(witness)
        bound = min(closed.bound, node.bound)
        if closed.stuck:
            self.stuck_bound = max(self.stuck_bound, bound)
        else:
            self.closed_bound = max(self.closed_bound, bound)
        return []

    def _admit(self, nodes: list[Node]) -> None:
        """Bound new pieces, take their witnesses, and keep what is not discarded. A child's bound is never above its parent's."""
        if not nodes:
            return
        inherited = [node.bound for node in nodes]
        self._bound(nodes)
        for node, bound in zip(nodes, inherited, strict=True):
            node.bound = min(node.bound, bound)
        self.bounded += len(nodes)
        self.offer(self.question.propose(nodes, self.parameter))
        self._push(nodes)

    def _push(self, nodes: list[Node]) -> None:
        for node in nodes:
            if self.question.discards(node.bound, self.lower):
                self.closed_bound = max(self.closed_bound, node.bound)
            else:
                heapq.heappush(self._frontier, (-node.bound, next(self._order), node))

    def _bound(self, nodes: list[Node]) -> None:
        if self.executor is None or self.workers < 2 or len(nodes) < 2 * self.workers:
            self.question.bound(nodes, self.parameter)
            return
        parts = [nodes[i :: self.workers] for i in range(self.workers)]
        list(self.executor.map(self.question.bound, parts, [self.parameter] * len(parts)))

    def run(self, budget: Budget, progress: Progress | None = None) -> Status:
        """Work until the question is answered, the budget ends or nothing is left. Ctrl-C returns INTERRUPTED."""
        try:
            self.question.until(budget.end)
            if not self.started:
                self.start(budget)
            while True:
                if progress is not None:
                    progress(self)
                stop = self.ended() or budget.exceeded()
                if stop is not None:
                    return stop
                self.step(budget)
        except TimeUp:
            return Status.TIMED_OUT
        except KeyboardInterrupt:
            return Status.INTERRUPTED

    def ended(self) -> Status | None:
        """How the search ended by itself, or None while there is something left to do."""
        if self.question.finished(self.lower, self.upper):
            return Status.DECIDED if self.open_pieces else Status.CLOSED
        if not self.open_pieces:
            return Status.UNDECIDED if self.stuck_bound > -inf else Status.CLOSED
        return None

    def lend(self, count: int) -> tuple[int, dict[str, Any]] | None:
        """(a number for `settle`, the state of a search of its own): at most `count` pieces, those with the largest bounds. None: none.

        Until they are settled the pieces stay in the bracket as they are: another search may go on from them, or be lost.
        """
        self._put_back()
        number = next(self._order)
        part = self._lent[number] = list[Node]()
        while self._frontier and len(part) < count:
            key, _, node = self._frontier[0]
            if self.question.discards(-key, self.lower):
                self.closed_bound = max(self.closed_bound, -key)
            else:
                part.append(node)
            heapq.heappop(self._frontier)
        if not part:
            del self._lent[number]
            return None
        alone = Search(self.question, lower=self.lower, witness=self.witness, parameter=self.parameter, started=True)
        return number, alone.state() | {"frontier": part, "notes": None}

    def settle(self, number: int, state: dict[str, Any] | None) -> None:
        """Take the state in which the search of a loan ended; None: it was lost, and its pieces are open as before."""
        if state is None:
            self._push(self._lent[number])
        else:
            self._push(state["frontier"])
            self.offer(state["witness"])
            if state["notes"] is not None:
                self.question.recall(state["notes"])
            self.closed_bound = max(self.closed_bound, state["closed_bound"])
            self.stuck_bound = max(self.stuck_bound, state["stuck_bound"])
            self.opened += state["opened"]
            self.bounded += state["bounded"]
        del self._lent[number]

    def state(self) -> dict[str, Any]:
        """Everything needed to go on later in another process; give it to `restore`."""
        return {
            "frontier": self.frontier(),
            "lower": self.lower,
            "witness": self.witness,
            "parameter": self.parameter,
            "closed_bound": self.closed_bound,
            "stuck_bound": self.stuck_bound,
            "opened": self.opened,
            "bounded": self.bounded,
            "started": self.started,
            "notes": self.question.notes(),
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Continue from `state()` of a search for the same question."""
        for name in ("lower", "witness", "parameter", "closed_bound", "stuck_bound", "opened", "bounded", "started"):
            setattr(self, name, state[name])
        if state["notes"] is not None:
            self.question.recall(state["notes"])
        self._frontier, self._working, self._lent = [], [], {}
        for node in state["frontier"]:
            heapq.heappush(self._frontier, (-node.bound, next(self._order), node))

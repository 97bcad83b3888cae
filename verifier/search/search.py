"""The one branch and bound. It knows nothing of networks; a `Question` bounds, proposes, branches and closes.

Best first: the piece with the largest bound is opened next, in batches. The bracket at any moment is
[value of the best verified witness, largest bound among open, discarded and stuck pieces].
"""

import heapq
import itertools
import time
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

# Seconds before the end of a budget from which on a piece that was not settled may have lacked the time for it.
LATE = 0.05


@dataclass(eq=False)
class Search:
    """Resumable: `step` works through one batch, `run` until an end; `retarget` changes the parameter and keeps the frontier, for a
    question that `keeps` closed pieces these too.

    batch is the number of pieces opened per step. fair: a step opens the worst piece of every target instead of the worst of all, so
    that the bounds of all targets improve alike (`upper_of`). With an executor (anything that follows concurrent.futures.Executor and
    shares this process's memory) a batch is bounded in parallel parts.
    """

    question: Question
    batch: int = 64
    executor: Executor | None = None
    workers: int = 1
    fair: bool = False
    lower: float = -inf
    witness: Witness | None = None
    parameter: float = -inf
    closed_bound: float = -inf
    stuck_bound: float = -inf
    opened: int = 0
    bounded: int = 0
    started: bool = False
    _frontier: dict[int, list[tuple[float, int, Node]]] = field(default_factory=dict)  # one heap, or one per target
    _aside: dict[int, float] = field(default_factory=dict)  # per target: the largest bound of its pieces that were put aside
    _working: list[Node] = field(default_factory=list)
    _lent: dict[int, list[Node]] = field(default_factory=dict)
    _kept: list[Node] = field(default_factory=list)  # closed pieces, for a question that keeps them
    _order: Any = field(default_factory=itertools.count)

    @property
    def upper(self) -> float:
        """The proven end: no piece can exceed it."""
        tops = [-lane[0][0] for lane in self._frontier.values() if lane]
        aside = [node.bound for part in (self._working, *self._lent.values()) for node in part]
        top = max([-inf, *tops, *aside]) if self.started else inf
        return max(top, self.closed_bound, self.stuck_bound, self.lower)

    def upper_of(self, target: int) -> float:
        """The proven end for one target of a fair search, between steps."""
        lane = self._frontier.get(target)
        return max(-lane[0][0] if lane else -inf, self._aside.get(target, -inf))

    def put_aside(self, target: int) -> None:
        """Open no more pieces of a target of a fair search, between steps; its proven end stays what it is."""
        for _, _, node in self._frontier.pop(target, []):
            self._close(node, node.bound)

    @property
    def open_pieces(self) -> int:
        return sum(len(lane) for lane in self._frontier.values()) + len(self._working) + sum(len(part) for part in self._lent.values())

    @property
    def pieces(self) -> int:
        """All pieces there are, closed ones included where they are kept."""
        return self.open_pieces + len(self._kept)

    def frontier(self) -> list[Node]:
        """The open pieces, in no particular order."""
        waiting = [node for lane in self._frontier.values() for _, _, node in lane]
        return waiting + [node for part in (self._working, *self._lent.values()) for node in part]

    def offer(self, witness: Witness | None) -> None:
        """Take a verified witness, from an attack or a proposal, if it is better."""
        if witness is not None and witness.value > self.lower:
            self.lower, self.witness = witness.value, witness
            self.parameter = max(self.parameter, witness.value)

    def retarget(self, parameter: float) -> None:
        """Bound later pieces with a new parameter. The frontier and its bounds, which stay valid, are kept.

        A question that keeps closed pieces asks about something else from now on: it says what its bounds of all pieces, open and closed,
        are worth for the new parameter, and the search starts from these pieces and from the witness that the question knows.
        """
        if not self.question.keeps:
            self.parameter = parameter
            return
        self._put_back()
        pieces = self.frontier() + self._kept
        witness = self.question.reconsider(pieces, parameter)
        self._frontier, self._kept, self._aside = {}, [], {}
        self.lower, self.witness, self.parameter, self.closed_bound, self.stuck_bound = -inf, None, -inf, -inf, -inf
        self.offer(witness)
        self._push(pieces)

    def start(self, budget: Budget) -> None:
        """Bound the roots."""
        roots = self.question.roots(budget)
        self._admit(roots)
        self.started = True

    def restart(self, roots: list[Node]) -> None:
        """Replace the open pieces of the roots' targets by these, which cover them and are not yet bounded: the question has learnt
        to bound them better. A root's bound starts from what is already proved of its target.
        """
        proved: dict[int, float] = {root.target: -inf for root in roots}
        for node in self.frontier():
            if node.target in proved:
                proved[node.target] = max(proved[node.target], node.bound)
        for root in roots:
            root.bound = proved[root.target]
        bounded = self._bounded(roots)  # should this be broken off, the pieces are what they were
        others = [node for node in self.frontier() if node.target not in proved]
        self._frontier, self._working = {}, []
        self._push([*others, *bounded])

    def step(self, budget: Budget) -> None:
        """Open one batch of the pieces with the largest bounds.

        An exception at any moment, Ctrl-C included, loses no piece: those taken from the frontier stay in `_working` until all their
        children have entered it. At worst a piece is looked at twice.
        """
        self._put_back()
        crowded = budget.crowded
        for lane in self._frontier.values():
            self._take(lane, 1 if self.fair else self.batch - len(self._working), self._working, ending=crowded)
        children: list[Node] = []
        unopened = list(self._working)
        while unopened and not self.question.finished(self.lower, inf):
            self.opened += 1
            children.extend(self._open(unopened.pop(), budget))
        self._admit(children)
        self._push(unopened)
        self._working.clear()

    def _take(self, lane: list[tuple[float, int, Node]], count: int, taken: list[Node], *, ending: bool = False) -> None:
        """Move up to `count` pieces with the largest bounds of the lane to those taken.

        ending: take from the heap's end instead, where bounds are small and pieces recent: they end soon, as depth first.
        """
        while lane and count:
            _, _, node = lane[-1 if ending else 0]
            if self.question.discards(node.bound, self.lower):
                self._close(node, node.bound)
            else:
                taken.append(node)
                count -= 1
            if ending:  # only now: an exception in between must not lose the piece
                lane.pop()
            else:
                heapq.heappop(lane)

    def _close(self, node: Node, bound: float, *, stuck: bool = False) -> None:
        """A piece that will not be opened any more, and what is proved of it."""
        if self.question.keeps:
            node.bound = bound
            self._kept.append(node)
        self._aside[node.target] = max(self._aside.get(node.target, -inf), bound)
        if stuck:
            self.stuck_bound = max(self.stuck_bound, bound)
        else:
            self.closed_bound = max(self.closed_bound, bound)

    def _put_back(self) -> None:
        """Return the pieces of a step that was broken off to the frontier."""
        self._push(self._working)
        self._working.clear()

    def _open(self, node: Node, budget: Budget) -> list[Node]:
        finished = self.question.close(node, self.parameter, budget)
        if finished is None:
            children = self.question.branch(node)
            if not children:
                self._close(node, node.bound, stuck=True)
            for child in children:
                child.bound = node.bound
            return children
        closed, witness = finished
        self.offer(witness)
        bound = min(closed.bound, node.bound)
        if time.monotonic() >= budget.end - LATE and not self.question.discards(bound, self.lower):
            # Cut short rather than closed: who goes on from here, with more time, has to look at it again.
            node.bound = bound
            self._push([node])
        else:
            self._close(node, bound, stuck=closed.stuck)
        return []

    def _admit(self, nodes: list[Node]) -> None:
        """Bound new pieces, take their witnesses, and keep what is not discarded. A child's bound is never above its parent's."""
        self._push(self._bounded(nodes))

    def _bounded(self, nodes: list[Node]) -> list[Node]:
        if nodes:
            inherited = [node.bound for node in nodes]
            self._bound(nodes)
            for node, bound in zip(nodes, inherited, strict=True):
                node.bound = min(node.bound, bound)
            self.bounded += len(nodes)
            self.offer(self.question.propose(nodes, self.parameter))
        return nodes

    def _push(self, nodes: list[Node]) -> None:
        for node in nodes:
            if self.question.discards(node.bound, self.lower):
                self._close(node, node.bound)
            else:
                self._keep(node)

    def _keep(self, node: Node) -> None:
        lane = self._frontier.setdefault(node.target if self.fair else 0, [])
        heapq.heappush(lane, (-node.bound, next(self._order), node))

    def _bound(self, nodes: list[Node]) -> None:
        if self.executor is None or self.workers < 2 or len(nodes) < 2 * self.workers:
            self.question.bound(nodes, self.parameter)
            return
        parts = [nodes[i :: self.workers] for i in range(self.workers)]
        list(self.executor.map(self.question.bound, parts, [self.parameter] * len(parts)))

    def run(self, budget: Budget, progress: Progress | None = None, *, most: float = inf) -> Status:
        """Work until the question is answered, the budget ends or nothing is left. Ctrl-C returns INTERRUPTED.

        most: having bounded so many pieces counts as the end of the time; unlike seconds, a count is the same on every machine.
        """
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
                if self.bounded >= most:
                    return Status.TIMED_OUT
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
        for lane in self._frontier.values():
            self._take(lane, count - len(part), part)
        if not part:
            del self._lent[number]
            return None
        alone = Search(self.question, lower=self.lower, witness=self.witness, parameter=self.parameter, started=True)
        return number, alone.state() | {"frontier": part, "notes": None, "learnt": None}

    def settle(self, number: int, state: dict[str, Any] | None) -> None:
        """Take the state in which the search of a loan ended; None: it was lost, and its pieces are open as before."""
        if state is None:
            self._push(self._lent[number])
        else:
            self._push(state["frontier"])
            self._kept.extend(state["kept"])
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
            "aside": dict(self._aside) if self.fair else {},
            "kept": list(self._kept),
            "notes": self.question.notes(),
            "version": self.question.version,
            "learnt": self.question.learnt(),
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Continue from `state()` of a search for the same question."""
        for name in ("lower", "witness", "parameter", "closed_bound", "stuck_bound", "opened", "bounded", "started"):
            setattr(self, name, state[name])
        if state["notes"] is not None:
            self.question.recall(state["notes"])
        if state["learnt"] is not None:
            self.question.learn(state["learnt"])
        self._aside, self._kept = dict(state["aside"]), list(state.get("kept", []))
        self._frontier, self._working, self._lent = {}, [], {}
        for node in state["frontier"]:
            self._keep(node)

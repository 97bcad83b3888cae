"""The whole question as one mixed-integer program: the independent second way to every verdict.

A solver's own branch and bound leaves no certificate, so its answer is used twice and believed never: its point is judged like any
other witness, and its tree is searched again here, each node a linear relaxation whose dual is checked (`solvers.safe`).
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from math import inf, isfinite
from typing import Any

import numpy as np

from solvers import Session, SolverError, open_session
from verifier.encode import Encoding, encode, pattern_bounds
from verifier.leaf import able
from verifier.search.budget import Budget
from verifier.search.question import Closed, Node, Question, Witness
from verifier.violation import Violation


@dataclass(eq=False)
class WholeProgram(Question):
    """The largest violation, encoded whole. `violation` supplies targets, neuron bounds and the checks of witnesses.

    first_look: seconds that the solver's own branch and bound may take for a witness, per target.
    """

    violation: Violation
    solver: str = "auto"
    first_look: float = 3.0
    _encodings: dict[int, Encoding] = field(default_factory=dict)
    _sessions: dict[int, Session] = field(default_factory=dict)
    _tried: set[int] = field(default_factory=set)

    def until(self, deadline: float) -> None:
        self.violation.until(deadline)

    def notes(self) -> Any:
        return self.violation.notes()

    def recall(self, notes: Any) -> None:
        self.violation.recall(notes)

    def roots(self, budget: Budget) -> list[Node]:
        covering = self.violation.covering(range(len(self.violation.targets)), 0.0)
        return [node for node in covering if self._encode(node)]

    def _encode(self, node: Node) -> bool:
        """Set up the program of a root's target; False if the target's region is proved empty of counter-examples."""
        self._tried.add(node.target)
        violation, target = self.violation, self.violation.targets[node.target]
        pieces = violation.propagate([node], 0.0, fresh=node.known is None)
        if pieces.empty[0]:
            return False
        try:
            encoding = encode(pieces, target.region, target.rows, target.offsets, target.inputs)
            relaxed = encoding.program.relaxed()
            self._sessions[node.target] = open_session(relaxed, solver=able(self.solver, relaxed))
            self._encodings[node.target] = encoding
        except SolverError:
            pass  # numbers that no program can hold: the target stays open, see `_bound`
        return True

    def bound(self, nodes: Sequence[Node], parameter: float) -> None:
        for node in nodes:
            self._bound(node)

    def _bound(self, node: Node) -> None:
        node.hints = {"fraction": np.zeros(0)}
        if node.target not in self._tried:  # a search that began in another process
            self._encode(self.violation.covering([node.target], 0.0)[0])
        if node.target not in self._encodings:
            return  # no bound, nothing to branch on: undecided
        encoding, session = self._encodings[node.target], self._sessions[node.target]
        variables, lower, upper = pattern_bounds(encoding, self.violation.network, node.signs)
        if len(variables):
            session.set_bounds(variables, lower, upper)
        left = self.violation.deadline - time.monotonic()
        try:
            solution = session.solve(time_limit=max(left, 0.01) if isfinite(left) else None)
        except SolverError:
            return
        node.bound = -solution.safe_bound
        points = [] if solution.x is None else [solution.x[: encoding.input_size]]
        undecided = np.where(encoding.binaries >= 0, node.signs == 0, False)
        fraction = np.full(len(encoding.binaries), -1.0)
        if solution.x is not None:
            value = solution.x[np.maximum(encoding.binaries, 0)]
            fraction[undecided] = np.maximum(np.minimum(value, 1.0 - value), 0.0)[undecided]  # a little below 0 it would look decided
        else:
            fraction[undecided] = 0.0
        node.hints = {"points": points, "fraction": fraction}

    def close(self, node: Node, parameter: float, budget: Budget) -> tuple[Closed, Witness | None] | None:
        """At a root, what the solver's own branch and bound finds, judged like any other point."""
        encoding = self._encodings.get(node.target)
        if encoding is None or node.depth or not encoding.program.integer.any():
            return None
        limit = min(self.first_look, max(0.1, 0.3 * budget.remaining)) if isfinite(budget.deadline) else self.first_look
        with open_session(encoding.program, solver=able(self.solver, encoding.program)) as session:
            solution = session.solve(time_limit=limit)
        if solution.x is None:
            return None
        witness = self.violation.judge(solution.x[None, : encoding.input_size], [node.target])
        return (Closed(node.bound), witness) if witness is not None and witness.value >= 0 else None

    def propose(self, nodes: Sequence[Node], parameter: float) -> Witness | None:
        points = [(point, node.target) for node in nodes for point in node.hints.get("points", []) if node.bound >= 0]
        if not points:
            return None
        return self.violation.judge(np.stack([point for point, _ in points]), [target for _, target in points])

    def branch(self, node: Node) -> list[Node]:
        fraction = node.hints["fraction"]
        if not len(fraction) or fraction.max() < 0:
            return []
        neuron = int(fraction.argmax())
        children = []
        for sign in (1, -1):
            signs = node.signs.copy()
            signs[neuron] = sign
            children.append(Node(node.lower, node.upper, signs, node.target, depth=node.depth + 1, bound=inf))
        return children

    def discards(self, bound: float, incumbent: float) -> bool:
        return self.violation.discards(bound, incumbent)

    def finished(self, lower: float, upper: float) -> bool:
        return self.violation.finished(lower, upper)

    def close_sessions(self) -> None:
        """Free the solver's memory."""
        for session in self._sessions.values():
            session.close()

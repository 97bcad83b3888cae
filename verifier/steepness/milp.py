"""The largest slope as one mixed-integer program: the independent second way, for input norms 1 and inf.

A solver's own branch and bound leaves no certificate. Its answer is kept apart as what it claims, its point is judged like any other, and
its tree is searched again here, each node a linear relaxation whose dual is checked; only that search proves.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from math import inf, isfinite
from typing import Any

import numpy as np

from problems.errors import InputError
from problems.maps import Array
from solvers import Session, SolverError, open_session
from verifier.bounds.jacobian import masks_of
from verifier.leaf import able
from verifier.search.budget import Budget
from verifier.search.question import Closed, Node, Question, Witness
from verifier.steepness.encode import GradientProgram, gradient_program
from verifier.steepness.exact_cell import interior
from verifier.steepness.question import Steepness


@dataclass(eq=False)
class WholeProgram(Question):
    """The objective of `steepness`, encoded whole, one program per target. claims: the values that the solver's own search gave."""

    steepness: Steepness
    solver: str = "auto"
    first_look: float = 10.0
    claims: dict[int, float] = field(default_factory=dict)
    _programs: dict[int, GradientProgram] = field(default_factory=dict)
    _sessions: dict[int, Session] = field(default_factory=dict)
    _masks: tuple[Array, Array] | None = None

    def __post_init__(self) -> None:
        objective, steepness = self.steepness.judge.objective, self.steepness
        column_sums = objective.input_norm == 1 and objective.output_norm == 1
        if objective.input_norm == 2 or (objective.is_matrix and not column_sums):
            raise InputError(
                "method",
                "milp knows gradients in the input norms 1 and inf, vector:inf, and vector:1 with input norm 1.",
                "Use --method auto.",
            )
        if not steepness.bounded or steepness.stack is None or not steepness.stack.exact:
            raise InputError("method", "milp needs a bounded region and a network without branches or divisions.", "Use --method auto.")

    def roots(self, budget: Budget) -> list[Node]:
        steepness, objective = self.steepness, self.steepness.judge.objective
        nodes = []
        first = steepness.covering([0], 0.0)[0]
        pieces = steepness.propagate([first], 0.0, fresh=first.known is None)
        low, high = masks_of(*pieces.neuron_bounds())
        self._masks = low[0], high[0]
        assert steepness.stack is not None
        stack = steepness.stack.from_inputs(objective.directions.free)
        for target in range(objective.targets):
            try:
                program = gradient_program(
                    pieces, steepness.targets[0].region, stack, objective.rows[target], objective.differences(target),
                    input_norm=objective.input_norm, masks=self._masks,
                )  # fmt: skip
                relaxed = program.program.relaxed()
                self._sessions[target] = open_session(relaxed, solver=able(self.solver, relaxed))
                self._programs[target] = program
            except SolverError:
                continue  # numbers that no program can hold: nothing is claimed and nothing proved of this target
            nodes.append(Node(first.lower, first.upper, np.zeros(len(program.switches), np.int8), target))
            self._look(target, budget)
        return nodes

    def _look(self, target: int, budget: Budget) -> None:
        """What the solver's own branch and bound finds."""
        program = self._programs[target].program
        limit = min(self.first_look, max(0.1, 0.5 * budget.remaining)) if isfinite(budget.deadline) else self.first_look
        try:
            with open_session(program, solver=able(self.solver, program)) as session:
                solution = session.solve(time_limit=limit)
        except SolverError:
            return
        self.claims[target] = -solution.claimed_bound
        if solution.x is not None:
            self._judge(solution.x)

    def _judge(self, x: Array) -> None:
        """A point that stands keeps its place until `propose` is asked."""
        judge, region = self.steepness.judge, self.steepness.targets[0].region
        point = region.clip(x[: region.dimension])
        # The program's optimum lies on facets as often as not: look beside it, too.
        middle = 0.5 * self.steepness.piece_box(0, 0.0)[0] + 0.5 * self.steepness.piece_box(0, 0.0)[1]
        near = region.clip(np.stack([point + share * (middle - point) for share in (0.0, 1e-9, 1e-6, 1e-3)]))
        witness = judge.best(near, -inf)
        if witness is not None:
            judge.found.append(witness)

    def bound(self, nodes: Sequence[Node], parameter: float) -> None:
        for node in nodes:
            program, session = self._programs[node.target], self._sessions[node.target]
            session.set_bounds(program.switches, (node.signs > 0).astype(float), (node.signs >= 0).astype(float))
            left = self.steepness.deadline - time.monotonic()
            fraction = np.where(node.signs == 0, 0.0, -1.0)
            try:
                solution = session.solve(time_limit=max(left, 0.01) if isfinite(left) else None)
            except SolverError:
                node.hints = {"fraction": fraction}
                continue
            node.bound = -inf if solution.proves_infeasible else -solution.safe_bound
            if solution.x is not None:
                values = solution.x[program.switches]
                fraction = np.where(node.signs == 0, np.maximum(np.minimum(values, 1.0 - values), 0.0), -1.0)
                if node.bound > parameter:
                    self._judge(solution.x)
            node.hints = {"fraction": fraction}

    def close(self, node: Node, parameter: float, budget: Budget) -> tuple[Closed, Witness | None] | None:
        """A pattern that is whole but has no full cell counts for nothing, though the program knows its boundary."""
        neurons = self._programs[node.target].neurons
        if not node.signs[: len(neurons)].all():
            return None
        steepness = self.steepness
        assert self._masks is not None
        pattern = np.where(self._masks[0], 1, -1).astype(np.int8)
        pattern[neurons] = node.signs[: len(neurons)]
        objective = steepness.judge.objective
        region, rows = steepness.targets[0].region, objective.differences(node.target)
        decided = interior(steepness.network, region, pattern, rows, objective.directions, solver=self.solver)
        if decided.point is not None:
            self._judge(decided.point)
        return (Closed(-inf), None) if decided.empty else None

    def propose(self, nodes: Sequence[Node], parameter: float) -> Witness | None:
        return self.steepness.propose(nodes, parameter)

    def branch(self, node: Node) -> list[Node]:
        fraction = node.hints["fraction"]
        if not len(fraction) or fraction.max() < 0:
            return []
        switch = int(fraction.argmax())
        children = []
        for sign in (1, -1):
            signs = node.signs.copy()
            signs[switch] = sign
            children.append(Node(node.lower, node.upper, signs, node.target, depth=node.depth + 1))
        return children

    def discards(self, bound: float, incumbent: float) -> bool:
        return self.steepness.discards(bound, incumbent)

    def finished(self, lower: float, upper: float) -> bool:
        return self.steepness.finished(lower, upper)

    def close_sessions(self) -> None:
        """Free the solver's memory."""
        for session in self._sessions.values():
            session.close()

    def summary(self) -> dict[str, Any]:
        """What the solver claims, for the result: unproved."""
        complete = len(self.claims) == self.steepness.judge.objective.targets
        return {"claimed": max(self.claims.values(), default=inf) if complete else inf}

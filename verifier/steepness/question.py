"""The search for the steepest cell: pieces are partial activation patterns, bounded by what their Jacobian can be.

A piece's bound is the least of its parent's, the interval bound of its Jacobian and the quadratic bound (`verifier.bounds.quadratic`), each
with the derivatives that the piece's pre-activation bounds allow. A piece is cut at the open neuron that adds most to the quadratic
bound. A piece whose decided neurons no point of the region satisfies is discarded by a linear program; one with no open neuron is a cell.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from math import inf

import numpy as np

from problems.maps import Array
from solvers import SolverError
from verifier import leaf
from verifier.bounds import Linear, Propagation, backward, upper_bound
from verifier.bounds.jacobian import jacobian, masks_of
from verifier.bounds.quadratic import QuadraticBound
from verifier.bounds.stack import stack_of
from verifier.piecewise import PiecewiseQuestion
from verifier.search.budget import Budget
from verifier.search.question import Closed, Node, Witness
from verifier.steepness.exact_cell import interior
from verifier.steepness.judge import Judge

ROOT_STEPS, CHILD_STEPS = 60, 8


@dataclass(eq=False)
class Steepness(PiecewiseQuestion):
    """The largest norm of `judge.objective` over the full cells of a region; splitting is "neuron".

    tolerance: relative gap at which the bracket is closed; solver: for the programs of pieces.
    """

    judge: Judge = None  # type: ignore[assignment]  # required; the base class has defaults before it
    tolerance: float = 1e-6
    solver: str = "auto"
    stuck: int = 0
    _bounds: list[QuadraticBound] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.splitting = "neuron"
        super().__post_init__()
        objective = self.judge.objective
        stack = stack_of(self.network)
        if stack is not None:
            first = np.where(objective.directions.free, stack.matrices[0], 0.0)
            stack = type(stack)((first, *stack.matrices[1:]), stack.neurons, stack.operations)
            self._bounds = [QuadraticBound(stack, rows, objective.input_norm, objective.output_norm) for rows in objective.rows]

    @property
    def bounded(self) -> bool:
        """Whether the region is."""
        lower, upper = self.targets[0].region.bounding_box()
        return bool(np.isfinite(lower).all() and np.isfinite(upper).all())

    def roots(self, budget: Budget) -> list[Node]:
        self.deadline = budget.deadline
        if self.bounded:
            return self.covering(range(len(self.targets)), 0.0)
        lower, upper = self.targets[0].region.bounding_box()
        h = self.layout.neurons
        known = np.full(h, -inf), np.full(h, inf)
        return [Node(lower, upper, np.zeros(h, np.int8), target, known) for target in range(len(self.targets))]

    def piece_box(self, target: int, parameter: float) -> tuple[Array, Array]:
        return self.targets[target].region.bounding_box()

    def concretise(self, target: int, pieces: Propagation, linear: Linear) -> tuple[Array, Array]:
        return upper_bound(pieces, linear)

    def discards(self, bound: float, incumbent: float) -> bool:
        return bound <= incumbent * (1.0 + self.tolerance) or bound == 0.0

    def finished(self, lower: float, upper: float) -> bool:
        return upper <= lower * (1.0 + self.tolerance)

    # Bounding.

    def _bound_group(self, nodes: list[Node], parameter: float, *, fresh: bool) -> None:
        target, empty = nodes[0].target, np.zeros(len(nodes), dtype=bool)
        if self.bounded:
            pieces = self.propagate(nodes, parameter, fresh=fresh)
            lower, upper = pieces.neuron_bounds()
            empty = pieces.empty | self._beaten(pieces, target)
        else:
            lower, upper = (np.stack([node.known[side] for node in nodes]) for side in (0, 1))  # type: ignore[index]
        signs = np.stack([node.signs for node in nodes])
        low, high = masks_of(lower, upper, signs)
        rows = jacobian(self.network, low, high, self.judge.objective.rows[target])
        values = self.judge.of_target(target).interval_norms(rows)[:, 0]
        for i, node in enumerate(nodes):
            node.known = (lower[i].copy(), upper[i].copy())
            node.bound = -inf if empty[i] else min(node.bound, float(values[i]))
            state, scores = node.hints.get("state"), np.zeros(self.layout.neurons)
            open_neurons = high[i] & ~low[i]
            if self._bounds and open_neurons.any() and not self.discards(node.bound, parameter):
                value, state, scores = self._bounds[target].bound(
                    low[i], high[i], state, steps=CHILD_STEPS if state is not None else ROOT_STEPS,
                    enough=parameter * (1.0 + self.tolerance),
                )  # fmt: skip
                node.bound = min(node.bound, value)
            scores = np.where(open_neurons, scores + 1e-300, -1.0)
            node.hints = {"state": state, "open": int(open_neurons.sum()), "neuron": int(scores.argmax()) if open_neurons.any() else -1}

    def _batch_key(self, target: int) -> tuple[int, int, bool]:
        return target, 1, True

    def _beaten(self, pieces: Propagation, target: int) -> Array:
        """(B,): pieces on which some other competitor is surely above the target's rival."""
        rows = self.judge.objective.differences(target)
        if not len(rows):
            return np.zeros(pieces.batch, dtype=bool)
        linear = backward(pieces, len(self.network.nodes) - 1, np.broadcast_to(rows, (pieces.batch, *rows.shape)))
        return (upper_bound(pieces, linear)[0] < 0.0).any(axis=1)

    # Splitting and closing.

    def branch(self, node: Node) -> list[Node]:
        children = self._decide(node)
        for child in children:
            child.hints["state"] = node.hints["state"]
        return children

    def propose(self, nodes: Sequence[Node], parameter: float) -> Witness | None:
        found, self.judge.found = self.judge.found, []
        return max(found, key=lambda witness: witness.value, default=None)

    def close(self, node: Node, parameter: float, budget: Budget) -> tuple[Closed, Witness | None] | None:
        """Discard a piece that no point satisfies; settle one without open neurons; elsewhere branch, and try the program's point."""
        if node.hints["neuron"] < 0:
            return self._settle_cell(node)
        if not self.bounded or not node.signs.any():
            return None
        point, target_region = self._inside(node, budget), self.targets[node.target].region
        if point is None:
            return Closed(-inf), None
        witness = self.judge.best(target_region.clip(point)[None], parameter)
        if witness is not None:
            self.judge.found.append(witness)  # for `propose`: the search takes witnesses of closed pieces only, and this one stays open
        return None

    def _inside(self, node: Node, budget: Budget) -> Array | None:
        """A point that satisfies the relaxation of the decided neurons' signs, or None where it is proved that there is none."""
        pieces = self.propagate([node], 0.0, fresh=False)
        if pieces.empty[0]:
            return None
        target = self.targets[node.target]
        middle = 0.5 * pieces.lower[0] + 0.5 * pieces.upper[0]
        try:
            solution = leaf.largest_smallest_row(
                target.region.lift(with_norm=False), pieces.lower[0], pieces.upper[0], leaf.Cell(np.zeros((0, len(middle))), np.zeros(0)),
                leaf.sign_rows(pieces, node.signs), solver=self.solver, time_limit=leaf.time_left(budget),
            )  # fmt: skip
        except SolverError:
            return middle
        if solution.proves_infeasible or -solution.safe_bound < 0.0:
            return None
        return middle if solution.x is None else solution.x[: len(middle)]

    def _settle_cell(self, node: Node) -> tuple[Closed, Witness | None]:
        """The one cell of a pattern: its norm if it is full, nothing if it is proved not to be."""
        assert node.known is not None
        low, high = masks_of(node.known[0][None], node.known[1][None], node.signs[None])
        pattern = np.where(low[0], 1, -1).astype(np.int8)
        objective = self.judge.of_target(node.target)
        value = min(float(objective.norms(objective.jacobian(self.network, low, high))[1][0, 0]), node.bound)
        decided = interior(
            self.network, self.targets[0].region, pattern, objective.differences(0), objective.directions, solver=self.solver
        )  # fmt: skip
        if decided.empty:
            return Closed(-inf), None
        witness = None
        if decided.point is not None:
            witness = self.judge.best(self.targets[0].region.clip(decided.point)[None], -inf)
        if witness is not None and value <= witness.value * (1.0 + self.tolerance):
            return Closed(value), witness
        self.stuck += 1
        return Closed(value, stuck=True), witness

    def settle(self, node: Node, pieces: Propagation, parameter: float, budget: Budget) -> tuple[Closed, Witness | None]:
        return self._settle_cell(node)

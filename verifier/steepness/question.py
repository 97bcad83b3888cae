"""The search for the steepest cell: pieces are partial activation patterns, bounded by what their Jacobian can be.

A piece's bound is the least of its parent's, the interval bound of its Jacobian and the quadratic bound (`verifier.bounds.quadratic`), each
with the derivatives that the piece's pre-activation bounds allow. A piece is cut at the open neuron that adds most to the quadratic
bound. A piece whose decided neurons no point of the region satisfies is discarded by a linear program; one with no open neuron is a cell.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from math import inf

import numpy as np

from problems.maps import Array
from problems.regions import Ball, Box
from solvers import SolverError
from verifier import leaf
from verifier.bounds import Layout, Linear, Propagation, backward, upper_bound
from verifier.bounds.jacobian import Jacobian, jacobian, masks_of
from verifier.bounds.quadratic import QuadraticBound
from verifier.bounds.stack import Stack, stack_of
from verifier.piecewise import PiecewiseQuestion
from verifier.search.budget import Budget
from verifier.search.question import Closed, Node, Witness
from verifier.steepness.exact_cell import interior
from verifier.steepness.inside import Inside
from verifier.steepness.judge import Judge
from verifier.steepness.norms import vector_norms

ROOT_STEPS, CHILD_STEPS = 60, 8
# Open neurons per piece whose signs are tried by programs.
FORCED = 16


@dataclass(frozen=True)
class Aim:
    """What one root is about: a target of the objective, and for input norm 1 a single input, whose column is measured."""

    target: int
    column: int | None = None


def aims_of(judge: Judge) -> tuple[Aim, ...]:
    """The norm of a Jacobian from the 1-norm is its largest column's: columns are searched one by one, which bounds each more tightly."""
    objective = judge.objective
    if objective.input_norm != 1:
        return tuple(Aim(target) for target in range(objective.targets))
    return tuple(Aim(target, int(j)) for target in range(objective.targets) for j in np.flatnonzero(objective.directions.free))


@dataclass(eq=False)
class Steepness(PiecewiseQuestion):
    """The largest norm of `judge.objective` over the full cells of a region; one (empty) target per aim, splitting is "neuron".

    tolerance: relative gap at which the bracket is closed; solver: for the programs of pieces. After the roots are bounded, interval is
    the interval bound of the whole region.
    """

    judge: Judge = None  # type: ignore[assignment]  # required; the base class has defaults before it
    aims: tuple[Aim, ...] = ()
    tolerance: float = 1e-6
    solver: str = "auto"
    interval: float = 0.0
    program_seconds: float = 0.0
    stack: Stack | None = None
    _bounds: dict[int, QuadraticBound] = field(default_factory=dict)
    _layer_of: Array = field(init=False)

    def __post_init__(self) -> None:
        self.splitting, self.condenses = "neuron", False  # patterns are those of the network, as the exact decisions need them
        super().__post_init__()
        layout = Layout.of(self.network)
        self._layer_of = np.repeat(layout.relus, [part.stop - part.start for part in layout.slices])
        self.stack = stack_of(self.network)

    @property
    def bounded(self) -> bool:
        """Whether the region is."""
        lower, upper = self.targets[0].region.bounding_box()
        return bool(np.isfinite(lower).all() and np.isfinite(upper).all())

    @property
    def kernel_seconds(self) -> float:
        """Time in compiled code so far: bounds and programs of pieces."""
        return self.program_seconds + sum(bound.seconds for bound in self._bounds.values())

    def open_at_first_sight(self) -> int:
        """How many neurons plain bounds of the whole region leave open."""
        if not self.bounded:
            return self.network.neurons
        lower, upper = self.piece_box(0, 0.0)
        root = Node(lower, upper, np.zeros(self.network.neurons, np.int8))
        low, high = masks_of(*self.propagate([root], 0.0, fresh=True).neuron_bounds())
        return int((high & ~low).sum())

    def roots(self, budget: Budget) -> list[Node]:
        self.deadline = budget.deadline
        if self.bounded:
            return self.covering(range(len(self.aims)), 0.0)
        lower, upper = self.targets[0].region.bounding_box()
        h = self.network.neurons
        known = np.full(h, -inf), np.full(h, inf)
        return [Node(lower, upper, np.zeros(h, np.int8), aim, known) for aim in range(len(self.aims))]

    def piece_box(self, target: int, parameter: float) -> tuple[Array, Array]:
        return self.targets[target].region.bounding_box()

    def concretise(self, target: int, pieces: Propagation, linear: Linear) -> tuple[Array, Array]:
        return upper_bound(pieces, linear)

    def discards(self, bound: float, incumbent: float) -> bool:
        return bound <= incumbent * (1.0 + self.tolerance) or bound == 0.0

    def finished(self, lower: float, upper: float) -> bool:
        return upper <= lower * (1.0 + self.tolerance)

    # Bounding.

    def _batch_key(self, node: Node) -> tuple[int, int, int, bool]:
        return 0, node.model, 0, True  # all aims look at one region: their pieces share a batch

    def _batch_size(self, node: Node) -> int:
        return 1 << 30  # what the search opens at a time is few, and all roots are one piece

    def _bound_group(self, nodes: list[Node], parameter: float, *, fresh: bool) -> None:
        roots = not any(node.depth for node in nodes)
        # All roots are the same piece: bound its neurons once.
        kinds = nodes[:1] if roots else nodes
        which = np.zeros(len(nodes), dtype=int) if roots else np.arange(len(nodes))
        empty = np.zeros(len(kinds), dtype=bool)
        pieces = None
        if self.bounded:
            pieces = self.propagate(kinds, parameter, fresh=fresh)
            lower, upper = pieces.neuron_bounds()
            empty = pieces.empty
        else:
            lower, upper = (np.stack([node.known[side] for node in kinds]) for side in (0, 1))  # type: ignore[index]
        low, high = masks_of(lower, upper, np.stack([node.signs for node in kinds]))
        beaten: Array = self._beaten(pieces, nodes, which)
        values = self._interval_norms(low, high, nodes, which)
        for i, node in enumerate(nodes):
            k = which[i]
            node.known = (lower[k].copy(), upper[k].copy())
            node.bound = -inf if empty[k] or beaten[i] else min(node.bound, float(values[i]))
            self._bound_by_forms(node, low[k], high[k], parameter)
        if roots:
            self.interval = float(values.max())

    def _bound_by_forms(self, node: Node, low: Array, high: Array, parameter: float) -> None:
        """The quadratic bound, and what `branch` and `close` need to know."""
        state, scores = node.hints.get("state"), np.zeros(self.network.neurons)
        open_neurons = high & ~low
        wanted = open_neurons.any() and not self.discards(node.bound, parameter) and time.monotonic() < self.deadline
        if self.stack is not None and wanted:
            value, state, scores = self._forms(node.target).bound(
                low, high, state, steps=CHILD_STEPS if state is not None else ROOT_STEPS, enough=parameter * (1.0 + self.tolerance)
            )  # fmt: skip
            node.bound = min(node.bound, value)
        scores = np.where(open_neurons, scores + 1e-300, -1.0)
        chosen = int(scores.argmax()) if open_neurons.any() else -1
        # Bounds are as tight as they get without another decision: "split", see `PiecewiseQuestion.propagate`.
        last = self.network.relus[-1] if self.network.relus else 0
        node.hints = {
            "state": state,
            "neuron": chosen,
            "layer": int(self._layer_of[chosen]) if chosen >= 0 else 0,
            "split": last,
            "scores": scores,
            "changed": last,
        }

    def _forms(self, target: int) -> QuadraticBound:
        if target not in self._bounds:
            aim, objective, stack = self.aims[target], self.judge.objective, self.stack
            assert stack is not None
            norm = objective.input_norm
            columns = objective.directions.free
            if aim.column is not None:  # one input: all norms are the same there
                columns, norm = np.array([aim.column]), 2
            output = objective.output_norm if objective.is_matrix else inf
            self._bounds[target] = QuadraticBound(stack.from_inputs(columns), objective.rows[aim.target], norm, output)
        return self._bounds[target]

    def _interval_norms(self, low: Array, high: Array, nodes: list[Node], which: Array) -> Array:
        """(N,): the interval bound of every node, its masks being those of piece `which`."""
        objective = self.judge.objective
        values = np.empty(len(nodes))
        if len(low) < len(nodes):  # one piece, all aims
            rows = objective.jacobian(self.network, low, high)
            for i, node in enumerate(nodes):
                aim = self.aims[node.target]
                size = objective.rows.shape[1]
                part = slice(aim.target * size, (aim.target + 1) * size)
                values[i] = self._measure(Jacobian(rows.centre[:, part], rows.radius[:, part]), aim)[0]
            return values
        targets = np.array([self.aims[node.target].target for node in nodes])
        rows = jacobian(self.network, low, high, objective.rows[targets])
        for column in {self.aims[node.target].column for node in nodes}:
            chosen = [i for i, node in enumerate(nodes) if self.aims[node.target].column == column]
            values[chosen] = self._measure(Jacobian(rows.centre[chosen], rows.radius[chosen]), Aim(0, column))
        return values

    def _measure(self, rows: Jacobian, aim: Aim) -> Array:
        """(B,): the interval bound of Jacobians (B, S, n) of one target, of all or of one column."""
        objective = self.judge.of_target(0)
        if aim.column is None:
            return objective.interval_norms(rows)[:, 0]
        size = np.nextafter(np.abs(rows.centre[:, :, aim.column]) + rows.radius[:, :, aim.column], inf)
        return vector_norms(size, np.zeros(1), objective.output_norm if objective.is_matrix else inf)[1]

    def _beaten(self, pieces: Propagation | None, nodes: list[Node], which: Array) -> Array:
        """(N,): pieces on which some other competitor is surely above the one the node's target is about."""
        objective = self.judge.objective
        if objective.label is None or pieces is None:
            return np.zeros(len(nodes), dtype=bool)
        targets = [self.aims[node.target].target for node in nodes]
        last = len(self.network.nodes) - 1
        if pieces.batch < len(nodes):
            distinct = np.concatenate([objective.differences(t) for t in range(objective.targets)])
            values = upper_bound(pieces, backward(pieces, last, distinct[None]))[0].reshape(objective.targets, -1)
            return np.asarray((values < 0.0).any(axis=1))[targets]
        rows = np.stack([objective.differences(t) for t in targets])
        return np.asarray((upper_bound(pieces, backward(pieces, last, rows))[0] < 0.0).any(axis=1))

    # Splitting and closing.

    def branch(self, node: Node) -> list[Node]:
        if node.hints["neuron"] >= 0 and node.signs[node.hints["neuron"]]:
            # Decided since: nothing to split, but the piece is narrower than it was when it was bounded.
            child = Node(node.lower, node.upper, node.signs, node.target, node.known, depth=node.depth + 1, model=node.model)
            child.hints = {"split": node.hints["changed"], "state": node.hints["state"]}
            return [child]
        children = self._decide(node)
        for child in children:
            child.hints["state"], child.hints["split"] = node.hints["state"], min(node.hints["layer"], node.hints["changed"])
        return children

    def propose(self, nodes: Sequence[Node], parameter: float) -> Witness | None:
        found, self.judge.found = self.judge.found, []
        return max(found, key=lambda witness: witness.value, default=None)

    def close(self, node: Node, parameter: float, budget: Budget) -> tuple[Closed, Witness | None] | None:
        """Discard a piece that no point satisfies; settle one without open neurons; elsewhere branch, and try the program's point."""
        whole = node.hints["neuron"] < 0
        value = self._value(node) if whole else inf
        if self.discards(value, parameter):
            return Closed(value), None
        if self.bounded and (whole or node.signs.any()):
            point = self._inside(node, budget, self.aims[node.target].target)
            if point is None:
                return Closed(-inf), None
            witness = self.judge.best(self.targets[node.target].region.clip(point)[None], parameter)
            if witness is not None:
                self.judge.found.append(witness)  # for `propose`: the search takes witnesses of closed pieces only, this one may stay open
                if self.discards(value, witness.value):
                    return Closed(value), witness
        return self._settle_cell(node, value) if whole else None

    def excludes(self, pattern: Array, target: int) -> bool:
        """Whether floats prove that the target counts at no point of the pattern's (h,) cell."""
        if not self.bounded:
            return False
        root = self.covering([target], 0.0)[0]  # for this, a target of the objective serves as an aim: its region is the same
        node = Node(root.lower, root.upper, pattern.astype(np.int8), target, root.known, model=root.model)
        node.hints = {"split": 0, "changed": 0, "scores": np.zeros(self.network.neurons)}
        return self._inside(node, Budget(), target) is None

    def _inside(self, node: Node, budget: Budget, target: int) -> Array | None:
        """A point that satisfies the relaxation of the decided neurons' signs, or None where it is proved that there is none."""
        pieces = self.propagate([node], 0.0, fresh=False)
        if pieces.empty[0]:
            return None
        region, cell = self.targets[node.target].region, leaf.sign_rows(pieces, node.signs)
        rows = self.judge.objective.differences(target)
        if len(rows):
            tops = leaf.output_rows(backward(pieces, len(self.network.nodes) - 1, rows[None]))
            cell = leaf.Cell(np.concatenate([cell.matrix, tops.matrix]), np.concatenate([cell.offsets, tops.offsets]))
        middle = 0.5 * pieces.lower[0] + 0.5 * pieces.upper[0]
        if not len(cell.offsets):
            return middle
        if isinstance(region, Box) or (isinstance(region, Ball) and region.norm == inf):
            began = time.perf_counter()
            part = Inside(cell.matrix, cell.offsets, pieces.lower[0], pieces.upper[0])
            if not part.empty:
                self._force(node, pieces, part)
            self.program_seconds += time.perf_counter() - began
            return None if part.empty else (middle if part.point is None else part.point)
        try:
            solution = leaf.largest_smallest_row(
                region.lift(with_norm=False), pieces.lower[0], pieces.upper[0],
                leaf.Cell(np.zeros((0, len(middle))), np.zeros(0)), cell, solver=self.solver, time_limit=leaf.time_left(budget),
            )  # fmt: skip
        except SolverError:
            return middle
        if solution.proves_infeasible or -solution.safe_bound < 0.0:
            return None
        return middle if solution.x is None else solution.x[: len(middle)]

    def _force(self, node: Node, pieces: Propagation, part: Inside) -> None:
        """Decide open neurons that add most to the bound and have one sign only where the decided ones have theirs."""
        scores = node.hints["scores"]
        tried = np.argsort(-scores, kind="stable")[:FORCED]
        tried = tried[scores[tried] > 0.0]
        both = np.zeros((2, self.network.neurons), np.int8)
        both[0, tried], both[1, tried] = 1, -1
        for signs, forced in zip(both, (-1, 1), strict=True):
            rows = leaf.sign_rows(pieces, signs)  # in the order of the neurons
            decided = np.sort(tried)[part.at_most_zero(rows.matrix, rows.offsets)]
            node.signs[decided] = forced
            node.hints["changed"] = min([node.hints["changed"], *self._layer_of[decided].tolist()])

    def _value(self, node: Node) -> float:
        """The norm of the one cell of a piece without open neurons, rounded up."""
        aim, rows = (
            self.aims[node.target],
            jacobian(self.network, *self._masks(node), self.judge.objective.rows[self.aims[node.target].target]),
        )
        upper = self.judge.of_target(aim.target).norms(rows)[1][:, 0] if aim.column is None else self._measure(rows, aim)
        return min(float(upper[0]), node.bound)

    def _masks(self, node: Node) -> tuple[Array, Array]:
        assert node.known is not None
        return masks_of(node.known[0][None], node.known[1][None], node.signs[None])

    def _settle_cell(self, node: Node, value: float) -> tuple[Closed, Witness | None]:
        """A cell that floats leave open: its norm `value` if it is full, nothing if it is proved not to be."""
        objective, region = self.judge.objective, self.targets[node.target].region
        pattern = np.where(self._masks(node)[0][0], 1, -1).astype(np.int8)
        rows = objective.differences(self.aims[node.target].target)
        decided = interior(self.network, region, pattern, rows, objective.directions, solver=self.solver)
        if decided.empty:
            return Closed(-inf), None
        witness = None if decided.point is None else self.judge.best(region.clip(decided.point)[None], -inf)
        settled = witness is not None and self.discards(value, witness.value)
        return Closed(value, stuck=not settled), witness

    def settle(self, node: Node, pieces: Propagation, parameter: float, budget: Budget) -> tuple[Closed, Witness | None]:
        return self._settle_cell(node, node.bound)

"""What all questions about linear functionals of a network share: bounding, scoring and splitting of pieces.

A piece is bounded by backward propagation with optimised slopes and multipliers. Where the input has few dimensions pieces are
halved in input space and every neuron is bounded anew; elsewhere neurons are decided one by one and bounds are inherited.
"""

import time
from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field
from math import inf
from typing import Any, Literal

import numpy as np

from problems.maps import Array
from problems.network import Network
from problems.regions.base import Region
from solvers import SolverError
from verifier.bounds import Layout, Linear, Optimised, Propagation, backward, best_mixture, compiled, optimise, walk
from verifier.bounds.linear import Concretise
from verifier.bounds.rounding import UNIT
from verifier.branching import axis_scores, neuron_scores
from verifier.search.budget import Budget
from verifier.search.question import Closed, Node, Question, Witness

Splitting = Literal["input", "neuron"]
# Halving a box pays only while few dimensions share the influence on the output; ACAS Xu has 5 inputs.
INPUT_SPLIT_DIMENSIONS = 12
# Slope steps per halved piece, by measurement on ACAS Xu: mixtures of rows gain most from optimised slopes.
INPUT_STEPS, INPUT_STEPS_MIXED = 3, 8
# Up to this many neurons, those of deeper layers are bounded anew after each split; larger networks inherit the root's bounds.
REFRESH_NEURONS = 256


@dataclass(frozen=True, eq=False)
class Target:
    """Rows rows.z + inputs.x + offsets over a region: rows (S, K), offsets (S,), inputs (S, n) or None."""

    region: Region
    rows: Array
    offsets: Array
    inputs: Array | None = None


@dataclass(eq=False)
class PiecewiseQuestion(Question):
    """Maximise, over targets and over the pieces of each target's region, the smallest of the target's row values.

    deadline: an instant of time.monotonic() after which bounds are left as they stand, so that a time-out is answered in time.
    """

    network: Network
    targets: tuple[Target, ...]
    splitting: Splitting | None = None
    iterations: int = 10
    root_iterations: int = 10
    deadline: float = inf
    refresh: bool = field(init=False)
    layout: Layout = field(init=False)

    def __post_init__(self) -> None:
        self.layout = Layout.of(self.network)
        self.refresh = self.layout.neurons <= REFRESH_NEURONS
        if self.splitting is None:
            self.splitting = "input" if self.network.input_size <= INPUT_SPLIT_DIMENSIONS else "neuron"

    # Where questions differ (with `settle`, below).

    @abstractmethod
    def concretise(self, target: int, pieces: Propagation, linear: Linear) -> tuple[Array, Array]:
        """(value (B, S) proven upper bounds of the question's value, point (B, S, n) to read the gradient at)."""

    @abstractmethod
    def piece_box(self, target: int, parameter: float) -> tuple[Array, Array]:
        """The bounding box (n,), (n,) of the target's region, given the parameter."""

    def region(self, target: int, parameter: float) -> Region:
        """The region that holds for the parameter; a radius question shrinks its ball here."""
        return self.targets[target].region

    def discarded_below(self, parameter: float) -> float:
        """Bounds below this are discarded: optimising them further is in vain."""
        return -inf

    def until(self, deadline: float) -> None:
        self.deadline = deadline

    # Bounding.

    def bound(self, nodes: Sequence[Node], parameter: float) -> None:
        groups: dict[tuple[int, int, bool, bool], list[Node]] = {}
        for node in nodes:
            groups.setdefault((*self._batch_key(node.target), node.known is None), []).append(node)
        # Networks that overflow float64 leave NaN and infinities on the way; both end as "no bound".
        with np.errstate(invalid="ignore", over="ignore"):
            for key, group in groups.items():
                self._bound_group(group, parameter, fresh=key[-1])

    def _batch_key(self, target: int) -> tuple[int, int, bool]:
        """Targets that may share a batch: same region object, same number of rows, both with or both without input terms."""
        wanted = self.targets[target]
        return id(wanted.region), len(wanted.offsets), wanted.inputs is None

    def _bound_group(self, nodes: list[Node], parameter: float, *, fresh: bool) -> None:
        pieces = self.propagate(nodes, parameter, fresh=fresh)
        targets = [self.targets[node.target] for node in nodes]
        rows = np.stack([target.rows for target in targets])

        def concretise(pieces: Propagation, linear: Linear) -> tuple[Array, Array]:
            return self.concretise(nodes[0].target, pieces, linear)

        def with_own_terms(pieces: Propagation, linear: Linear) -> tuple[Array, Array]:
            _add_own_terms(linear, targets, pieces)
            return concretise(pieces, linear)

        def settled(values: Array) -> bool:
            late = time.monotonic() >= self.deadline
            return late or all(self.discards(float(v), parameter) for v in values.min(axis=1))

        last = len(self.network.nodes) - 1
        if self.splitting == "input":
            steps = INPUT_STEPS if rows.shape[1] == 1 else INPUT_STEPS_MIXED
            if pieces.packed is not None:
                inputs = None if targets[0].inputs is None else np.stack([target.inputs for target in targets])  # type: ignore[misc]
                offsets, enough = np.stack([target.offsets for target in targets]), self.discarded_below(parameter)
                result = compiled.optimise(
                    pieces, rows, with_own_terms, inputs=inputs, offsets=offsets, iterations=steps, enough=enough
                )  # fmt: skip
            else:
                result = optimise(pieces, last, rows, with_own_terms, iterations=steps, stop=settled)
            self._record(nodes, pieces, result, concretise)
            return
        warm = all("slopes" in node.hints for node in nodes)
        none = np.zeros((rows.shape[1], self.layout.neurons), np.float32)
        result = optimise(
            pieces,
            last,
            rows,
            with_own_terms,
            signs=np.stack([node.signs for node in nodes]),
            slopes=np.stack([node.hints["slopes"] for node in nodes]) if warm else None,
            multipliers=np.stack([node.hints.get("multipliers", none) for node in nodes]) if warm else None,
            iterations=self.iterations,
            stop=settled,
        )
        self._record(nodes, pieces, result, concretise)

    def propagate(self, nodes: Sequence[Node], parameter: float, *, fresh: bool) -> Propagation:
        """Bounds of all neurons on the pieces, in the region that holds for the parameter."""
        lower = np.stack([node.lower for node in nodes])
        upper = np.stack([node.upper for node in nodes])
        box = self.piece_box(nodes[0].target, parameter)
        lower, upper = np.maximum(lower, box[0]), np.minimum(upper, box[1])
        pieces = Propagation(self.network, self.region(nodes[0].target, parameter), lower, upper, deadline=self.deadline)
        known = None
        if not fresh:
            signs = np.stack([node.signs for node in nodes])
            low, high = (np.stack([node.known[side] for node in nodes]) for side in (0, 1))  # type: ignore[index]
            known = (np.where(signs > 0, np.maximum(low, 0.0), low), np.where(signs < 0, np.minimum(high, 0.0), high))
        elif self.splitting == "input":
            # What was proved on the parent's box holds on this one: those neurons need not be bounded again.
            stable = np.stack([node.hints.get("stable", node.signs) for node in nodes])
            known = np.where(stable > 0, 0.0, -np.inf), np.where(stable < 0, 0.0, np.inf)
        return walk(
            pieces, known, crown=fresh or self.refresh, iterations=self.root_iterations if self.splitting == "neuron" and fresh else 0
        )

    def output(self, pieces: Propagation, target: int) -> Linear:
        """The target's rows as linear functions on a single piece, offsets included."""
        linear = backward(pieces, len(self.network.nodes) - 1, self.targets[target].rows[None])
        _add_own_terms(linear, [self.targets[target]], pieces)
        return linear

    def _record(self, nodes: list[Node], pieces: Propagation, result: Optimised, concretise: Concretise) -> None:
        values, weights, points = best_mixture(pieces, result.linear, result.value, concretise)
        known = pieces.neuron_bounds()
        open_neurons = ((known[0] < 0) & (known[1] > 0)).sum(axis=1)
        stable = (known[0] >= 0).astype(np.int8) - (known[1] <= 0)
        neuron = self.splitting == "neuron"
        scores = (
            neuron_scores(self.layout, pieces, result, weights) if neuron else axis_scores(pieces, result, weights)
        )  # fmt: skip
        # Hundreds of thousands of pieces may be open at once: keep what the children need, in single precision where any value is sound.
        for i, node in enumerate(nodes):
            node.bound = -inf if pieces.empty[i] else float(values[i])
            node.hints = {"point": points[i], "open": int(open_neurons[i])}
            if not neuron:
                node.hints |= {"stable": stable[i], "scores": scores[i]}
                continue
            if self.refresh or node.known is None:
                node.known = (known[0][i].copy(), known[1][i].copy())
            node.hints["neuron"] = int(scores[i].argmax()) if open_neurons[i] else -1
            node.hints["slopes"] = result.slopes[i].astype(np.float32)
            if result.multipliers.shape[2]:
                node.hints["multipliers"] = result.multipliers[i].astype(np.float32)

    # Splitting.

    def branch(self, node: Node) -> list[Node]:
        return self._halve(node) if self.splitting == "input" else self._decide(node)

    def _decide(self, node: Node) -> list[Node]:
        neuron = node.hints["neuron"]
        if neuron < 0:
            return []
        children = []
        for sign in (1, -1):
            signs = node.signs.copy()
            signs[neuron] = sign
            hints: dict[str, Any] = {name: node.hints[name] for name in ("slopes", "multipliers") if name in node.hints}
            children.append(Node(node.lower, node.upper, signs, node.target, node.known, depth=node.depth + 1, hints=hints))
        return children

    def _halve(self, node: Node) -> list[Node]:
        for axis in np.argsort(-node.hints["scores"], kind="stable"):
            low, high = float(node.lower[axis]), float(node.upper[axis])
            middle = 0.5 * low + 0.5 * high
            if low < middle < high:
                left, right = node.upper.copy(), node.lower.copy()
                left[axis] = right[axis] = middle
                return [
                    Node(low, high, node.signs, node.target, depth=node.depth + 1, hints={"stable": node.hints["stable"]})
                    for low, high in ((node.lower, left), (right, node.upper))
                ]
        return []

    # Closing.

    def finish(self, node: Node, parameter: float, budget: Budget) -> tuple[Closed, Witness | None]:
        """Settle a piece with few open neurons: depth first over their signs, one program per full pattern."""
        pieces = self.propagate([node], parameter, fresh=node.known is None)
        if pieces.empty[0]:
            return Closed(-inf), None
        low, high = pieces.neuron_bounds()
        unsettled = np.flatnonzero((low[0] < 0) & (high[0] > 0))
        if not len(unsettled):
            try:
                return self.settle(node, pieces, parameter, budget)
            except SolverError:
                # Numbers that no solver takes (huge coefficients): the piece keeps the bound it has.
                return Closed(node.bound, stuck=True), None
        bound, stuck, best = -inf, False, None
        for sign in (1, -1):
            signs = node.signs.copy()
            signs[unsettled[0]] = sign
            child = Node(node.lower, node.upper, signs, node.target, (low[0], high[0]), bound=node.bound)
            closed, witness = self.finish(child, parameter, budget)
            bound, stuck = max(bound, closed.bound), stuck or closed.stuck
            if witness is not None and (best is None or witness.value > best.value):
                best, parameter = witness, max(parameter, witness.value)
        return Closed(bound, stuck), best

    @abstractmethod
    def settle(self, node: Node, pieces: Propagation, parameter: float, budget: Budget) -> tuple[Closed, Witness | None]:
        """Settle a piece, a propagation of batch 1, on which no neuron is open."""

    def covering(self, targets: Sequence[int], parameter: float) -> list[Node]:
        """One root per target. Where neurons are split, targets of one region share the work of bounding its neurons."""
        roots = []
        shared: dict[int, tuple[Array, Array]] = {}
        for target in targets:
            lower, upper = self.piece_box(target, parameter)
            node = Node(lower, upper, np.zeros(self.layout.neurons, np.int8), target)
            if self.splitting == "neuron" and self.layout.neurons:
                key = id(self.targets[target].region)
                if key not in shared:
                    pieces = self.propagate([node], parameter, fresh=True)
                    known = pieces.neuron_bounds()
                    shared[key] = (known[0][0], known[1][0])
                node.known = shared[key]
            roots.append(node)
        return roots


def _add_own_terms(linear: Linear, targets: Sequence[Target], pieces: Propagation) -> None:
    """Add the targets' offsets and input terms to the linear functions of their rows, with the rounding of the additions."""
    offsets = np.stack([target.offsets for target in targets])
    linear.constant = linear.constant + offsets
    linear.error = linear.error + 2.0 * UNIT * (np.abs(linear.constant) + np.abs(offsets))
    if targets[0].inputs is None:
        return
    inputs = np.stack([target.inputs for target in targets])  # type: ignore[misc]
    magnitude = np.maximum(np.abs(pieces.lower), np.abs(pieces.upper))
    linear.coefficients = linear.coefficients + inputs
    touched = np.abs(linear.coefficients) + np.abs(inputs)
    linear.error = linear.error + 4.0 * UNIT * np.matmul(touched, magnitude[:, :, None])[:, :, 0]

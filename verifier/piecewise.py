"""What all questions about linear functionals of a network share: bounding, scoring and splitting of pieces.

A piece is bounded by backward propagation with optimised slopes and multipliers. Where the input has few dimensions pieces are
halved in input space and every neuron is bounded anew; elsewhere the network is condensed to the neurons open on the region
(`verifier.bounds.condensed`), which are decided one by one.
"""

import time
from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from math import inf
from typing import Any, Literal

import numpy as np

from problems.maps import Array
from problems.network import Network
from problems.regions.base import Region
from solvers import SolverError
from verifier.bounds import Condensed, Layout, Linear, Optimised, Propagation, backward, best_mixture, compiled, condense, optimise, walk
from verifier.bounds.linear import Concretise
from verifier.bounds.rounding import UNIT
from verifier.branching import axis_scores, neuron_scores
from verifier.search.alarm import TimeUp
from verifier.search.budget import Budget
from verifier.search.question import Closed, Node, Question, Witness

Splitting = Literal["input", "neuron"]
# Halving a box pays only while few dimensions share the influence on the output; ACAS Xu has 5 inputs.
INPUT_SPLIT_DIMENSIONS = 12
# Slope steps per halved piece, by measurement on ACAS Xu: mixtures of rows gain most from optimised slopes.
INPUT_STEPS, INPUT_STEPS_MIXED = 3, 8
# Up to this many open neurons, those of deeper layers are bounded anew after each split; more inherit the root's bounds.
REFRESH_NEURONS = 256
# Pieces are bounded in batches whose coefficients take about this many bytes: they then stay in the processor's cache.
BATCH_BYTES = 1 << 22
# Where the input is split the compiled walk takes one piece after the other: this many are handed to it.
INPUT_BATCH = 512


def batch_bytes_within(memory: float) -> int:
    """Batches that fit into a limit of memory in bytes, with all that is made of them."""
    return int(min(BATCH_BYTES, max(memory / 256, 1 << 14)))


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
    models: what stands for the network on a region when neurons are split; a node's pattern is a pattern of models[node.model], or of the
    network itself. current: which of them is the best for a region, named by the first target that has the region. condenses:
    whether the engine may condense the network. batch_bytes: what the coefficients of one batch of pieces take at most.
    """

    network: Network
    targets: tuple[Target, ...]
    splitting: Splitting | None = None
    iterations: int = 10
    root_iterations: int = 10
    deadline: float = inf
    condenses: bool = True
    models: dict[int, Condensed] = field(default_factory=dict)
    current: dict[int, int] = field(default_factory=dict)
    refresh_neurons: int = REFRESH_NEURONS
    batch_bytes: int = BATCH_BYTES
    _first: list[int] = field(init=False)
    _whole: Condensed = field(init=False)

    def __post_init__(self) -> None:
        first: dict[int, int] = {}
        self._first = [first.setdefault(id(target.region), index) for index, target in enumerate(self.targets)]
        self._whole = Condensed(self.network)
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

    def model(self, target: int) -> Condensed:
        """What stands best for the network on the target's region."""
        return self.models.get(self.current.get(self._first[target], 0), self._whole)

    def model_of(self, node: Node) -> Condensed:
        """What the node's pattern refers to."""
        return self.models.get(node.model, self._whole)

    def improve(self, target: int, model: Condensed) -> None:
        """Let nodes from now on refer to this model on the target's region."""
        key = self.version + 1
        self.models[key] = model
        self.current[self._first[target]] = key

    def forget(self, frontier: Sequence[Node]) -> None:
        """Keep only the models that nodes still refer to, or will."""
        used = {node.model for node in frontier} | set(self.current.values())
        self.models = {key: model for key, model in self.models.items() if key in used}

    @property
    def version(self) -> int:
        return max(self.models, default=0)

    def learnt(self) -> Any:
        def parts(model: Condensed) -> tuple:  # the network itself travels with the question
            return None if model.network is self.network else model.network, dict(model.slack), model.bounds

        return {key: parts(model) for key, model in self.models.items()}, dict(self.current)

    def learn(self, learnt: Any) -> None:
        models, self.current = learnt
        self.models = {key: Condensed(network or self.network, slack, bounds) for key, (network, slack, bounds) in models.items()}

    def first_with_region(self, target: int) -> int:
        """The first target that has this target's region: the key of its model."""
        return self._first[target]

    def until(self, deadline: float) -> None:
        self.deadline = deadline

    # Bounding.

    def bound(self, nodes: Sequence[Node], parameter: float) -> None:
        groups: dict[tuple[int, int, int, bool, bool], list[Node]] = {}
        for node in nodes:
            groups.setdefault((*self._batch_key(node), node.known is None), []).append(node)
        # Networks that overflow float64 leave NaN and infinities on the way; both end as "no bound".
        with np.errstate(invalid="ignore", over="ignore"):
            for key, group in groups.items():
                group.sort(key=lambda node: node.hints.get("split", 0))
                size = self._batch_size(group[0])
                for first in range(0, len(group), size):
                    if first and time.monotonic() >= self.deadline:
                        raise TimeUp  # between two batches; those who asked keep the pieces as they were
                    self._bound_group(group[first : first + size], parameter, fresh=key[-1])

    def _batch_key(self, node: Node) -> tuple[int, int, int, bool]:
        """Nodes that may share a batch: same region object, same model, same number of rows, both with or both without input terms."""
        wanted = self.targets[node.target]
        return self._first[node.target], node.model, len(wanted.offsets), wanted.inputs is None

    def _batch_size(self, node: Node) -> int:
        """How many pieces are bounded at a time."""
        if self.splitting == "input":
            return INPUT_BATCH
        widest = max(part.size for part in self.model_of(node).network.nodes)
        return int(np.clip(self.batch_bytes // (8 * widest * len(self.targets[node.target].offsets)), 1, 1024))

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

        last = len(pieces.network.nodes) - 1
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
        none = np.zeros((rows.shape[1], pieces.network.neurons), np.float32)
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
        box = self.piece_box(nodes[0].target, parameter)
        if all(node.lower is nodes[0].lower and node.upper is nodes[0].upper for node in nodes):  # neurons are split, not the input
            lower, upper = np.maximum(nodes[0].lower, box[0]), np.minimum(nodes[0].upper, box[1])
            lower, upper = (np.broadcast_to(side, (len(nodes), len(side))) for side in (lower, upper))
        else:
            lower = np.maximum(np.stack([node.lower for node in nodes]), box[0])
            upper = np.minimum(np.stack([node.upper for node in nodes]), box[1])
        model = self.model_of(nodes[0])
        region = self.region(nodes[0].target, parameter)
        pieces = Propagation(model.network, region, lower, upper, self.deadline, 4 * self.batch_bytes, model.slack)
        known, after = None, 0
        if not fresh:
            signs = np.stack([node.signs for node in nodes])
            low, high = (np.stack([node.known[side] for node in nodes]) for side in (0, 1))  # type: ignore[index]
            known = (np.where(signs > 0, np.maximum(low, 0.0), low), np.where(signs < 0, np.minimum(high, 0.0), high))
            # Layers up to that of the neuron decided last know all they can.
            after = min(node.hints.get("split", 0) for node in nodes)
        elif self.splitting == "input":
            # What was proved on the parent's box holds on this one: those neurons need not be bounded again.
            stable = np.stack([node.hints.get("stable", node.signs) for node in nodes])
            known = np.where(stable > 0, 0.0, -np.inf), np.where(stable < 0, 0.0, np.inf)
        return walk(pieces, known, crown=fresh or self.refreshes(model), after=after)

    def refreshes(self, model: Condensed) -> bool:
        """Whether deeper neurons are bounded anew after a split."""
        return model.network.neurons <= self.refresh_neurons

    def output(self, pieces: Propagation, target: int) -> Linear:
        """The target's rows as linear functions on a single piece, offsets included."""
        linear = backward(pieces, len(pieces.network.nodes) - 1, self.targets[target].rows[None])
        _add_own_terms(linear, [self.targets[target]], pieces)
        return linear

    def _record(self, nodes: list[Node], pieces: Propagation, result: Optimised, concretise: Concretise) -> None:
        values, weights, points = self.mixed(pieces, result, concretise)
        known = pieces.neuron_bounds()
        open_neurons = ((known[0] < 0) & (known[1] > 0)).sum(axis=1)
        stable = (known[0] >= 0).astype(np.int8) - (known[1] <= 0)
        neuron = self.splitting == "neuron"
        layout = Layout.of(pieces.network)
        scores = neuron_scores(layout, pieces, result, weights) if neuron else axis_scores(pieces, result, weights)
        refreshes = self.refreshes(self.model_of(nodes[0]))
        layer_of = np.repeat(layout.relus, [part.stop - part.start for part in layout.slices])
        # Hundreds of thousands of pieces may be open at once: keep what the children need, in single precision where any value is sound.
        for i, node in enumerate(nodes):
            node.bound = -inf if pieces.empty[i] else float(values[i])
            node.hints = {"point": points[i], "open": int(open_neurons[i])}
            if not neuron:
                node.hints |= {"stable": stable[i], "scores": scores[i]}
                continue
            if refreshes or node.known is None:
                node.known = (known[0][i].copy(), known[1][i].copy())
            chosen = int(scores[i].argmax()) if open_neurons[i] else -1
            node.hints["neuron"] = chosen
            node.hints["layer"] = int(layer_of[chosen]) if chosen >= 0 else 0
            node.hints["score"] = float(scores[i].max(initial=0.0)) if chosen >= 0 else 0.0
            node.hints["slopes"] = result.slopes[i].astype(np.float32)
            if result.multipliers.shape[2]:
                node.hints["multipliers"] = result.multipliers[i].astype(np.float32)

    def mixed(self, pieces: Propagation, result: Optimised, concretise: Concretise) -> tuple[Array, Array, Array]:
        """(value (B,), weights of the rows (B, S), point (B, n)): what the rows bound together."""
        return best_mixture(pieces, result.linear, result.value, concretise)

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
            hints["split"] = node.hints["layer"]
            child = Node(node.lower, node.upper, signs, node.target, node.known, depth=node.depth + 1, model=node.model, hints=hints)
            children.append(child)
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
            child = Node(node.lower, node.upper, signs, node.target, (low[0], high[0]), bound=node.bound, model=node.model)
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
        for target in targets:
            lower, upper = self.piece_box(target, parameter)
            if self.splitting == "neuron" and self._first[target] not in self.current:
                self.improve(target, self._root_model(Node(lower, upper, np.zeros(0, np.int8), target), parameter))
            model = self.model(target)
            known = model.bounds if self.splitting == "neuron" else None
            key = self.current.get(self._first[target], 0)
            roots.append(Node(lower, upper, np.zeros(model.network.neurons, np.int8), target, known, model=key))
        return roots

    def _root_model(self, root: Node, parameter: float) -> Condensed:
        """Default slopes on the whole network, then optimised ones on what is left of it: steps there cost a fraction."""
        pieces = self.propagate([root], parameter, fresh=True)
        if not self.condenses:
            lower, upper = (side[0] for side in self._sharpened(pieces).neuron_bounds())
            return Condensed(self.network, {}, (lower, upper))
        model = condense(pieces)
        again = replace(pieces, network=model.network, slack=model.slack, packed=None, lines={}, magnitude={}, floors={})
        again.empty = pieces.empty
        return condense(self._sharpened(again, model.bounds))

    def _sharpened(self, pieces: Propagation, known: tuple[Array, Array] | None = None) -> Propagation:
        """The pieces bounded anew with optimised slopes."""
        known = pieces.neuron_bounds() if known is None else (known[0][None], known[1][None])
        return walk(pieces, known, crown=True, iterations=self.root_iterations)


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

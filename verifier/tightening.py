"""Tighter bounds of hidden neurons, by the one search: before asking about the outputs, ask about the neurons.

Layer by layer, the largest and the smallest pre-activation of every open neuron is a maximisation over the layers before it, and the
search splits these as it splits any question; here every neuron's worst piece is opened in turn, for a number of rounds. Neurons
that become stable leave the condensed network, the others get narrower lines, and both make all deeper layers easier. Others refine
neurons by one mixed-integer program each (Tjeng, Xiao, Tedrake 2019; Zhang et al. 2022); a few split pieces per neuron, bounded
hundreds at a time, give most of that at a small part of the cost.
"""

from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, field, replace
from math import inf, isfinite
from typing import Any

import numpy as np
from threadpoolctl import threadpool_limits

from problems.maps import Array
from problems.regions.base import Region
from verifier import leaf
from verifier.bounds import Condensed, Linear, Propagation, condense, upper_bound, walk
from verifier.piecewise import BATCH_BYTES, PiecewiseQuestion, Target
from verifier.search.budget import Budget
from verifier.search.question import Closed, Node, Witness
from verifier.search.search import Search
from verifier.search.sharing import Crew

# Slope steps when all deeper neurons are bounded anew after a layer has been tightened.
REBOUND_ITERATIONS = 10
# Slope steps per piece.
EXTENT_ITERATIONS = 5


@dataclass(eq=False)
class Extent(PiecewiseQuestion):
    """How large can the outputs of a network be, each target a row of them: bounds only, no witnesses. A piece below zero is settled."""

    solver: str = "auto"
    draft: Condensed | None = None  # all of the network, for whoever goes on from here

    def learnt(self) -> Condensed | None:
        return None if self.draft is None else replace(self.draft, network=replace(self.draft.network, source=None))

    def roots(self, budget: Budget) -> list[Node]:
        return self.covering(range(len(self.targets)), 0.0)

    def concretise(self, target: int, pieces: Propagation, linear: Linear) -> tuple[Array, Array]:
        return upper_bound(pieces, linear)

    def piece_box(self, target: int, parameter: float) -> tuple[Array, Array]:
        return self.targets[target].region.bounding_box()

    def discarded_below(self, parameter: float) -> float:
        return 0.0

    def discards(self, bound: float, incumbent: float) -> bool:
        return bound < 0

    def finished(self, lower: float, upper: float) -> bool:
        return upper < 0

    def propose(self, nodes: Sequence[Node], parameter: float) -> Witness | None:
        for node in nodes:
            node.hints.pop("point", None)
        return None

    def close(self, node: Node, parameter: float, budget: Budget) -> tuple[Closed, Witness | None] | None:
        return None if node.hints.get("open", 1) else self.finish(node, parameter, budget)

    def settle(self, node: Node, pieces: Propagation, parameter: float, budget: Budget) -> tuple[Closed, Witness | None]:
        solution = leaf.largest_smallest_row(
            self.targets[node.target].region.lift(with_norm=False), pieces.lower[0], pieces.upper[0],
            leaf.sign_rows(pieces, node.signs), leaf.output_rows(self.output(pieces, node.target)),
            solver=self.solver, time_limit=leaf.time_left(budget),
        )  # fmt: skip
        return Closed(-inf if solution.proves_infeasible else min(-solution.safe_bound, node.bound)), None


@dataclass(eq=False)
class Tightening:
    """Layer by layer the bounds of a model's open neurons on a bounded region; proven like every bound of the search.

    rounds: how often every open neuron's worst piece is split, per layer. `run` works until all is done or a budget is spent; model is what
    has been reached. Between two steps `state` and `restore` carry the work to another process: the layer's position and the
    rounds done there, the model, and the state of the layer's search.
    """

    model: Condensed
    region: Region
    rounds: int
    solver: str = "auto"
    batch_bytes: int = BATCH_BYTES
    executor: Executor | None = None
    workers: int = 1
    depth: int = 1  # the first layer's bounds are exact already
    done: int = 0
    lanes: Search | None = field(default=None, repr=False)

    @property
    def finished(self) -> bool:
        return self.depth >= len(self.model.network.relus)

    def run(self, budget: Budget, watch: Callable[["Tightening"], None] | None = None, crew: Crew | None = None) -> Condensed:
        """The model, tightened as far as the budget goes. Workers of a crew that is ready share each layer, but tell nothing in between."""
        while not self.finished and not budget.exceeded():
            lower, upper = self._layer_by(crew, budget) if crew is not None and crew.ready else self._layer(budget, watch)
            self.model = self._replaced(lower, upper, budget)
            self.depth += bool(((lower < 0) & (upper > 0)).any())  # a layer without open neurons has left the model
            self.done, self.lanes = 0, None
        return self.model

    def _layer(self, budget: Budget, watch: Callable[["Tightening"], None] | None) -> tuple[Array, Array]:
        """(lower (m,), upper (m,)) of the layer, found here."""
        neurons = self._open
        if self.lanes is None:
            self.lanes = self._search(neurons)
            self.lanes.question.until(budget.end)
            self.lanes.start(budget)
        while self.done < self.rounds and not budget.exceeded() and open_lanes(self.lanes, len(neurons)):
            self.lanes.step(budget)
            self.done += 1
            if watch is not None:
                watch(self)
        return self._proved(neurons, reached(self.lanes, len(neurons)))

    def _layer_by(self, crew: Crew, budget: Budget) -> tuple[Array, Array]:
        """The same, found by the crew, each worker with a part of the neurons."""
        parts = [part for part in (self._open[i :: crew.count] for i in range(crew.count)) if len(part)]
        alone = replace(self, executor=None, workers=1, lanes=None, done=0)
        remaining = budget.remaining if isfinite(budget.deadline) else None
        found = crew.call(tighten_part, [(alone, part, remaining, budget.memory) for part in parts])
        return self._proved(np.concatenate([*parts, np.zeros(0, int)]), np.concatenate([*found, np.zeros((0, 2))]))

    def state(self) -> dict[str, Any]:
        """What `restore` needs, apart from the state of `lanes`."""
        return {"depth": self.depth, "done": self.done}

    def restore(self, state: dict[str, Any], lanes: dict[str, Any]) -> None:
        """Go on from `state()` and the state of its lanes, with the same region and rounds."""
        self.depth, self.done = state["depth"], state["done"]
        self.model = lanes["learnt"]
        self.lanes = self._search(self._open)
        self.lanes.restore(lanes | {"learnt": None})

    # The layer that is being worked on.

    @property
    def _relu(self) -> int:
        return self.model.network.relus[self.depth]

    @property
    def _part(self) -> slice:
        return self.model.layout.slices[self.depth]

    @property
    def _open(self) -> Array:
        return self.model.open_neurons(self._part)

    def _search(self, neurons: Array) -> Search:
        """Target 2 i is the i-th of the neurons, target 2 i + 1 its negative."""
        before, targets = self.model.before(self._relu), []
        for neuron in neurons:
            for sign in (1.0, -1.0):
                row = np.zeros((1, before.network.output_size))
                row[0, neuron] = sign
                targets.append(Target(self.region, row, np.zeros(1)))
        question = Extent(
            before.network, tuple(targets), "neuron", models={self.depth: before}, current={0: self.depth}, solver=self.solver,
            refresh_neurons=0, iterations=EXTENT_ITERATIONS, draft=self.model, batch_bytes=self.batch_bytes,
        )  # fmt: skip
        return Search(question, fair=True, executor=self.executor, workers=self.workers)

    def _proved(self, neurons: Array, ends: Array) -> tuple[Array, Array]:
        """(lower (m,), upper (m,)) of the layer, ends (k, 2) being the proven ends of these neurons and of their negatives."""
        assert self.model.bounds is not None
        lower, upper = (side[self._part].copy() for side in self.model.bounds)
        upper[neurons] = np.minimum(upper[neurons], ends[:, 0])
        lower[neurons] = np.maximum(lower[neurons], -ends[:, 1])
        return lower, upper

    def _replaced(self, lower: Array, upper: Array, budget: Budget) -> Condensed:
        """The model with these bounds of the layer, its deeper neurons bounded anew, and condensed."""
        model, box = self.model, self.region.bounding_box()
        assert model.bounds is not None
        low, high = (side[None].copy() for side in model.bounds)
        low[0, self._part], high[0, self._part] = lower, upper
        pieces = Propagation(model.network, self.region, box[0][None], box[1][None], deadline=budget.end, slack=model.slack)
        return condense(walk(pieces, (low, high), crown=True, iterations=REBOUND_ITERATIONS, after=self._relu))


def open_lanes(lanes: Search, count: int) -> bool:
    """Whether anything is left to split for so many neurons; those that have one sign settled are put aside: what else could be known?"""
    for positive in range(0, 2 * count, 2):
        if min(lanes.upper_of(positive), lanes.upper_of(positive + 1)) < 0:
            lanes.put_aside(positive)
            lanes.put_aside(positive + 1)
    return lanes.open_pieces > 0


def reached(lanes: Search, count: int) -> Array:
    """(count, 2): the proven ends of so many neurons and of their negatives."""
    return np.array([lanes.upper_of(target) for target in range(2 * count)]).reshape(count, 2)


def tighten_part(task: tuple[Tightening, Array, float | None, float | None], interrupt: Any) -> Array:
    """The ends of some neurons (k, 2) of a tightening's layer, in another process, within so many seconds and bytes."""
    work, neurons, remaining, memory = task
    budget = Budget(remaining, memory)
    if interrupt is not None:
        budget.interrupt = interrupt
    lanes = work._search(neurons)
    with threadpool_limits(1):
        lanes.question.until(budget.end)
        lanes.start(budget)
        for _ in range(work.rounds):
            if budget.exceeded() or not open_lanes(lanes, len(neurons)):
                break
            lanes.step(budget)
    return reached(lanes, len(neurons))

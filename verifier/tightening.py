"""Tighter bounds of hidden neurons, by the one search: before asking about the outputs, ask about the neurons.

Layer by layer, the largest and the smallest pre-activation of every open neuron is a maximisation over the layers before it, and the
search splits these as it splits any question; here every neuron's worst piece is opened in turn, for a number of rounds. Neurons
that become stable leave the condensed network, the others get narrower lines, and both make all deeper layers easier. Others refine
neurons by one mixed-integer program each (Tjeng, Xiao, Tedrake 2019; Zhang et al. 2022); a few split pieces per neuron, bounded
hundreds at a time, give most of that at a small part of the cost.
"""

from collections.abc import Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from math import inf

import numpy as np

from problems.maps import Array
from problems.regions.base import Region
from verifier import leaf
from verifier.bounds import Condensed, Linear, Propagation, condense, upper_bound, walk
from verifier.piecewise import PiecewiseQuestion, Target
from verifier.search.budget import Budget
from verifier.search.question import Closed, Node, Witness
from verifier.search.search import Search

# Slope steps when all deeper neurons are bounded anew after a layer has been tightened.
REBOUND_ITERATIONS = 10
# Slope steps per piece.
EXTENT_ITERATIONS = 5


@dataclass(eq=False)
class Extent(PiecewiseQuestion):
    """How large can the outputs of a network be, each target a row of them: bounds only, no witnesses. A piece below zero is settled."""

    solver: str = "auto"

    def roots(self, budget: Budget) -> list[Node]:
        self.deadline = budget.deadline
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


def tighten(
    model: Condensed,
    region: Region,
    *,
    rounds: int,
    budget: Budget,
    solver: str = "auto",
    executor: Executor | None = None,
    workers: int = 1,
) -> Condensed:
    """The model with tighter bounds of its neurons on the bounded region, condensed again; what a spent budget leaves undone is left.

    rounds: how often every open neuron's worst piece is split, per layer. Proven like every bound of the search.
    """
    depth = 1  # the first layer's bounds are exact already
    while depth < len(model.network.relus) and not budget.exceeded():
        layer = _Layer(model, model.network.relus[depth], region)
        lower, upper = layer.tightened(Search(layer.question(solver), fair=True, executor=executor, workers=workers), rounds, budget)
        depth += bool(((lower < 0) & (upper > 0)).any())  # a layer without open neurons leaves the model
        model = layer.replaced(lower, upper, budget)
    return model


@dataclass(frozen=True, eq=False)
class _Layer:
    """The ReLU node `relu` of a model on a region, whose open neurons are to be bounded."""

    model: Condensed
    relu: int
    region: Region

    @property
    def part(self) -> slice:
        layout = self.model.layout
        return layout.slices[layout.relus.index(self.relu)]

    @property
    def bounds(self) -> tuple[Array, Array]:
        assert self.model.bounds is not None
        return self.model.bounds[0][self.part], self.model.bounds[1][self.part]

    @property
    def open(self) -> Array:
        return np.flatnonzero((self.bounds[0] < 0) & (self.bounds[1] > 0))

    def question(self, solver: str) -> Extent:
        """Target 2 i is the i-th open neuron, target 2 i + 1 its negative."""
        before, targets = self.model.before(self.relu), []
        for neuron in self.open:
            for sign in (1.0, -1.0):
                row = np.zeros((1, before.network.output_size))
                row[0, neuron] = sign
                targets.append(Target(self.region, row, np.zeros(1)))
        return Extent(before.network, tuple(targets), "neuron", models={0: before}, solver=solver, refresh_neurons=0, iterations=EXTENT_ITERATIONS)

    def tightened(self, search: Search, rounds: int, budget: Budget) -> tuple[Array, Array]:
        """(lower (m,), upper (m,)) of the layer after so many rounds."""
        lower, upper = (side.copy() for side in self.bounds)
        chosen = self.open
        if not len(chosen):
            return lower, upper
        search.start(budget)
        for _ in range(rounds):
            for i in range(len(chosen)):
                if min(search.upper_of(2 * i), search.upper_of(2 * i + 1)) < 0:  # one sign is settled: what else could be known?
                    search.put_aside(2 * i)
                    search.put_aside(2 * i + 1)
            if not search.open_pieces or budget.exceeded():
                break
            search.step(budget)
        upper[chosen] = np.minimum(upper[chosen], [search.upper_of(2 * i) for i in range(len(chosen))])
        lower[chosen] = np.maximum(lower[chosen], [-search.upper_of(2 * i + 1) for i in range(len(chosen))])
        return lower, upper

    def replaced(self, lower: Array, upper: Array, budget: Budget) -> Condensed:
        """The model with these bounds of the layer, its deeper neurons bounded anew, and condensed."""
        model, box = self.model, self.region.bounding_box()
        assert model.bounds is not None
        low, high = (side[None].copy() for side in model.bounds)
        low[0, self.part], high[0, self.part] = lower, upper
        pieces = Propagation(model.network, self.region, box[0][None], box[1][None], deadline=budget.deadline, slack=model.slack)
        return condense(walk(pieces, (low, high), crown=True, iterations=REBOUND_ITERATIONS, after=self.relu))

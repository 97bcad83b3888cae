"""The questions of inner maximisation: the largest loss less a price for the distance, or within a radius (THEORY W1).

Every piece keeps linear upper bounds of its target's loss ("forms") that hold on the whole piece whatever the rate. For a new rate they
are maximised anew by one-dimensional duality (`Ball.penalised`), which takes microseconds, and only pieces that this leaves open are
bounded again. Pieces whose gradient-norm bound is at most the rate are discarded (THEORY W2): the supremum of one target's function is
attained at the sample, whose value always counts, or in the closure of a cell that is steeper; so the rule holds target by target.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from math import inf
from typing import ClassVar

import numpy as np

from problems.maps import Array
from problems.regions.ball import Ball
from verifier import leaf
from verifier.bounds import Concretise, Linear, Optimised, Propagation
from verifier.bounds.jacobian import Jacobian, jacobian, masks_of
from verifier.bounds.rounding import UNIT, up
from verifier.distributional.inner_leaf import Program
from verifier.distributional.inner_points import Points
from verifier.distributional.losses import Loss
from verifier.piecewise import PiecewiseQuestion
from verifier.search.budget import Budget
from verifier.search.question import Closed, Node, Witness
from verifier.steepness.norms import vector_norms

# Forms that a piece keeps: those of the rates bounded last, its ancestors' among them.
FORMS = 3


@dataclass(eq=False)
class Inner(PiecewiseQuestion):
    """What both kinds share. position: which rate is asked about; tolerance: absolute; forced (h,): signs of all pieces, or None."""

    keeps: ClassVar[bool] = True
    loss: Loss = field(kw_only=True)
    ball: Ball = field(kw_only=True)
    points: Points = field(kw_only=True)
    tolerance: float = 0.0
    position: int = 0
    solver: str = "auto"
    forced: Array | None = None

    # What a linear function is worth: where the two kinds differ.

    def worth(self, coefficients: Array, lower: Array, upper: Array) -> tuple[Array, Array]:
        """(proven upper bounds (B, S) of the largest value of the functions (B, S, n) on the boxes, maximisers (B, S, n))."""
        raise NotImplementedError

    def steep_enough(self, steepness: float) -> bool:
        """Whether a piece with this gradient-norm bound has to be looked at."""
        return True

    @property
    def asked(self) -> float:
        """The rate."""
        return float(self.points.rates[self.position])

    @property
    def target_value(self) -> float:
        """What the points found are worth."""
        return float(self.points.best[self.position])

    # Bounding.

    def roots(self, budget: Budget) -> list[Node]:
        roots = self.covering(range(len(self.targets)), -inf)
        if self.forced is not None:
            for root in roots:
                root.signs = self.forced.copy()
        return roots

    def piece_box(self, target: int, parameter: float) -> tuple[Array, Array]:
        return self.targets[target].region.bounding_box()

    def concretise(self, target: int, pieces: Propagation, linear: Linear) -> tuple[Array, Array]:
        value, point = self.worth(linear.coefficients, pieces.lower, pieces.upper)
        with np.errstate(invalid="ignore", over="ignore"):
            total = value + (linear.constant + linear.error)
            total += 4.0 * UNIT * (np.abs(value) + np.abs(linear.constant) + linear.error)
        return np.where(value == -inf, -inf, np.where(np.isnan(total), inf, total)), point

    def discarded_below(self, parameter: float) -> float:
        return self.target_value + self.tolerance

    def discards(self, bound: float, incumbent: float) -> bool:
        return bound <= max(incumbent, self.target_value) + self.tolerance

    def finished(self, lower: float, upper: float) -> bool:
        return upper <= max(lower, self.target_value) + self.tolerance

    def mixed(self, pieces: Propagation, result: Optimised, concretise: Concretise) -> tuple[Array, Array, Array]:
        """There is one row, and `optimise` has valued it."""
        return result.value[:, 0], np.ones((len(result.value), 1)), result.point[:, 0]

    def _record(self, nodes: list[Node], pieces: Propagation, result: Optimised, concretise: Concretise) -> None:
        earlier = [node.hints.get("forms") for node in nodes]
        steep = [node.hints.get("steep", inf) for node in nodes]
        super()._record(nodes, pieces, result, concretise)
        constants = np.nextafter(result.linear.constant + result.linear.error, inf)
        for i, node in enumerate(nodes):
            node.hints["forms"] = joined(earlier[i], result.linear.coefficients[i], constants[i])
            node.hints["steep"] = steep[i]
            node.hints["rate"] = self.asked
            node.hints["empty"] = bool(pieces.empty[i])
        self._measure_steepness(nodes)

    def _measure_steepness(self, nodes: list[Node]) -> None:
        """The gradient-norm bounds of the pieces' targets, where they may matter: those of open pieces."""

    def propose(self, nodes: Sequence[Node], parameter: float) -> Witness | None:
        found = [node.hints.pop("point") for node in nodes if "point" in node.hints and node.bound > self.target_value]
        return self.judge(np.stack(found)) if found else None

    def judge(self, points: Array) -> Witness | None:
        """Take the points (B, n); the best witness known for what is asked, if these raise it."""
        before = self.target_value
        self.points.add(self.points.drawn(points, self.position))
        return self.known() if self.target_value > before else None

    def known(self) -> Witness:
        """The best witness so far."""
        return Witness(self.target_value, self.points.points[int(self.points.which[self.position])])

    # Other rates.

    def anew(self, position: int) -> bool:
        """Whether the search for the next rate begins with the region, rather than with the pieces of the rate before."""
        return False

    def reconsider(self, pieces: Sequence[Node], parameter: float) -> Witness | None:
        self.position = int(parameter)
        self.rebound(pieces)
        return self.known()

    def rebound(self, pieces: Sequence[Node]) -> None:
        """Set the bounds of pieces bounded before to what their forms prove now."""
        count = [len(node.hints["forms"][1]) for node in pieces]
        if not count:
            return
        coefficients = np.concatenate([node.hints["forms"][0] for node in pieces])[:, None]
        constants = np.concatenate([node.hints["forms"][1] for node in pieces])
        first = pieces[0]
        if all(node.lower is first.lower and node.upper is first.upper for node in pieces):
            lower, upper = first.lower[None], first.upper[None]
        else:
            lower = np.repeat([node.lower for node in pieces], count, axis=0)
            upper = np.repeat([node.upper for node in pieces], count, axis=0)
        value = self.worth(coefficients, lower, upper)[0][:, 0]
        with np.errstate(invalid="ignore", over="ignore"):
            total = value + constants + 4.0 * UNIT * (np.abs(value) + np.abs(constants))
        total = np.where(value == -inf, -inf, np.where(np.isnan(total), inf, up(total)))
        starts = np.concatenate([[0], np.cumsum(count)[:-1]])
        for node, bound in zip(pieces, np.minimum.reduceat(total, starts).tolist(), strict=True):
            node.bound = bound if self.steep_enough(node.hints["steep"]) and not node.hints["empty"] else -inf

    # Splitting and closing.

    def branch(self, node: Node) -> list[Node]:
        if node.hints["rate"] != self.asked:
            # Bounded for another rate: anew, before it is split. What is known of its neurons holds.
            node.hints["split"] = self.network.relus[-1] if self.network.relus else 0
            return [node]
        children = super().branch(node)
        for child in children:
            child.hints["forms"], child.hints["steep"] = node.hints["forms"], node.hints["steep"]
        return children

    def close(self, node: Node, parameter: float, budget: Budget) -> tuple[Closed, Witness | None] | None:
        """Discard what is not steep; settle pieces without open neurons; elsewhere branch."""
        if not self.steep_enough(node.hints["steep"]):
            return Closed(-inf), None
        if node.hints.get("open", 1) or not self.loss.linear_cells:
            return None
        closed, witness = self.finish(node, parameter, budget)
        node.hints["empty"] = closed.bound == -inf  # every program has a finite bound, at any rate: no point was left
        return closed, witness

    def settle(self, node: Node, pieces: Propagation, parameter: float, budget: Budget) -> tuple[Closed, Witness | None]:
        """A piece without open neurons is one convex program."""
        found = self.program().solve(self, node, pieces, self.output(pieces, node.target), budget)
        if found is None:
            return Closed(-inf), None
        form, bound, points = found
        node.hints["forms"] = joined(node.hints.get("forms"), *form)
        bound = min(bound, node.bound)
        witness = self.judge(np.stack(points)) if points else None
        return Closed(bound, stuck=not self.discards(bound, self.target_value)), witness

    def rows_of(self, node: Node, pieces: Propagation) -> leaf.Cell:
        """The rows that hold on a piece without open neurons."""
        return leaf.sign_rows(pieces, node.signs)

    def program(self) -> Program:
        """The program of a piece without open neurons."""
        raise NotImplementedError


@dataclass(eq=False)
class Penalised(Inner):
    """sup of loss(x) - rate ||x - center||^power over the region, rate = points.rates[position]; retarget by position."""

    def worth(self, coefficients: Array, lower: Array, upper: Array) -> tuple[Array, Array]:
        return self.ball.penalised(coefficients, self.asked, self.points.power, lower, upper)

    def steep_enough(self, steepness: float) -> bool:
        return self.points.power != 1 or steepness > self.asked

    def _measure_steepness(self, nodes: list[Node]) -> None:
        open_nodes = [node for node in nodes if not self.discards(node.bound, -inf)]
        # The derivatives of a condensed network are those of the network only up to rounding, which nobody has bounded.
        if self.points.power != 1 or not open_nodes or self.model_of(open_nodes[0]).network is not self.network:
            return
        first = open_nodes[0]
        known = first.known if first.known is not None else self.model_of(first).bounds
        assert known is not None
        low = np.stack([(node.known or known)[0] for node in open_nodes])
        high = np.stack([(node.known or known)[1] for node in open_nodes])
        rows = np.stack([self.targets[node.target].rows for node in open_nodes])
        network = self.model_of(first).network
        steep = jacobian(network, *masks_of(low, high, np.stack([node.signs for node in open_nodes])), rows)
        for node, norm in zip(open_nodes, norms_of(steep, self.ball), strict=True):
            node.hints["steep"] = min(float(norm), node.hints["steep"])

    def program(self) -> Program:
        return Program(self.ball, self.asked, self.points.power, self.solver)


@dataclass(eq=False)
class Within(Inner):
    """The largest loss within the radius points.rates[position] of the center: the radius of every target's region."""

    def worth(self, coefficients: Array, lower: Array, upper: Array) -> tuple[Array, Array]:
        return self.ball.support(coefficients, lower, upper)

    def program(self) -> Program:
        return Program(self.ball, None, 1, self.solver)


def joined(earlier: tuple[Array, Array] | None, coefficients: Array, constants: Array) -> tuple[Array, Array]:
    """The forms kept: coefficients (F, n), constants (F,)."""
    if earlier is None:
        return coefficients.copy(), constants.copy()
    return np.concatenate([earlier[0], coefficients])[-FORMS:], np.concatenate([earlier[1], constants])[-FORMS:]


def norms_of(rows: Jacobian, ball: Ball) -> Array:
    """(B,): bounds of the largest dual norm of the rows (B, S, n)."""
    size = np.nextafter(np.abs(rows.centre) + rows.radius, inf)
    return vector_norms(size, np.zeros(1), {1: inf, 2: 2, inf: 1}[ball.norm])[1].max(axis=1)

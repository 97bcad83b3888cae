"""Inner maximisation of cross-entropy: pieces with ranges of the rows, bounded by linear functions of rows that are chosen with the slopes.

On the part of the region where class k is the label's top competitor, cross-entropy is F(v) for the rows v of `losses.CrossEntropy`. A
piece is a partial activation pattern and a box [low, high] of rows. For every real r
    F(v(x)) <= r.v(x) + c(r)   where v(x) lies in the box,
c(r) being the largest F - r.v at a vertex (F is convex; `kernel_log_sum_exp`). So r.v is one row of logits, bounded backward as any other,
and r is chosen anew with every step of slopes and multipliers: the slopes of the chords of F near the relaxation's maximiser, and what a
side of the box adds as its multiplier. Pieces are split at neurons, and at values of rows, as c(r) is off by the square of the box's
width. Points at which F <= floor, the value that counts as reached, need no bound: low_0 is raised accordingly, and the piece's bound
is at least the floor.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import inf
from typing import Any

import numpy as np

from problems.maps import Array
from solvers import SolverError
from verifier import leaf
from verifier.bounds import Linear, Propagation, backward, optimise, upper_bound
from verifier.bounds.jacobian import jacobian, masks_of
from verifier.bounds.rounding import UNIT
from verifier.distributional import cross_entropy_envelope as envelope
from verifier.distributional.inner_ascent import backpropagated, climb
from verifier.distributional.inner_question import Inner, Penalised, Within, joined, norms_of
from verifier.search.budget import Budget
from verifier.search.question import Closed, Node, Witness

# How far chords move towards the maximiser per iterate; the share of Polyak's step, and the longest step, of sides' multipliers.
NEARER, RELAXED, LONGEST = 0.5, 0.5, 0.1
PUSHED = 1
# A neuron is decided rather than a row cut if its score is at least this share of what the cut promises.
PREFERRED = 0.1
# And always while the cut promises less than this share of the gap.
WORTH = 0.03
# Ascents per batch of pieces, and where the first begin: half widths of boxes, as shares of the region's.
CLIMBERS, REACHES = 2, (1.0, 0.3)
# Pieces serve the next rates down to this share of the one for which they were begun.
ANEW = 0.75
# Programs per piece without open neurons, at most.
PROGRAMS = 3


@dataclass(eq=False)
class CrossEntropy(Inner):
    """What is the same for a price of the distance and within a radius."""

    def roots(self, budget: Budget) -> list[Node]:
        self._ascend_everywhere()
        return super().roots(budget)

    def anew(self, position: int) -> bool:
        """Ranges and neurons cut for a much larger price serve a smaller one badly (measured)."""
        rate = float(self.points.rates[position])
        return not ANEW * self.began < rate < self.began / ANEW

    def reconsider(self, pieces: Sequence[Node], parameter: float) -> Witness | None:
        if int(parameter) != self.position:
            self.position = int(parameter)
            self._ascend_everywhere()
        return super().reconsider(pieces, parameter)

    def _ascend_everywhere(self) -> None:
        """Ascend from where each competitor's margin is largest by its gradient at the sample, and from all points found so far."""
        center, box = self.ball.center, self.ball.limits
        values = self.network.values(center[None])
        rows = np.stack([target.rows[0] for target in self.targets])
        slopes = backpropagated(self.network, [np.repeat(value, len(rows), axis=0) for value in values], rows)
        starts = list(self.points.points)
        for reach in REACHES:
            reach = reach * (box.upper - box.lower)
            low, high = np.maximum(center - reach, box.lower), np.minimum(center + reach, box.upper)
            starts.extend(self.worth(slopes[None], low[None], high[None])[1][0])
        climb(self.points, self.ball, self.position, np.stack(starts))

    def propose(self, nodes: Sequence[Node], parameter: float) -> Witness | None:
        """As for any loss, and an ascent from the best of the points."""
        found = [node.hints.pop("point") for node in nodes if "point" in node.hints and node.bound > self.target_value]
        if not found:
            return None
        before, points = self.target_value, self.points.drawn(np.stack(found), self.position)
        worth = self.points.add(points)[:, self.position]
        climb(self.points, self.ball, self.position, points[np.argsort(-worth)[:CLIMBERS]])
        return self.known() if self.target_value > before else None

    def _bound_group(self, nodes: list[Node], parameter: float, *, fresh: bool) -> None:
        pieces = self.propagate(nodes, parameter, fresh=fresh)
        last = len(pieces.network.nodes) - 1
        rows = np.stack([self.targets[node.target].rows for node in nodes])
        boxes = self._ranges(nodes, pieces, rows)
        floor = self.target_value + self.tolerance
        for node in nodes:
            if node.hints.get("floor", -inf) > floor:  # forms made with that floor say nothing of what lies between the two
                node.hints.pop("forms", None)
        low = envelope.raised(boxes[0], boxes[1], np.full(len(nodes), floor))
        missed = np.any(low > boxes[1], axis=1)  # by rows: no point of the piece is worth more than the floor
        at, push = self._starts(nodes, rows)
        mixture = Mixture(rows, np.minimum(low, boxes[1]), boxes[1], at, push, floor)

        def concretise(pieces: Propagation, linear: Linear) -> tuple[Array, Array]:
            return self.concretise(nodes[0].target, pieces, linear)

        def with_offset(pieces: Propagation, linear: Linear) -> tuple[Array, Array]:
            mixture.add_offset(linear)
            value, point = concretise(pieces, linear)
            mixture.judge(value[:, 0])
            return value, point

        def settled(values: Array) -> bool:
            return all(missed[i] or self.discards(value, parameter) for i, value in enumerate(values[:, 0].tolist()))

        signs = np.stack([node.signs for node in nodes])
        warm = all("slopes" in node.hints for node in nodes)
        none = np.zeros((1, pieces.network.neurons), np.float32)
        result = optimise(
            pieces, last, mixture.mixed(), with_offset, signs=signs,
            slopes=np.stack([node.hints["slopes"] for node in nodes]) if warm else None,
            multipliers=np.stack([node.hints.get("multipliers", none) for node in nodes]) if warm else None,
            iterations=self.iterations, stop=settled, steer=mixture.steer,
        )  # fmt: skip
        self._record(nodes, pieces, result, concretise)
        v = np.einsum("bk,brk->br", self.network.forward(result.point[:, 0]), rows)
        row, place, promise = envelope.cuts(v, mixture.low, boxes[1])
        for i, node in enumerate(nodes):
            if not pieces.empty[i]:
                node.bound = floor if missed[i] else max(node.bound, floor)
            node.hints |= {
                "values": (boxes[0][i], boxes[1][i]), "push": mixture.best[1][i], "floor": floor,
                "at": v[i], "cut": (int(row[i]), float(place[i]), float(promise[i])),
            }  # fmt: skip
        self._measure(nodes)

    def _ranges(self, nodes: list[Node], pieces: Propagation, rows: Array) -> tuple[Array, Array]:
        """(low, high), each (B, R): proven ranges of the rows on the pieces, as far as their targets' conditions and cuts leave them."""
        count = rows.shape[1]
        value = upper_bound(pieces, backward(pieces, len(pieces.network.nodes) - 1, np.concatenate([rows, -rows], axis=1)))[0]
        low, high = -value[:, count:], value[:, :count]
        high[:, 1:] = np.minimum(high[:, 1:], 0.0)
        for i, node in enumerate(nodes):
            if "values" in node.hints:
                low[i], high[i] = np.maximum(low[i], node.hints["values"][0]), np.minimum(high[i], node.hints["values"][1])
        return low, high

    def _starts(self, nodes: list[Node], rows: Array) -> tuple[Array, Array]:
        """(values of the rows through which the first chords go, multipliers of sides), (B, R) each: those of the parents."""
        center = self.network.forward(self.ball.center[None])[0]
        at = [node.hints["at"] if "at" in node.hints else rows[i] @ center for i, node in enumerate(nodes)]
        return np.stack(at), np.stack([node.hints.get("push", np.zeros(rows.shape[1])) for node in nodes])

    def rebound(self, pieces: Sequence[Node]) -> None:
        super().rebound(pieces)
        for node in pieces:
            node.bound = max(node.bound, node.hints["floor"]) if node.bound > -inf else -inf

    def _measure(self, nodes: list[Node]) -> None:
        """The gradient-norm bounds of the pieces, where they may matter."""

    # Splitting and closing.

    def branch(self, node: Node) -> list[Node]:
        row, place, _ = node.hints["cut"]
        if node.hints["rate"] != self.asked or self._decides(node):
            return self._inherited(node, super().branch(node))
        children = []
        for side in (0, 1):
            low, high = node.hints["values"][0].copy(), node.hints["values"][1].copy()
            (high if side == 0 else low)[row] = place
            hints: dict[str, Any] = {
                name: node.hints[name] for name in ("slopes", "multipliers", "forms", "steep", "floor") if name in node.hints
            }
            hints |= {"at": node.hints["at"], "push": node.hints["push"], "values": (low, high), "split": len(self.network.nodes)}
            children.append(
                Node(node.lower, node.upper, node.signs, node.target, node.known, depth=node.depth + 1, model=node.model, hints=hints)
            )
        return children

    def _decides(self, node: Node) -> bool:
        """Whether to decide a neuron rather than cut a row's range."""
        promise = node.hints["cut"][2]
        if node.hints["neuron"] < 0:
            return promise <= 0.0
        return node.hints["score"] > PREFERRED * promise or promise < WORTH * (node.bound - self.target_value)

    def _inherited(self, node: Node, children: list[Node]) -> list[Node]:
        for child in children:
            child.hints |= {name: node.hints[name] for name in ("values", "at", "push", "floor") if name in node.hints}
        return children

    def close(self, node: Node, parameter: float, budget: Budget) -> tuple[Closed, Witness | None] | None:
        """Discard what is not steep; programs for pieces without open neurons, until cuts have made chords good enough."""
        if not self.steep_enough(node.hints["steep"]):
            return Closed(-inf), None
        if node.hints.get("open", 1) or node.hints["rate"] != self.asked:
            return None
        pieces = self.propagate([node], parameter, fresh=node.known is None)
        if pieces.empty[0]:
            return Closed(-inf), None
        low, high = pieces.neuron_bounds()
        if ((low < 0) & (high > 0)).any():
            return None
        try:
            closed, witness = self.settle(node, pieces, parameter, budget)
        except SolverError:  # numbers that no solver takes: cuts may still serve
            return None
        if self.discards(closed.bound, self.target_value) or node.hints["cut"][2] <= 0.0:
            return closed, witness
        node.bound = min(node.bound, closed.bound)
        return None

    def settle(self, node: Node, pieces: Propagation, parameter: float, budget: Budget) -> tuple[Closed, Witness | None]:
        """Programs for rows r that touch F in the middle of the box, then where the last program has its maximum."""
        rows, floor = self.targets[node.target].rows, node.hints["floor"]
        before, bound, witness = self.target_value, node.bound, None
        low, high = self._box(node)
        v = node.hints["at"]
        for _ in range(PROGRAMS):
            mixture = Mixture(rows[None], low[None], high[None], v[None], np.zeros((1, len(v))), floor)
            linear = backward(pieces, len(pieces.network.nodes) - 1, mixture.mixed())
            mixture.add_offset(linear)
            found = self.program().solve(self, node, pieces, linear, budget)
            if found is None:
                return Closed(floor), self.known() if self.target_value > before else None
            form, value, points = found
            node.hints["forms"] = joined(node.hints.get("forms"), *form)
            bound = min(bound, value)
            if not points:
                break
            self.judge(np.stack(points))
            last, v = v, rows @ self.network.forward(points[-1][None])[0]
            node.hints["at"], node.hints["cut"] = v, self._cut(v, low, high)
            if self.discards(bound, self.target_value) or np.abs(envelope.value(v) - envelope.value(last)) < 0.1 * self.tolerance:
                break
        witness = self.known() if self.target_value > before else None
        bound = max(bound, floor)
        return Closed(bound, stuck=not self.discards(bound, self.target_value)), witness

    def _cut(self, v: Array, low: Array, high: Array) -> tuple[int, float, float]:
        row, place, promise = envelope.cuts(v[None], low[None], high[None])
        return int(row[0]), float(place[0]), float(promise[0])

    def _box(self, node: Node) -> tuple[Array, Array]:
        """The box of a piece, (R,) and (R,), with what lies below its floor cut off."""
        low, high = node.hints["values"]
        low = envelope.raised(low[None], high[None], np.array([node.hints["floor"]]))[0]
        return np.minimum(low, high), high

    def rows_of(self, node: Node, pieces: Propagation) -> leaf.Cell:
        """The signs of its neurons, and the sides of its box."""
        low, high = self._box(node)
        rows = self.targets[node.target].rows
        linear = backward(pieces, len(pieces.network.nodes) - 1, np.concatenate([rows, -rows])[None])
        linear.constant = linear.constant + np.concatenate([-low, high])
        linear.error = linear.error + 2.0 * UNIT * (np.abs(linear.constant) + np.abs(np.concatenate([low, high])))
        sides, cell = leaf.output_rows(linear), super().rows_of(node, pieces)
        return leaf.Cell(np.concatenate([cell.matrix, sides.matrix]), np.concatenate([cell.offsets, sides.offsets]))


@dataclass(eq=False)
class PenalisedCrossEntropy(CrossEntropy, Penalised):
    """sup of cross-entropy less rate ||x - center||^power over the region."""

    def _measure_steepness(self, nodes: list[Node]) -> None:
        """Later, when the rows' ranges are known."""

    def _measure(self, nodes: list[Node]) -> None:
        """||grad CE|| <= (1 - p_y) max_j ||grad (z_j - z_y)||, as the gradient is the sum with the class probabilities p_j, j != y.

        1 - p_y = 1 - exp(-CE) <= 2 F / (2 + F) where CE <= F, because tanh t <= t; F is taken at the upper corner of the box.
        """
        open_nodes = [node for node in nodes if not self.discards(node.bound, -inf)]
        if self.points.power != 1 or not open_nodes:
            return
        first = open_nodes[0]
        known = first.known if first.known is not None else self.model_of(first).bounds
        assert known is not None
        low = np.stack([(node.known or known)[0] for node in open_nodes])
        high = np.stack([(node.known or known)[1] for node in open_nodes])
        rows = np.stack([self.targets[node.target].rows for node in open_nodes])
        margins = rows.copy()
        margins[:, 1:] += rows[:, :1]
        steep = jacobian(self.model_of(first).network, *masks_of(low, high, np.stack([node.signs for node in open_nodes])), margins)
        high = np.stack([node.hints["values"][1] for node in open_nodes])
        most = envelope.offsets(np.zeros(high.shape), high, high)[0]
        with np.errstate(invalid="ignore"):
            share = np.where(most < 2.0, 2.0 * most / (2.0 + most) * (1.0 + 16.0 * UNIT), 1.0)
        for node, norm in zip(open_nodes, share * norms_of(steep, self.ball), strict=True):
            node.hints["steep"] = min(float(np.nextafter(norm, inf)), node.hints["steep"])


@dataclass(eq=False)
class CrossEntropyWithin(CrossEntropy, Within):
    """The largest cross-entropy within a radius."""


class Mixture:
    """The weights r of a batch of pieces under way: rows (B, R, K), boxes low, high (B, R).

    r = slopes of the chords of F through `at`, plus `push`, the multipliers of the boxes' sides (at low positive, at high negative).
    """

    def __init__(self, rows: Array, low: Array, high: Array, at: Array, push: Array, floor: float) -> None:
        self.rows, self.low, self.high, self.floor = rows, low, high, floor
        self.at, self.push = np.clip(at, low, high), push
        self.best, self.value = (self.at, self.push), np.full(len(rows), inf)
        self._choose()

    def _choose(self) -> None:
        self.weights = envelope.grained(envelope.chords(self.at, self.low, self.high) + self.push)

    def mixed(self) -> Array:
        """(B, 1, K): sums of grained weights times 0, 1 and -1 are exact."""
        return np.einsum("br,brk->bk", self.weights, self.rows)[:, None]

    def add_offset(self, linear: Linear) -> None:
        """Add c(r) to the constants of linear upper bounds of the mixed rows."""
        offset = envelope.offsets(self.weights, self.low, self.high)[0][:, None]
        linear.constant = linear.constant + offset
        linear.error = linear.error + 2.0 * UNIT * (np.abs(linear.constant) + np.abs(offset))

    def judge(self, value: Array) -> None:
        """Keep the weights where they gave the best bound (B,) so far."""
        wins = value < self.value
        self.value = np.where(wins, value, self.value)
        self.best = tuple(np.where(wins[:, None], new, old) for new, old in zip((self.at, self.push), self.best, strict=True))

    def steer(self, value: Array, point: Array, outputs: Array) -> Array:
        """The next weights: chords nearer to the maximiser, and a step of Polyak's length for the sides that it violates."""
        v = np.einsum("bk,brk->br", outputs[:, 0], self.rows)
        v = np.where(np.isfinite(v), v, self.at)
        inside = np.clip(v, self.low, self.high)
        beyond = (v - inside) * np.where(np.arange(v.shape[1]) < PUSHED, 1.0, 0.0)
        length = (beyond * beyond).sum(axis=1, keepdims=True)
        stride = RELAXED * np.maximum(value - self.floor, 0.0) / np.maximum(length, 1e-12)
        self.push = self.push - np.clip(stride * beyond, -LONGEST, LONGEST)
        self.at = self.at + NEARER * (inside - self.at)
        self._choose()
        return self.mixed()

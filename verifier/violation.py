"""The question of complete verification: the largest violation of a specification over its regions.

The value is the maximum over the region of (max over disjuncts of min over rows of the violation). A witness counts only where it is
true in exact arithmetic and in replay.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from math import inf

import numpy as np

from problems.errors import SpecificationError
from problems.maps import Array
from problems.rounding import round_down
from problems.specification import Disjunct, Specification
from verifier import leaf
from verifier.bounds import Linear, Propagation, upper_bound
from verifier.bounds.rounding import up
from verifier.piecewise import PiecewiseQuestion, Target
from verifier.search.budget import Budget
from verifier.search.question import Closed, Node, Witness
from verifier.witness import enclose, exact_logits, exact_point, float32_candidates

Replay = Callable[[Array], Array]
# Where the input is split, pieces with at most this many open neurons are finished by linear programs over their patterns.
FEW_OPEN = 3


@dataclass(eq=False)
class Violation(PiecewiseQuestion):
    """The specification as a question. `replay` gives the logits (K,) that the deployed network computes at a point (n,);
    `envelope` (K,) says how far its logits may lie from the exact ones (None: real semantics; see `verifier.bounds.envelope`)."""

    specification: Specification | None = None
    replay: Replay | None = None
    envelope: Array | None = None
    solver: str = "auto"
    disputed: list[Array] = field(default_factory=list)
    tested: set[bytes] = field(default_factory=set)

    def disjunct(self, target: int) -> Disjunct:
        assert self.specification is not None
        return self.specification.disjuncts[target]

    def roots(self, budget: Budget) -> list[Node]:
        return self.covering(range(len(self.targets)), 0.0)

    def piece_box(self, target: int, parameter: float) -> tuple[Array, Array]:
        return self.targets[target].region.bounding_box()

    def concretise(self, target: int, pieces: Propagation, linear: Linear) -> tuple[Array, Array]:
        return upper_bound(pieces, linear)

    def discards(self, bound: float, incumbent: float) -> bool:
        return bound < 0

    def finished(self, lower: float, upper: float) -> bool:
        return lower >= 0 or upper < 0

    def propose(self, nodes: Sequence[Node], parameter: float) -> Witness | None:
        """Evaluate the maximisers of the relaxations; those that may violate are decided exactly."""
        live = [node for node in nodes if "point" in node.hints and node.bound >= 0]
        if not live:
            return None
        points = np.stack([node.hints["point"] for node in live])
        return self.judge(points, [node.target for node in live])

    def judge(self, points: Array, targets: Sequence[int]) -> Witness | None:
        """The best verified witness among points (B, n), each judged against its target's disjunct."""
        points = np.stack([self.disjunct(target).region.clip(point) for point, target in zip(points, targets, strict=True)])
        lowers, uppers = enclose(self.network, points)
        best: Witness | None = None
        for point, target, low, high in zip(points, targets, lowers, uppers, strict=True):
            disjunct = self.disjunct(target)
            most = _rows_at(disjunct, low, high, point, upper=True)
            if most >= 0:
                witness = self.decide(point, target)
                if witness is not None:
                    return witness
            least = _rows_at(disjunct, low, high, point, upper=False) - 1.0000001 * float(self.slack(target))
            if least < 0 and (best is None or least > best.value) and disjunct.region.contains(point):
                best = Witness(least, point)
        return best

    def decide(self, point: Array, target: int) -> Witness | None:
        """The point, or its float32 neighbour, as a witness if it violates in exact arithmetic and in replay."""
        disjunct = self.disjunct(target)
        for candidate in float32_candidates(point):
            inside = disjunct.region.clip(candidate)
            exact = exact_point(disjunct.region, inside)
            key = inside.tobytes() + target.to_bytes(4)
            if key in self.tested or not disjunct.region.contains(exact):
                continue
            self.tested.add(key)
            logits = exact_logits(self.network, exact)
            if not disjunct.holds(logits, exact):
                continue
            excess = disjunct.margin(logits, exact) - self.slack(target)
            if excess < 0:
                continue  # violated as real numbers, but within the rounding envelope of float32
            if self.replay is not None and not disjunct.holds(np.asarray(self.replay(inside), dtype=np.float64), inside):
                self.disputed.append(inside)
                continue
            return Witness(max(round_down(excess), 0.0), inside)
        return None

    def slack(self, target: int) -> Fraction:
        """How far rounding may move the smallest row of the target (0 for real semantics)."""
        if self.envelope is None:
            return Fraction(0)
        return max(sum((Fraction(abs(c)) * Fraction(e) for c, e in zip(row, self.envelope.tolist(), strict=True)), Fraction(0))
                   for row in self.disjunct(target).coefficients.tolist())  # fmt: skip

    def close(self, node: Node, parameter: float, budget: Budget) -> tuple[Closed, Witness | None] | None:
        """Settle pieces with few open neurons by linear programs; elsewhere branch."""
        open_neurons = node.hints.get("open", inf)
        if self.splitting == "neuron":
            return None if open_neurons else self.finish(node, parameter, budget)
        if open_neurons > FEW_OPEN or len(self.targets[node.target].offsets) == 1:
            return None  # for a single row halving is cheaper, and exact once no neuron is open
        closed, witness = self.finish(node, parameter, budget)
        # What rounding leaves undecided here, halving may still settle: the errors shrink with the piece.
        return None if closed.stuck and witness is None else (closed, witness)

    def settle(self, node: Node, pieces: Propagation, parameter: float, budget: Budget) -> tuple[Closed, Witness | None]:
        target = self.targets[node.target]
        solution = leaf.largest_smallest_row(
            target.region.lift(with_norm=False), pieces.lower[0], pieces.upper[0], leaf.sign_rows(pieces, node.signs),
            leaf.output_rows(self.output(pieces, node.target)), solver=self.solver, time_limit=leaf.time_left(budget),
        )  # fmt: skip
        if solution.proves_infeasible:
            return Closed(-inf), None
        bound, witness = min(-solution.safe_bound, node.bound), None
        if solution.x is not None and bound >= 0:
            witness = self.judge(solution.x[None, : self.network.input_size], [node.target])
        return Closed(bound, stuck=bound >= 0), witness


def _rows_at(disjunct: Disjunct, low: Array, high: Array, x: Array, *, upper: bool) -> float:
    """An enclosure's end of the smallest row violation at logits in [low, high]."""
    positive, negative = np.maximum(disjunct.coefficients, 0.0), np.minimum(disjunct.coefficients, 0.0)
    first, second = (high, low) if upper else (low, high)
    values = positive @ first + negative @ second + disjunct.offsets
    size = np.abs(disjunct.coefficients) @ np.maximum(np.abs(low), np.abs(high)) + np.abs(disjunct.offsets)
    if disjunct.input_rows is not None:
        values = values + disjunct.input_rows @ x
        size = size + abs(disjunct.input_rows) @ np.abs(x)
    slack = (len(low) + len(x) + 8) * 2.0**-52 * size + 1e-300
    return float((values + slack if upper else values - slack).min())


def targets_of(specification: Specification, envelope: Array | None = None) -> tuple[Target, ...]:
    """One target per disjunct; an envelope (K,) of the logits loosens every row."""
    result = []
    for disjunct in specification.disjuncts:
        low, high = disjunct.region.bounding_box()
        if not (np.isfinite(low).all() and np.isfinite(high).all()):
            raise SpecificationError(specification.name, "has an unbounded input region.", "Bound every input on both sides.")
        rows = disjunct.input_rows
        offsets = disjunct.offsets
        if envelope is not None:
            offsets = up(offsets + (np.abs(disjunct.coefficients) @ envelope) * (1.0 + 1e-12))
        result.append(Target(disjunct.region, disjunct.coefficients, offsets, None if rows is None else rows.toarray()))
    return tuple(result)

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
# Where the input is split, pieces with at most this many open neurons are finished by linear programs over their patterns, but only
# once every side has been halved this often: halving costs microseconds, a program a millisecond, and kinks that halving can never
# settle are rare.
FEW_OPEN = 3
PATIENCE = 4


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

    def notes(self) -> list[Array]:
        return list(self.disputed)

    def recall(self, notes: list[Array]) -> None:
        known = {point.tobytes() for point in self.disputed}
        self.disputed.extend(point for point in notes if point.tobytes() not in known)

    def disjunct(self, target: int) -> Disjunct:
        assert self.specification is not None
        return self.specification.disjuncts[target]

    def roots(self, budget: Budget) -> list[Node]:
        return self.covering(range(len(self.targets)), 0.0)

    def piece_box(self, target: int, parameter: float) -> tuple[Array, Array]:
        return self.targets[target].region.bounding_box()

    def concretise(self, target: int, pieces: Propagation, linear: Linear) -> tuple[Array, Array]:
        return upper_bound(pieces, linear)

    def discarded_below(self, parameter: float) -> float:
        return 0.0

    def discards(self, bound: float, incumbent: float) -> bool:
        return bound < 0

    def finished(self, lower: float, upper: float) -> bool:
        return lower >= 0 or upper < 0

    def propose(self, nodes: Sequence[Node], parameter: float) -> Witness | None:
        """Evaluate the maximisers of the relaxations; those that may violate are decided exactly."""
        live = [node for node in nodes if "point" in node.hints and node.bound >= 0]
        if not live:
            return None
        points = np.stack([node.hints.pop("point") for node in live])
        return self.judge(points, [node.target for node in live])

    def judge(self, points: Array, targets: Sequence[int]) -> Witness | None:
        """The best verified witness among points (B, n), each judged against its target's disjunct."""
        target = np.asarray(targets)
        inside, most, least = np.empty_like(points), np.empty(len(points)), np.empty(len(points))
        groups = [(disjunct, np.flatnonzero(target == disjunct)) for disjunct in np.unique(target).tolist()]
        for index, rows in groups:
            inside[rows] = self.disjunct(index).region.clip(points[rows])
        lowers, uppers = enclose(self.network, inside)
        for index, rows in groups:
            disjunct = self.disjunct(index)
            most[rows] = _rows_at(disjunct, lowers[rows], uppers[rows], inside[rows], upper=True)
            least[rows] = _rows_at(disjunct, lowers[rows], uppers[rows], inside[rows], upper=False)
            least[rows] -= 1.0000001 * float(self.slack(index))
        for i in np.flatnonzero(most >= 0):
            witness = self.decide(inside[i], int(target[i]))
            if witness is not None:
                return witness
        for i in np.argsort(-least, kind="stable"):
            if least[i] < 0 and self.disjunct(int(target[i])).region.contains(inside[i]):
                return Witness(float(least[i]), inside[i])
        return None

    def decide(self, point: Array, target: int) -> Witness | None:
        """The point, or its float32 neighbour, as a witness if it violates in exact arithmetic and in replay."""
        disjunct = self.disjunct(target)
        for candidate in float32_candidates(point):
            inside, exact = exact_point(disjunct.region, disjunct.region.clip(candidate))
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
            if self.replay is not None and not self._replayed(disjunct, inside):
                self.disputed.append(inside)
                continue
            return Witness(max(round_down(excess), 0.0), inside)
        return None

    def _replayed(self, disjunct: Disjunct, x: Array) -> bool:
        """Whether the deployed network violates all rows at x (n,), too; logits that overflow violate nothing."""
        assert self.replay is not None
        output = np.asarray(self.replay(x), dtype=np.float64)
        return bool(np.isfinite(output).all()) and disjunct.holds(output, x)

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
        if self.envelope is not None and not open_neurons:
            return self.finish(node, parameter, budget)  # what the envelope leaves open no halving can settle
        if open_neurons > FEW_OPEN or node.depth < PATIENCE * (self.network.input_size + 2):
            return None
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


def _rows_at(disjunct: Disjunct, low: Array, high: Array, x: Array, *, upper: bool) -> Array:
    """An enclosure's end of the smallest row violation at each of B logits in [low, high] (B, K), inputs x (B, n)."""
    positive, negative = np.maximum(disjunct.coefficients, 0.0).T, np.minimum(disjunct.coefficients, 0.0).T
    first, second = (high, low) if upper else (low, high)
    with np.errstate(invalid="ignore"):  # logits without bounds leave NaN, which compares as no violation and no witness
        values = first @ positive + second @ negative + disjunct.offsets
    size = np.maximum(np.abs(low), np.abs(high)) @ np.abs(disjunct.coefficients).T + np.abs(disjunct.offsets)
    if disjunct.input_rows is not None:
        values = values + x @ disjunct.input_rows.T
        size = size + np.abs(x) @ abs(disjunct.input_rows).T
    slack = (low.shape[1] + x.shape[1] + 8) * 2.0**-52 * size + 1e-300
    return (values + slack if upper else values - slack).min(axis=1)


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

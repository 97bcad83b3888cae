"""The tightness audit: T1, T3 and T4 over all full cells of a network, and how often condition (T2) holds."""

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from math import inf

import numpy as np

from problems.maps import Array
from problems.network import Affine, Input, Network
from problems.regions.base import Region
from verifier.bounds.rounding import gamma
from verifier.bracket import Bracket, Status
from verifier.enumeration.exact_rows import ExactComposer
from verifier.enumeration.exact_tree import ExactSearch, inputs
from verifier.enumeration.frame import frame_of
from verifier.recession.infinity import slope_at_infinity
from verifier.recession.region import Directions, directions
from verifier.recession.rows import LinearParts
from verifier.recession.slope import dual_norm
from verifier.recession.space import Cells, Seen
from verifier.recession.tight import tightness
from verifier.recession.unbounded import unbounded
from verifier.search.budget import Budget

# (text): called after every batch.
Progress = Callable[[str], None]
# Patterns that floats leave open are decided in rational arithmetic up to this many neurons times inputs.
_EXACT_SIZE = 4096
# Cells of a bounded region with a smaller inscribed radius are not counted, as by `cells`.
_THIN = 1e-9


@dataclass(frozen=True, eq=False)
class Steepest:
    """A cell with a point of its interior, and a pair (y, k) with the gradient g of z_k - z_y there."""

    pattern: Array
    point: Array
    pair: tuple[int, int]
    gradient: Array


@dataclass(frozen=True, eq=False)
class TightnessAudit:
    """What `tightness` found; every number is about full cells, with labels present in `labels`.

    lipschitz: the bracket of L (T1), its witness a point of the steepest cell, or the direction of kappa* where that is steeper than the
    cells seen. tight_slope: of l (T3), slope_at_infinity: of kappa* (T4), their witnesses directions. lambda_0 (T5): its
    bracket for the data and the margin, None without data or where it was not to be had.
    cells: full cells of the region, of which unbounded_cells and tight_cells (for some label and competitor); undecided: patterns neither
    proved full nor proved not to be, which count in upper ends alone.
    layers: for each ReLU layer, the share of cells in which all rows up to it hold at M_r(gradient) for some pair, the region aside.
    tight_data: the share of samples whose cell is tight for their label and some competitor; tight_data_top: for the top competitor.
    steepest: the cell of L, tightest: of l. complete: every cell was seen. reason: why no cell is tight, where the region says so.
    """

    norm: float
    labels: tuple[int, ...]
    lipschitz: Bracket
    tight_slope: Bracket
    slope_at_infinity: Bracket
    cells: int
    unbounded_cells: int
    tight_cells: int
    undecided: int
    layers: tuple[float, ...]
    complete: bool
    status: Status
    seconds: float
    steepest: Steepest | None = None
    tightest: Steepest | None = None
    lambda_0: Bracket | None = None
    tight_data: float | None = None
    tight_data_top: float | None = None
    reason: str | None = None

    @property
    def tight_share(self) -> float:
        """Tight cells among all cells; 0 without cells."""
        return self.tight_cells / self.cells if self.cells else 0.0

    @property
    def tight_share_unbounded(self) -> float:
        """Tight cells among unbounded cells; 0 without any."""
        return self.tight_cells / self.unbounded_cells if self.unbounded_cells else 0.0


BOUNDED = "The region is bounded, so no cell has a direction to infinity: none is tight, l = kappa* = 0, and the worst case saturates."


def audit_cells(
    network: Network, region: Region, pairs: Array, norm: float, *, budget: Budget, tolerance: float = 1e-6, seed: int = 0,
    progress: Progress | None = None,
) -> TightnessAudit:  # fmt: skip
    """The audit over the pairs (P, 2) of (y, k), as far as the budget reaches. Raises RegionError."""
    state = _State(network, region, pairs, norm, directions(region))
    infinity = Bracket("max", 0.0, 0.0 if state.where.bounded else inf, Status.CLOSED, np.zeros(network.input_size))
    status = Status.CLOSED
    cells = Cells(network, region, budget)
    try:
        if not state.where.bounded:
            infinity = slope_at_infinity(network, pairs, norm, state.where, budget=budget, tolerance=tolerance, seed=seed)
        if infinity.status is Status.INTERRUPTED:
            raise KeyboardInterrupt
        for seen in cells:
            state.visit(seen, budget)
            if progress is not None:
                progress(f"{state.cells} cells, {state.unbounded} unbounded, {state.tight} tight")
    except KeyboardInterrupt:
        status = Status.INTERRUPTED
    complete = cells.complete and status is Status.CLOSED
    if not complete:
        status = status if status is Status.INTERRUPTED else budget.exceeded() or Status.UNDECIDED
    return state.result(infinity, complete, status, budget, tolerance)


@dataclass(eq=False)
class _State:
    """What the batches so far add up to: counts and maxima, nothing that grows."""

    network: Network
    region: Region
    pairs: Array
    norm: float
    where: Directions
    cells: int = 0
    unbounded: int = 0
    tight: int = 0
    undecided: int = 0
    upper: float = 0.0
    tight_upper: float = 0.0
    lower: float = 0.0
    tight_lower: float = 0.0
    steepest: Steepest | None = None
    tightest: Steepest | None = None
    depths: Array = field(default_factory=lambda: np.zeros(0, dtype=np.int64))

    def __post_init__(self) -> None:
        self.depths = np.zeros(len(self.network.relus), dtype=np.int64)

    def visit(self, seen: Seen, budget: Budget) -> None:
        """Take in a batch; what it leaves open is decided exactly while the budget lasts."""
        batch = seen.cells
        full, possible = batch.certified.copy(), np.ones(len(batch), dtype=bool)
        points = batch.points.copy()
        for i in np.flatnonzero(~full):
            if self.network.neurons * self.network.input_size <= _EXACT_SIZE and budget.exceeded() is None:
                leaf = next(self.exact.leaves(batch.patterns[i]), None)
                possible[i] = leaf is not None
                if leaf is not None:
                    point = inputs(self.exact.frame, leaf.point)
                    full[i], points[i] = self.region.contains(point), [float(v) for v in point]
        # The tolerance shapes counts only; in an unbounded region the radii are those of a picture of the cells, and say nothing.
        counted = full & seen.counts & ((batch.inradii > _THIN) | (not self.where.bounded))
        self._elsewhere(seen.parts.select(possible & ~seen.counts))
        here = possible & seen.counts
        self._add(seen.parts.select(here), points[here], full[here], counted[here])

    def _gradients(self, parts: LinearParts) -> tuple[Array, Array]:
        g, error = parts.gradients(self.pairs)
        return np.where(self.where.still, 0.0, g), np.where(self.where.still, 0.0, error)

    def _elsewhere(self, parts: LinearParts) -> None:
        """Upper ends over cells that count elsewhere: nothing may be lost between two pieces."""
        high = dual_norm(*self._gradients(parts), self.norm)[1]
        self.upper = max(self.upper, float(high.max(initial=0.0)))
        above = np.asarray((high > self.tight_upper).any(axis=1))
        tight = tightness(self.network, parts.select(above), self.pairs, self.norm, self.where).tight
        self.tight_upper = max(self.tight_upper, float(high[above][tight].max(initial=0.0)))

    @cached_property
    def exact(self) -> ExactSearch:
        """The exact search for interior points, composed where it is first needed."""
        return ExactSearch(ExactComposer(self.network, frame_of(self.region)))

    def _add(self, parts: LinearParts, points: Array, full: Array, counted: Array) -> None:
        g, error = self._gradients(parts)
        low, high = dual_norm(g, error, self.norm)
        self.upper = max(self.upper, float(high.max(initial=0.0)))
        verdict = tightness(self.network, parts, self.pairs, self.norm, self.where)
        self.tight_upper = max(self.tight_upper, float(high[verdict.tight].max(initial=0.0)))
        for which, best in (("steepest", self.lower), ("tightest", self.tight_lower)):
            sizes = np.where(full[:, None] & (verdict.tight if which == "tightest" else True), low, -1.0)
            if sizes.size and sizes.max() > best:
                b, p = np.unravel_index(int(sizes.argmax()), sizes.shape)
                found = Steepest(parts.patterns[b], points[b], (int(self.pairs[p, 0]), int(self.pairs[p, 1])), g[b, p])
                setattr(self, which, found)
                setattr(self, "lower" if which == "steepest" else "tight_lower", float(sizes[b, p]))
        self.undecided += int((~full).sum())
        self.cells += int(counted.sum())
        self.unbounded += int(unbounded(self.network, parts.select(counted), self.where).sum())
        self.tight += int(verdict.tight[counted].any(axis=1).sum())
        deepest = verdict.depth[counted].max(axis=1, initial=-1)
        self.depths += (deepest[:, None] > np.arange(len(self.depths))).sum(axis=0)

    def result(self, infinity: Bracket, complete: bool, status: Status, budget: Budget, tolerance: float) -> TightnessAudit:
        """The record of what was seen."""
        origin = np.zeros(self.network.input_size)
        ceiling = self.upper if complete else max(self.upper, path_bound(self.network, self.pairs, self.norm))
        lower = max(self.lower, infinity.lower)  # kappa* <= L
        upper = max(ceiling, lower)
        far = self.steepest is None or infinity.lower > self.lower * (1.0 + 1e-9)
        steepest = infinity.witness if self.steepest is None or far else self.steepest.point
        assert steepest is not None
        slope_upper = max(min(infinity.upper, upper), infinity.lower)
        tight_upper = max(self.tight_upper, self.tight_lower) if complete else slope_upper
        direction = origin if self.tightest is None else self.tightest.gradient

        def bracket(low: float, high: float, witness: Array) -> Bracket:
            closed = complete and high - low <= 2 * tolerance * high
            return Bracket("max", low, high, Status.CLOSED if closed else Status.UNDECIDED if complete else status, witness)

        return TightnessAudit(
            norm=self.norm,
            labels=tuple(sorted({int(y) for y in self.pairs[:, 0]})),
            lipschitz=bracket(lower, upper, steepest),
            tight_slope=bracket(self.tight_lower, tight_upper, direction),
            slope_at_infinity=Bracket(
                "max", infinity.lower, slope_upper, infinity.status, infinity.witness, seconds=infinity.seconds, stats=infinity.stats
            ),
            cells=self.cells,
            unbounded_cells=self.unbounded,
            tight_cells=self.tight,
            undecided=self.undecided,
            layers=tuple((self.depths / max(self.cells, 1)).tolist()),
            complete=complete,
            status=status,
            seconds=budget.elapsed,
            steepest=self.steepest,
            tightest=self.tightest,
            reason=BOUNDED if self.where.bounded else None,
        )


def path_bound(network: Network, pairs: Array, norm: float) -> float:
    """An upper bound on every ‖J_D^T (e_k - e_y)‖_s over all patterns D: absolute values of the weights summed over all paths."""
    rows = np.zeros((len(pairs), network.output_size))
    rows[np.arange(len(pairs)), pairs[:, 1]] += 1.0
    rows[np.arange(len(pairs)), pairs[:, 0]] -= 1.0
    sizes: list[Array] = []
    terms = 0
    for node in network.then(rows).nodes:
        if isinstance(node, Input):
            sizes.append(np.eye(node.size))
        elif isinstance(node, Affine):
            parts = [m.absolute().forward(sizes[p]) for p, m in zip(node.parents, node.maps, strict=True)]
            sizes.append(np.sum(parts, axis=0))
            terms += sum(m.terms for m in node.maps) + len(node.maps)
        else:
            sizes.append(sizes[node.parent])
    return float(dual_norm(sizes[-1].T * (1 + 2 * gamma(terms)), np.zeros(()), norm)[1].max())

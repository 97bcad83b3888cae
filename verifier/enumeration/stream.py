"""Streams of cells: what `lipschitz`, `tightness` and `cells` read. Memory does not grow with the number of cells."""

from collections.abc import Iterator
from dataclasses import replace
from itertools import islice
from typing import Any

import numpy as np

from problems.errors import RegionError
from problems.maps import Array
from problems.network import Network
from problems.regions.base import Region
from verifier.enumeration.cell import Cell, CellBatch
from verifier.enumeration.certify import jacobians
from verifier.enumeration.compiled import CompiledSearch, Found
from verifier.enumeration.exact_tree import ExactLeaf
from verifier.enumeration.frame import frame_of
from verifier.enumeration.judge import Judge
from verifier.enumeration.plain import SolverSearch
from verifier.search.budget import Budget

BATCH = 4096
# Numbers in the arrays of one batch.
LARGEST = 2**20


class Batches(Iterator[CellBatch]):
    """The cells of a region in batches, in lexicographic order of their patterns (-1 before +1).

    complete: whether the stream has ended because there are no more cells; False when a budget ended it. position: the last pattern
    (h,) that was handed out, or None: give it as `start` to go on behind it. kernel_seconds: time in compiled code.
    """

    def __init__(
        self, network: Network, region: Region, *, budget: Budget | None = None, start: Array | None = None, prefix: Array | None = None,
        jacobians: bool = False, size: int = BATCH, tolerance: float = 1e-9,
    ) -> None:  # fmt: skip
        if region.bounding_box()[0].shape != (network.input_size,):
            raise RegionError("region", f"has another dimension than network {network.name}, {network.input_size}.")
        self.network, self.region, self.jacobians, self.size, self.tolerance = network, region, jacobians, size, tolerance
        self.budget = Budget() if budget is None else budget
        self.complete = False
        self.position = start
        self._start, self._forced = start, prefix
        self._frame = frame_of(region)
        kind = CompiledSearch if self._frame.ball is None else SolverSearch
        size = min(size, max(64, LARGEST // (network.input_size + network.neurons)))
        self._search: CompiledSearch | SolverSearch = kind(network, self._frame, start, prefix, size=size, late=self.budget.exceeded)
        self._judge = Judge(network, region, self._frame, tolerance)
        self._exact: Iterator[ExactLeaf | None] = iter(())
        self._ready: list[CellBatch] = []

    @property
    def kernel_seconds(self) -> float:
        return self._search.seconds

    def __next__(self) -> CellBatch:
        while not self._ready:
            if self.complete:
                raise StopIteration
            if self.budget.exceeded() is None:
                self._work()
                continue
            # What is found and not yet handed out; after that nothing more comes.
            self._offer(self._judge.found(self._search.taken()))
            if not self._ready:
                raise StopIteration
        batch = self._ready.pop(0)
        self.position = batch.patterns[-1]
        if self.jacobians:
            batch = replace(batch, jacobians=jacobians(self.network, batch.patterns))
        return batch

    def _work(self) -> None:
        """Go on to the next cells or the next look at the budget."""
        exact = list(islice(self._exact, 1))
        if exact:
            leaf = exact[0]
            if leaf is not None:
                self._offer(self._judge.exact(leaf))
            return
        event = self._search.advance()
        if event is False:
            self.complete = True
        elif event is None:
            return
        elif isinstance(event, Found):
            self._offer(self._judge.found(event))
        elif isinstance(event, np.ndarray):
            # What was found before the subtree comes before it.
            self._offer(self._judge.found(self._search.taken()))
            self._exact = self._judge.search.leaves(event, start=self._start, forced=self._forced, late=self.budget.exceeded)

    def _offer(self, batch: CellBatch) -> None:
        if len(batch):
            self._ready.append(batch)


def stream_batches(
    network: Network, region: Region, *, budget: Budget | None = None, start: Array | None = None, prefix: Array | None = None,
    jacobians: bool = False, size: int = BATCH, tolerance: float = 1e-9,
) -> Batches:  # fmt: skip
    """The full cells of a region in batches of at most `size`, as arrays; no Python object per cell.

    budget: time, memory, interrupt; when it ends the stream ends, with complete = False. start: a pattern (h,): only cells behind it in
    lexicographic order. prefix (h,): only cells with these signs, 0 where either will do. jacobians: with the Jacobians of the logits.
    Every full cell is in the stream; cells whose interior could not be verified are there with certified False. tolerance: inradii are
    computed carefully where they are below it. Raises RegionError.
    """
    return Batches(network, region, budget=budget, start=start, prefix=prefix, jacobians=jacobians, size=size, tolerance=tolerance)


def stream_cells(
    network: Network, region: Region, *, budget: Budget | None = None, start: Array | None = None, prefix: Array | None = None,
    tolerance: float = 1e-9, **options: Any,
) -> Iterator[Cell]:  # fmt: skip
    """The cells of `stream_batches`, one by one."""
    for batch in stream_batches(network, region, budget=budget, start=start, prefix=prefix, tolerance=tolerance, **options):
        yield from batch.cells()

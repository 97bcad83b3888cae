"""Streams of cells: what `lipschitz`, `tightness` and `cells` read. Memory does not grow with the number of cells."""

from collections.abc import Iterator
from typing import Any

import numpy as np

from problems.errors import RegionError
from problems.maps import Array
from problems.network import Network
from problems.regions.base import Region
from verifier.enumeration.cell import Cell, CellBatch, cell_rows
from verifier.enumeration.certify import inside_cells, inside_region, jacobians
from verifier.enumeration.compose import Composer
from verifier.enumeration.frame import Frame, frame_of
from verifier.enumeration.plain import Leaf, PlainSearch
from verifier.search.budget import Budget

BATCH = 4096


class Batches(Iterator[CellBatch]):
    """The cells of a region in batches, in lexicographic order of their patterns (-1 before +1).

    complete: whether the stream has ended because there are no more cells; False when a budget ended it. position: the last pattern
    (h,) that was handed out, or None: give it as `start` to go on behind it.
    """

    def __init__(
        self, network: Network, region: Region, *, budget: Budget | None = None, start: Array | None = None, prefix: Array | None = None,
        jacobians: bool = False, size: int = BATCH,
    ) -> None:  # fmt: skip
        if region.bounding_box()[0].shape != (network.input_size,):
            raise RegionError("region", f"has another dimension than network {network.name}, {network.input_size}.")
        self.network, self.region, self.budget, self.jacobians, self.size = network, region, budget, jacobians, size
        self.complete = False
        self.position = start
        frame = frame_of(region)
        self._search = PlainSearch(Composer(network, frame), frame, start, prefix)
        self._frame: Frame = frame
        self._leaves = self._search.leaves()

    def __next__(self) -> CellBatch:
        leaves: list[Leaf] = []
        while len(leaves) < self.size and not self.complete:
            if self.budget is not None and self.budget.exceeded() is not None:
                break
            leaf = next(self._leaves, None)
            if leaf is None:
                self.complete = True
                break
            leaves.append(leaf)
        if not leaves:
            raise StopIteration
        self.position = leaves[-1].pattern
        return self._batch(leaves)

    def _batch(self, leaves: list[Leaf]) -> CellBatch:
        frame, middle = self._frame, self._frame.start()
        patterns = np.stack([leaf.pattern for leaf in leaves])
        points = frame.inputs(np.stack([middle if leaf.point is None else leaf.point for leaf in leaves]))
        vanishing = np.stack([leaf.vanishing for leaf in leaves])
        certified = inside_region(self.region, points) & inside_cells(self.network, points, patterns, vanishing)
        inradii = np.where(certified, np.array([self._inradius(*pair) for pair in zip(patterns, points, strict=True)]), 0.0)
        return CellBatch(patterns, points, inradii, certified, jacobians(self.network, patterns) if self.jacobians else None)

    def _inradius(self, pattern: Array, x: Array) -> float:
        matrix, offsets = cell_rows(self.network, pattern)
        free = self._frame.matrix.any(axis=1)
        norms = np.linalg.norm(matrix[:, free], axis=1)
        used = norms > 0.0
        slack = float(((matrix @ x + offsets)[used] / norms[used]).min(initial=np.inf))
        return max(0.0, min(slack, self._frame.distance_inside(x)))


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
    return Batches(network, region, budget=budget, start=start, prefix=prefix, jacobians=jacobians, size=size)


def stream_cells(
    network: Network, region: Region, *, budget: Budget | None = None, start: Array | None = None, prefix: Array | None = None,
    tolerance: float = 1e-9, **options: Any,
) -> Iterator[Cell]:  # fmt: skip
    """The cells of `stream_batches`, one by one."""
    for batch in stream_batches(network, region, budget=budget, start=start, prefix=prefix, tolerance=tolerance, **options):
        yield from batch.cells()

"""How many cells a network has on a region."""

import sys
from collections.abc import Callable
from concurrent.futures import Executor
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np

from problems import readers
from problems.errors import InputError
from problems.maps import Array, Dense
from problems.network import sequential
from problems.regions.base import Region
from problems.regions.box import Box
from verifier import options
from verifier.bracket import Status
from verifier.enumeration.cell import CellBatch
from verifier.enumeration.fold import fold_cells
from verifier.search.budget import Budget
from verifier.search.executors import default_workers


@dataclass(frozen=True, eq=False)
class Count:
    """cells: full cells found whose inscribed radius is above the tolerance; thin: the other patterns that are not proved empty.

    complete: whether those are all; status says why not. seconds: without compile_seconds, which the loading or compiling of the kernel
    took; kernel_seconds: in compiled code, of all workers together. position (h,): the last pattern, from which `start` goes on, where one
    worker counted; else None.
    """

    cells: int
    complete: bool
    status: Status
    seconds: float
    kernel_seconds: float
    compile_seconds: float
    thin: int = 0
    position: Array | None = None


def cells(
    network: Any,
    region: Region | None = None,
    *,
    start: Array | None = None,
    timeout: float | None = None,
    memory: float | None = None,
    workers: int | None = None,
    device: str = "cpu",
    solver: str = "auto",
    tolerance: float = 1e-9,
    seed: int = 0,
    semantics: str = "real",
    executor: Executor | None = None,
    progress: Callable[[int], None] | None = None,
) -> Count:
    """Count the cells of the region (default: all of R^n) behind the pattern `start`.

    tolerance: on the inscribed radius in input space, rows normalised; it shapes the count only. timeout in seconds, memory in GB. An
    interrupt ends the count, which is then not complete. device, solver and seed change nothing. Raises InputError on bad input.
    """
    options.check(timeout=timeout, memory=memory, workers=workers, solver=solver, tolerance=tolerance, seed=seed, semantics=semantics)
    if semantics != "real":
        raise InputError("semantics", "cells are those of the stored weights as exact numbers.", "Use real.")
    net = readers.load(network)
    where = Box.whole_space(net.input_size) if region is None else region
    compiling = ready()
    budget = Budget(timeout, None if memory is None else memory * 1e9)
    count = default_workers() if workers is None else workers
    found, status = _Total(), Status.CLOSED
    fold = Above(tolerance)
    try:
        for part in fold_cells(
            net, where, fold, (0, 0), budget=budget, workers=count, start=start, tolerance=tolerance, executor=executor, progress=progress
        ):
            found.add(part)
    except KeyboardInterrupt:
        found.complete, status = False, Status.INTERRUPTED
    if not found.complete and status is Status.CLOSED:
        status = budget.exceeded() or Status.TIMED_OUT
    return Count(
        found.cells, found.complete, status, budget.elapsed, found.kernel_seconds, compiling, found.thin,
        found.position if found.parts == 1 else None,
    )  # fmt: skip


@dataclass(frozen=True)
class Above:
    """Counts (cells whose inscribed radius is above the tolerance, the others)."""

    tolerance: float

    def __call__(self, state: tuple[int, int], batch: CellBatch) -> tuple[int, int]:
        above = int((batch.inradii > self.tolerance).sum())
        return state[0] + above, state[1] + len(batch) - above


class _Total:
    def __init__(self) -> None:
        self.cells, self.thin, self.complete, self.kernel_seconds, self.parts = 0, 0, True, 0.0, 0
        self.position: Array | None = None

    def add(self, part: Any) -> None:
        self.cells, self.thin = self.cells + part.state[0], self.thin + part.state[1]
        self.complete, self.kernel_seconds = self.complete and part.complete, self.kernel_seconds + part.kernel_seconds
        self.position, self.parts = part.position, self.parts + 1


def ready() -> float:
    """Load the kernel, compiling it at the first use on this machine, which is said on standard error. Returns the seconds it took."""
    from verifier.enumeration import kernel

    began = perf_counter()
    if not kernel.advance.signatures and not _cached(kernel.advance):
        print("Compiling the search over cells (once, about half a minute) ...", file=sys.stderr, flush=True)
    network = sequential([Dense(np.ones((1, 1))), Dense(np.ones((1, 1)))], [np.zeros(1), np.zeros(1)])
    for _ in fold_cells(network, Box(-np.ones(1), np.ones(1)), Above(1e-9), (0, 0)):
        pass
    return perf_counter() - began


def _cached(function: Any) -> bool:
    try:
        folder = Path(function._cache.cache_path)
    except AttributeError:  # another version of numba
        return True
    return any(folder.glob("kernel.advance-*.nbi"))

"""Something computed over all cells, alone or by several workers: each takes the cells below a prefix of signs.

Work that ends within seconds is done here and now. What is then left behind the last cell is cut into subtrees, and fanned out.
"""

from collections.abc import Callable, Iterator
from concurrent.futures import Executor
from dataclasses import dataclass, replace
from time import time
from typing import Any

import numpy as np

from problems.maps import Array
from problems.network import Network
from problems.regions.base import Region
from verifier.enumeration.cell import CellBatch
from verifier.enumeration.compiled import CompiledSearch, Found
from verifier.enumeration.frame import frame_of
from verifier.enumeration.stream import stream_batches
from verifier.search.budget import Budget
from verifier.search.executors import fan_out

# (state, cells) -> state; a module-level function, so that it can be sent to a worker.
Fold = Callable[[Any, CellBatch], Any]

# Seconds of work alone before others are called: to start them takes about as long.
ALONE = 5.0
# Subtrees per worker, so that none waits long for the last.
SHARE = 16


@dataclass(frozen=True, eq=False)
class Part:
    """What one worker made of its cells: the folded state, how many cells, whether those were all of its part, the last pattern (or None),
    seconds in compiled code."""

    state: Any
    cells: int
    complete: bool
    position: Array | None
    kernel_seconds: float


@dataclass(frozen=True, eq=False)
class Setting:
    """What all workers share; until: an instant of time.time(), memory in bytes."""

    network: Network
    region: Region
    fold: Fold
    initial: Any
    jacobians: bool
    tolerance: float
    until: float | None
    memory: float | None


def fold_cells(
    network: Network, region: Region, fold: Fold, initial: Any, *, budget: Budget | None = None, workers: int = 1,
    start: Array | None = None, jacobians: bool = False, tolerance: float = 1e-9, executor: Executor | None = None,
    progress: Callable[[int], None] | None = None,
) -> Iterator[Part]:  # fmt: skip
    """fold(... fold(fold(initial, batch), batch) ...) over all cells behind `start`, as parts in order of completion: merge their states.

    All cells were seen iff every part is complete. On KeyboardInterrupt the part reached is yielded, then the interrupt is raised again.
    executor: where subtrees are worked on, as in fan_out; progress: called with the number of cells so far.
    """
    budget = Budget() if budget is None else budget
    until = None if budget.timeout is None else time() + budget.remaining
    setting = Setting(network, region, fold, initial, jacobians, tolerance, until, budget.memory)
    limits = replace(budget, timeout=min(ALONE, budget.remaining), started=budget.started) if workers > 1 or executor else budget
    if limits is not budget:
        limits = Budget(min(ALONE, max(budget.remaining, 0.0)), budget.memory, budget.interrupt)
    first = _Work(setting, start, None, limits, progress)
    try:
        first.run()
    except KeyboardInterrupt:
        yield first.part()
        raise
    whole = first.part()
    if whole.complete or limits is budget or budget.exceeded():
        yield whole
        return
    yield replace(whole, complete=True)  # of its part: the rest follows
    tasks = [(prefix, whole.position) for prefix in prefixes(network, region, SHARE * max(workers, 1), start=whole.position)]
    done = whole.cells
    finished = 0
    for part in fan_out(_below, setting, tasks, workers=workers, budget=budget, executor=executor):
        done, finished = done + part.cells, finished + 1
        if progress is not None:
            progress(done)
        yield part
    if finished < len(tasks):
        yield Part(initial, 0, False, whole.position, 0.0)


class _Work:
    """The cells of one part, folded; `part` tells what is done so far, at any moment."""

    def __init__(
        self, setting: Setting, start: Array | None, prefix: Array | None, budget: Budget, progress: Callable[[int], None] | None
    ) -> None:
        self.setting, self.progress = setting, progress
        self.done: tuple[Any, int, Array | None] = setting.initial, 0, start  # one value: an interrupt comes before or after it changes
        self.batches = stream_batches(
            setting.network, setting.region, budget=budget, start=start, prefix=prefix, jacobians=setting.jacobians,
            tolerance=setting.tolerance,
        )  # fmt: skip

    def run(self) -> None:
        for batch in self.batches:
            self.done = self.setting.fold(self.done[0], batch), self.done[1] + len(batch), batch.patterns[-1]
            if self.progress is not None:
                self.progress(self.done[1])

    def part(self) -> Part:
        state, cells, position = self.done
        return Part(state, cells, self.batches.complete, position, self.batches.kernel_seconds)


def _below(setting: Setting, task: tuple[Array, Array | None], interrupt: Any) -> Part:
    remaining = None if setting.until is None else max(0.0, setting.until - time())
    budget = Budget(remaining, setting.memory) if interrupt is None else Budget(remaining, setting.memory, interrupt)
    work = _Work(setting, task[1], task[0], budget, None)
    work.run()
    return work.part()


def prefixes(network: Network, region: Region, at_least: int, *, start: Array | None = None) -> list[Array]:
    """Prefixes of signs (h,), 0 where free, whose subtrees together hold all cells behind `start`: `at_least` many where there are enough.

    Some subtrees may hold no cell. In lexicographic order.
    """
    h = network.neurons
    stop, found = 0, [np.zeros(h, np.int8)]
    while len(found) < at_least and stop < h:
        stop = min(h, stop + max(1, min(8, h // 16)))
        found = _at(network, region, stop)
        if start is not None:
            found = [prefix for prefix in found if tuple(prefix[:stop]) >= tuple(start[:stop])]
    return found


def _at(network: Network, region: Region, stop: int) -> list[Array]:
    h = network.neurons
    search = CompiledSearch(network, frame_of(region), stop=stop)
    found: list[Array] = []

    def add(signs: Array) -> None:
        prefix = np.zeros(h, np.int8)
        prefix[: len(signs)] = signs
        found.append(prefix)

    while True:
        event = search.advance()
        if event is False:
            return found
        if event is None:
            continue
        leaves = event if isinstance(event, Found) else search.taken()
        for pattern in leaves.patterns:
            add(pattern)
        if isinstance(event, np.ndarray):
            add(event)

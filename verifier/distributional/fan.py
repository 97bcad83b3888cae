"""Rounds of tasks on one set of workers: the first moments here, the rest in processes that are started once."""

import time
from collections.abc import Callable, Iterator
from concurrent.futures import Executor
from dataclasses import replace
from types import TracebackType
from typing import Any, Self

from verifier.distributional.inner import Inner, Task
from verifier.search.budget import Budget
from verifier.search.executors import Workers, collect

# Seconds of work that are done here before processes are worth their start.
SECONDS_HERE = 1.0


class Fan:
    """work(context, task, interrupt) for round after round of tasks: `results` gives them in order of completion.

    With one worker everything runs here; on a given executor everything runs there. Ctrl-C is raised after the tasks in flight have
    returned what they reached.
    """

    def __init__(
        self, work: Callable[[Any, Any, Any], Inner], context: Any, workers: int, executor: Executor | None, budget: Budget
    ) -> None:
        self.work, self.context, self.workers, self.executor, self.budget = work, context, workers, executor, budget
        self._here = 0.0
        self._pool: Workers | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self._pool is not None:
            self._pool.__exit__(kind, error, trace)

    @property
    def count(self) -> int:
        """How many tasks run at a time."""
        return self.workers if self._pool is None else self._pool.count

    def results(self, tasks: list[Task]) -> Iterator[Inner]:
        """The answers. The budget may end before all tasks are begun."""
        alone = self.executor is None and self.workers < 2
        while tasks and self._pool is None and self.executor is None and (alone or self._here < SECONDS_HERE):
            if self.budget.exceeded() is not None:
                return
            began = time.monotonic()
            first = tasks[0]
            if not alone and first.timeout is not None:
                first = replace(first, timeout=min(first.timeout, SECONDS_HERE))
            yield self.work(self.context, first, self.budget.interrupt)
            self._here += time.monotonic() - began
            tasks = tasks[1:]
        if not tasks:
            return
        if self._pool is None:
            self._pool = Workers(self.work, self.context, max(self.workers, 1), self.executor)
            self._pool.__enter__()
        yield from collect(self._pool, tasks)

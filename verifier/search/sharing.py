"""One search by several workers: each takes a part of the frontier, works on it for a slice of time, and gives back what is left of it.

A slice is a function of the state it was given: one that is lost is run again, and until it returns its pieces count as open. Slices are
short, so that a witness ends all workers soon, and a checkpoint of this process is never far behind them.
"""

import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_COMPLETED, Executor, Future, wait
from contextlib import ExitStack
from dataclasses import dataclass
from math import inf
from types import TracebackType
from typing import Any, Protocol, Self

from verifier.bracket import Status
from verifier.search.alarm import TimeUp
from verifier.search.budget import Budget, resident_bytes
from verifier.search.executors import Workers, WorkersLost, error_of
from verifier.search.question import Question
from verifier.search.search import Progress, Search

# Seconds of work per slice, and while there are fewer pieces than the workers could take.
SLICE, SHORT_SLICE = 0.4, 0.1
# A step should not take longer than this, in seconds: it is what a checkpoint and a time-out wait for.
LONGEST_STEP = 0.5
POLL = 0.05
# Work that ends within so many seconds does not wait for processes to start.
PATIENCE = 1.0


class Context(Protocol):
    """What poses the same question in every process. It can be pickled."""

    @property
    def question(self) -> Question: ...


class Pace:
    """Adapts the pieces per step to how long steps take; call it after each."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._before = time.monotonic()

    def __call__(self, search: Search) -> None:
        taken = time.monotonic() - self._before
        if taken > LONGEST_STEP:
            search.batch = max(1, search.batch // 2)
        elif taken < 0.25 * LONGEST_STEP and search.batch < self._most:
            search.batch = min(2 * search.batch, self._most)
        self._before = time.monotonic()


def spread(
    search: Search, budget: Budget, progress: Progress | None = None, *, context: Context, workers: int, executor: Executor | None = None
) -> Status:
    """Like `search.run`, with `workers` processes once the work is worth starting them, or with those of an executor."""
    with Crew(context, workers, executor) as crew:
        return crew.finish(search, budget, progress)


class Crew:
    """Workers that are started when they are first wanted, and stay: `workers` processes, or those of an executor.

    In the worker processes `context` poses the question anew. With one worker and no executor all is done here.
    """

    def __init__(self, context: Context, workers: int, executor: Executor | None = None) -> None:
        self._wanted = executor is not None or workers > 1
        self._here = executor is None
        self._posed = context, workers, executor
        self._pool: Workers | None = None
        self._leave = ExitStack()
        self._ready: Callable[[], bool] | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._leave.close()

    def start(self) -> None:
        """Let the workers start, while this process goes on."""
        if self._wanted and self._ready is None:
            self._pool = self._leave.enter_context(Workers(run_task, *self._posed))
            self._ready = self._pool.ready()

    @property
    def ready(self) -> bool:
        """Whether a worker is there."""
        return self._ready is not None and self._ready()

    @property
    def _workers(self) -> Workers:
        assert self._pool is not None
        return self._pool

    @property
    def count(self) -> int:
        """How many tasks can run at a time, once workers are there."""
        return self._workers.count

    def finish(self, search: Search, budget: Budget, progress: Progress | None = None) -> Status:
        """Like `search.run`: here for a moment, and while workers start, then shared."""
        status = search.run(budget.part(PATIENCE if self._here and self._ready is None else 0.0), progress)
        if not self._wanted:
            return search.run(budget, progress) if status is Status.TIMED_OUT and not budget.exceeded() else status
        try:
            self.start()
            while status is Status.TIMED_OUT and not budget.exceeded() and not self.ready:
                status = search.run(budget.part(POLL), progress)
            return self.search(search, budget, progress) if status is Status.TIMED_OUT and not budget.exceeded() else status
        except TimeUp:
            return Status.TIMED_OUT
        except KeyboardInterrupt:
            return Status.INTERRUPTED

    def search(self, search: Search, budget: Budget, progress: Progress | None = None) -> Status:
        """Like `search.run`, shared if workers are there."""
        if not self.ready:
            return search.run(budget, progress)
        try:
            self._workers.go_on()
            return _share(search, budget, self._workers, progress)
        except WorkersLost:
            self._wanted, self._ready = False, None
            return search.run(budget, progress)
        except TimeUp:
            return Status.TIMED_OUT
        except KeyboardInterrupt:
            return Status.INTERRUPTED

    def call(self, function: Callable[[Any, Any], Any], arguments: Sequence[Any]) -> list[Any]:
        """[function(argument, interrupt), ...], the function of a module, by the workers, which have to be ready. Raises WorkersLost."""
        self._workers.go_on()
        results: list[Any] = [None] * len(arguments)
        pending = {self._workers.submit(Call(function, argument)): i for i, argument in enumerate(arguments)}
        try:
            while pending:
                for future in wait(pending, return_when=FIRST_COMPLETED)[0]:
                    i = pending.pop(future)
                    error = error_of(future)
                    if error is None:
                        results[i] = future.result()
                    elif self._workers.lost(error):
                        pending[self._workers.submit(Call(function, arguments[i]))] = i
                    else:
                        raise error
        finally:
            if pending:
                self._workers.stop()
        return results


@dataclass(frozen=True)
class Call:
    """A task that needs nothing of the context."""

    function: Callable[[Any, Any], Any]
    argument: Any


def _share(search: Search, budget: Budget, pool: Workers, progress: Progress | None) -> Status:
    flying: dict[Future, int] = {}
    unaware = 0  # slices that came back because their worker had not learnt what this process has
    rate = 0.0  # pieces that a worker opens per second
    try:
        while True:
            if progress is not None:
                progress(search)
            stop = search.ended() or budget.exceeded() or _too_large(budget, pool)
            if stop is not None:
                return stop
            while len(flying) < pool.count + max(1, pool.count // 2):
                seconds = SLICE if search.open_pieces > 4 * pool.count * search.batch else SHORT_SLICE
                loan = search.lend(max(search.batch, int(1.2 * rate * seconds)))
                if loan is None:
                    break
                number, state = loan
                if unaware:  # a worker did not know what the pieces refer to
                    unaware -= 1
                    state["learnt"] = search.question.learnt()
                remaining = None if budget.end == inf else budget.end - time.monotonic()
                flying[pool.submit((state, search.batch, seconds, remaining))] = number
            done, _ = wait(flying, timeout=POLL, return_when=FIRST_COMPLETED)
            for future in done:
                error = error_of(future)
                if error is not None and not pool.lost(error):
                    raise error
                number = flying.pop(future)
                if error is not None:
                    search.settle(number, None)
                    continue
                answer = future.result()
                if answer is None:
                    unaware += 1
                    search.settle(number, None)
                    continue
                state, used = answer
                rate = 0.5 * rate + 0.5 * state["opened"] / max(used, 1e-3)
                search.settle(number, state)
    finally:
        pool.stop()
        for number in flying.values():
            search.settle(number, None)


def _too_large(budget: Budget, pool: Workers) -> Status | None:
    if budget.memory is None:
        return None
    return Status.OUT_OF_MEMORY if resident_bytes() + pool.resident() > budget.memory else None


def run_task(context: Context, task: Any, interrupt: Any = None) -> Any:
    """What a worker does: a slice of a search, or a call."""
    return task.function(task.argument, interrupt) if isinstance(task, Call) else run_slice(context, task, interrupt)


_posed = threading.local()


def run_slice(
    context: Context, task: tuple[dict[str, Any], int, float, float | None], interrupt: Any = None
) -> tuple[dict[str, Any], float] | None:
    """(the state that a search has reached, seconds) after a slice: of a state, with a batch, for some seconds, of so many remaining.

    None where this process lacks what the pieces refer to: they come back with it.
    """
    state, batch, seconds, remaining = task
    if getattr(_posed, "context", None) is not context:
        _posed.context, _posed.question = context, context.question
    if state["learnt"] is None and state["version"] != _posed.question.version:
        return None
    search = Search(_posed.question, batch=batch)
    search.restore(state)
    budget = Budget(seconds, whole=None if remaining is None else time.monotonic() + remaining)
    if interrupt is not None:
        budget.interrupt = interrupt
    search.run(budget, Pace(batch))
    return search.state() | {"learnt": None}, budget.elapsed

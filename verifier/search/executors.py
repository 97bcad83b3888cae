"""Where tasks run: processes of this machine, or anything that follows `concurrent.futures.Executor`.

Each worker process keeps one context (a network and options), sent once. Ctrl-C sets an event that the workers' budgets watch, so
that every task in flight still returns the bracket it has reached. Workers end with their parent, however it ends.
"""

import multiprocessing
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, BrokenExecutor, CancelledError, Executor, Future, ProcessPoolExecutor, wait
from contextlib import contextmanager, suppress
from multiprocessing.connection import wait as wait_for
from types import TracebackType
from typing import Any, Protocol, Self, runtime_checkable

from problems.errors import InputError
from verifier.search.budget import Budget, resident_bytes

# (context, task, interrupt event or None) -> result; a module-level function, so that it can be sent to a worker.
Work = Callable[[Any, Any, Any], Any]

# Seconds that tasks in flight have for returning what they have reached, once they were asked to stop.
PATIENCE = 0.5
# Workers that may be lost, for each there is, before the call gives up.
MOST_LOSSES = 8

_worker: dict[str, Any] = {}


class WorkersLost(InputError):
    """Workers that end again and again without an answer: killed for their memory, as a rule."""


@runtime_checkable
class Sharing(Protocol):
    """An executor that keeps a context where its `count` tasks run: `share` gives what stands for it among a task's arguments."""

    @property
    def count(self) -> int: ...

    def share(self, context: Any) -> Any: ...


class Workers:
    """Run work(context, task, interrupt): in `count` processes, or on a given executor, which is left open.

    `submit` gives futures; a task whose future fails with an error for which `lost` holds can be submitted again.
    Leaving the block asks tasks to stop and ends the processes.
    """

    def __init__(self, work: Work, context: Any, count: int, executor: Executor | None = None) -> None:
        self._work, self._context = work, context
        self._count = count
        self._given = executor
        self._spawn = multiprocessing.get_context("spawn")
        self._event = self._spawn.Event() if executor is None else None
        self._processes: set[Any] = set()
        self._pool: Executor | None = None
        self._losses = 0

    @property
    def count(self) -> int:
        """How many tasks can run at a time."""
        return self._given.count if isinstance(self._given, Sharing) else self._count

    def __enter__(self) -> Self:
        if self._given is None:
            self.restart()
        elif isinstance(self._given, Sharing):
            self._context = self._given.share(self._context)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.stop()
        self._end(time.monotonic() + PATIENCE)

    def restart(self) -> None:
        """New processes, after a loss."""
        self._end(0.0)
        self._pool = ProcessPoolExecutor(self._count, self._spawn, _enter, (self._work, self._context, self._event))

    def ready(self) -> Callable[[], bool]:
        """Starts the workers, and tells from then on whether one is there."""
        futures = [self.submit(None) for _ in range(self.count if self._given is None else 1)]
        return lambda: any(future.done() for future in futures)

    def submit(self, task: Any) -> Future:
        """The future of the task's result; of None for the task None."""
        if self._given is not None:
            return self._given.submit(_run_there, self._work, self._context, task)
        assert self._pool is not None
        before = set(multiprocessing.active_children())
        with _one_thread_each(), _apart():
            try:
                future = self._pool.submit(_run, task)
            except BrokenExecutor:
                self.restart()
                future = self._pool.submit(_run, task)
        self._processes |= set(multiprocessing.active_children()) - before
        return future

    def lost(self, error: BaseException) -> bool:
        """Whether a task failed because its worker has gone, and should be submitted again. Raises WorkersLost where that has no end."""
        gone = isinstance(error, BrokenExecutor | CancelledError | ConnectionError | EOFError)
        if not gone and not type(error).__module__.startswith("distributed"):
            return False
        self._losses += 1
        if self._losses > MOST_LOSSES * (self.count + 1):
            raise WorkersLost(
                "workers", f"end without a word, again and again ({type(error).__name__}).", "Give them more memory."
            ) from error
        return True

    def stop(self) -> None:
        """Ask the tasks in flight to return soon."""
        if self._event is not None:
            self._event.set()

    def go_on(self) -> None:
        """Take tasks again after a stop."""
        if self._event is not None:
            self._event.clear()

    def resident(self) -> int:
        """Resident bytes of the processes started here."""
        return sum(resident_bytes(process.pid) for process in self._processes)

    def _end(self, deadline: float) -> None:
        if self._pool is None:
            return
        pool, self._pool = self._pool, None
        pool.shutdown(wait=False, cancel_futures=True)
        for process in self._processes:
            with suppress(ValueError):  # closed: it has ended
                process.join(max(deadline - time.monotonic(), 0.0))
                process.kill()
                process.join()
        self._processes = set()


def fan_out(
    work: Work, context: Any, tasks: Sequence[Any], *, workers: int, budget: Budget | None = None, executor: Executor | None = None
) -> Iterator[Any]:
    """Results of work(context, task, interrupt) in order of completion.

    With one worker or one task everything runs here. A given executor is used as it is (and left open); otherwise `workers`
    processes are started. On KeyboardInterrupt the tasks in flight are asked to stop, their results are yielded, and the interrupt
    is raised again. Tasks of workers that were lost are run again.
    """
    if executor is None and (workers < 2 or len(tasks) < 2):
        flag = None if budget is None else budget.interrupt
        for task in tasks:
            if budget is not None and budget.exceeded():
                return
            yield work(context, task, flag)
        return
    with Workers(work, context, min(workers, len(tasks)), executor) as pool:
        yield from collect(pool, tasks)


def collect(pool: Workers, tasks: Sequence[Any]) -> Iterator[Any]:
    """The results of the tasks on an open pool, in order of completion; see `fan_out`."""
    pending = {pool.submit(task): task for task in tasks}
    try:
        while pending:
            done, _ = wait(pending, return_when=FIRST_COMPLETED)
            for future in done:
                task = pending.pop(future)
                error = error_of(future)
                if error is None:
                    yield future.result()
                elif pool.lost(error):
                    pending[pool.submit(task)] = task
                else:
                    raise error
    except (KeyboardInterrupt, GeneratorExit) as stop:
        pool.stop()
        for future in pending:
            future.cancel()
        if isinstance(stop, KeyboardInterrupt):
            for future in pending:
                if not future.cancelled() and error_of(future) is None:
                    yield future.result()
        raise


def error_of(future: Future) -> BaseException | None:
    """What a future that is done, or will be, failed with."""
    try:
        return future.exception()
    except CancelledError as error:
        return error


class _one_thread_each:
    """Workers started inside inherit single-threaded linear algebra: their number already fills the cores."""

    names = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")

    def __enter__(self) -> None:
        self.before = {name: os.environ.get(name) for name in self.names}
        os.environ.update(dict.fromkeys(self.names, "1"))

    def __exit__(self, *_: object) -> None:
        for name, value in self.before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


@contextmanager
def _apart() -> Iterator[None]:
    """Workers started inside neither run the caller's script again nor see its signals.

    A spawned process imports the main module of its parent, which would repeat what an unguarded script does; the workers need nothing
    of it. And a Ctrl-C that reaches the whole process group while they start would break the pool: they inherit a mask that blocks it,
    and the parent, unblocked again, receives what came meanwhile.
    """
    main = sys.modules["__main__"]
    hidden = {name: getattr(main, name) for name in ("__file__", "__spec__") if hasattr(main, name)}
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGTERM}) if hasattr(signal, "pthread_sigmask") else None
    main.__dict__.pop("__file__", None)
    main.__spec__ = None
    try:
        yield
    finally:
        main.__dict__.update(hidden)
        if before is not None:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _enter(work: Work, context: Any, event: Any) -> None:
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)  # both may reach the whole group; the parent decides, through the event
    threading.Thread(target=_end_with_parent, name="parent", daemon=True).start()
    _worker.update(work=work, context=context, event=event)


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        wait_for([parent.sentinel])
        os._exit(1)


def _run(task: Any) -> Any:
    return None if task is None else _worker["work"](_worker["context"], task, _worker["event"])


def _run_there(work: Work, context: Any, task: Any) -> Any:
    return None if task is None else work(context, task, None)


def default_workers() -> int:
    """The number of cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else (os.cpu_count() or 1)

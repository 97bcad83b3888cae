"""Fan-out of independent tasks over anything that follows `concurrent.futures.Executor`: processes by default.

Each worker process keeps one context (a network and options), sent once. Ctrl-C sets an event that the workers' budgets watch, so
that every task in flight still returns the bracket it has reached.
"""

import multiprocessing
import os
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Executor, Future, ProcessPoolExecutor, wait
from contextlib import contextmanager
from typing import Any

from verifier.search.budget import Budget

# (context, task, interrupt event or None) -> result; a module-level function, so that it can be sent to a worker.
Work = Callable[[Any, Any, Any], Any]

_worker: dict[str, Any] = {}


def fan_out(
    work: Work, context: Any, tasks: Sequence[Any], *, workers: int, budget: Budget | None = None, executor: Executor | None = None
) -> Iterator[Any]:
    """Results of work(context, task, interrupt) in order of completion.

    With one worker or one task everything runs here. A given executor is used as it is (and left open); otherwise `workers`
    processes are started. On KeyboardInterrupt the tasks in flight are asked to stop, their results are yielded, and the interrupt
    is raised again.
    """
    if executor is None and (workers < 2 or len(tasks) < 2):
        flag = None if budget is None else budget.interrupt
        for task in tasks:
            if budget is not None and budget.exceeded():
                return
            yield work(context, task, flag)
        return
    if executor is not None:
        yield from _collect([executor.submit(work, context, task, None) for task in tasks], None)
        return
    spawn = multiprocessing.get_context("spawn")
    event = spawn.Event()
    with ProcessPoolExecutor(min(workers, len(tasks)), spawn, _enter, (work, context, event)) as pool:
        with _one_thread_each(), _apart():
            futures = [pool.submit(_run, task) for task in tasks]
        yield from _collect(futures, event)


def _collect(futures: list[Future], event: Any) -> Iterator[Any]:
    pending = set(futures)
    try:
        while pending:
            done, pending = wait(pending, return_when=FIRST_COMPLETED)
            for future in done:
                yield future.result()
    except (KeyboardInterrupt, GeneratorExit) as stop:
        if event is not None:
            event.set()
        for future in futures:
            future.cancel()
        if isinstance(stop, KeyboardInterrupt):
            for future in pending:
                if not future.cancelled():
                    yield future.result()
        raise


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
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent decides, through the event
    _worker.update(work=work, context=context, event=event)


def _run(task: Any) -> Any:
    return _worker["work"](_worker["context"], task, _worker["event"])


def default_workers() -> int:
    """The number of cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else (os.cpu_count() or 1)

"""One search by several workers: the same answer, and nothing lost, whatever becomes of the workers."""

import multiprocessing
import threading
import time
from collections.abc import Callable
from concurrent.futures import BrokenExecutor, Executor, Future, ThreadPoolExecutor
from typing import Any

import pytest

from tests.verifier.test_search import Hills, covered, holds
from tests.verifier.test_survival import NETWORK, around
from tests.verifier.test_verify_limits import hard
from verifier.bracket import Status
from verifier.property import Property
from verifier.search import sharing
from verifier.search.budget import Budget
from verifier.search.executors import Workers, WorkersLost
from verifier.search.search import Search
from verifier.search.sharing import spread

TOLERANCE = 1e-5


class Posed:
    """A context; `before` is called by the questions of the workers."""

    def __init__(self, before: Callable[[str], None] = lambda name: None) -> None:
        self.before = before

    @property
    def question(self) -> Hills:
        return Hills(tolerance=TOLERANCE, before=self.before)


class Losing(Executor):
    """Threads whose tasks are lost now and then: before they run, or with their result."""

    def __init__(self, pattern: str) -> None:
        self.pattern, self.count, self.threads = pattern, 0, ThreadPoolExecutor(2)

    def submit(self, function: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future:
        fate = self.pattern[self.count % len(self.pattern)]
        self.count += 1

        def run() -> Any:
            result = None if fate == "before" else function(*args, **kwargs)
            if fate != ".":
                raise BrokenExecutor if fate == "x" else ConnectionResetError
            return result

        return self.threads.submit(run)


def shared(search: Search, executor: Executor, context: Posed | None = None, budget: Budget | None = None, **options: Any) -> Status:
    return spread(search, budget or Budget(), context=context or Posed(), workers=2, executor=executor, **options)


def begun() -> Search:
    search = Search(Hills(tolerance=TOLERANCE), batch=2)
    search.start(Budget())
    return search


@pytest.mark.parametrize("pattern", [".", "..x", "c.", "..xc..", ".xxx"])
def test_the_answer_is_that_of_one_worker(pattern: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """x and c: a task whose worker is lost. Every piece is then opened again, and none is forgotten."""
    monkeypatch.setattr(sharing, "SHORT_SLICE", 0.002)
    monkeypatch.setattr("verifier.search.executors.MOST_LOSSES", 10_000)
    alone = Search(Hills(tolerance=TOLERANCE), batch=2)
    assert alone.run(Budget()) is Status.CLOSED
    search, executor = begun(), Losing(pattern)
    seen: list[float] = []

    def watch(search: Search) -> None:
        covered(search)
        holds(search)
        seen.append(search.upper)

    assert shared(search, executor, Posed(lambda name: time.sleep(0.001 * (name == "branch"))), progress=watch) is Status.CLOSED
    holds(search)
    assert search.upper - search.lower <= TOLERANCE
    assert executor.count > 3
    assert not search._lent
    assert seen == sorted(seen, reverse=True)


def test_workers_that_are_always_lost_are_done_without() -> None:
    search = begun()
    assert shared(search, Losing("x")) is Status.CLOSED
    holds(search)
    with Workers(sharing.run_slice, Posed(), 2, Losing("x")) as pool, pytest.raises(WorkersLost):
        all(pool.lost(BrokenExecutor()) for _ in range(1000))


def test_an_error_of_the_question_is_raised_and_loses_no_piece() -> None:
    def fail(name: str) -> None:
        if name == "branch":
            raise ZeroDivisionError

    search = begun()
    with pytest.raises(ZeroDivisionError):
        shared(search, ThreadPoolExecutor(2), Posed(fail))
    assert not search._lent
    covered(search)
    assert search.run(Budget()) is Status.CLOSED


def test_an_interrupt_and_a_time_out_leave_the_bracket() -> None:
    def slow(name: str) -> None:
        if name == "branch":
            time.sleep(0.05)

    for budget, expected in ((Budget(), Status.INTERRUPTED), (Budget(0.5), Status.TIMED_OUT)):
        if expected is Status.INTERRUPTED:
            threading.Timer(0.5, budget.interrupt.set).start()
        search, began = begun(), time.monotonic()
        assert shared(search, ThreadPoolExecutor(2), Posed(slow), budget) is expected
        assert time.monotonic() - began < 5.0
        assert not search._lent
        covered(search)
        holds(search)


def test_processes_of_which_one_is_killed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sharing, "PATIENCE", 0.0)
    asked = Property(hard()[0], hard()[1])
    search = Search(asked.question, batch=16)
    killed: list[int] = []
    before = set(multiprocessing.active_children())

    def watch(search: Search) -> None:
        children = [child for child in set(multiprocessing.active_children()) - before if child.pid not in killed]
        if search._lent and children and len(killed) < 2:
            children[0].kill()
            killed.append(children[0].pid or 0)

    status = spread(search, Budget(5.0), watch, context=asked, workers=2)
    assert status is Status.TIMED_OUT
    assert killed
    assert not set(multiprocessing.active_children()) - before
    assert search.lower < 0 <= search.upper


def test_processes_prove_what_one_proves(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sharing, "PATIENCE", 0.0)
    from problems import readers

    asked = Property(readers.load(NETWORK), around(0.18))
    search, lent = Search(asked.question, batch=16), []
    assert spread(search, Budget(100), lambda search: lent.append(len(search._lent)), context=asked, workers=2) is Status.CLOSED
    assert search.upper < 0

"""The one search, driven by toy questions: its bracket holds at every moment, whatever happens in between."""

import contextlib
import ctypes
import pickle
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from math import inf
from typing import Any

import numpy as np
import pytest

from verifier.bracket import Bracket, Status
from verifier.search.budget import Budget
from verifier.search.executors import fan_out
from verifier.search.question import Closed, Node, Question, Witness
from verifier.search.search import Search

BREAKS = np.array([0.0, 1.0, 2.5, 3.0, 4.25, 6.0, 7.0, 8.0])
VALUES = np.array([0.0, 2.0, -1.0, 3.5, 1.0, 3.25, 0.5, 3.0])
TOP = 3.5  # at 3.0


def height(x: float) -> float:
    return float(np.interp(x, BREAKS, VALUES))


def highest(low: float, high: float) -> float:
    """The exact maximum of the function on [low, high]."""
    inner = BREAKS[(low < BREAKS) & (high > BREAKS)]
    return max(height(low), height(high), *(height(x) for x in inner))


@dataclass(eq=False)
class Hills(Question):
    """Maximise a piecewise linear function on [0, 8] to a tolerance. Pieces are intervals; bounds are loose by `slack` times the width.

    before is called on entry of every method with its name: tests raise from there.
    """

    tolerance: float = 1e-3
    slack: float = 1.0
    smallest: float = 0.0
    closes: bool = False
    before: Callable[[str], None] = lambda name: None
    calls: list[str] = field(default_factory=list)

    def _enter(self, name: str) -> None:
        self.calls.append(name)
        self.before(name)

    def roots(self, budget: Budget) -> list[Node]:
        self._enter("roots")
        signs = np.zeros(0, np.int8)
        return [Node(np.array([0.0]), np.array([5.0]), signs), Node(np.array([5.0]), np.array([8.0]), signs)]

    def bound(self, nodes: Sequence[Node], parameter: float) -> None:
        self._enter("bound")
        for node in nodes:
            low, high = float(node.lower[0]), float(node.upper[0])
            node.bound = highest(low, high) + self.slack * (high - low)

    def propose(self, nodes: Sequence[Node], parameter: float) -> Witness | None:
        self._enter("propose")
        points = [0.5 * (node.lower + node.upper) for node in nodes]
        best = max(points, key=lambda x: height(float(x[0])))
        return Witness(height(float(best[0])), best)

    def branch(self, node: Node) -> list[Node]:
        self._enter("branch")
        middle = 0.5 * (node.lower + node.upper)
        if float(node.upper[0] - node.lower[0]) <= self.smallest:
            return []
        return [Node(node.lower, middle, node.signs, depth=node.depth + 1), Node(middle, node.upper, node.signs, depth=node.depth + 1)]

    def close(self, node: Node, parameter: float, budget: Budget) -> tuple[Closed, Witness | None] | None:
        self._enter("close")
        low, high = float(node.lower[0]), float(node.upper[0])
        if not self.closes or high - low > 0.5:
            return None
        points = [low, high, *(float(x) for x in BREAKS if low < x < high)]
        best = max(points, key=height)
        return Closed(highest(low, high)), Witness(height(best), np.array([best]))

    def discards(self, bound: float, incumbent: float) -> bool:
        self._enter("discards")
        return bound <= incumbent + self.tolerance

    def finished(self, lower: float, upper: float) -> bool:
        self._enter("finished")
        return upper <= lower + self.tolerance


def covered(search: Search) -> None:
    """Every point of [0, 8] is in an open piece, or no higher than what the search has closed, is stuck with or has witnessed."""
    pieces = [(float(node.lower[0]), float(node.upper[0]), node.bound) for node in search.frontier()]
    done = max(search.closed_bound, search.stuck_bound, search.lower)
    for x in np.linspace(0.0, 8.0, 161):
        assert height(x) <= done or any(low <= x <= high and height(x) <= bound for low, high, bound in pieces), x


def holds(search: Search) -> None:
    assert search.lower <= TOP <= search.upper
    if search.witness is not None:
        assert search.lower == search.witness.value == height(float(search.witness.point[0]))
    if search.started:
        covered(search)


def test_bracket_narrows_and_holds_at_every_step() -> None:
    search, budget = Search(Hills(), batch=2), Budget()
    assert search.upper == inf
    assert search.lower == -inf
    search.start(budget)
    before = (search.lower, search.upper)
    while search.open_pieces and not search.question.finished(search.lower, search.upper):
        search.step(budget)
        holds(search)
        assert search.lower >= before[0]
        assert search.upper <= before[1]
        before = (search.lower, search.upper)
    assert search.upper - search.lower <= 1e-3
    assert search.bounded > 10
    assert search.opened > 5


def test_run_ends_closed_or_decided() -> None:
    search = Search(Hills(), batch=4)
    assert search.run(Budget()) in (Status.CLOSED, Status.DECIDED)
    assert search.lower == pytest.approx(TOP, abs=1e-3)
    holds(search)
    closing = Search(Hills(closes=True), batch=4)
    assert closing.run(Budget()) in (Status.CLOSED, Status.DECIDED)
    assert closing.lower == TOP
    assert closing.opened < search.opened


def test_a_bound_never_exceeds_the_parents() -> None:
    """A question whose children are bounded worse than their parents: the parent's bound still holds for them."""

    class Sloppy(Hills):
        def bound(self, nodes: Sequence[Node], parameter: float) -> None:
            super().bound(nodes, parameter)
            for node in nodes:
                node.bound += 10.0 * node.depth

    search, budget = Search(Sloppy(), batch=2), Budget()
    search.start(budget)
    for _ in range(20):
        before = search.upper
        search.step(budget)
        assert search.upper <= before
        holds(search)


def test_stuck_pieces_keep_the_bracket_open() -> None:
    search = Search(Hills(smallest=0.7, tolerance=1e-6), batch=3)
    assert search.run(Budget()) is Status.UNDECIDED
    assert search.open_pieces == 0
    assert search.stuck_bound >= TOP
    assert search.upper >= TOP > search.lower
    holds(search)


def test_state_and_restore_go_on_where_the_search_stopped() -> None:
    whole = Search(Hills(), batch=2)
    whole.run(Budget())
    first = Search(Hills(), batch=2)
    first.start(Budget())
    for _ in range(3):
        first.step(Budget())
    second = Search(Hills(), batch=2)
    second.restore(pickle.loads(pickle.dumps(first.state())))
    for name in ("lower", "upper", "opened", "bounded", "started", "parameter", "open_pieces", "closed_bound", "stuck_bound"):
        assert getattr(second, name) == getattr(first, name)
    holds(second)
    assert second.run(Budget()).finished
    assert second.upper - second.lower <= 1e-3
    assert second.lower == pytest.approx(whole.lower, abs=1e-3)
    assert second.bounded == whole.bounded


def test_retarget_reaches_the_question_and_keeps_the_frontier() -> None:
    seen: list[float] = []

    class Watched(Hills):
        def bound(self, nodes: Sequence[Node], parameter: float) -> None:
            seen.append(parameter)
            super().bound(nodes, parameter)

    search, budget = Search(Watched(), batch=2), Budget()
    search.start(budget)
    search.step(budget)
    pieces, upper = search.open_pieces, search.upper
    search.retarget(7.0)
    assert search.open_pieces == pieces
    assert search.upper == upper
    search.step(budget)
    assert seen[-1] == 7.0
    search.offer(Witness(TOP, np.array([3.0])))
    assert search.parameter == 7.0


def test_offers_count_only_when_better() -> None:
    search = Search(Hills())
    search.offer(None)
    assert search.witness is None
    search.offer(Witness(2.0, np.array([1.0])))
    search.offer(Witness(1.0, np.array([0.5])))
    assert search.lower == search.parameter == 2.0
    assert search.witness is not None
    assert search.witness.point[0] == 1.0


class Stop(Exception):
    """An error that is not an interrupt."""


def total_calls() -> int:
    question = Hills(closes=True)
    Search(question, batch=3).run(Budget())
    return len(question.calls)


CALLS = total_calls()


@pytest.mark.parametrize("kind", [KeyboardInterrupt, Stop, MemoryError])
@pytest.mark.parametrize("executor", [False, True])
def test_nothing_is_lost_wherever_a_question_is_interrupted(kind: type[BaseException], executor: bool) -> None:
    """Raised at every single call of a question method in turn: the bracket holds, no piece is lost, and the search can go on."""
    assert CALLS > 60
    pool = ThreadPoolExecutor(1) if executor else None
    for moment in range(CALLS):
        question = Hills(closes=True)

        def interrupt(name: str, question: Hills = question, moment: int = moment) -> None:
            if len(question.calls) == moment + 1:
                raise kind

        question.before = interrupt
        search = Search(question, batch=3, executor=pool, workers=2)
        try:
            status = search.run(Budget())
        except (Stop, MemoryError):
            assert kind is not KeyboardInterrupt
        else:
            assert kind is KeyboardInterrupt
            assert status is Status.INTERRUPTED
        holds(search)
        resumed = Search(Hills(closes=True), batch=3)
        resumed.restore(pickle.loads(pickle.dumps(search.state())))
        holds(resumed)
        for again in (search, resumed):  # in this process, or from a checkpoint
            assert again.run(Budget()).finished
            holds(again)
            assert again.upper - again.lower <= 1e-3


def test_interrupts_at_random_moments() -> None:
    """Asynchronous interrupts, as Ctrl-C gives them: between any two bytecodes, over and over, until the search is done."""
    main = threading.get_ident()

    def interrupt() -> None:
        ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(main), ctypes.py_object(KeyboardInterrupt))

    for seed in range(8):
        search = Search(Hills(tolerance=1e-5), batch=3)
        generator = np.random.default_rng(seed)
        status = Status.INTERRUPTED
        for _ in range(40):
            timer = threading.Timer(float(generator.uniform(0, 3e-3)), interrupt)
            with contextlib.suppress(KeyboardInterrupt):
                timer.start()
                status = search.run(Budget())
                timer.join()
                interrupt()  # in the place of one that has not arrived: from here on none is under way
                while True:
                    pass
            timer.join()
            assert search.lower <= TOP <= search.upper
            if search.started:
                covered(search)
        assert status.finished or search.run(Budget()).finished


@pytest.mark.parametrize("workers", [1, 2, 3])
def test_executor_gives_the_same_result(workers: int) -> None:
    alone = Search(Hills(), batch=8)
    alone.run(Budget())
    with ThreadPoolExecutor(workers) as pool:
        shared = Search(Hills(), batch=8, executor=pool, workers=workers)
        shared.run(Budget())
    assert (shared.lower, shared.upper, shared.opened, shared.bounded) == (alone.lower, alone.upper, alone.opened, alone.bounded)


def test_budget_statuses() -> None:
    late = Search(Hills(tolerance=0.0), batch=1)
    assert late.run(Budget(0.0)) is Status.TIMED_OUT
    holds(late)
    assert late.started
    small = Search(Hills(tolerance=0.0), batch=1)
    assert small.run(Budget(memory=1.0)) is Status.OUT_OF_MEMORY
    holds(small)
    stopped = Search(Hills(tolerance=0.0), batch=1)
    budget = Budget()
    budget.interrupt.set()
    assert stopped.run(budget) is Status.INTERRUPTED
    holds(stopped)
    # Each can go on with a new budget.
    for search in (late, small, stopped):
        search.question.tolerance = 1e-3  # type: ignore[attr-defined]
        assert search.run(Budget()).finished


def test_time_limit_is_kept() -> None:
    search, budget = Search(Hills(tolerance=-1.0, slack=0.0), batch=1), Budget(0.2)  # a tolerance that is never reached
    assert search.run(budget) is Status.TIMED_OUT
    assert 0.2 <= budget.elapsed < 2.0


def test_best_piece_first() -> None:
    opened: list[float] = []

    class Watched(Hills):
        def close(self, node: Node, parameter: float, budget: Budget) -> None:
            opened.append(node.bound)

    search = Search(Watched(), batch=1)
    search.start(Budget())
    for _ in range(15):
        expected = search.upper
        search.step(Budget())
        assert opened[-1] == expected


def test_brackets_refuse_what_cannot_be() -> None:
    with pytest.raises(AssertionError):
        Bracket("max", 1.0, 0.0, Status.CLOSED, np.zeros(1))
    with pytest.raises(AssertionError):
        Bracket("max", float("nan"), 0.0, Status.CLOSED, np.zeros(1))
    with pytest.raises(AssertionError):
        Bracket("max", 0.0, 1.0, Status.CLOSED)
    assert Bracket("min", 0.0, inf, Status.TIMED_OUT).witnessed_end == inf
    assert Bracket("min", inf, inf, Status.EMPTY).gap == 0.0


# --- fan-out ------------------------------------------------------------------------------------------------------------------------------


def _square(context: Any, task: Any, interrupt: Any) -> Any:
    if task == "broken":
        raise ValueError("broken")
    return context + task * task


@pytest.mark.parametrize("workers", [1, 2])
def test_fan_out_in_processes(workers: int) -> None:
    assert sorted(fan_out(_square, 1, [1, 2, 3], workers=workers)) == [2, 5, 10]
    with pytest.raises(ValueError, match="broken"):
        list(fan_out(_square, 1, [1, "broken"], workers=workers))


def test_fan_out_over_a_given_executor() -> None:
    with ThreadPoolExecutor(2) as pool:
        assert sorted(fan_out(_square, 0, [1, 2, 3], workers=1, executor=pool)) == [1, 4, 9]


def test_fan_out_stops_with_its_budget() -> None:
    budget = Budget()
    results = fan_out(_square, 0, [1, 2, 3], workers=1, budget=budget)
    assert next(results) == 1
    budget.interrupt.set()
    assert list(results) == []

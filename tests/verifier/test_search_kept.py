"""A search whose closed pieces come back: retarget for a question that keeps them."""

import pickle
from collections.abc import Sequence
from math import inf
from typing import ClassVar

import numpy as np
import pytest

from verifier.search.budget import Budget
from verifier.search.question import Node, Question, Witness
from verifier.search.search import Search

STEEP = 8.0


def hill(x: float) -> float:
    return float(np.sin(3.0 * x) + 0.5 * x)


class Priced(Question):
    """max of hill(x) - rate x over [0, 6]; parameter: the rate. A piece keeps a bound of the hill, which holds at any rate."""

    keeps: ClassVar[bool] = True

    def __init__(self, rate: float) -> None:
        self.rate, self.tried = rate, [0.0]

    def roots(self, budget: Budget) -> list[Node]:
        return [Node(np.array([0.0]), np.array([6.0]), np.zeros(0, np.int8))]

    def bound(self, nodes: Sequence[Node], parameter: float) -> None:
        for node in nodes:
            middle, half = 0.5 * (node.lower[0] + node.upper[0]), 0.5 * (node.upper[0] - node.lower[0])
            node.hints["hill"] = hill(middle) + STEEP * half
            self.tried.append(middle)
        self.price(nodes)

    def price(self, nodes: Sequence[Node]) -> None:
        for node in nodes:
            node.bound = node.hints["hill"] - self.rate * node.lower[0]

    def known(self) -> Witness:
        best = max(self.tried, key=lambda x: hill(x) - self.rate * x)
        return Witness(hill(best) - self.rate * best, np.array([best]))

    def propose(self, nodes: Sequence[Node], parameter: float) -> Witness | None:
        return self.known()

    def reconsider(self, pieces: Sequence[Node], parameter: float) -> Witness | None:
        self.rate = parameter
        self.price(pieces)
        return self.known()

    def branch(self, node: Node) -> list[Node]:
        middle = 0.5 * (node.lower + node.upper)
        return [Node(node.lower, middle, node.signs), Node(middle, node.upper, node.signs)]

    def discards(self, bound: float, incumbent: float) -> bool:
        return bound <= incumbent + 1e-3

    def finished(self, lower: float, upper: float) -> bool:
        return upper <= lower + 1e-3


def highest(rate: float) -> float:
    x = np.linspace(0.0, 6.0, 200001)
    return float((np.sin(3.0 * x) + 0.5 * x - rate * x).max())


@pytest.mark.parametrize("batch", [1, 16])
def test_closed_pieces_come_back(batch: int) -> None:
    search = Search(Priced(3.0), batch=batch)
    assert search.run(Budget()).finished
    for rate in (1.0, 0.2, 2.0, -0.5):
        before = search.bounded
        pieces = search.pieces
        search.retarget(rate)
        assert search.pieces == pieces
        assert search.run(Budget()).finished
        assert search.lower <= highest(rate) + 1e-12
        assert search.lower <= search.upper <= search.lower + 1e-3
        assert search.upper >= highest(rate)
        cold = Search(Priced(rate), batch=batch)
        cold.run(Budget())
        assert search.bounded - before < cold.bounded
        lengths = sum(float(node.upper[0] - node.lower[0]) for node in search.frontier() + search._kept)
        assert lengths == pytest.approx(6.0)  # pieces cover the region, none twice


def test_kept_pieces_travel_with_the_state() -> None:
    first = Search(Priced(3.0), batch=4)
    first.run(Budget())
    second = Search(Priced(3.0), batch=4)
    second.restore(pickle.loads(pickle.dumps(first.state())))
    assert second.pieces == first.pieces
    second.retarget(0.2)
    assert second.lower > -inf
    assert second.run(Budget()).finished
    assert second.upper >= highest(0.2)


def test_a_question_that_keeps_pieces_has_to_reconsider_them() -> None:
    class Forgetful(Priced):
        reconsider = Question.reconsider

    search = Search(Forgetful(1.0))
    search.run(Budget())
    with pytest.raises(NotImplementedError, match="another parameter"):
        search.retarget(0.5)

"""What a question gives to the one search."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field
from math import inf
from typing import Any, ClassVar

import numpy as np

from verifier.search.budget import Budget

Array = np.ndarray


@dataclass(eq=False, slots=True)
class Node:
    """A piece of the region with a partial activation pattern.

    lower, upper (n,): the box of the piece; signs (h,) int8: 1 active, -1 inactive, 0 open; known: pre-activation bounds
    (lower (h,), upper (h,)) inherited from the parent; target: the disjunct or class asked about; bound: the proven upper bound
    of the question's value on the piece; hints: what the question keeps for the children (slopes, multipliers, scores); model: which of
    the things learnt (see `Question.learnt`) the pattern refers to.
    """

    lower: Array
    upper: Array
    signs: Array
    target: int = 0
    known: tuple[Array, Array] | None = None
    bound: float = inf
    depth: int = 0
    model: int = 0
    hints: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class Witness:
    """A point (n,) at which the question's value was verified to be at least `value`."""

    value: float
    point: Array


@dataclass(frozen=True, eq=False)
class Closed:
    """A subtree finished by `close`: its value is proven to be at most `bound`; stuck means that float64 cannot do better."""

    bound: float
    stuck: bool = False


class Question(ABC):
    """A maximisation over pieces of the region and activation patterns. Radii maximise the negative distance.

    `parameter` is the incumbent value (or whatever `retarget` was given): bounds may use it, and stay valid when it changes
    in the direction the search moves it. keeps: closed pieces are kept, for `Search.retarget` to consider them again.
    """

    keeps: ClassVar[bool] = False

    @abstractmethod
    def roots(self, budget: Budget) -> list[Node]:
        """The pieces that cover the region, not yet bounded."""

    @abstractmethod
    def bound(self, nodes: Sequence[Node], parameter: float) -> None:
        """Set `bound` (and hints) of every node to a proven upper bound of the value there; -inf where the piece is empty."""

    @abstractmethod
    def propose(self, nodes: Sequence[Node], parameter: float) -> Witness | None:
        """The best verified witness that the nodes' bounds suggest, if it beats the parameter."""

    @abstractmethod
    def branch(self, node: Node) -> list[Node]:
        """Children that cover the node, not yet bounded; empty if nothing is left to split."""

    def close(self, node: Node, parameter: float, budget: Budget) -> tuple[Closed, Witness | None] | None:
        """Finish a whole subtree, or None to branch instead."""
        return None

    def until(self, deadline: float) -> None:  # noqa: B027
        """From this instant of time.monotonic() on, bounds may be left as they stand, so that a time-out is answered in time."""

    def notes(self) -> Any:
        """What was learnt on the way that the answer needs, beyond bounds and witness: plain values and arrays."""
        return None

    def recall(self, notes: Any) -> None:  # noqa: B027
        """Add the notes of the same question in another process, or of an earlier run."""

    @property
    def version(self) -> int:
        """Counts how often `learnt` has changed."""
        return 0

    def learnt(self) -> Any:
        """What open pieces refer to, without which they mean nothing in another process: plain values, arrays, classes of this project."""
        return None

    def learn(self, learnt: Any) -> None:  # noqa: B027
        """Take over what the same question has learnt in another process, or in an earlier run; its pieces follow."""

    def reconsider(self, pieces: Sequence[Node], parameter: float) -> Witness | None:
        """For a question that keeps closed pieces: `retarget` has changed the parameter, and with it what is asked.

        Set the bounds of the pieces, all bounded before, to what is proved of them now, without working on them; return the best witness.
        """
        raise NotImplementedError("a question that keeps closed pieces has to say what they are worth for another parameter")

    @abstractmethod
    def discards(self, bound: float, incumbent: float) -> bool:
        """Whether a piece with this bound need not be looked at again, given the witnessed value."""

    @abstractmethod
    def finished(self, lower: float, upper: float) -> bool:
        """Whether [lower, upper] answers the question."""

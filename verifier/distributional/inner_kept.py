"""Searches that a process keeps for later calls: the outer problem comes back to a sample with other rates, round after round.

What is kept answers faster, never differently: its pieces' bounds are re-evaluated for the new rates like those of any rate before.
"""

from collections import OrderedDict
from dataclasses import dataclass
from typing import TYPE_CHECKING
from weakref import WeakKeyDictionary

from verifier.distributional.inner_question import Inner
from verifier.search.search import Search

if TYPE_CHECKING:
    from verifier.distributional.inner import Setting

# Bytes that the pieces of all searches kept may take in one process, about.
MOST_BYTES = 5e8

Name = tuple[int, bytes]


@dataclass(eq=False)
class Begun:
    """A search and its question."""

    search: Search
    question: Inner

    @property
    def size(self) -> float:
        """Bytes, about: forms, neurons' bounds, slopes and multipliers of every piece."""
        network = self.question.network
        return self.search.pieces * (32.0 * network.input_size + 40.0 * network.neurons + 2000.0)


_kept: WeakKeyDictionary["Setting", OrderedDict[Name, Begun]] = WeakKeyDictionary()


def take(setting: "Setting", name: Name) -> Begun | None:
    """The search of a sample, no longer kept: whoever takes it gives it back."""
    return _kept.get(setting, OrderedDict()).pop(name, None)


def keep(setting: "Setting", name: Name, begun: Begun) -> None:
    """Keep the search, and forget the oldest where there are too many."""
    searches = _kept.setdefault(setting, OrderedDict())
    searches[name] = begun
    total = sum(each.size for each in searches.values())
    while total > MOST_BYTES and searches:
        _, oldest = searches.popitem(last=False)
        total -= oldest.size

"""Searches that a process keeps for later calls: the outer problem comes back to a sample with other rates, round after round.

What is kept answers faster, never differently: its pieces' bounds are re-evaluated for the new rates like those of any rate before. There
may be several searches of one sample: what is known at smaller rates says how near the sample the points are that count at larger ones,
and bounds of neurons are much tighter in a small region (`Memory.reach`).
"""

from collections import OrderedDict
from dataclasses import dataclass, field
from math import inf, nextafter, sqrt
from typing import TYPE_CHECKING
from weakref import WeakKeyDictionary

from verifier.bounds.rounding import UNIT
from verifier.distributional.inner_points import Points
from verifier.distributional.inner_question import Inner
from verifier.search.search import Search

if TYPE_CHECKING:
    from verifier.distributional.inner import Setting

# Bytes that the pieces of all searches kept may take in one process, about.
MOST_BYTES = 5e8

Name = tuple[int, bytes]


@dataclass(eq=False)
class Begun:
    """A search and its question, which is about the points within the radius of the sample (inf: about the whole region)."""

    search: Search
    question: Inner
    radius: float = inf

    @property
    def size(self) -> float:
        """Bytes, about: forms, neurons' bounds, slopes and multipliers of every piece."""
        network = self.question.network
        return self.search.pieces * (32.0 * network.input_size + 40.0 * network.neurons + 2000.0)


@dataclass(eq=False)
class Memory:
    """What is known of one sample: its points, upper ends (rate, bound of phi there), and the searches begun."""

    points: Points
    known: dict[float, float] = field(default_factory=dict)
    searches: list[Begun] = field(default_factory=list)

    @property
    def size(self) -> float:
        return sum(begun.size for begun in self.searches)

    def proved(self, rate: float, upper: float) -> None:
        """phi(rate) <= upper."""
        self.known[rate] = min(upper, self.known.get(rate, inf))

    def reach(self, position: int) -> float:
        """Points farther than this from the sample are worth less than the best one at the rate asked about: an upper bound, or inf.

        For a smaller rate l, loss - rate d^p <= phi(l) - (rate - l) d^p, which is less than the best if d^p > (phi(l) - best) / (rate - l).
        """
        rate, best = float(self.points.rates[position]), float(self.points.best[position])
        reach = inf
        for lower, upper in self.known.items():
            if lower < rate:
                gap = upper - best + 4.0 * UNIT * (abs(upper) + abs(best))
                reach = min(reach, max(gap, 0.0) / (rate - lower))
        reach = sqrt(reach) if self.points.power == 2 else reach
        return nextafter(reach * (1.0 + 1e-9), inf)


_kept: WeakKeyDictionary["Setting", OrderedDict[Name, Memory]] = WeakKeyDictionary()


def take(setting: "Setting", name: Name) -> Memory | None:
    """What is known of a sample, no longer kept: whoever takes it gives it back."""
    return _kept.get(setting, OrderedDict()).pop(name, None)


def keep(setting: "Setting", name: Name, memory: Memory) -> None:
    """Keep it, and forget the oldest where there are too many."""
    searches = _kept.setdefault(setting, OrderedDict())
    searches[name] = memory
    total = sum(each.size for each in searches.values())
    while total > MOST_BYTES and searches:
        _, oldest = searches.popitem(last=False)
        total -= oldest.size

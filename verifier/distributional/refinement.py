"""What is known of all phi_i, and what to ask next: the state of the outer problem between two rounds."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import fsum, inf, nextafter

import numpy as np

from problems.data import Dataset
from problems.maps import Array
from verifier.bounds.rounding import up
from verifier.distributional.inner import Inner, Setting, Task
from verifier.distributional.outer import Envelope, Front, Mixture, Segments, dual_bound, stab
from verifier.distributional.witnesses import inside, transport_costs

# The gap that is wanted of a sum is shared: so much for the samples' own gaps, so much for a rate that is not quite the best.
OF_SAMPLES, OF_RATES = 0.5, 0.25
# A bracket as narrow as this, relative to the values themselves, is closed whatever the tolerance.
NARROW = 1e-12


@dataclass(eq=False)
class Item:
    """One supremum: sample number i (its place in the data), with the label y, which costs `fee`, and what is proved of it.

    seconds: the time that was last given to it.
    """

    place: int
    label: int
    fee: float
    envelope: Envelope
    seconds: float = 0.0


class Refinement:
    """Fronts and envelopes of all samples, and the brackets of V that they give for every eps."""

    def __init__(
        self, setting: Setting, data: Dataset, epsilon: Sequence[float], tolerance: float, *, slopes: Array, ceilings: Array,
        label_cost: float | None = None, least: float = 0.0,
    ) -> None:  # fmt: skip
        """slopes (K,): upper bounds of the Lipschitz constant of each label's loss; ceilings (K,): of that loss on the region.

        least: below this rate (the upper end of kappa*) suprema may be infinite.
        """
        self.setting, self.data, self.epsilon, self.tolerance, self.least = setting, data, list(epsilon), tolerance, least
        self.order, count = setting.order, len(data)
        network, loss = setting.network, setting.loss
        low, high = (np.zeros((network.output_size, count)) for _ in range(2))
        labels = sorted(set(data.y.tolist())) if label_cost is None else range(network.output_size)
        for y in labels:
            low[y], high[y] = loss.at_least(network, data.x, y), loss.at_most(network, data.x, y)
        own = data.y, np.arange(count)
        self.clean = nextafter(fsum(low[own]) / count, -inf), nextafter(fsum(high[own]) / count, inf)
        self.fronts = [Front(x, int(y), float(v), concave=self.order < inf) for x, y, v in zip(data.x, data.y, low[own], strict=True)]
        self.items: list[Item] = []
        for i, mine in enumerate(data.y.tolist()):
            for y in [mine] if label_cost is None else [mine, *(k for k in labels if k != mine)]:
                fee = 0.0 if y == mine else float(label_cost or 0.0)
                envelope = Envelope(self.order, float(high[y, i]), float(ceilings[y]), float(slopes[y]))
                self.items.append(Item(i, y, fee, envelope))
                if y != mine:
                    self.fronts[i].add(data.x[i : i + 1], y, low[y, i : i + 1], np.array([fee]))
        self.key = {(item.place, item.label): item for item in self.items}
        self.rates: set[float] = set()
        self.progressed = False

    # --- what comes in ---------------------------------------------------------------------------------------------------------------

    def witness(self, place: int, label: int, points: Array) -> None:
        """Points (A, n) that may be worth something to sample `place` under this label: moved into the region, evaluated, kept if so."""
        item, x = self.key[place, label], self.data.x[place]
        points = inside(self.setting.region, points[np.isfinite(points).all(axis=1)])
        if len(points):
            losses = self.setting.loss.at_least(self.setting.network, points, label)
            self._bought(item, points, losses, transport_costs(points, x, self.setting.norm, self.order))

    def absorb(self, item: Item, rates: Array, result: Inner) -> None:
        """An answer of `maximise` about an item."""
        upper = np.where(np.isnan(result.upper), inf, result.upper)
        self.progressed |= item.envelope.add(rates, upper)
        self.rates |= set((rates + (item.fee if self.order == inf else 0.0)).tolist())
        self._bought(item, result.points, result.losses, result.costs)
        if item.fee and self.order == inf:  # the radii were rounded up
            x = self.data.x[item.place]
            self.witness(item.place, item.label, x + (result.points - x) * (1 - 1e-12))

    def _bought(self, item: Item, points: Array, losses: Array, costs: Array) -> None:
        if len(points):
            paid = up(costs + item.fee) if item.fee else costs
            self.progressed |= self.fronts[item.place].add(points, item.label, losses, paid)

    # --- what follows ----------------------------------------------------------------------------------------------------------------

    def uppers(self, rates: Array) -> Array:
        """(N, R): upper bounds of every sample's supremum at the rates (R,)."""
        result = np.full((len(self.data), len(rates)), -inf)
        for item in self.items:
            result[item.place] = np.maximum(result[item.place], self._upper(item, rates))
        return result

    def _upper(self, item: Item, rates: Array) -> Array:
        if not item.fee:
            return item.envelope.at(rates)
        if self.order == inf:
            return np.where(rates >= item.fee, item.envelope.at(np.maximum(up(rates - item.fee), 0.0)), -inf)
        return up(item.envelope.at(rates) - np.nextafter(rates * item.fee, -inf))

    def _radius(self, rate: float, item: Item) -> float:
        """How far the input may move within the radius `rate` (order inf), rounded up; negative where the label may not."""
        return nextafter(rate - item.fee, inf) if item.fee and rate >= item.fee else rate - item.fee

    def lowers(self) -> list[Mixture]:
        """The best mixture for every eps."""
        segments = Segments(self.fronts)
        return [segments.mixture(epsilon, self.order) for epsilon in self.epsilon]

    def brackets(self) -> tuple[list[Mixture], Array]:
        """(mixtures, upper ends (E,))."""
        mixtures = self.lowers()
        if self.order < inf:  # where the lower model has its minima; what is proved elsewhere bounds the suprema there too
            self.rates |= {max(mixture.rate, self.least) for mixture in mixtures if mixture.rate < inf}
        return mixtures, self._proved()

    def _proved(self) -> Array:
        count = len(self.data)
        if self.order == inf:
            known = self.uppers(np.array(self.epsilon))
            return np.array([nextafter(fsum(column) / count, inf) for column in known.T])
        wanted = self.rates | {0.0} | {item.envelope.slope for item in self.items if self.order == 1}
        if self.order == 2:
            wanted |= {item.envelope.slope / (2 * e) for item in self.items for e in self.epsilon if e > 0}
        shelled = [item.envelope.slope for item in self.items if item.envelope.shells is not None and item.envelope.slope < inf]
        if shelled:  # shells answer at any rate: the best one is not known beforehand
            wanted |= set(np.geomspace(1e-5 * max(shelled), max(shelled), 121).tolist())
        rates = np.array(sorted(rate for rate in wanted if rate < inf))
        known = self.uppers(rates)
        sums = np.array([fsum(column) if np.isfinite(column).all() else inf for column in known.T])
        result = []
        for epsilon in self.epsilon:
            ends = [dual_bound(float(rate), float(total), count, epsilon, self.order) for rate, total in zip(rates, sums, strict=True)]
            result.append(min(ends, default=inf) if epsilon > 0 else self.clean[1])
        return np.array(result)

    def closed(self, lower: float, upper: float) -> bool:
        """Whether a bracket is as narrow as wanted: relative to the loss's growth."""
        if upper == inf:
            return False
        return upper - lower <= self.tolerance * (upper - self.clean[1]) + NARROW * max(1.0, abs(lower), abs(upper))

    def questions(self, mixtures: list[Mixture], uppers: Array) -> list[tuple[float, Item, Task]]:
        """What to ask next: (the gap it may close, item, task without its time), widest gap first."""
        wide = [i for i, (m, u) in enumerate(zip(mixtures, uppers, strict=True)) if not self.closed(m.value, float(u))]
        if not wide:
            return []
        goals = [self.tolerance * max(mixtures[i].value - self.clean[1], 0.0) + NARROW * max(1.0, abs(self.clean[1])) for i in wide]
        rates, allowed = self._rates(wide, mixtures, goals)
        result = []
        for index, item in enumerate(self.items):
            asked, tolerances, gap = [], [], 0.0
            mine = self._upper(item, np.array(rates))
            for rate, most, high in zip(rates, allowed, mine.tolist(), strict=True):
                front = self.fronts[item.place]
                low = front.losses[front.within(rate)] if self.order == inf else front.at(rate)
                at = self._radius(rate, item) if self.order == inf else rate
                if high - low > OF_SAMPLES * most and at >= 0:
                    asked.append(at)
                    tolerances.append(0.5 * OF_SAMPLES * most)
                    gap = max(gap, high - low)
            if asked:
                starts = self.fronts[item.place].points[self.fronts[item.place].labels == item.label]
                task = Task(index, self.data.x[item.place], item.label, tuple(asked), tuple(tolerances), starts)
                result.append((gap, item, task))
        return sorted(result, key=lambda question: -question[0])

    def _rates(self, wide: list[int], mixtures: list[Mixture], goals: list[float]) -> tuple[list[float], list[float]]:
        """(rates, largest first; the mean gap of samples that is wanted there), one near the best for each eps that is open."""
        if self.order == inf:
            radii = sorted({self.epsilon[i] for i in wide}, reverse=True)
            return radii, [min(g for i, g in zip(wide, goals, strict=True) if self.epsilon[i] == radius) for radius in radii]
        segments = Segments(self.fronts)
        intervals, wished = [], []
        for i, goal in zip(wide, goals, strict=True):
            budget = self.epsilon[i] ** int(self.order)
            floor = max(self.least, 0.1 * goal / budget, 1e-300)
            low, high = segments.rates(self.epsilon[i], self.order, OF_RATES * goal)
            wish = mixtures[i].rate if mixtures[i].rate < inf else high
            intervals.append((max(low, floor), max(high, floor)))
            wished.append(min(max(wish, floor), 1e300))
        intervals = [(min(low, 1e300), min(max(low, high), 1e300)) for low, high in intervals]
        rates = stab(intervals, wished)
        allowed = []
        for rate in rates:
            near = [g for (low, high), g in zip(intervals, goals, strict=True) if low <= rate <= high]
            allowed.append(min(near, default=min(goals)))
        return rates, allowed

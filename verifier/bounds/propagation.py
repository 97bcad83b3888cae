"""Bounds of all neurons of a batch of search nodes, and the linear relaxation they give.

One `Propagation` belongs to a batch of B pieces of the input region, each with its box and its decided neurons. It walks the
graph once: interval bounds at every node, tightened before each ReLU by bounds known beforehand and, on request, by backward
linear bound propagation (`verifier.bounds.crown`). All bounds are rounded outward: they hold for the exact real network.
"""

from collections.abc import Collection
from dataclasses import dataclass, field
from itertools import accumulate, pairwise
from math import inf
from typing import TYPE_CHECKING

import numpy as np

from problems.maps import Array
from problems.network import Affine, Network, Relu
from problems.regions.base import Region
from verifier.bounds.interval import affine_interval, operations
from verifier.bounds.rounding import SMALLEST, TINY

if TYPE_CHECKING:
    from verifier.bounds.compiled import Packed


@dataclass(frozen=True)
class Layout:
    """Where each ReLU layer stands in a vector over all h neurons."""

    relus: tuple[int, ...]
    slices: tuple[slice, ...]
    neurons: int

    @classmethod
    def of(cls, network: Network, relus: Collection[int] | None = None) -> "Layout":
        """All ReLU nodes of the network, or those given."""
        chosen = network.relus if relus is None else tuple(i for i in network.relus if i in relus)
        ends = list(accumulate((network.nodes[i].size for i in chosen), initial=0))
        return cls(chosen, tuple(slice(a, b) for a, b in pairwise(ends)), ends[-1])


@dataclass(eq=False)
class Lines:
    """The relaxation of one ReLU layer: lower slopes z -> slope z, upper lines z -> upper_slope z + intercept, each (B, m)."""

    lower: Array
    upper: Array
    upper_slope: Array
    intercept: Array
    slope: Array

    @classmethod
    def of(cls, lower: Array, upper: Array) -> "Lines":
        """The triangle relaxation of relu on [lower, upper], valid in exact arithmetic.

        Any upper_slope s is sound with the intercept max(-s l, (1 - s) u), which is rounded up; any lower slope in [0, 1] is
        sound (Zhang et al. 2018, CROWN). The default lower slope is the one of smaller area.
        """
        active, inactive = lower >= 0, upper <= 0
        unstable = ~(active | inactive)
        with np.errstate(invalid="ignore", over="ignore"):  # infinite bounds make NaN lines, which bound nothing
            width = np.where(unstable, upper - lower, 1.0)
            upper_slope = np.where(unstable, np.clip(upper / width, 0.0, 1.0), active.astype(float))
            needed = np.maximum(-upper_slope * lower, (1.0 - upper_slope) * upper)
        intercept = np.where(unstable, needed * (1.0 + 1e-15) + TINY, 0.0)
        slope = np.where(unstable, (upper > -lower).astype(float), active.astype(float))
        return cls(lower, upper, upper_slope, intercept, slope)

    @property
    def unstable(self) -> Array:
        return (self.lower < 0) & (self.upper > 0)


@dataclass(eq=False)
class Propagation:
    """State of the walk. `lines[i]` belongs to ReLU node i, `magnitude[i]` to affine node i; `empty` (B,) marks pieces proved empty."""

    network: Network
    region: Region
    lower: Array
    upper: Array
    deadline: float = inf
    lowers: list[Array] = field(default_factory=list)
    uppers: list[Array] = field(default_factory=list)
    magnitude: dict[int, Array] = field(default_factory=dict)
    floors: dict[int, Array] = field(default_factory=dict)
    lines: dict[int, Lines] = field(default_factory=dict)
    packed: "Packed | None" = None  # the same, as the compiled walk leaves it
    empty: Array = field(init=False)

    def __post_init__(self) -> None:
        self.empty = np.asarray((self.lower > self.upper).any(axis=1))
        if self.empty.any():
            # Keep the arithmetic clean: an empty piece is answered by `empty`, whatever its numbers are.
            self.lower, self.upper = np.minimum(self.lower, self.upper), np.maximum(self.lower, self.upper)

    @property
    def batch(self) -> int:
        return len(self.lower)

    def walk(self, known: tuple[Array, Array] | None = None, *, crown: bool = False, iterations: int = 0) -> "Propagation":
        """Bound every node. known: (lower, upper), each (B, h), pre-activation bounds that hold on the pieces (splits, parents).

        crown: tighten every layer by backward propagation, with `iterations` steps of slope optimisation.
        """
        from verifier.bounds import compiled
        from verifier.bounds.layers import layer_bounds

        if crown and not iterations and compiled.applies(self):
            return compiled.walk(self, known)
        layout = Layout.of(self.network)
        parts = dict(zip(layout.relus, layout.slices, strict=True))
        self.lowers, self.uppers = [self.lower], [self.upper]
        for index, node in enumerate(self.network.nodes[1:], start=1):
            if isinstance(node, Affine):
                bounds = affine_interval(node, [self.lowers[p] for p in node.parents], [self.uppers[p] for p in node.parents])
                self.lowers.append(bounds[0])
                self.uppers.append(bounds[1])
                self.magnitude[index] = bounds[2]
                self.floors[index] = self._floor(index, node)
                continue
            assert isinstance(node, Relu)
            if known is not None:
                self._tighten(node.parent, known[0][:, parts[index]], known[1][:, parts[index]])
            if crown and self.lines:
                self._tighten(node.parent, *layer_bounds(self, node.parent, iterations))
            lines = Lines.of(self.lowers[node.parent], self.uppers[node.parent])
            self.lines[index] = lines
            self.lowers.append(np.maximum(lines.lower, 0.0))
            self.uppers.append(np.maximum(lines.upper, 0.0))
        return self

    def _floor(self, index: int, node: Affine) -> Array:
        """(B,): what underflow may cost a row that is pushed back through the node: each product may lose the smallest float, times the
        largest output or input that meets the coefficient."""
        reach = self.magnitude[index].sum(axis=1)
        for parent in node.parents:
            reach = reach + np.maximum(np.abs(self.lowers[parent]), np.abs(self.uppers[parent])).sum(axis=1)
        return TINY + operations(node) * SMALLEST * reach

    def _tighten(self, index: int, lower: Array, upper: Array) -> None:
        lower = np.maximum(self.lowers[index], lower)
        upper = np.minimum(self.uppers[index], upper)
        crossed = lower > upper
        if crossed.any():
            self.empty |= crossed.any(axis=1)
            lower, upper = np.where(crossed, upper, lower), np.where(crossed, lower, upper)
        self.lowers[index], self.uppers[index] = lower, upper

    def neuron_bounds(self) -> tuple[Array, Array]:
        """(lower (B, h), upper (B, h)): the pre-activation bounds of all neurons."""
        if self.packed is not None:
            return self.packed.low[:, : self.packed.chain.neurons], self.packed.high[:, : self.packed.chain.neurons]
        if not self.lines:
            return np.zeros((self.batch, 0)), np.zeros((self.batch, 0))
        lines = [self.lines[i] for i in self.network.relus]
        return np.concatenate([line.lower for line in lines], axis=1), np.concatenate([line.upper for line in lines], axis=1)

"""Bounds of all neurons of a batch of search nodes, and the linear relaxation they give.

One `Propagation` belongs to a batch of B pieces of the input region, each with its box and its decided neurons. It walks the
graph once: interval bounds at every node, tightened before each ReLU by bounds known beforehand and, on request, by backward
linear bound propagation (`verifier.bounds.crown`). All bounds are rounded outward: they hold for the exact real network.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from itertools import accumulate, pairwise
from math import inf

import numpy as np

from problems.maps import Array
from problems.network import Network
from problems.regions.base import Region
from verifier.bounds.packed import Packed
from verifier.bounds.rounding import TINY

# Rows of a layer are pushed back in chunks, so that one array of coefficients stays below this many bytes.
CHUNK_BYTES = 1 << 24


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
    """State of the walk. `lines[i]` belongs to ReLU node i, `magnitude[i]` to affine node i; `empty` (B,) marks pieces proved empty.

    slack[i] (m,): how far the true value of affine node i may lie from what its maps and bias give (a condensed network's rounding).
    """

    network: Network
    region: Region
    lower: Array
    upper: Array
    deadline: float = inf
    chunk_bytes: int = CHUNK_BYTES
    slack: Mapping[int, Array] = field(default_factory=dict)
    lowers: list[Array] = field(default_factory=list)
    uppers: list[Array] = field(default_factory=list)
    magnitude: dict[int, Array] = field(default_factory=dict)
    floors: dict[int, Array] = field(default_factory=dict)
    lines: dict[int, Lines] = field(default_factory=dict)
    packed: Packed | None = None  # the same, as the compiled walk leaves it
    empty: Array = field(init=False)

    def __post_init__(self) -> None:
        self.empty = np.asarray((self.lower > self.upper).any(axis=1))
        if self.empty.any():
            # Keep the arithmetic clean: an empty piece is answered by `empty`, whatever its numbers are.
            self.lower, self.upper = np.minimum(self.lower, self.upper), np.maximum(self.lower, self.upper)

    @property
    def batch(self) -> int:
        return len(self.lower)

    def neuron_bounds(self) -> tuple[Array, Array]:
        """(lower (B, h), upper (B, h)): the pre-activation bounds of all neurons."""
        if self.packed is not None:
            return self.packed.low[:, : self.packed.chain.neurons], self.packed.high[:, : self.packed.chain.neurons]
        if not self.lines:
            return np.zeros((self.batch, 0)), np.zeros((self.batch, 0))
        lines = [self.lines[i] for i in self.network.relus]
        return np.concatenate([line.lower for line in lines], axis=1), np.concatenate([line.upper for line in lines], axis=1)

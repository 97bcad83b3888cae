"""Losses as strategies: which rows of the logits a search has to bound, and what the loss is at a point.

A loss is posed as targets, each some rows of the logits; the loss is at most the largest over targets of what `combined` makes of their
rows, and equal to it at every point. A search bounds every target's rows by linear functions on pieces of the region.
"""

from abc import ABC, abstractmethod
from typing import ClassVar

import numpy as np

from problems.maps import Array
from problems.network import Network
from verifier.bounds import Linear, Propagation
from verifier.bounds.rounding import down, up
from verifier.witness import enclose


class Loss(ABC):
    """A loss of logits z (K,) and a label. Raises nothing: labels and classes are checked where data are read."""

    name: ClassVar[str]
    linear_cells: ClassVar[bool]  # whether a target is an affine function on every cell: then a leaf is one convex program

    @abstractmethod
    def rows(self, classes: int, label: int) -> list[Array]:
        """One array (S, K) per target, all of the same shape."""

    @abstractmethod
    def combined(self, pieces: Propagation, linear: Linear) -> Linear:
        """One linear upper bound (B, 1) of the loss on each piece from linear upper bounds (B, S) of one target's rows."""

    @abstractmethod
    def enclosed(self, lower: Array, upper: Array, label: int) -> tuple[Array, Array]:
        """(at least, at most), each (B,): proven bounds of the loss where the logits lie in [lower, upper], each (B, K)."""

    @abstractmethod
    def slopes(self, logits: Array, label: int) -> Array:
        """(B, K): derivatives of the loss by the logits (B, K), in floats: directions of ascent."""

    def at_least(self, network: Network, points: Array, label: int) -> Array:
        """(B,) proven lower bounds of the loss at the points (B, n)."""
        return self.enclosed(*enclose(network, points), label)[0]

    def at_most(self, network: Network, points: Array, label: int) -> Array:
        """(B,) proven upper bounds of the loss at the points (B, n)."""
        return self.enclosed(*enclose(network, points), label)[1]


class Margin(Loss):
    """max over k != y of z_k - z_y: one target, of one row, per competing class."""

    name = "margin"
    linear_cells = True

    def rows(self, classes: int, label: int) -> list[Array]:
        return [row[None] for row in competitors(classes, label)]

    def combined(self, pieces: Propagation, linear: Linear) -> Linear:
        return linear

    def slopes(self, logits: Array, label: int) -> Array:
        rows = competitors(logits.shape[1], label)
        return rows[(logits @ rows.T).argmax(axis=1)]

    def enclosed(self, lower: Array, upper: Array, label: int) -> tuple[Array, Array]:
        others = np.arange(lower.shape[1]) != label
        with np.errstate(invalid="ignore"):  # logits that overflow have no bounds
            least = down(lower[:, others].max(axis=1) - upper[:, label])
            most = up(upper[:, others].max(axis=1) - lower[:, label])
        return np.where(np.isnan(least), -np.inf, least), np.where(np.isnan(most), np.inf, most)


def competitors(classes: int, label: int) -> Array:
    """(K - 1, K): the rows e_k - e_y, k != y."""
    rows = np.delete(np.eye(classes), label, axis=0)
    rows[:, label] = -1.0
    return rows


class CrossEntropy(Loss):
    """log sum_j exp(z_j) - z_y; not yet searched on bounded regions."""

    name = "ce"
    linear_cells = False

    def rows(self, classes: int, label: int) -> list[Array]:
        raise NotImplementedError

    def combined(self, pieces: Propagation, linear: Linear) -> Linear:
        raise NotImplementedError

    def slopes(self, logits: Array, label: int) -> Array:
        raise NotImplementedError

    def enclosed(self, lower: Array, upper: Array, label: int) -> tuple[Array, Array]:
        from verifier.distributional.kernel_log_sum_exp import log_sum_exp

        others = np.arange(lower.shape[1]) != label
        least, most = down(lower[:, others] - upper[:, [label]]), up(upper[:, others] - lower[:, [label]])
        low, high = np.empty(len(least)), np.empty(len(least))
        log_sum_exp(np.ascontiguousarray(least), np.ascontiguousarray(most), low, high)
        return low, high


def loss_named(name: str) -> Loss:
    """The loss called "margin" or "ce" ("cross-entropy"). Raises InputError for any other, with the reason for DLR."""
    return Margin() if name == "margin" else CrossEntropy()

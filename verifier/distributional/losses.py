"""Losses as strategies: which rows of the logits a search has to bound, and what the loss is at a point.

A loss is posed as targets, one per class that may be the top competitor of the label; each names the rows of the logits of which the loss
is a function there. Values at points are proved: logits are enclosed by interval arithmetic on points (`verifier.witness.enclose`), and all
that follows is rounded outward, exponentials and logarithms included (`kernel_log_sum_exp`).

DLR is no loss with a certificate: it is scale-invariant, and jumps where the first and the third logit meet (THEORY.md, section 1).
"""

from abc import ABC, abstractmethod
from typing import ClassVar

import numpy as np

from problems.errors import InputError
from problems.maps import Array
from problems.network import Network
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
    """log sum_j exp(z_j) - z_y, absolute error about 1e-13 beyond that of the logits (`cross_entropy` bounds it on pieces)."""

    name = "ce"
    linear_cells = False

    def rows(self, classes: int, label: int) -> list[Array]:
        """For every class k != label, first z_k - z_label, then z_j - z_k for the other classes j."""
        others = [k for k in range(classes) if k != label]
        result = []
        for k in others:
            rows = np.zeros((classes - 1, classes))
            rows[0, [k, label]] = 1.0, -1.0
            for place, j in enumerate([j for j in others if j != k], start=1):
                rows[place, [j, k]] = 1.0, -1.0
            result.append(rows)
        return result

    def slopes(self, logits: Array, label: int) -> Array:
        weights = np.exp(logits - logits.max(axis=1, keepdims=True))
        weights /= weights.sum(axis=1, keepdims=True)
        weights[:, label] -= 1.0
        return weights

    def enclosed(self, lower: Array, upper: Array, label: int) -> tuple[Array, Array]:
        from verifier.distributional.kernel_log_sum_exp import log_sum_exp  # compiled: loaded when first used

        others = np.arange(lower.shape[1]) != label
        with np.errstate(invalid="ignore", over="ignore"):  # logits that overflow have no bounds
            least, most = down(lower[:, others] - upper[:, [label]]), up(upper[:, others] - lower[:, [label]])
        at_least, at_most = np.empty(len(lower)), np.empty(len(lower))
        log_sum_exp(np.where(np.isnan(least), -np.inf, least), np.where(np.isnan(most), np.inf, most), at_least, at_most)
        return at_least, at_most


def loss_named(name: str) -> Loss:
    """The loss called "margin" or "ce" ("cross-entropy"). Raises InputError for any other, with the reason for DLR."""
    if name == "dlr":
        raise InputError("loss", "DLR has no certificate: it is scale-invariant and jumps where logits tie.", "Use margin or ce.")
    known: dict[str, Loss] = {"margin": Margin(), "ce": CrossEntropy(), "cross-entropy": CrossEntropy()}
    if name not in known:
        raise InputError("loss", f"{name!r} is not known.", "Use margin or ce.")
    return known[name]

"""The losses whose worst expectation is bounded, as proved numbers at points.

Logits are enclosed by interval arithmetic on points (`verifier.witness.enclose`); all that follows is rounded outward, exponentials and
logarithms included (`verifier.distributional.kernel_log_sum_exp`). THEORY.md, section 1: the margin loss is max_{j != y} z_j - z_y,
cross-entropy log sum_j exp(z_j) - z_y. DLR is no loss with a certificate: it is scale-invariant and discontinuous.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass

import numpy as np

from problems.errors import InputError
from problems.maps import Array
from problems.network import Network
from verifier.bounds.rounding import down, up
from verifier.witness import enclose


class Loss(ABC):
    """A loss of logits z (K,) and a label y, nondecreasing in every difference z_j - z_y, j != y."""

    name: str

    def at_least(self, network: Network, points: Array, label: int) -> Array:
        """Proven lower bounds (B,) of the loss at points (B, n); -inf where the logits overflow."""
        return self.bounds(network, points, label)[0]

    def at_most(self, network: Network, points: Array, label: int) -> Array:
        """Proven upper bounds (B,) of the loss at points (B, n); inf where the logits overflow."""
        return self.bounds(network, points, label)[1]

    def bounds(self, network: Network, points: Array, label: int) -> tuple[Array, Array]:
        """(at_least (B,), at_most (B,))."""
        low, high = enclose(network, np.asarray(points, dtype=np.float64))
        return self.of_margins(*margins(low, high, label))

    @abstractmethod
    def of_margins(self, low: Array, high: Array) -> tuple[Array, Array]:
        """Proven (lower (B,), upper (B,)) of the loss for all margins z_j - z_y, j != y, in [low, high], (B, K - 1)."""


def margins(low: Array, high: Array, label: int) -> tuple[Array, Array]:
    """Enclosures (B, K - 1), in the order of the classes, of z_j - z_label, j != label, for logits in [low, high] (B, K)."""
    others = np.arange(low.shape[1]) != label
    with np.errstate(invalid="ignore", over="ignore"):  # logits without bounds: inf - inf is no bound
        least, most = down(low[:, others] - high[:, [label]]), up(high[:, others] - low[:, [label]])
    return np.where(np.isnan(least), -np.inf, least), np.where(np.isnan(most), np.inf, most)


@dataclass(frozen=True)
class Margin(Loss):
    """max_{j != y} z_j - z_y: a point is misclassified iff it is >= 0."""

    name: str = "margin"

    def of_margins(self, low: Array, high: Array) -> tuple[Array, Array]:
        return low.max(axis=1), high.max(axis=1)


@dataclass(frozen=True)
class CrossEntropy(Loss):
    """log sum_j exp(z_j) - z_y = log(1 + sum_{j != y} exp(z_j - z_y)), absolute error about 1e-13 beyond that of the margins."""

    name: str = "ce"

    def of_margins(self, low: Array, high: Array) -> tuple[Array, Array]:
        from verifier.distributional.kernel_log_sum_exp import log_sum_exp  # compiled: loaded when first used

        lower, upper = np.empty(len(low)), np.empty(len(low))
        log_sum_exp(np.ascontiguousarray(low), np.ascontiguousarray(high), lower, upper)
        return lower, upper


def loss_named(name: str) -> Loss:
    """The loss called "margin" or "ce" ("cross-entropy"). Raises InputError for any other, with the reason for DLR."""
    if name == "dlr":
        raise InputError("loss", "DLR has no certificate: it is scale-invariant and jumps where logits tie.", "Use margin or ce.")
    known: dict[str, Loss] = {"margin": Margin(), "ce": CrossEntropy(), "cross-entropy": CrossEntropy()}
    if name not in known:
        raise InputError("loss", f"{name!r} is not known.", "Use margin or ce.")
    return known[name]

"""What every certificate shares: the question about one sample, and the largest radius at which the certificate holds."""

import time
from abc import ABC, abstractmethod
from dataclasses import dataclass
from math import inf, isfinite, nextafter, sqrt
from typing import ClassVar, final

import numpy as np

from problems.maps import Array
from problems.network import Network
from problems.regions import Ball, Box
from verifier.bounds import Propagation
from verifier.witness import enclose

# Where no misclassified point is known to stop it, a radius in an unbounded region is doubled at most so often.
DOUBLINGS = 60
# The smallest radius that is tried, as a share of the largest.
SMALLEST_SHARE = 1e-6


@dataclass(frozen=True, eq=False)
class Question:
    """No input of the box (None: R^n) within which distance of x (n,) is misclassified?

    reach: a distance at which a misclassified input is known (inf: none is), where no certificate can hold. known: a radius that is proved
    already. tolerance: relative, on the radius. deadline: an instant of time.monotonic().
    """

    network: Network
    x: Array
    label: int
    norm: float
    box: Box | None = None
    reach: float = inf
    known: float = 0.0
    tolerance: float = 0.01
    solver: str = "auto"
    deadline: float = inf

    def ball(self, radius: float) -> Ball:
        """The inputs of the box within the radius."""
        return Ball(self.x, radius, self.norm, self.box)

    @property
    def late(self) -> bool:
        return time.monotonic() >= self.deadline

    @property
    def rivals(self) -> list[int]:
        """The other classes."""
        return [k for k in range(self.network.output_size) if k != self.label]

    @property
    def rows(self) -> Array:
        """(K - 1, K): e_k - e_label, one row per rival; the sample is safe where all of them are negative."""
        eye = np.eye(self.network.output_size)
        return eye[self.rivals] - eye[self.label]

    def margins(self) -> Array:
        """(K - 1,): proven lower bounds of z_label - z_k at the sample."""
        lower, upper = enclose(self.network, self.x[None])
        return np.nextafter(lower[0, self.label] - upper[0, self.rivals], -inf)

    def farthest(self) -> float:
        """An upper bound of the distance of any input of the box from x; inf where the box is unbounded."""
        if self.box is None:
            return inf
        far = np.maximum(np.abs(self.box.upper - self.x), np.abs(self.x - self.box.lower))
        if not np.isfinite(far).all():
            return inf
        size = float(far.max(initial=0.0) if self.norm == inf else far.sum() if self.norm == 1 else sqrt(float(far @ far)))
        return size * (1.0 + 1e-9)


class Certificate(ABC):
    """A way to prove that nothing within a radius is misclassified. `title`: its name in tables; `meaning`: what it does.

    patience: by how many times it may exceed a sample's share of the time, if need be: it is quick, and would be missed.
    """

    name: ClassVar[str]
    title: ClassVar[str]
    meaning: ClassVar[str]
    patience: ClassVar[float] = 1.0

    @final
    def radius(self, question: Question) -> tuple[float, bool]:
        """(radius, complete): no input of the box nearer than the radius is misclassified; inf: none at all.

        complete: False where the deadline ended the work; the radius holds all the same.
        """
        if not (question.margins() > 0).all():
            return 0.0, True
        return self.largest(question)

    @abstractmethod
    def largest(self, question: Question) -> tuple[float, bool]:
        """`radius` for a sample that is classified correctly beyond doubt."""

    @abstractmethod
    def holds(self, question: Question, radius: float) -> bool:
        """Whether it proves that nothing of the box within the radius, which is included, is misclassified."""


class Tested(Certificate):
    """A certificate that is tried at one radius after the other: the largest is found by bisection of its logarithm.

    A radius at which it holds is proved whatever lies below, so nothing depends on the certificate being monotone.
    """

    def largest(self, question: Question) -> tuple[float, bool]:
        low, high = question.known, min(question.reach, question.farthest())
        if high < inf and question.reach == inf and not question.late and self.holds(question, high):
            return inf, True  # the ball covers the box
        if high == inf:
            low, high = self._doubled(question, max(low, 1e-3))
            if high == inf:
                return low, not question.late
        smallest = max(low, high * SMALLEST_SHARE)
        if low < smallest:
            if question.late:
                return low, False
            if not self.holds(question, smallest):
                return low, True
            low = smallest
        while low * (1.0 + question.tolerance) < high:
            if question.late:
                return low, False
            middle = sqrt(low * high)
            if self.holds(question, middle):
                low = middle
            else:
                high = middle
        return low, True

    def _doubled(self, question: Question, first: float) -> tuple[float, float]:
        """(largest radius that held, smallest that did not) of first, 2 first, ...; (., inf) where all of them held."""
        low, radius = question.known, first
        for _ in range(DOUBLINGS):
            if question.late or not self.holds(question, radius):
                return low, radius
            low, radius = radius, 2.0 * radius
        return low, inf


def propagation(network: Network, ball: Ball) -> Propagation:
    """One piece: the ball."""
    lower, upper = ball.bounding_box()
    # The compiled walk takes boxes.
    region = Box(lower, upper) if ball.norm == inf else ball
    return Propagation(network, region, lower[None], upper[None])


def quotient(margin: float, slope: float) -> float:
    """margin / slope, rounded down; inf for slope 0."""
    if slope == 0 or not isfinite(margin):
        return inf if margin > 0 else 0.0
    return max(nextafter(margin / slope * (1.0 - 1e-15), 0.0), 0.0)

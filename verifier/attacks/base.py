"""What every attack shares: the problem it gets, the exact judgement of what it returns, and the report."""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from math import inf
from time import monotonic
from typing import ClassVar, final

import numpy as np

from problems.network import Network
from problems.regions.ball import Ball
from problems.regions.base import Region
from problems.regions.box import Box
from problems.rounding import round_down
from verifier.attacks.witness import distance_up, exact_margin, proven_margins

Array = np.ndarray


@dataclass(frozen=True, eq=False)
class Problem:
    """Samples x (N, n) in the region, labels (N,), and what may be done to them: at most `epsilon` in `norm`, staying in the region.

    `deadline` is an instant of time.monotonic() or None; `numbers` (N,) are the samples' numbers in the report.
    """

    network: Network
    x: Array
    labels: Array
    numbers: Array
    norm: float
    epsilon: float
    region: Region
    steps: int
    restarts: int
    seed: int
    device: str
    deadline: float | None

    def late(self) -> bool:
        """Whether the deadline has passed."""
        return self.deadline is not None and monotonic() >= self.deadline


@dataclass(frozen=True)
class AttackRow:
    """One sample after the attack.

    success: the point reached is misclassified (margin >= 0, a tie is an error), which is proved; distance: how far it lies from
    the sample, rounded up; margin: a lower bound on its margin max over k != label of z_k - z_label, tight to rounding.
    """

    sample: int
    label: int
    success: bool
    distance: float
    margin: float


@dataclass(frozen=True, eq=False)
class AttackReport:
    """rows, one per sample, and points (N, n), the float64 inputs they speak about, each inside the threat model.

    accuracy: share of samples without success, an upper bound on the accuracy under attack; budget_used: mean over all samples of
    the distance of the successful ones, the others staying where they are; threat_model: what was allowed, in words.
    """

    method: str
    rows: tuple[AttackRow, ...]
    points: Array
    accuracy: float
    budget_used: float
    threat_model: str


class Attack(ABC):
    """An attack that moves every sample by itself. Subclasses search in `run`; `attack` believes nothing of it."""

    name: ClassVar[str]

    @final
    def attack(self, problem: Problem) -> AttackReport:
        """Run, move the points found into the threat model, and judge them by proof: points (N, n) lie exactly inside it,
        distances are rounded up and margins down."""
        found = np.array(self.run(problem), dtype=np.float64)
        if found.shape != problem.x.shape:
            raise AssertionError(f"{self.name} returned points of shape {found.shape} for samples of shape {problem.x.shape}")
        points = np.stack([confined(problem, row, point) for row, point in enumerate(found)])
        margins, upper = proven_margins(problem.network, points, problem.labels)
        rows = []
        for row, point in enumerate(points):
            if margins[row] < 0 <= upper[row]:  # the intervals do not tell
                margins[row] = round_down(exact_margin(problem.network, point, int(problem.labels[row])))
            rows.append(
                AttackRow(
                    sample=int(problem.numbers[row]),
                    label=int(problem.labels[row]),
                    success=bool(margins[row] >= 0),
                    distance=distance_up(point, problem.x[row], problem.norm),
                    margin=float(margins[row]),
                )
            )
        successes = [row.distance for row in rows if row.success]
        accuracy, budget = 1 - len(successes) / len(rows), sum(successes) / len(rows)
        return AttackReport(self.name, tuple(rows), points, accuracy, budget, self.threat_model(problem))

    @abstractmethod
    def run(self, problem: Problem) -> Array:
        """Points (N, n), one per sample, hopefully misclassified and about inside the threat model."""

    def threat_model(self, problem: Problem) -> str:
        """What was allowed, in words."""
        name = "linf" if problem.norm == inf else f"l{problem.norm:.0f}"
        inside = described(problem.region)
        return f"point-wise: each of the {len(problem.x)} samples moves by at most {problem.epsilon!r} in {name}, inside {inside}"


def confined(problem: Problem, row: int, point: Array) -> Array:
    """A float point near `point` (n,) that lies exactly in the region and within epsilon of sample `row`."""
    center = problem.x[row]
    if not np.isfinite(point).all() or (point == center).all():
        return center
    ball = Ball(center, problem.epsilon, problem.norm, problem.region if isinstance(problem.region, Box) else None)
    point = ball.clip(point)
    if not isinstance(problem.region, Box):
        point = ball.clip(problem.region.clip(point))
    # Both sets are convex and hold the centre: on the way there both are met, and after 64 halvings the point is the centre.
    for share in (0.0, *(2.0**-power for power in range(48, -1, -4))):
        inner = point + share * (center - point)
        if ball.contains(inner) and problem.region.contains(inner):
            return inner
    return center


def described(region: Region) -> str:
    """The region in a few words."""
    if isinstance(region, Box):
        lower, upper = region.lower, region.upper
        if np.isneginf(lower).all() and np.isposinf(upper).all():
            return f"R^{region.dimension}"
        if region.exact is None and (lower == lower[0]).all() and (upper == upper[0]).all():
            return f"[{lower[0]:g}, {upper[0]:g}]^{region.dimension}"
        return f"a box in R^{region.dimension}"
    if isinstance(region, Ball):
        return f"a ball of radius {region.radius:g} in the {region.norm:g} norm"
    return f"a region of R^{region.dimension}"

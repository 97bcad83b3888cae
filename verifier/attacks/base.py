"""What every attack shares: the problem it gets, the exact judgement of what it returns, and the report."""

from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from fractions import Fraction
from math import inf
from time import monotonic
from typing import TYPE_CHECKING, ClassVar, final

import numpy as np

from problems.errors import InputError
from problems.network import Network
from problems.regions.ball import Ball
from problems.regions.base import Region
from problems.regions.box import Box
from problems.rounding import round_up
from verifier.attacks.classifier import Classifier, ProvedClassifier
from verifier.attacks.witness import distance_up
from verifier.bracket import Status

if TYPE_CHECKING:
    from verifier.attacks.mixture import Mixture

Array = np.ndarray


@dataclass(frozen=True)
class Choices:
    """What the user chose beyond steps and restarts; None: not chosen, the attack's own default holds.

    loss: "ce", "dlr" or "margin"; order p of the Wasserstein distance: 1, 2 or inf; copies k >= 1 and points M >= 1 of `wda`;
    allocation of `wda++`: "greedy" or "random".
    """

    loss: str | None = None
    order: float | None = None
    copies: int | None = None
    points: int | None = None
    allocation: str | None = None


@dataclass(frozen=True, eq=False)
class Problem:
    """Samples x (N, n) in the region, labels (N,), and what may be done to them: at most `epsilon` in `norm`, staying in the region.

    A point-wise attack moves each sample by `epsilon` at most, a distributional one the data by `epsilon` in Wasserstein distance.
    `deadline` is an instant of time.monotonic() or None; `numbers` (N,) are the samples' numbers in the report.
    """

    model: Classifier
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
    choices: Choices = Choices()
    stops: list[Status] = field(default_factory=list)  # why the search ended early

    @property
    def network(self) -> Network:
        """The Network under attack. Raises InputError for a torch module that is none."""
        if not isinstance(self.model, ProvedClassifier):
            raise InputError(self.model.name, "cannot be read as a network of affine and ReLU layers.", "Choose another attack.")
        return self.model.network

    @property
    def status(self) -> Status:
        """How the search ended."""
        return self.stops[0] if self.stops else Status.TIMED_OUT if self.late() else Status.DECIDED

    @contextmanager
    def interruptible(self) -> Iterator[None]:
        """Ends the search inside at Ctrl-C; what was found by then is judged and reported."""
        try:
            yield
        except KeyboardInterrupt:
            self.stops.append(Status.INTERRUPTED)

    def late(self) -> bool:
        """Whether the search has to end: the deadline has passed, or it was interrupted."""
        return bool(self.stops) or (self.deadline is not None and monotonic() >= self.deadline)


@dataclass(frozen=True)
class AttackRow:
    """One sample after the attack.

    success: the point reached is misclassified (margin >= 0, a tie is an error), which is proved; distance: how far it lies from
    the sample, rounded up; margin: a lower bound on its margin max over k != label of z_k - z_label, tight to rounding. For a torch module
    that is no Network the margin is the one the module computes.
    """

    sample: int
    label: int
    success: bool
    distance: float
    margin: float


@dataclass(frozen=True, eq=False)
class AttackReport:
    """rows, one per sample, and points (N, n), the float64 inputs they speak about, each inside the threat model.

    accuracy: an upper bound on the accuracy under attack: the share of samples without success, of a distributional attack the share of
    mass that is classified rightly. budget_used: point-wise the mean over all samples of the distance of the successful ones, the others
    staying where they are; of a distributional attack a proven upper bound of the Wasserstein distance it moved the data.
    threat_model: what was allowed, in words; judged_by: what successes stand on; loss: what was ascended; status: how the search ended.
    mixture: the attacking distribution, None for point-wise attacks.
    """

    method: str
    rows: tuple[AttackRow, ...]
    points: Array
    accuracy: float
    budget_used: float
    threat_model: str
    judged_by: str = ProvedClassifier.judged_by
    loss: str = "margin"
    status: Status = Status.DECIDED
    mixture: "Mixture | None" = None


class Attack(ABC):
    """A way to attack. `takes` names the choices it has; `attack` searches, then judges what was found."""

    name: ClassVar[str]
    takes: ClassVar[frozenset[str]] = frozenset()
    losses: ClassVar[tuple[str, ...]] = ()

    @abstractmethod
    def attack(self, problem: Problem) -> AttackReport:
        """Search and judge."""

    def loss(self, problem: Problem) -> str:
        """What is ascended, in words."""
        return problem.choices.loss or "margin"


class PointwiseAttack(Attack):
    """An attack that moves every sample by itself. Subclasses search in `run`; `attack` believes nothing of it."""

    @final
    def attack(self, problem: Problem) -> AttackReport:
        """Run, move the points found into the threat model, and judge them: points (N, n) lie exactly inside it, distances are rounded up
        and margins down."""
        found = np.array(self.run(problem), dtype=np.float64)
        if found.shape != problem.x.shape:
            raise AssertionError(f"{self.name} returned points of shape {found.shape} for samples of shape {problem.x.shape}")
        points = np.stack([confined(problem, row, point) for row, point in enumerate(found)])
        margins = problem.model.margins(points, problem.labels)
        rows = tuple(
            AttackRow(int(number), int(label), bool(margin >= 0), distance_up(point, x, problem.norm), float(margin))
            for number, label, margin, point, x in zip(problem.numbers, problem.labels, margins, points, problem.x, strict=True)
        )
        successes = [Fraction(row.distance) for row in rows if row.success]
        accuracy = round_up(1 - Fraction(len(successes), len(rows)))
        budget = round_up(sum(successes, Fraction(0)) / len(rows))
        return AttackReport(
            self.name, rows, points, accuracy, budget, self.threat_model(problem),
            problem.model.judged_by, self.loss(problem), problem.status,
        )  # fmt: skip

    @abstractmethod
    def run(self, problem: Problem) -> Array:
        """Points (N, n), one per sample, hopefully misclassified and about inside the threat model."""

    def threat_model(self, problem: Problem) -> str:
        """What was allowed, in words."""
        name = "linf" if problem.norm == inf else f"l{problem.norm:.0f}"
        inside = described(problem.region)
        return f"point-wise: each of the {len(problem.x)} samples moves by at most {problem.epsilon!r} in {name}, inside {inside}"


def confined(problem: Problem, row: int, point: Array, radius: float | None = None) -> Array:
    """A float point near `point` (n,) that lies exactly in the region and within `radius` (None: epsilon) of sample `row`."""
    center = problem.x[row]
    if not np.isfinite(point).all() or (point == center).all():
        return center
    radius = problem.epsilon if radius is None else radius
    ball = Ball(center, radius, problem.norm, problem.region if isinstance(problem.region, Box) else None)
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

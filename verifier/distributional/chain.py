"""The lines beside V (T6): E + kappa* eps <= V(eps) <= E + lambda_0 eps <= E + L eps, for order 1; for orders above only the upper half.

L is the Lipschitz constant of the loss for the labels present, from `verifier.steepness` (for cross-entropy that of all pairs z_k - z_y, of
which it is a bound); kappa* the steepest slope at infinity, from
`verifier.recession`; lambda_0 the steepest rise from a sample, see `verifier.distributional.rise`.
"""

from dataclasses import dataclass
from math import inf, nextafter

import numpy as np

from problems.data import Dataset
from problems.maps import Array
from verifier.bounds.rounding import down, up
from verifier.bracket import Bracket, Status
from verifier.distributional.inner import Setting
from verifier.distributional.losses import Loss, Margin
from verifier.recession.infinity import slope_at_infinity
from verifier.recession.region import directions
from verifier.recession.tightness import pairs_of
from verifier.search.budget import Budget
from verifier.steepness.baselines import norm_product
from verifier.steepness.directions import Directions
from verifier.steepness.lipschitz import lipschitz
from verifier.steepness.objective import objective_of

MOVING = "Where labels may move, E + L eps and the lines of kappa* and lambda_0 say nothing: a moved label is a jump of the loss."


@dataclass(frozen=True, eq=False)
class Chain:
    """Brackets (lower, upper) of L and, where they were to be had, of kappa* and lambda_0; the product of the layers' norms.

    reasons: why something is missing or wide. moving_labels: labels may move, and no line holds.
    """

    norm_product: float
    lipschitz: tuple[float, float]
    kappa: tuple[float, float] | None = None
    lambda_0: tuple[float, float] | None = None
    reasons: tuple[str, ...] = ()
    moving_labels: bool = False

    def lines(
        self, clean: tuple[float, float], epsilon: float, order: float
    ) -> tuple[float | None, tuple[float | None, float | None] | None]:
        """(E + L eps, (E + kappa* eps, E + lambda_0 eps)), rounded outward; `clean` encloses E. kappa* bounds nothing for order > 1."""
        if self.moving_labels:
            return None, None

        def line(slope: float) -> float:
            return clean[1] if epsilon == 0 else nextafter(clean[1] + nextafter(slope * epsilon, inf), inf)

        below = above = None
        if self.kappa is not None and order == 1:
            below = nextafter(clean[0] + nextafter(self.kappa[0] * epsilon, -inf), -inf) if self.kappa[0] > 0 else clean[0]
        if self.lambda_0 is not None and self.lambda_0[1] < inf:
            above = line(self.lambda_0[1])
        return line(self.lipschitz[1]), None if below is None and above is None else (below, above)


class Lines:
    """The chain of a setting and its data, as far as it is known."""

    def __init__(self, setting: Setting, data: Dataset, tolerance: float, *, seed: int, moving_labels: bool) -> None:
        self.setting, self.data, self.tolerance, self.seed, self.moving_labels = setting, data, tolerance, seed, moving_labels
        network = setting.network
        self.labels = list(range(network.output_size)) if moving_labels else sorted({int(y) for y in data.y})
        where = Directions.of(setting.region)
        self.slopes = np.full(network.output_size, inf)
        for y in self.labels:
            self.slopes[y] = norm_product(network, objective_of(network, f"margin:{y}", setting.norm, where))
        self.product = float(self.slopes[self.labels].max())
        self.steepest = 0.0, self.product
        self.kappa: Bracket | None = None
        self.rise: tuple[float, float] | None = None
        self.reasons: list[str] = [MOVING] if moving_labels else []

    @property
    def bounded(self) -> bool:
        """Whether the region is."""
        return all(bool(np.isfinite(side).all()) for side in self.setting.region.bounding_box())

    def ceilings(self) -> Array:
        """(K,): interval bounds of each label's loss on the region; inf where it is unbounded."""
        network = self.setting.network
        lower, upper = self.setting.region.bounding_box()
        if not self.bounded:
            return np.full(network.output_size, inf)
        low, high = _intervals(network, lower, upper)
        return np.array([self.setting.loss.enclosed(low, high, y)[1][0] for y in range(network.output_size)])

    def infinity(self, budget: Budget) -> Bracket:
        """kappa*, over the labels that a sample may have."""
        if self.kappa is None:
            setting = self.setting
            where = directions(setting.region)
            origin = np.zeros(setting.network.input_size)
            if where.bounded:
                self.kappa = Bracket("max", 0.0, 0.0, Status.CLOSED, origin)
            else:
                pairs = pairs_of(setting.network, self.labels)
                self.kappa = slope_at_infinity(
                    setting.network, pairs, setting.norm, where, budget=budget, tolerance=min(self.tolerance, 1e-6), seed=self.seed
                )
                if self.kappa.status is Status.INTERRUPTED:
                    raise KeyboardInterrupt
        return self.kappa

    def lipschitz(self, budget: Budget) -> tuple[float, float]:
        """The bracket of L over the labels present, each question in an equal share of what is left of the budget."""
        asked = steepest_of(self.setting.loss, self.setting.network.output_size, self.labels)
        left = sum(map(len, asked.values()))
        lower, upper = 0.0, 0.0
        for y, questions in asked.items():
            most = 0.0
            for of in questions:
                seconds = None if budget.timeout is None else max(budget.remaining, 0.0) / left
                left -= 1
                found = lipschitz(
                    self.setting.network, self.setting.region, input_norm=self.setting.norm, of=of, timeout=seconds, seed=self.seed
                )
                if found.status is Status.INTERRUPTED:
                    raise KeyboardInterrupt
                lower, most = max(lower, found.lower), max(most, found.upper)
            self.slopes[y] = min(self.slopes[y], most)
            upper = max(upper, float(self.slopes[y]))
        self.steepest = min(lower, upper), upper
        return self.steepest

    def known(self) -> Chain:
        """What is known so far."""
        kappa = None if self.kappa is None else (self.kappa.lower, self.kappa.upper)
        reasons = list(self.reasons)
        if not self.moving_labels:
            if self.rise is None:
                reasons.append("lambda_0 was not to be had in its share of the time.")
            if self.steepest[1] > self.steepest[0] * (1 + 1e-3):
                reasons.append(f"L is known to lie in [{self.steepest[0]:.6g}, {self.steepest[1]:.6g}] only; its upper end is used.")
        return Chain(self.product, self.steepest, kappa, self.rise, tuple(reasons), self.moving_labels)


def steepest_of(loss: Loss, classes: int, labels: list[int]) -> dict[int, list[str]]:
    """For each label, what `lipschitz` is asked so that the largest answer bounds the Lipschitz constant of the label's loss.

    A margin is as steep as its top competitors. The gradient of cross-entropy is a mean over all competitors, whoever is on top.
    """
    if isinstance(loss, Margin):
        return {y: [f"margin:{y}"] for y in labels}
    return {y: [f"pair:{k},{y}" for k in range(classes) if k != y] for y in labels}


def _intervals(network: object, lower: Array, upper: Array) -> tuple[Array, Array]:
    """Interval bounds (1, K) of the logits on a box."""
    from problems.network import Affine, Network, Relu
    from verifier.bounds.interval import affine_interval

    assert isinstance(network, Network)
    lowers, uppers = [lower[None]], [upper[None]]
    for node in network.nodes[1:]:
        if isinstance(node, Affine):
            low, high, _ = affine_interval(node, [lowers[p] for p in node.parents], [uppers[p] for p in node.parents])
        else:
            assert isinstance(node, Relu)
            low, high = np.maximum(lowers[node.parent], 0.0), np.maximum(uppers[node.parent], 0.0)
        lowers.append(down(low))
        uppers.append(up(high))
    return lowers[-1], uppers[-1]

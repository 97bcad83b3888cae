"""Lipschitz margins: a margin m that changes by at most L per unit of distance keeps its sign within m / L (Tsuzuku et al. 2018)."""

import time
from functools import lru_cache
from math import inf, isfinite, sqrt

from problems.network import Network
from verifier.certified.base import Certificate, Question, quotient
from verifier.steepness.baselines import norm_product
from verifier.steepness.directions import Directions
from verifier.steepness.lipschitz import lipschitz
from verifier.steepness.objective import objective_of

# Balls that are tried after the first.
STEPS = 2
# Relative gap at which the search for a local constant may stop. Its upper end is what counts: a radius may lose as much.
GAP = 0.05


class NormProduct(Certificate):
    """The constant of each pair of classes is the product of the layers' norms, for all of R^n."""

    name = "norm-product"
    title = "Lipschitz, norm product"
    meaning = "margin divided by the product of the layers' norms (Tsuzuku et al. 2018, per pair of classes)"

    def largest(self, question: Question) -> tuple[float, bool]:
        slopes = _products(question.network, question.norm, question.label)
        return min(quotient(margin, slope) for margin, slope in zip(question.margins().tolist(), slopes, strict=True)), True

    def holds(self, question: Question, radius: float) -> bool:
        return radius < self.largest(question)[0]


@lru_cache(maxsize=512)
def _products(network: Network, norm: float, label: int) -> tuple[float, ...]:
    """The norm products of z_k - z_label, for every rival k."""
    where = Directions.everywhere(network.input_size)
    rivals = [k for k in range(network.output_size) if k != label]
    return tuple(norm_product(network, objective_of(network, f"pair:{k},{label}", norm, where)) for k in rivals)


class LocalLipschitz(Certificate):
    """The constant of the margin on the ball itself, cut by the box, exact up to GAP, by the search of `lipschitz`.

    Within min(R, m / L(R)), L(R) being the constant on the ball of radius R, nothing is misclassified: tried for a few R.
    """

    name = "local-lipschitz"
    title = "Lipschitz, exact local"
    meaning = "margin divided by its Lipschitz constant on the ball around the sample, which is exact to 5 %"

    def largest(self, question: Question) -> tuple[float, bool]:
        margin = float(question.margins().min())
        high = min(question.reach, question.farthest())
        slope = _constant(question, high)
        best = min(high, quotient(margin, slope))
        if best == high:  # the ball holds the whole box
            return inf if question.reach == inf else best, True
        low = best
        for _ in range(STEPS):
            if question.late:
                return best, False
            middle = sqrt(low * high)
            held = quotient(margin, _constant(question, middle))
            best = max(best, min(middle, held))
            if held >= middle:
                low = middle
            else:
                low, high = max(low, held), middle
            if low * (1.0 + question.tolerance) >= high:
                break
        return best, True

    def holds(self, question: Question, radius: float) -> bool:
        return radius < quotient(float(question.margins().min()), _constant(question, radius))


def _constant(question: Question, radius: float) -> float:
    """An upper bound of the Lipschitz constant of the margin on the ball; of R^n for an infinite radius."""
    region = question.ball(radius) if radius < inf else question.box
    left = max(question.deadline - time.monotonic(), 0.0) if isfinite(question.deadline) else None
    bracket = lipschitz(
        question.network, region, input_norm=question.norm, of=f"margin:{question.label}", tolerance=GAP, timeout=left,
        solver=question.solver,
    )  # fmt: skip
    return bracket.upper

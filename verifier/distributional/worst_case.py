"""What `dro` answers with: one record per radius of the ball."""

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from verifier.bracket import Status

if TYPE_CHECKING:
    from verifier.distributional.chain import Chain
    from verifier.distributional.distribution import WorstDistribution


@dataclass(frozen=True, eq=False)
class WorstCase:
    """The worst expected loss within epsilon: attack (found before any exact search) <= lower (witnessed) <= value <= upper (proved).

    lipschitz_bound: E + L eps; slope_bounds: (E + kappa* eps, E + lambda_0 eps), which enclose the value (T6); None where they do not hold
    or were not to be had in time, for which `reasons` says why. distribution: the witness of the lower end. chain: L, kappa* and lambda_0.
    clean: (lower, upper) of the expected loss of the data themselves, E.
    """

    epsilon: float
    attack: float
    lower: float
    upper: float
    seconds: float
    status: Status
    lipschitz_bound: float | None = None
    slope_bounds: tuple[float | None, float | None] | None = None
    distribution: "WorstDistribution | None" = None
    chain: "Chain | None" = None
    clean: tuple[float, float] | None = None
    reasons: tuple[str, ...] = field(default=())

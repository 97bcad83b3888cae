"""The attacking distribution of a distributional attack, for those who go on from it."""

from typing import Any

from problems.errors import InputError
from verifier.attacks.attack import METHODS, attack
from verifier.attacks.mixture import Atoms, Mixture
from verifier.attacks.shift import DistributionalAttack

__all__ = ["Atoms", "Mixture", "mixture"]


def mixture(
    network: Any, data: Any, *, method: str = "wda++", norm: float | str, epsilon: float, order: float | str = 1, **options: Any
) -> Mixture:
    """The distribution within p-Wasserstein distance `epsilon` of the data that `attack` finds, p = `order`.

    Takes what `verifier.attack` takes. Its atoms lie exactly in the region and its cost is proved to be within epsilon^p, so that its
    expected loss is a lower bound of the worst expected loss. `tried` holds every atom that the attack looked at, weighed or not: those
    are worth trying as starting points. Raises InputError.
    """
    if not issubclass(METHODS.get(method, DistributionalAttack), DistributionalAttack):
        raise InputError("method", f"{method} is point-wise: it has no mixture.", "Choose wda, wda++ or w-pgd.")
    found = attack(network, data, method=method, norm=norm, epsilon=epsilon, order=order, **options).mixture
    assert found is not None
    return found

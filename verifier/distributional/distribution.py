"""The worst distribution found (W3): atoms, their mass, what they cost and what they lose; exported as .npz and read back."""

from dataclasses import dataclass
from fractions import Fraction
from math import inf
from pathlib import Path
from typing import Any

import numpy as np

from problems.data import Dataset
from problems.errors import DataError
from problems.maps import Array
from verifier.distributional.outer import Front, Mixture

_ARRAYS = ("points", "weights", "labels", "samples", "losses", "costs")


@dataclass(frozen=True, eq=False)
class WorstDistribution:
    """A distribution within epsilon of the data, in Wasserstein distance of this order and ground norm: the witness of a lower end.

    points (A, n) float64 in the region; weights (A,) that sum to 1; labels (A,); samples (A,): the number of the sample in the data that
    each atom's mass comes from; losses (A,): proven lower bounds of the loss; costs (A,): proven upper bounds of the distance moved, to the
    power `order` (the distance itself for order inf), labels' moves included. At most one sample is split: A <= N + 1.
    expected: the expected loss, rounded down; cost: sum of weights times costs (for order inf the largest cost), rounded up, at most
    epsilon^order: both decided in exact arithmetic, with shares of 1/N as exact numbers.
    """

    points: Array
    weights: Array
    labels: Array
    samples: Array
    losses: Array
    costs: Array
    epsilon: float
    order: float
    norm: float
    loss: str
    expected: float
    cost: float

    def __len__(self) -> int:
        return len(self.points)

    def save(self, file: str | Path) -> None:
        """Write it as .npz; see `save`."""
        save(file, [self])


def of_mixture(
    mixture: Mixture, fronts: list[Front], data: Dataset, *, epsilon: float, order: float, norm: float, loss: str
) -> WorstDistribution:
    """The distribution that a mixture of witnesses stands for."""
    from problems.rounding import round_up

    pairs = list(zip(mixture.samples.tolist(), mixture.picks.tolist(), strict=True))

    def column(name: str) -> Array:
        return np.array([getattr(fronts[i], name)[k] for i, k in pairs])

    costs = column("costs")
    if order == inf:
        cost = float(costs.max(initial=0.0))
        assert cost <= epsilon
    else:
        spent = sum((Fraction(s) * Fraction(c) for s, c in zip(mixture.shares.tolist(), costs.tolist(), strict=True)), Fraction(0)) / len(
            fronts
        )
        assert spent <= Fraction(epsilon) ** int(order), "a mixture costs more than its budget, please report this network"
        cost = round_up(spent)
    return WorstDistribution(
        column("points"), mixture.shares / len(fronts), column("labels"), data.numbers[mixture.samples], column("losses"), costs,
        epsilon, order, norm, loss, mixture.value, cost,
    )  # fmt: skip


def save(file: str | Path, distributions: list[WorstDistribution]) -> None:
    """Write distributions to one .npz file: the arrays of `WorstDistribution` one behind the other, `epsilon` (A,) saying whose an atom is,
    and the numbers order and norm, the text loss, and per distribution epsilons, expected and cost. Raises DataError."""
    if not distributions:
        raise DataError(str(file), "there is no distribution to write.")
    arrays: dict[str, Any] = {name: np.concatenate([getattr(d, name) for d in distributions]) for name in _ARRAYS}
    first = distributions[0]
    try:
        with Path(file).open("wb") as stream:
            np.savez_compressed(
                stream, **arrays, epsilon=np.concatenate([np.full(len(d), d.epsilon) for d in distributions]),
                order=np.array(first.order), norm=np.array(first.norm), loss=np.array(first.loss),
                epsilons=np.array([d.epsilon for d in distributions]), expected=np.array([d.expected for d in distributions]),
                cost=np.array([d.cost for d in distributions]),
            )  # fmt: skip
    except OSError as error:
        raise DataError(str(file), f"cannot be written: {error.strerror}.", "Give another --export.") from error


def read(file: str | Path) -> list[WorstDistribution]:
    """The distributions in a file that `save` wrote. Raises DataError."""
    try:
        with np.load(file, allow_pickle=False) as archive:
            held = {name: archive[name] for name in archive}
        order, norm, loss = float(held["order"]), float(held["norm"]), str(held["loss"])
        result = []
        for epsilon, expected, cost in zip(held["epsilons"], held["expected"], held["cost"], strict=True):
            mine = held["epsilon"] == epsilon
            arrays = {name: held[name][mine] for name in _ARRAYS}
            result.append(
                WorstDistribution(
                    **arrays, epsilon=float(epsilon), order=order, norm=norm, loss=loss, expected=float(expected), cost=float(cost)
                )
            )
    except (OSError, EOFError, ValueError, KeyError) as error:
        raise DataError(str(file), "is no file of distributions.", "Write one with dro --export FILE.") from error
    return result

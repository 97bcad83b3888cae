"""Who gets the transport budget: flips are bought until it is spent, the last one in part (THEORY W4).

A flip at distance d moves the sample's mass at the price d^p per unit of mass. Everything in exact rational arithmetic.
"""

from collections.abc import Iterable
from fractions import Fraction
from math import isfinite

import numpy as np

Array = np.ndarray

# Shares of a sample's mass are whole multiples of 2^-53: those of one sample then add up without rounding, and so does what is left of it.
UNITS = 1 << 53


def bought(distances: Array, sequence: Iterable[int], epsilon: float, order: float) -> Array:
    """Shares (N,) of the samples' masses that are flipped, buying in this sequence; for order inf all within epsilon.

    distances (N,) from the samples, inf where there is no flip.
    """
    if not isfinite(order):
        return (distances <= epsilon).astype(np.float64)
    shares = np.zeros(len(distances))
    left = Fraction(epsilon) ** int(order) * len(distances)
    for row in sequence:
        if not isfinite(distances[row]):
            continue
        price = Fraction(float(distances[row])) ** int(order)
        if price > left:
            shares[row] = int(left / price * UNITS) / UNITS
            break
        shares[row] = 1.0
        left -= price
    return shares


def greedy(distances: Array) -> Array:
    """The cheapest first, which no other sequence beats."""
    return np.argsort(distances, kind="stable")


def random(distances: Array, seed: int) -> Array:
    """Any sample next: what the budget does without a plan. Samples that are wrong already cost nothing, and come first."""
    sequence = np.random.default_rng(seed).permutation(len(distances))
    return sequence[np.argsort(distances[sequence] > 0, kind="stable")]

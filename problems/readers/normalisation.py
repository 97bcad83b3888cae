"""Batch normalisation at inference: the one place where reading a network may have to round."""

from decimal import Context, Decimal
from fractions import Fraction

import numpy as np

from problems.errors import NetworkError
from problems.maps import Array
from problems.readers.builder import Builder, Value

_CONTEXT = Context(prec=100)


def normalise(
    builder: Builder,
    value: Value,
    *,
    scale: Array,
    shift: Array,
    mean: Array,
    variance: Array,
    epsilon: float,
    name: str,
    place: str,
) -> Value:
    """factor x + offset per channel (axis 1 of value), factor = scale / sqrt(variance + epsilon), offset = shift - mean factor.

    scale, shift, mean, variance: (channels,). Both numbers contain a square root: where that is irrational, each is rounded once
    to float64 and the node is listed in `builder.roundings`. The network with these rounded numbers is the one that is verified.
    Raises NetworkError where variance + epsilon is not positive, or a factor overflows.
    """
    factors, offsets, rounded = np.empty(len(scale)), np.empty(len(scale)), 0
    for i in range(len(scale)):
        under_root = Fraction(float(variance[i])) + Fraction(float(epsilon))
        if under_root <= 0:
            raise NetworkError(place, f"variance + epsilon of channel {i} is not positive.", "Repair the network.")
        factors[i], offsets[i], exact = _channel(float(scale[i]), float(shift[i]), float(mean[i]), under_root)
        rounded += not exact
    if not (np.isfinite(factors).all() and np.isfinite(offsets).all()):
        raise NetworkError(place, "its factors overflow float64.", "Repair the network.")
    if rounded:
        builder.roundings.append(
            f"{name}: scale / sqrt(variance + epsilon) and its offset rounded once to float64 in {rounded} of {len(scale)} channels"
        )
    wide = (-1, *(1,) * (len(value.shape) - 2))
    magnitude = np.abs(shift) + np.abs(mean * factors)
    scaled = builder.scale(value, factors.reshape(wide))
    return builder.shift(scaled, offsets.reshape(wide), magnitude=magnitude.reshape(wide))


def _channel(scale: float, shift: float, mean: float, under_root: Fraction) -> tuple[float, float, bool]:
    """(factor, offset, whether both are exact), computed with 100 digits and then rounded."""
    ratio = _CONTEXT.divide(Decimal(under_root.numerator), Decimal(under_root.denominator))
    factor = _CONTEXT.divide(Decimal(scale), _CONTEXT.sqrt(ratio))
    offset = _CONTEXT.subtract(Decimal(shift), _CONTEXT.multiply(Decimal(mean), factor))
    rounded_factor, rounded_offset = float(factor), float(offset)
    # Exactness is decided on the squares, in rational arithmetic.
    exact = (
        Fraction(rounded_factor) ** 2 * under_root == Fraction(scale) ** 2
        and Fraction(rounded_offset) == Fraction(shift) - Fraction(mean) * Fraction(rounded_factor)
        if np.isfinite(rounded_factor) and np.isfinite(rounded_offset)
        else False
    )
    return rounded_factor, rounded_offset, exact

"""What backward propagation gives: linear upper bounds, and the parameters they were optimised with."""

from collections.abc import Callable
from dataclasses import dataclass, field

from problems.maps import Array
from verifier.bounds.propagation import Propagation


@dataclass(eq=False)
class Linear:
    """functional <= coefficients . x + constant + error on the piece: coefficients (B, S, n), constant and error (B, S).

    `relu[i]` keeps, for ReLU node i, the coefficients (B, S, m) of its output, from which gradients and scores are read.
    """

    coefficients: Array
    constant: Array
    error: Array
    relu: dict[int, Array] = field(default_factory=dict)


# Linear upper bounds -> (value (B, S) to be made small, point (B, S, n) at which its envelope gradient is read).
Concretise = Callable[[Propagation, Linear], tuple[Array, Array]]


@dataclass(eq=False)
class Optimised:
    """Best value (B, S) found, its point (B, S, n), its linear function, and the parameters that gave it.

    slopes and multipliers are (B, S, h) over all neurons.
    """

    value: Array
    point: Array
    linear: Linear
    slopes: Array
    multipliers: Array

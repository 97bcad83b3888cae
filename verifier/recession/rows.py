"""The linear parts of a network on activation cells: gradients of all pre-activations and logits, in batches, with their rounding errors.

On the cell of pattern D, a = A^D x + c^D and z = J_D x + b_D (THEORY section 1). The recession cone needs A^D and J_D only:
rec(C_D) = {u in rec(X) : (2D - 1) * A^D u >= 0}.
"""

from dataclasses import dataclass
from fractions import Fraction
from math import frexp

import numpy as np

from problems.exact import homogeneous
from problems.maps import Array
from problems.network import Affine, Input, Network
from verifier.bounds.interval import operations
from verifier.bounds.rounding import TINY, gamma

Exact = list[Fraction]


@dataclass(frozen=True, eq=False)
class LinearParts:
    """For B patterns (B, h) of +-1: rows (B, h, n) = A^D and jacobian (B, K, n) = J_D, each with a bound on its rounding errors.

    An entry with error 0 is exactly zero.
    """

    patterns: Array
    rows: Array
    row_errors: Array
    jacobian: Array
    jacobian_errors: Array

    def __len__(self) -> int:
        return len(self.patterns)

    def select(self, which: Array | slice) -> "LinearParts":
        """The cells `which`, an index array, a mask or a slice."""
        return LinearParts(*(getattr(self, name)[which] for name in LinearParts.__dataclass_fields__))

    def without_last(self) -> "LinearParts":
        """Without the last input."""
        return LinearParts(
            self.patterns, self.rows[..., :-1], self.row_errors[..., :-1], self.jacobian[..., :-1], self.jacobian_errors[..., :-1]
        )

    def gradients(self, pairs: Array) -> tuple[Array, Array]:
        """(g (B, P, n), error (B, P, n)): the gradients J_D^T (e_k - e_y) of the pairs (P, 2) of (y, k)."""
        label, other = pairs[:, 0], pairs[:, 1]
        g = self.jacobian[:, other] - self.jacobian[:, label]
        error = self.jacobian_errors[:, other] + self.jacobian_errors[:, label]
        return g, np.where(error > 0, error * (1 + 1e-12) + 2.0**-52 * np.abs(g), 0.0)


def linear_parts(network: Network, patterns: Array) -> LinearParts:
    """The linear parts of the patterns (B, h) of +-1, neurons in the order of `network.relus`: one forward pass of the n axes.

    The error of an entry is gamma_m times the same pass on absolute values (Higham, section 3.1), m roundings on the longest path. Where
    that pass gives zero, every product on the way has a zero factor, unless the weights are so small that products may underflow.
    """
    batch, n = len(patterns), network.input_size
    values: list[Array] = []
    sizes: list[Array] = []
    counts: list[int] = []
    rows, errors = [], []
    floor = TINY if _may_underflow(network) else 0.0

    def error(index: int) -> Array:
        size = sizes[index]
        return np.where(size > 0, 2 * gamma(counts[index]) * size + TINY, floor)

    start = 0
    for node in network.nodes:
        if isinstance(node, Input):
            values.append(np.eye(n)[None])
            sizes.append(values[0])
            counts.append(0)
        elif isinstance(node, Affine):
            values.append(_sum(node, values, absolute=False))
            sizes.append(_sum(node, sizes, absolute=True))
            counts.append(max(counts[p] for p in node.parents) + operations(node))
        else:
            passed = (patterns[:, start : start + node.size] > 0)[:, None, :]
            rows.append(np.broadcast_to(values[node.parent], (batch, n, node.size)))
            errors.append(np.broadcast_to(error(node.parent), (batch, n, node.size)))
            values.append(np.where(passed, values[node.parent], 0.0))
            sizes.append(np.where(passed, sizes[node.parent], 0.0))
            counts.append(counts[node.parent])
            start += node.size
    jacobian, last = np.broadcast_to(values[-1], (batch, n, network.output_size)), error(-1)
    empty = np.zeros((batch, n, 0))
    return LinearParts(
        patterns,
        np.concatenate([empty, *rows], axis=2).transpose(0, 2, 1),
        np.concatenate([empty, *errors], axis=2).transpose(0, 2, 1),
        jacobian.transpose(0, 2, 1),
        np.broadcast_to(last, jacobian.shape).transpose(0, 2, 1),
    )


def exact_parts(network: Network, pattern: Array) -> tuple[list[Exact], list[Exact]]:
    """(A^D as h rows, J_D as K rows) of one pattern (h,), as fractions."""
    columns = [homogeneous(network, pattern, axis) for axis in np.eye(network.input_size)]
    return [list(row) for row in zip(*(a for a, _ in columns), strict=True)], [
        list(row) for row in zip(*(j for _, j in columns), strict=True)
    ]


def _sum(node: Affine, parents: list[Array], *, absolute: bool) -> Array:
    maps = [linear.absolute() if absolute else linear for linear in node.maps]
    total = maps[0].forward(parents[node.parents[0]])
    for parent, linear in zip(node.parents[1:], maps[1:], strict=True):
        total = total + linear.forward(parents[parent])
    return total


def _may_underflow(network: Network) -> bool:
    """Whether a product of one weight per affine node may fall below 2^-900: then a zero may be an underflow."""
    exponent = 0
    for node in network.nodes:
        if isinstance(node, Affine):
            smallest = 1.0
            for linear in node.maps:
                matrix, divisors = linear.rows()
                sizes = np.abs(matrix.data[matrix.data != 0])
                largest = 1.0 if divisors is None else float(np.abs(divisors).max(initial=1.0))
                smallest = min(smallest, float(sizes.min(initial=1.0)) / largest)
            exponent += min(0, frexp(smallest)[1] - 1)
    return exponent < -900

"""Evaluation of a network in exact rational arithmetic.

A vector is held as integers over one common denominator, so that a layer costs one integer multiplication per weight.
"""

from collections.abc import Iterable, Sequence
from fractions import Fraction
from math import gcd, isfinite, lcm

import numpy as np

from problems.errors import DataError
from problems.maps import Array, LinearMap
from problems.network import Input, Network, Relu

Exact = list[Fraction]


def integers(values: Iterable[float | Fraction]) -> tuple[Array, int]:
    """(numerators (n,) of Python integers, common denominator) of finite floats or fractions, without rounding."""
    if isinstance(values, np.ndarray) and values.dtype == np.float64:
        return _dyadic(values)
    ratios = [value.as_integer_ratio() for value in values]
    denominator = lcm(*(d for _, d in ratios)) if ratios else 1
    numerators = np.empty(len(ratios), dtype=object)
    numerators[:] = [n * (denominator // d) for n, d in ratios]
    return numerators, denominator


def _dyadic(values: Array) -> tuple[Array, int]:
    """`integers` of a float64 array, from mantissas and exponents of the whole array at once."""
    mantissas, exponents = np.frexp(values)
    whole = np.ldexp(mantissas, 53).astype(np.int64)
    lowest = np.where(whole == 0, 1, whole & -whole)
    trailing = np.frexp(lowest.astype(np.float64))[1] - 1
    whole >>= trailing
    units = np.where(whole == 0, 0, exponents - 53 + trailing)  # values = whole * 2**units
    unit = min(int(units.min(initial=0)), 0)
    shifts = np.where(whole == 0, 0, units - unit)
    if np.where(whole == 0, 0, 53 - trailing + shifts).max(initial=0) <= 62:
        return (whole << shifts).astype(object), 1 << -unit
    numerators = np.empty(len(values), dtype=object)
    numerators[:] = [n << s for n, s in zip(whole.tolist(), shifts.tolist(), strict=True)]
    return numerators, 1 << -unit


def evaluate(network: Network, x: Sequence[float | Fraction] | Array) -> Exact:
    """The K logits at x (n,) as fractions: `real` semantics, no rounding anywhere. x holds floats or fractions.

    DataError where x has the wrong length or is not finite.
    """
    return _fractions(*_values(network, x)[-1])


def evaluate_all(network: Network, x: Sequence[float | Fraction] | Array) -> list[Exact]:
    """The exact value of every node at x (n,), as `evaluate`."""
    return [_fractions(*value) for value in _values(network, x)]


def homogeneous(network: Network, pattern: Array, direction: Sequence[float | Fraction] | Array) -> tuple[Exact, Exact]:
    """(A v (h,), J v (K,)) at v = `direction` (n,): the linear part of the affine piece that an activation pattern names.

    pattern (h,): > 0 where the ReLU passes its input on, else it gives 0; neurons in the order of `network.relus`. A holds the gradients of
    the h pre-activations, J those of the logits. No rounding anywhere.
    """
    values: list[tuple[Array, int]] = []
    rows: Exact = []
    for node in network.nodes:
        if isinstance(node, Input):
            values.append(integers(_python(direction)))
        elif isinstance(node, Relu):
            numerators, denominator = values[node.parent]
            passed = np.asarray(pattern[len(rows) : len(rows) + node.size] > 0)
            rows += _fractions(numerators, denominator)
            kept = np.zeros(node.size, dtype=object)
            kept[passed] = numerators[passed]
            values.append((kept, denominator))
        else:
            total = _apply(node.maps[0], *values[node.parents[0]])
            for parent, linear in zip(node.parents[1:], node.maps[1:], strict=True):
                total = _add(total, _apply(linear, *values[parent]))
            values.append(_reduced(*total))
    return rows, _fractions(*values[-1])


def _fractions(numerators: Array, denominator: int) -> Exact:
    return [Fraction(v, denominator) for v in numerators]


def _values(network: Network, x: Sequence[float | Fraction] | Array) -> list[tuple[Array, int]]:
    point = _python(x)
    if len(point) != network.input_size or not all(isinstance(v, Fraction | int) or isfinite(v) for v in point):
        raise DataError("point", f"needs {network.input_size} finite numbers, the input of network {network.name}.", "Check its shape.")
    values: list[tuple[Array, int]] = []
    for node in network.nodes:
        if isinstance(node, Input):
            values.append(integers(point))
        elif isinstance(node, Relu):
            numerators, denominator = values[node.parent]
            positive = np.empty(len(numerators), dtype=object)
            positive[:] = [max(v, 0) for v in numerators]
            values.append((positive, denominator))
        else:
            total = integers(node.bias)
            for parent, linear in zip(node.parents, node.maps, strict=True):
                total = _add(total, _apply(linear, *values[parent]))
            values.append(_reduced(*total))
    return values


def _python(x: Sequence[float | Fraction] | Array) -> list[float | Fraction]:
    return x.tolist() if isinstance(x, np.ndarray) else list(x)


def _apply(linear: LinearMap, numerators: Array, denominator: int) -> tuple[Array, int]:
    matrix, divisors = linear.rows()
    weights, scale = integers(matrix.data)
    products = weights * numerators[matrix.indices]
    result = np.zeros(matrix.shape[0], dtype=object)
    filled = np.flatnonzero(np.diff(matrix.indptr))  # reduceat would give an empty row its neighbour's first entry
    if len(filled):
        result[filled] = np.add.reduceat(products, matrix.indptr[:-1][filled])
    if divisors is None:
        return result, denominator * scale
    tops, bottom = integers(divisors)  # 1 / (top / bottom) = bottom / top
    common = lcm(*tops.tolist())
    factors = np.empty(len(tops), dtype=object)
    factors[:] = [bottom * (common // top) for top in tops]
    return result * factors, denominator * scale * common


def _add(a: tuple[Array, int], b: tuple[Array, int]) -> tuple[Array, int]:
    common = lcm(a[1], b[1])
    return a[0] * (common // a[1]) + b[0] * (common // b[1]), common


def _reduced(numerators: Array, denominator: int) -> tuple[Array, int]:
    divisor = gcd(denominator, *numerators.tolist())
    return (numerators, denominator) if divisor == 1 else (numerators // divisor, denominator // divisor)

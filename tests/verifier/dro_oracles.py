"""Worst expected losses by brute force: all patterns of tiny networks, linear programs by scipy, and the dual on a fine grid of rates.

Nothing here is shared with the engine but the affine maps of patterns.
"""

from itertools import product
from math import inf

import numpy as np
from scipy.optimize import linprog, minimize_scalar

from problems.network import Network
from verifier.enumeration import affine_map, cell_rows

Array = np.ndarray


def suprema(network: Network, x: Array, label: int, rate: float, norm: float, lower: Array, upper: Array) -> float:
    """sup over the box of margin(x') - rate ‖x' - x‖_norm, norm 1 or inf: one linear program per pattern and competitor.

    Patterns without interior give points of others' boundaries, which changes nothing.
    """
    n = network.input_size
    best = -inf
    for signs in product((-1, 1), repeat=network.neurons):
        pattern = np.array(signs, dtype=np.int8)
        rows, offsets = cell_rows(network, pattern)
        jacobian, constants = affine_map(network, pattern)
        for k in range(network.output_size):
            if k == label:
                continue
            g, b = jacobian[k] - jacobian[label], constants[k] - constants[label]
            # Variables x', and t >= |x' - x|: one t for norm inf, one per coordinate for norm 1.
            count = 1 if norm == inf else n
            spread = np.ones((n, 1)) if norm == inf else np.eye(n)
            matrix = np.concatenate(
                [np.hstack([-rows, np.zeros((len(rows), count))]), np.hstack([np.eye(n), -spread]), np.hstack([-np.eye(n), -spread])]
            )
            limits = np.concatenate([offsets, x, -x])
            cost = np.concatenate([-g, np.full(count, rate)])
            found = linprog(cost, matrix, limits, bounds=[*zip(lower, upper, strict=True), *[(0, None)] * count])
            if found.status == 0:
                best = max(best, b - found.fun)
    return best


def value(network: Network, x: Array, y: Array, epsilon: float, norm: float, lower: Array, upper: Array, most: float) -> float:
    """V_1(epsilon) for the margin: the dual, minimised over rates in [0, most]."""

    def dual(rate: float) -> float:
        return rate * epsilon + float(np.mean([suprema(network, p, int(t), rate, norm, lower, upper) for p, t in zip(x, y, strict=True)]))

    found = minimize_scalar(dual, bounds=(0.0, most), method="bounded", options={"xatol": 1e-4})
    return min(float(found.fun), dual(0.0))

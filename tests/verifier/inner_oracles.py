"""Oracles of inner maximisation: brute force over all patterns of tiny networks, and values known in closed form."""

import itertools
from math import inf

import cvxpy
import numpy as np
from scipy.optimize import linprog

from problems.maps import Dense
from problems.network import Network, sequential


def random_network(rng: np.random.Generator, sizes: tuple[int, ...]) -> Network:
    """Dense layers of these sizes with normal weights."""
    maps = [Dense(rng.normal(size=(after, before))) for before, after in itertools.pairwise(sizes)]
    return sequential(maps, [0.5 * rng.normal(size=size) for size in sizes[1:]])


def cells(network: Network, lower: np.ndarray, upper: np.ndarray, rows: np.ndarray, offsets: np.ndarray) -> list[tuple]:
    """(rows, offsets, J, b) of every pattern that some point of the box with the rows >= 0 has; logits are J x + b there."""
    hidden = [network.nodes[i].size for i in network.relus]
    affine = [node for node in network.nodes[1:] if hasattr(node, "maps")]
    found = []
    for pattern in itertools.product([0, 1], repeat=sum(hidden)):
        matrix, shift, start = np.eye(network.input_size), np.zeros(network.input_size), 0
        sides, constants = [rows], [offsets]
        for layer, node in enumerate(affine):
            matrix, shift = node.maps[0].weights @ matrix, node.maps[0].weights @ shift + node.bias
            if layer < len(hidden):
                on = np.array(pattern[start : start + hidden[layer]])
                start += hidden[layer]
                sides.append((2 * on - 1)[:, None] * matrix)
                constants.append((2 * on - 1) * shift)
                matrix, shift = on[:, None] * matrix, on * shift
        g, h = np.concatenate(sides), np.concatenate(constants)
        if linprog(np.zeros(len(lower)), A_ub=-g, b_ub=h, bounds=list(zip(lower, upper, strict=True))).status == 0:
            found.append((g, h, matrix, shift))
    return found


def by_brute_force(
    network: Network, lower: np.ndarray, upper: np.ndarray, x: np.ndarray, label: int, norm: float, order: float, rates: list[float],
    rows: np.ndarray | None = None, offsets: np.ndarray | None = None,
) -> np.ndarray:  # fmt: skip
    """phi at every rate (order inf: the largest loss within every radius), one convex program per cell and competitor."""
    rows = np.zeros((0, len(x))) if rows is None else rows
    offsets = np.zeros(0) if offsets is None else offsets
    best = np.full(len(rates), -inf)
    for g, h, matrix, shift in cells(network, lower, upper, rows, offsets):
        for k in range(len(shift)):
            if k == label:
                continue
            point, rate = cvxpy.Variable(len(x)), cvxpy.Parameter(nonneg=True)
            distance = cvxpy.norm(point - x, {1: 1, 2: 2, inf: "inf"}[norm])
            gain = (matrix[k] - matrix[label]) @ point + shift[k] - shift[label]
            limits = [g @ point + h >= 0, point >= lower, point <= upper]
            if order == inf:
                limits.append(distance <= rate)
            else:
                gain = gain - rate * (distance if order == 1 else cvxpy.square(distance))
            problem = cvxpy.Problem(cvxpy.Maximize(gain), limits)
            for i, value in enumerate(rates):
                rate.value = value
                problem.solve(solver=cvxpy.CLARABEL)
                if problem.status == "optimal":
                    best[i] = max(best[i], problem.value)
    return best

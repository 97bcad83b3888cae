"""Lipschitz constants by brute force: every activation pattern of a small network, decided by a linear program of its own."""

from itertools import product
from math import inf

import numpy as np
from scipy.optimize import linprog

from problems.maps import Dense
from problems.network import Network, sequential
from problems.regions import Box


def random_network(seed: int, sizes: tuple[int, ...], *, biases: bool = True) -> Network:
    """Normal weights, in multiples of 1/64 so that ties are exact."""
    generator = np.random.default_rng(seed)
    shapes = list(zip(sizes[1:], sizes[:-1], strict=True))
    maps = [Dense(np.round(generator.standard_normal(shape) * 64) / 64) for shape in shapes]
    offsets = [np.round(generator.standard_normal(m) * 32) / 64 if biases else np.zeros(m) for m, _ in shapes]
    return sequential(maps, offsets)


def affine(network: Network, pattern: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """(rows (h, n), offsets (h,)) of the pre-activations and (J (K, n), constants (K,)) of the logits on the pattern's cell."""
    weights = [node.maps[0].weights for node in network.nodes[1::2]]
    biases = [node.bias for node in network.nodes[1::2]]
    a, c, rows, offsets, place = np.eye(network.input_size), np.zeros(network.input_size), [], [], 0
    for matrix, bias in zip(weights[:-1], biases[:-1], strict=True):
        a, c = matrix @ a, matrix @ c + bias
        rows.append(a)
        offsets.append(c)
        active = pattern[place : place + len(c)] > 0
        a, c, place = a * active[:, None], c * active, place + len(c)
    return np.concatenate(rows), np.concatenate(offsets), weights[-1] @ a, weights[-1] @ c + biases[-1]


def full_cells(network: Network, region: Box, extra=None) -> list[tuple[np.ndarray, np.ndarray]]:
    """(pattern, J) of all cells whose largest inscribed radius (capped at 1) is above 1e-7; extra(J, c) -> rows that must be > 0, too."""
    found = []
    n = network.input_size
    for signs in product((-1, 1), repeat=network.neurons):
        pattern = np.array(signs)
        rows, offsets, jacobian, constants = affine(network, pattern)
        signed, free = rows * pattern[:, None], offsets * pattern
        zero = ~rows.any(axis=1)
        if ((offsets[zero] > 0) != (pattern[zero] > 0)).any():
            continue
        signed, free = signed[~zero], free[~zero]
        if extra is not None:
            more = extra(jacobian, constants)
            signed, free = np.concatenate([signed, more[0]]), np.concatenate([free, more[1]])
        norms = np.linalg.norm(signed, axis=1)
        sides = [(low if low > -inf else None, high if high < inf else None) for low, high in zip(region.lower, region.upper, strict=True)]
        program = linprog(
            np.append(np.zeros(n), -1.0), A_ub=np.column_stack([-signed, norms]), b_ub=free,
            bounds=[*sides, (None, 1.0)],
        )  # fmt: skip
        if program.status == 0 and -program.fun > 1e-7:
            found.append((pattern, jacobian))
    return found


def constant(network: Network, region: Box, of: str, r: float) -> float:
    """The Lipschitz constant by brute force; 0 where there is no full cell."""
    kind, _, rest = of.partition(":")
    s = {1: inf, 2: 2, inf: 1}[r]
    if kind == "vector":
        q = float(rest)
        return max((operator_norm(jacobian, r, q) for _, jacobian in full_cells(network, region)), default=0.0)
    indices = [int(part) for part in rest.split(",")]
    if kind == "output":
        return max((np.linalg.norm(jacobian[indices[0]], s) for _, jacobian in full_cells(network, region)), default=0.0)
    if kind == "pair":
        return max((np.linalg.norm(j[indices[0]] - j[indices[1]], s) for _, j in full_cells(network, region)), default=0.0)
    label, best = indices[0], 0.0
    for k in set(range(network.output_size)) - {label}:
        others = [j for j in range(network.output_size) if j not in (k, label)]

        def ahead(jacobian, constants, k=k, others=others):
            rows, offsets = jacobian[k] - jacobian[others], constants[k] - constants[others]
            moving = rows.any(axis=1) | (offsets != 0)
            return rows[moving], offsets[moving]

        for _, jacobian in full_cells(network, region, ahead):
            best = max(best, float(np.linalg.norm(jacobian[k] - jacobian[label], s)))
    return best


def operator_norm(matrix: np.ndarray, r: float, q: float) -> float:
    """By the vertices of the input ball, or of the dual of the output ball."""
    if r == 1:
        return max(np.linalg.norm(column, q) for column in matrix.T)
    if r == inf:
        return max(np.linalg.norm(matrix @ np.array(u), q) for u in product((-1, 1), repeat=matrix.shape[1]))
    if q == 2:
        return float(np.linalg.norm(matrix, 2))
    if q == 1:
        return max(np.linalg.norm(matrix.T @ np.array(t), 2) for t in product((-1, 1), repeat=matrix.shape[0]))
    return max(np.linalg.norm(row, 2) for row in matrix)

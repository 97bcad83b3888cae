"""Networks whose constants are known (THEORY section 9), and brute force over all patterns by general solvers."""

from collections.abc import Iterator
from itertools import pairwise, product
from math import inf

import cvxpy as cp
import numpy as np
from scipy.optimize import linprog

from problems.maps import Dense
from problems.network import Network, sequential
from verifier.enumeration import affine_map, cell_rows

Array = np.ndarray


def chain(*layers: tuple[list, list]) -> Network:
    """A network of dense layers from (weights, bias)."""
    return sequential([Dense(np.array(w, dtype=float)) for w, _ in layers], [np.array(b, dtype=float) for _, b in layers])


def random_network(seed: int, *sizes: int, biased: bool = True) -> Network:
    generator = np.random.default_rng(seed)
    maps = [Dense(generator.standard_normal((b, a)) / np.sqrt(a)) for a, b in pairwise(sizes)]
    return sequential(maps, [0.3 * biased * generator.standard_normal(m.out_size) for m in maps])


IDENTITY = chain(([[1, 0], [0, 1]], [0, 0]), ([[1, 0], [0, 1]], [0, 0]))
FOUR_NEURONS = chain(
    ([[-0.6436, 0.3784], [0.7196, 1.7698], [1.3441, 1.0055], [-0.3510, -0.7537]], [0] * 4),
    ([[-0.9808, -0.6550, -1.0012, -0.2473], [0.4910, -0.1602, 1.8371, -0.1348]], [0] * 2),
)
# z_0 = 0, z_1 = x_1 - relu(x_1 - x_2) = min(x_1, x_2)
MINIMUM = chain(([[1, 0], [-1, 0], [1, -1]], [0] * 3), ([[0, 0, 0], [1, -1, -1]], [0, 0]))
LINEAR = chain(([[1, 2], [0, -1], [3, 1]], [0, 1, 2]))


def pairs(network: Network, labels: tuple[int, ...] | None = None) -> Array:
    present = range(network.output_size) if labels is None else labels
    return np.array([(y, k) for y in present for k in range(network.output_size) if k != y])


def full_patterns(network: Network, lower: float | Array = -inf, upper: float | Array = inf) -> Iterator[Array]:
    """All patterns whose cell holds a ball (in the box), by one linear program each."""
    n = network.input_size
    for signs in product((-1, 1), repeat=network.neurons):
        pattern = np.array(signs, dtype=np.int8)
        rows, offsets = cell_rows(network, pattern)
        lengths = np.linalg.norm(rows, axis=1)
        constant = lengths == 0
        if (offsets[constant] < 0).any() or ((offsets == 0) & constant & (pattern > 0)).any():
            continue
        sides = [(v, w) for v, w in zip(np.broadcast_to(lower, n), np.broadcast_to(upper, n), strict=True)]
        matrix, limits = [np.column_stack([-rows, lengths])[~constant]], [offsets[~constant]]
        for i, (low, high) in enumerate(sides):
            for sign, side in ((1.0, low), (-1.0, high)):
                if np.isfinite(side):
                    row = np.zeros(n + 1)
                    row[i], row[n] = -sign, 1.0
                    matrix.append(row[None])
                    limits.append(np.array([-sign * side]))
        bounds = [(None, None)] * n + [(None, 1.0)]
        found = linprog(np.append(np.zeros(n), -1.0), np.concatenate(matrix), np.concatenate(limits), bounds=bounds)
        if found.status == 0 and -found.fun > 1e-7:
            yield pattern


def gradient(network: Network, pattern: Array, pair: Array) -> Array:
    jacobian, _ = affine_map(network, pattern)
    return jacobian[pair[1]] - jacobian[pair[0]]


def dual_norm(g: Array, norm: float) -> float:
    return float({1: np.abs(g).max(), 2: np.sqrt(g @ g), inf: np.abs(g).sum()}[norm])


def cone_slope(rows: Array, g: Array, norm: float) -> float:
    """max {<g, u> : rows u >= 0, ‖u‖_norm <= 1} by cvxpy."""
    u = cp.Variable(len(g))
    size = dual_norm(g, norm) or 1.0  # solvers' tolerances are absolute
    problem = cp.Problem(cp.Maximize((g / size) @ u), [rows @ u >= 0, cp.norm(u, "inf" if norm == inf else norm) <= 1])
    problem.solve(solver=cp.CLARABEL)
    return size * float(problem.value)


def recession_rows(network: Network, pattern: Array, lower: Array, upper: Array) -> Array:
    """The rows of the recession cone of a cell in a box."""
    eye = np.eye(network.input_size)
    return np.concatenate([cell_rows(network, pattern)[0], eye[np.isfinite(lower)], -eye[np.isfinite(upper)]])


def has_direction(rows: Array) -> bool:
    """Whether {u : rows u >= 0} is more than the origin: some u_j reaches 1 or -1 in the unit box."""
    n = rows.shape[1]
    for j, sign in product(range(n), (-1.0, 1.0)):
        cost = np.zeros(n)
        cost[j] = -sign
        if -linprog(cost, -rows, np.zeros(len(rows)), bounds=[(-1, 1)] * n).fun > 1e-7:
            return True
    return False

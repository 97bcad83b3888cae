"""Whether a float point lies strictly inside the cell of a pattern: by proven roundings, else in exact arithmetic."""

import numpy as np

from problems import exact
from problems.maps import Array
from problems.network import Affine, Input, Network
from problems.regions.ball import Ball
from problems.regions.base import Region
from problems.regions.box import Box
from verifier.bounds.interval import operations
from verifier.bounds.rounding import TINY, gamma


def inside_cells(network: Network, points: Array, patterns: Array, vanishing: Array | None = None) -> Array:
    """(m,) bool: the exact pre-activations at points (m, n) have the signs of patterns (m, h), none of them zero.

    vanishing (m, h) bool marks neurons that are identically zero on their cell, whose sign says nothing.
    """
    finite = np.isfinite(points).all(axis=1)
    points = np.where(finite[:, None], points, 0.0)
    values, errors = pre_activations(network, points)
    ignored = np.zeros(patterns.shape, dtype=bool) if vanishing is None else vanishing
    with np.errstate(invalid="ignore"):
        clear = (np.abs(values) > errors) | ignored
    right = (np.sign(values) == patterns) | ignored
    result = (clear & right).all(axis=1)
    for i in np.flatnonzero(~clear.all(axis=1) & (right | ~clear).all(axis=1)):
        nodes = exact.evaluate_all(network, points[i])
        signs = [(value > 0) - (value < 0) for relu in network.relus for value in nodes[network.nodes[relu].parent]]  # type: ignore[union-attr]
        result[i] = bool(np.all((np.array(signs) == patterns[i]) | ignored[i]))
    return result & finite


def pre_activations(network: Network, points: Array) -> tuple[Array, Array]:
    """(values (m, h), errors (m, h)): all pre-activations at points (m, n), and how far the exact ones may be from them.

    Forward error analysis (Higham, section 3.1): an affine node adds gamma (|W| |x| + |b|) to |W| times the errors before.
    """
    values: list[Array] = []
    errors: list[Array] = []
    with np.errstate(invalid="ignore", over="ignore"):
        for node in network.nodes:
            if isinstance(node, Input):
                values.append(np.asarray(points, dtype=np.float64))
                errors.append(np.zeros(values[0].shape))
            elif isinstance(node, Affine):
                total = np.broadcast_to(node.bias, (len(points), node.size)).copy()
                spread, size = np.zeros_like(total), np.abs(total)
                for parent, linear in zip(node.parents, node.maps, strict=True):
                    total += linear.forward(values[parent])
                    spread += linear.absolute().forward(errors[parent])
                    size += linear.absolute().forward(np.abs(values[parent]))
                rounding = 2.0 * gamma(operations(node))
                values.append(total)
                errors.append(spread * (1.0 + rounding) + rounding * size + TINY)
            else:
                values.append(np.maximum(values[node.parent], 0.0))
                errors.append(errors[node.parent])
    if not network.relus:
        return np.zeros((len(points), 0)), np.zeros((len(points), 0))
    parents = [network.nodes[i].parent for i in network.relus]  # type: ignore[union-attr]
    return np.concatenate([values[i] for i in parents], axis=1), np.concatenate([errors[i] for i in parents], axis=1)


def inside_region(region: Region, points: Array) -> Array:
    """(m,) bool: the points (m, n) belong to the region, decided exactly."""
    if isinstance(region, Box):
        lower, upper = region.inner
        return np.isfinite(points).all(axis=1) & (points >= lower).all(axis=1) & (points <= upper).all(axis=1)
    sure = np.zeros(len(points), dtype=bool)
    if isinstance(region, Ball) and np.isfinite(region.radius):
        # Far from the sphere floats tell: a norm of n differences is off by at most n + 4 roundings.
        distance = np.linalg.norm(points - region.center, region.norm, axis=1)
        sure = inside_region(region.limits, points) & (distance * (1.0 + 2.0 * gamma(region.dimension + 8)) + TINY < region.radius)
    result = sure.copy()
    for i in np.flatnonzero(~sure):
        result[i] = region.contains(points[i])
    return result


def jacobians(network: Network, patterns: Array) -> Array:
    """(m, K, n): the Jacobians of the logits on the cells of patterns (m, h), in float64."""
    m, rows = len(patterns), np.eye(network.output_size)
    pending: dict[int, Array] = {len(network.nodes) - 1: np.broadcast_to(rows, (m, *rows.shape))}
    first = network.neurons
    for index in range(len(network.nodes) - 1, 0, -1):
        node = network.nodes[index]
        above = pending.pop(index, None)
        if isinstance(node, Affine):
            if above is not None:
                for parent, linear in zip(node.parents, node.maps, strict=True):
                    below = linear.transpose(above)
                    pending[parent] = pending[parent] + below if parent in pending else below
            continue
        first -= node.size
        if above is not None:
            below = np.where(patterns[:, None, first : first + node.size] > 0, above, 0.0)
            parent = node.parent  # type: ignore[union-attr]
            pending[parent] = pending[parent] + below if parent in pending else below
    return np.ascontiguousarray(pending.get(0, np.zeros((m, network.output_size, network.input_size))))

"""Local ascent of the loss less the price of the distance: lower ends of inner maximisations.

At a point the loss is linearised on its cell; the linear function less the price is maximised exactly over boxes of several sizes
around the point (`Ball.penalised` gives the maximiser in closed form), and the best of these points is the next one. Floats throughout:
what is found is judged by `Points`.
"""

import numpy as np

from problems.maps import Array
from problems.network import Affine, Network, Relu
from problems.regions.ball import Ball
from verifier.distributional.inner_points import Points

# Half widths of the boxes, as shares of the region's width.
REACHES = np.array([1.0, 0.3, 0.1, 0.03, 0.01, 0.003])
STEPS = 25


def climb(points: Points, ball: Ball, position: int, starts: Array) -> None:
    """Ascend from starts (A, n) for the price of rates[position], or within that radius; `points` takes what is found."""
    if not len(starts):
        return
    box = ball.limits
    width = np.where(np.isfinite(box.upper - box.lower), box.upper - box.lower, 1.0)
    x = points.drawn(starts, position)
    value = points.add(x)[:, position]
    for _ in range(STEPS):
        slopes = gradients(points, x)
        count, n = x.shape
        around = np.repeat(x, len(REACHES), axis=0)
        reach = np.tile(REACHES, count)[:, None] * width
        lower, upper = np.maximum(around - reach, box.lower), np.minimum(around + reach, box.upper)
        linear = np.repeat(slopes, len(REACHES), axis=0)[:, None]
        if points.within:
            tried = ball.with_radius(float(points.rates[position])).support(linear, lower, upper)[1][:, 0]
        else:
            tried = ball.penalised(linear, float(points.rates[position]), points.power, lower, upper)[1][:, 0]
        tried = points.drawn(tried, position)
        found = points.add(tried)[:, position].reshape(count, len(REACHES))
        best = found.argmax(axis=1)
        reached = found[np.arange(count), best]
        ahead = reached > value + 1e-9 * np.abs(value)
        if not ahead.any():
            return
        x = tried.reshape(count, len(REACHES), n)[np.arange(count), best][ahead]
        value = reached[ahead]


def gradients(points: Points, x: Array) -> Array:
    """(A, n): the gradients of the loss on the cells of the points x (A, n), in floats."""
    network = points.network
    values = network.values(x)
    return backpropagated(network, values, points.loss.slopes(values[-1], points.label))


def backpropagated(network: Network, values: list[Array], rows: Array) -> Array:
    """(A, n): the derivatives of rows.z, rows (A, K), by the inputs at the points whose node values (A, size) are given."""
    pending: dict[int, Array] = {len(network.nodes) - 1: rows}
    for index in range(len(network.nodes) - 1, 0, -1):
        if index not in pending:
            continue
        a, node = pending.pop(index), network.nodes[index]
        if isinstance(node, Relu):
            a = a * (values[node.parent] > 0.0)
            pending[node.parent] = pending[node.parent] + a if node.parent in pending else a
            continue
        assert isinstance(node, Affine)
        for parent, linear in zip(node.parents, node.maps, strict=True):
            back = linear.transpose(a)
            pending[parent] = pending[parent] + back if parent in pending else back
    return pending.get(0, np.zeros((len(rows), network.input_size)))

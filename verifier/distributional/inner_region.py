"""How a region is posed to an inner maximisation: a bounded box, and for polytopes a network whose extra neurons hold the rows.

A row a.x + b >= 0 becomes a ReLU neuron of pre-activation a.x + b that feeds nothing and is decided active in every piece: bounds then get
a multiplier for it, and the program of a leaf a row, as for any decided neuron.

A box that is not bounded is cut down to what counts. With G a bound of the gradient norms of all rows over the whole region (convex),
loss(x) <= loss(center) + G ||x - center||; so for power 2 nothing is gained beyond ||x - center|| = G / rate, and for power 1 nothing at
all if G <= rate.
"""

from dataclasses import dataclass, replace
from math import inf, isfinite, nextafter

import numpy as np

from problems.errors import RegionError
from problems.maps import Array, Dense
from problems.network import Affine, Network, Node, Relu
from problems.regions.ball import Ball
from problems.regions.base import Region
from problems.regions.box import Box
from problems.regions.polytope import Polytope
from verifier.bounds.jacobian import jacobian
from verifier.distributional.inner_question import norms_of


@dataclass(frozen=True, eq=False)
class Posed:
    """network: whose first `forced` neurons are decided active; ball: its center the sample, its limits the box."""

    network: Network
    ball: Ball
    forced: int


def posed(network: Network, region: Region, x: Array, norm: float) -> Posed:
    """The sample x (n,) in its region. Raises RegionError for regions that are neither box nor polytope, or without the sample."""
    if not isinstance(region, Box | Polytope):
        raise RegionError("region", "an inner maximisation needs a box or a polytope.", "Give one of these.")
    if not region.contains(x):
        raise RegionError("sample", "it lies outside the region.", "Widen the region, or clip the data to it first.")
    if isinstance(region, Box):
        return Posed(network, Ball(x, inf, norm, region), 0)
    return Posed(with_rows(network, region), Ball(x, inf, norm, region.box), len(region.offsets))


def with_rows(network: Network, polytope: Polytope) -> Network:
    """The same function, with the polytope's rows as a first layer of neurons that feed nothing."""
    count = len(polytope.offsets)
    if not count:
        return network

    def moved(index: int) -> int:
        return index + 2 if index else 0

    nodes: list[Node] = [network.nodes[0], Affine((0,), (Dense(polytope.matrix),), polytope.offsets), Relu(1, count)]
    for node in network.nodes[1:]:
        if isinstance(node, Relu):
            nodes.append(Relu(moved(node.parent), node.size))
        elif isinstance(node, Affine):
            nodes.append(Affine(tuple(moved(parent) for parent in node.parents), node.maps, node.bias))
    last = nodes[-1]
    assert isinstance(last, Affine)
    nodes[-1] = Affine((*last.parents, 2), (*last.maps, Dense(np.zeros((last.size, count)))), last.bias)
    return replace(network, nodes=tuple(nodes), source=None, folded={})


def steepest(network: Network, ball: Ball, rows: Array) -> float:
    """A bound of the dual norm of the gradient of any of the rows (S, K) of the logits, over all patterns."""
    everything = np.ones((1, network.neurons), dtype=bool)
    return float(norms_of(jacobian(network, ~everything, everything, rows), ball)[0])


def bounded(task: Posed, rows: Array, rate: float | None, power: int, radius: float) -> Posed:
    """The same with a bounded box: the box itself, or what counts of it for this rate and all larger ones, or within the radius.

    Raises RegionError where that is not bounded either.
    """
    ball = task.ball
    if np.isfinite(ball.limits.lower).all() and np.isfinite(ball.limits.upper).all():
        return task
    reach = radius
    if rate is not None:
        steep = steepest(task.network, ball, rows)
        reach = nextafter(steep / rate * (1.0 + 1e-12), inf) if power == 2 else (0.0 if steep <= rate else inf)
    if not isfinite(reach):
        raise RegionError("region", "is unbounded, and so may be what is gained for its distance.", "Give a bounded box or polytope.")
    box = Box(*ball.with_radius(reach).bounding_box())
    return Posed(task.network, Ball(ball.center, inf, ball.norm, box), task.forced)

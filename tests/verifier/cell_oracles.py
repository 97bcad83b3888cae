"""The full cells of tiny networks, by other means than the search."""

from fractions import Fraction
from itertools import product

import numpy as np

from problems import exact
from problems.network import Network
from problems.regions import Ball, Box, Region
from tests.verifier import oracles
from verifier.enumeration.exact_rows import ExactComposer
from verifier.enumeration.exact_tree import ExactSearch
from verifier.enumeration.frame import frame_of

Pattern = tuple[int, ...]


def signs(network: Network, x: list[Fraction]) -> Pattern:
    """The pattern at a point in general position: neurons at zero are those that are zero on its whole cell."""
    nodes = exact.evaluate_all(network, x)
    return tuple(1 if value > 0 else -1 for relu in network.relus for value in nodes[network.nodes[relu].parent])


def by_vertices(network: Network, region: Box | Ball) -> set[Pattern]:
    """Polytopes by their vertices, in fractions (tests/verifier/oracles.py), for boxes and l2 balls."""
    if isinstance(region, Box):
        lower, upper = region.exact if region.exact is not None else (region.lower, region.upper)
    else:
        lower, upper = region.bounding_box()
    found = set()
    for piece, _ in oracles.cells(network, oracles.box_polytope(lower, upper)):
        if isinstance(region, Ball):
            centre = tuple(Fraction(v) for v in region.center.tolist())
            if oracles._distance(piece, centre, region.norm) >= Fraction(region.radius) ** region.power:
                continue
        vertices = [x for x, _ in piece.vertices]
        found.add(signs(network, [sum((v[i] for v in vertices), Fraction(0)) / len(vertices) for i in range(network.input_size)]))
    return found


def by_patterns(network: Network, region: Region) -> set[Pattern]:
    """One exact linear program for each of the 2^h patterns."""
    search = ExactSearch(ExactComposer(network, frame_of(region)), stop=network.neurons)
    return {signs for signs in product((-1, 1), repeat=network.neurons) if next(search.leaves(np.array(signs, np.int8)), None) is not None}

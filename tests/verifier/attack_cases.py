"""Networks and numbers that the tests of attacks share."""

from fractions import Fraction
from itertools import pairwise
from math import inf

import numpy as np
import scipy.sparse as sparse
import torch

from problems.data import Dataset
from problems.maps import Conv, Dense, Sparse
from problems.network import Affine, Input, Network, Relu, sequential
from problems.regions.ball import Ball
from problems.regions.base import Region
from verifier.attacks.mixture import Mixture
from verifier.attacks.witness import exact_margin

Array = np.ndarray
POINTWISE = ("pgd", "apgd")
DISTRIBUTIONAL = ("wda", "wda++", "w-pgd")
NORMS = (1, 2, inf)
DUAL = {1: inf, 2: 2, inf: 1}


def random_network(rng: np.random.Generator, *sizes: int) -> Network:
    maps = [Dense(rng.normal(size=(after, before)) / np.sqrt(before)) for before, after in pairwise(sizes)]
    return sequential(maps, [0.3 * rng.normal(size=size) for size in sizes[1:]])


def graph_network(rng: np.random.Generator) -> Network:
    """Two convolutions (one with groups and uneven padding), a residual sum, pooling with a division, a permutation, a dense output."""
    first = Conv(rng.normal(size=(4, 2, 3, 3)), (2, 5, 4), padding=(1, 1, 1, 1))
    second = Conv(rng.normal(size=(4, 2, 2, 3)), (4, 5, 4), padding=(0, 1, 1, 1), groups=2)
    pool = sparse.csr_matrix(np.kron(np.eye(4), np.ones((1, 20))))
    order = rng.permutation(80)
    permutation = sparse.csr_matrix((np.ones(80), (np.arange(80), order)), shape=(80, 80))
    nodes = (
        Input(40),
        Affine((0,), (first,), rng.normal(size=80)),
        Relu(1, 80),
        Affine((2, 1), (second, Sparse(permutation)), rng.normal(size=80)),
        Relu(3, 80),
        Affine((4,), (Sparse(pool, np.full(4, 20.0)),), np.zeros(4)),
        Affine((5, 0), (Dense(rng.normal(size=(3, 4))), Dense(0.1 * rng.normal(size=(3, 40)))), rng.normal(size=3)),
    )
    return Network(nodes, (2, 5, 4), (3,))


def tensor(values: object) -> torch.Tensor:
    return torch.tensor(np.array(values), dtype=torch.float64)


SMALL = random_network(np.random.default_rng(9), 3, 4, 2)
BOX = (np.zeros(3), np.ones(3))


def check_mixture(mixture: Mixture, network: Network, data: Dataset, norm: float, order: float, epsilon: float, region: Region) -> None:
    """Everything that a mixture promises, from the definitions, in exact arithmetic."""
    assert mixture.order == order
    masses = [Fraction(0)] * len(data)
    cost = wrong = Fraction(0)
    atoms = zip(mixture.samples, mixture.points, mixture.weights, mixture.distances, mixture.margins, strict=True)
    for sample, point, weight, distance, bound in atoms:
        assert region.contains(point)
        assert Ball(data.x[sample], distance, norm).contains(point)
        margin = exact_margin(network, point, int(data.y[sample]))
        assert Fraction(bound) <= margin
        assert weight > 0
        masses[sample] += Fraction(weight)
        wrong += Fraction(weight) * (margin >= 0) / len(data)
        exact = Ball(data.x[sample], inf, norm).distance_exact(point)  # squared for norm 2
        moved = exact if (norm, order) == (2, 2) else Fraction(distance) ** int(order) if order < inf else Fraction(distance)
        cost = max(cost, moved) if order == inf else cost + Fraction(weight) * moved / len(data)
    assert set(masses) == {1}
    assert cost <= (Fraction(epsilon) if order == inf else Fraction(epsilon) ** int(order))
    assert cost <= mixture.cost
    assert Fraction(mixture.accuracy) >= 1 - wrong
    assert abs(mixture.accuracy - float(1 - wrong)) < 1e-12

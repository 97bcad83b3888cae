"""The flow domain: images as flows from a reference image (Wegel et al. 2021, section 2).

A signed flow delta on the grid's edges leads from the reference R to the image R + A delta, and every image of R's mass is reached. The
network f~(delta) = f(R + A delta) is f with its first affine map composed with (A, R); a certified L1 radius of f~ around any flow of
mu is a certified W1 radius of f around mu (the "vanilla" certificate, which also counts images with negative pixels).

The reference has no effect: with R + A delta_mu = mu, f~(delta_mu + d) = f(mu + A d) for every d, whatever R is, and a method that uses
the centre and distances from it only sees nothing else. Where the paper reports differences they are rounding, or flows that do
not lead to mu.
"""

from dataclasses import dataclass, replace
from fractions import Fraction

import numpy as np

from problems.errors import DataError, InputError, NetworkError
from problems.maps import Sparse
from problems.network import Affine, Input, Network, Node, Relu
from problems.transport.flows import distance
from problems.transport.grid import Array, Grid

PLANS = ("optimal", "sweep")


@dataclass(frozen=True, eq=False)
class FlowDomain:
    """Flows on the edges of an L1 grid from a reference image (n,). Raises DataError for a bad image, InputError for another ground."""

    grid: Grid
    reference: Array

    def __post_init__(self) -> None:
        if self.grid.ground != "l1":
            raise InputError(
                "ground", "flows live on the edges between neighbours.", "The flow domain is there for the ground distance l1."
            )
        object.__setattr__(self, "reference", self.grid.check_image(self.reference, "reference"))

    @property
    def size(self) -> int:
        """E: the number of edges."""
        return self.grid.incidence.shape[1]

    def image(self, delta: Array) -> Array:
        """R + A delta in float64, delta (..., E)."""
        return self.reference + Sparse(self.grid.incidence).forward(delta)

    def flow(self, mu: Array, *, plan: str = "optimal") -> Array:
        """A flow delta (E,) with R + A delta = mu exactly: the application map's right inverse.

        plan: "optimal" (of cost W1(R, mu)) or "sweep" (mass pushed down the columns, then along the last row: any plan will do). Raises
        DataError where R and mu differ in mass, or float64 does not hold the flow.
        """
        mu = self.grid.check_image(mu)
        if self.grid.masses(mu) != self.grid.masses(self.reference):
            raise DataError("reference", "its mass is not the image's.", "Normalise it first: mass has to agree in every channel, exactly.")
        if plan not in PLANS:
            raise InputError("plan", f"{plan!r} is not known.", f"Use one of {', '.join(PLANS)}.")
        excess = [Fraction(a) - Fraction(b) for a, b in zip(mu.tolist(), self.reference.tolist(), strict=True)]
        exact = self._along_paths(mu) if plan == "optimal" else self._swept(excess)
        delta = np.array([float(value) for value in exact])
        if any(Fraction(value) != number for value, number in zip(delta.tolist(), exact, strict=True)):
            raise DataError("reference", "float64 does not hold the flow from it exactly.", "Round the reference to fewer digits.")
        return delta

    def _along_paths(self, mu: Array) -> list[Fraction]:
        """The optimal plan, every move along its column and then its row."""
        grid, exact = self.grid, [Fraction(0)] * self.size
        for start, end, amount in distance(self.reference, mu, grid).moves:
            channel, p = divmod(start, grid.pixels)
            (i, j), (below, right) = divmod(p, grid.width), divmod(end % grid.pixels, grid.width)
            for row in range(min(i, below), max(i, below)):
                exact[self._edge(channel, row, j, down=True)] += amount if below > i else -amount
            for column in range(min(j, right), max(j, right)):
                exact[self._edge(channel, below, column, down=False)] += amount if right > j else -amount
        return exact

    def _swept(self, excess: list[Fraction]) -> list[Fraction]:
        grid, exact = self.grid, [Fraction(0)] * self.size
        for channel in range(grid.channels):
            rest = Fraction(0)
            for j in range(grid.width):
                column = Fraction(0)
                for i in range(grid.height):
                    column += excess[channel * grid.pixels + i * grid.width + j]
                    if i + 1 < grid.height:
                        exact[self._edge(channel, i, j, down=True)] = -column
                rest += column
                if j + 1 < grid.width:
                    exact[self._edge(channel, grid.height - 1, j, down=False)] = -rest
        return exact

    def _edge(self, channel: int, i: int, j: int, *, down: bool) -> int:
        """The number of the edge from pixel (i, j) to the one below it, or to its right."""
        grid = self.grid
        vertical = (grid.height - 1) * grid.width
        first = channel * (self.size // grid.channels)
        return first + (i * grid.width + j if down else vertical + i * (grid.width - 1) + j)

    def network(self, network: Network) -> Network:
        """f~ = f(R + A .). The map (A, R) is an affine node of its own before f's first one, so nothing is rounded.

        Raises NetworkError for a network that begins with something else than an affine map.
        """
        grid = self.grid
        if network.input_size != grid.size:
            raise NetworkError(network.name, f"takes {network.input_size} inputs, the grid has {grid.size} pixels.")
        check_affine_start(network)
        first = Affine((0,), (Sparse(grid.incidence),), self.reference)
        nodes: list[Node] = [Input(self.size), first]
        for node in network.nodes[1:]:
            if isinstance(node, Relu):
                nodes.append(replace(node, parent=node.parent + 1))
            else:
                assert isinstance(node, Affine)
                nodes.append(replace(node, parents=tuple(parent + 1 for parent in node.parents)))
        return replace(
            network, nodes=tuple(nodes), input_shape=(self.size,), name=f"{network.name} on flows", source=None, folded={}
        )  # fmt: skip


def check_affine_start(network: Network) -> None:
    """Raise NetworkError unless the network's first operation is an affine map: ReLU applied to pixels themselves is none."""
    for index, node in enumerate(network.nodes):
        if isinstance(node, Relu):
            parent = network.nodes[node.parent]
            if isinstance(parent, Affine) and parent.parents == (0,) and _is_identity(parent):
                raise NetworkError(
                    f"{network.name}, node {index}",
                    "is a ReLU of the pixels themselves: the network does not begin with an affine map.",
                    "Pixels are never negative: remove the ReLU.",
                )


def _is_identity(node: Affine) -> bool:
    matrix, divisors = node.maps[0].rows()
    if divisors is not None or node.bias.any() or matrix.shape[0] != matrix.shape[1] or matrix.nnz != matrix.shape[0]:
        return False
    return bool((matrix.diagonal() == 1.0).all())


def point_reference(mu: Array, grid: Grid) -> Array:
    """A reference with the masses of mu (n,): in every channel all mass on the middle pixel. DataError where float64 does not hold it."""
    reference = np.zeros(grid.size)
    for channel, mass in enumerate(grid.masses(mu)):
        place = channel * grid.pixels + (grid.height // 2) * grid.width + grid.width // 2
        reference[place] = float(mass)
        if Fraction(reference[place]) != mass:
            raise DataError("reference", "float64 does not hold the image's mass exactly.", "Round the image to fewer digits.")
    return reference

"""The seven certification methods of Wegel et al. 2021 (Table 1), by name.

                        feasible flows only     reference image     complete
    vanilla             no                      no                  no
    feasible            yes                     no                  no
    reference           no                      yes                 no
    both                yes                     yes                 no
    complete-vanilla    no                      no                  yes
    complete-reference  no                      yes                 yes
    complete-feasible   yes                     (cannot apply)      yes

Without feasibility the certificate covers the L1 ball in the flow domain, images with negative pixels included. Feasible
means the transport ball {nu >= 0 : W1(mu, nu) <= eps} itself, with its exact support function in every layer. Complete adds the
search over the neurons. Only the last is complete for Wasserstein distance: "complete-vanilla" is the exact answer to a harder question.

The reference image changes nothing, in this or any method that uses the centre and distances from it: f~(delta_mu + d) = f(mu + A d),
whatever R is (`problems.transport.domain`). It is offered because the paper offers it; a test shows that radii do not depend on it.
"""

from dataclasses import dataclass

from problems.errors import InputError
from problems.maps import Array
from problems.network import Network
from problems.regions.ball import Ball
from problems.regions.metric import MetricBall
from problems.regions.transport import TransportBall
from problems.transport.domain import FlowDomain, point_reference
from problems.transport.grid import PIXELS, Grid


@dataclass(frozen=True)
class Configuration:
    """One row of the table."""

    name: str
    feasible: bool
    reference: bool
    complete: bool


CONFIGURATIONS = {
    row.name: row
    for row in (
        Configuration("vanilla", feasible=False, reference=False, complete=False),
        Configuration("feasible", feasible=True, reference=False, complete=False),
        Configuration("reference", feasible=False, reference=True, complete=False),
        Configuration("both", feasible=True, reference=True, complete=False),
        Configuration("complete-vanilla", feasible=False, reference=False, complete=True),
        Configuration("complete-reference", feasible=False, reference=True, complete=True),
        Configuration("complete-feasible", feasible=True, reference=False, complete=True),
    )
}


def named(name: str) -> Configuration:
    """The configuration of this name. Raises InputError."""
    if name not in CONFIGURATIONS:
        raise InputError("configuration", f"{name!r} is not known.", f"Use one of {', '.join(CONFIGURATIONS)}.")
    return CONFIGURATIONS[name]


@dataclass(frozen=True, eq=False)
class Problem:
    """What is certified around one image: a network on a ball of infinite radius, and the flow domain where there is one."""

    network: Network
    ball: MetricBall
    domain: FlowDomain | None = None

    def coordinates(self, image: Array) -> Array:
        """An image (n,) of the ball's mass as a point of the ball's space."""
        if self.domain is None:
            return image
        there = FlowDomain(self.domain.grid, self.domain.image(self.ball.center)).flow(image)
        return self.ball.center + there

    def image(self, point: Array) -> Array:
        """The image (n,) that a point of the ball's space stands for."""
        return point if self.domain is None else self.domain.image(point)


def problem(
    configuration: Configuration, network: Network, x: Array, grid: Grid, *, pixels: str = "simplex", reference: Array | None = None
) -> Problem:  # fmt: skip
    """What the configuration certifies around the image x (n,); reference (n,): default all mass on the middle pixel.

    Raises InputError, DataError (images that are none, a reference of another mass), NetworkError.
    """
    if pixels not in PIXELS:
        raise InputError("pixels", f"{pixels!r} is not known.", f"Use one of {', '.join(PIXELS)}.")
    x = grid.check_image(x)
    if configuration.feasible:
        if configuration.reference:
            domain_of(grid, x, reference)  # checked, and then of no effect
        return Problem(network, TransportBall(x, float("inf"), grid, pixels))
    if pixels != "simplex":
        raise InputError("pixels", "the flow domain of the vanilla certificate has no pixels to cap.", "Use a feasible configuration.")
    domain, start = domain_of(grid, x, reference) if configuration.reference else domain_of(grid, x, x)
    return Problem(domain.network(network), Ball(start, float("inf"), 1), domain)


def domain_of(grid: Grid, x: Array, reference: Array | None) -> tuple[FlowDomain, Array]:
    """(the flows from the reference, the flow (E,) that leads to x)."""
    domain = FlowDomain(grid, point_reference(x, grid) if reference is None else reference)
    return domain, domain.flow(x)

"""What an attack found in a transport ball, decided exactly: mass, sign, distance and margin.

Points are moved onto the error set along the segment from their image, then made float64 images of exactly the image's mass. Distances
are those of an explicit plan, so proved upper bounds; margins are proved by intervals or in exact arithmetic.
"""

from collections.abc import Callable
from math import inf
from time import monotonic

import numpy as np

from problems.data import Dataset
from problems.errors import InputError
from problems.network import Network
from problems.rounding import round_up
from problems.transport.dyadic import settled
from problems.transport.flows import distance
from problems.transport.grid import PIXELS, Grid
from verifier.attacks.module import as_module, one_thread
from verifier.attacks.pgd import batch_size
from verifier.attacks.witness import PROBES, exact_margin, first_errors, float_margins, proven_margins

Array = np.ndarray

TOGETHER = 96  # images searched, then settled
# Relative steps past the boundary found in float64: where intervals are tried, and where exact arithmetic is.
STEPS_PAST = (2.0**-36, 2.0**-30, 2.0**-24, 2.0**-18)
STEPS_EXACT = (2.0**-40, 2.0**-24, inf)


def checked(
    network: Network, x: Array, labels: Array, shape: tuple[int, ...] | Grid, ground: str, pixels: str
) -> tuple[Array, Array, Grid, float]:
    """(images (N, n), labels (N,), grid, largest pixel allowed) of bad or good input. Raises InputError and its subclasses."""
    grid = shape if isinstance(shape, Grid) else Grid.of(tuple(shape), ground)
    if pixels not in PIXELS:
        raise InputError("pixels", f"{pixels!r} is not a threat model.", f"Use one of: {', '.join(PIXELS)}.")
    data = Dataset(x, labels)
    data.check_fits(network)
    for row, image in enumerate(data.x):
        grid.check_image(image, f"image {row}")
    if pixels == "image" and (data.x > 1).any():
        row = int((data.x > 1).any(1).argmax())
        raise InputError(f"image {row}", "has a pixel above 1, the largest that pixels=image allows.", "Scale it, or use pixels=simplex.")
    return data.x, data.y, grid, 1.0 if pixels == "image" else inf


# A search turns images (N, n) and labels (N,) into candidates (N, T, n) and their distances (N, T) in mass times pixels, inf where none.
Run = Callable[[Array, Array], tuple[Array, Array]]


def searched(network: Network, x: Array, labels: Array, grid: Grid, cap: float, run: Run, deadline: float | None) -> tuple[Array, Array]:
    """Search group by group, then settle: (points (N, n), distances (N,)) as `nearest` returns them."""
    points, distances = x.copy(), np.full(len(x), inf)
    for begin in range(0, len(x), TOGETHER):
        rows = slice(begin, begin + TOGETHER)
        with one_thread():
            candidates, costs = run(x[rows], labels[rows])
            points[rows], distances[rows] = settle(network, x[rows], labels[rows], candidates, costs, grid, cap, deadline)
    return points, distances


def distance_up(x: Array, image: Array, grid: Grid) -> float:
    """W1(x, image) / mass of x, both (n,) of the same mass: the cost of an exact plan, rounded up."""
    return round_up(distance(x, image, grid).upper / grid.mass(x))


def settle(
    network: Network,
    x: Array,
    labels: Array,
    candidates: Array,
    costs: Array,
    grid: Grid,
    cap: float,
    deadline: float | None = None,
) -> tuple[Array, Array]:
    """(points (N, n), distances (N,)): proved errors with exactly the mass of x, and proved upper bounds of their distances.

    candidates (N, T, n) at costs (N, T), inf where there is none; x (N, n), labels (N,). The cheapest candidate that is proved counts; the
    deadline (of time.monotonic()) ends the list. inf, and the image, where none is proved; 0 where the image itself is an error.
    """
    points, distances = x.copy(), np.full(len(x), inf)
    wrong = float_margins(network.forward(x), labels) >= 0
    for row in np.flatnonzero(wrong):
        if (
            proven_margins(network, x[row : row + 1], labels[row : row + 1])[0][0] >= 0
            or exact_margin(network, x[row], int(labels[row])) >= 0
        ):
            distances[row] = 0.0
    order = np.argsort(costs, axis=1, kind="stable")
    left = np.flatnonzero(distances > 0)
    for place in range(candidates.shape[1]):
        columns = order[left, place]
        kept = np.isfinite(costs[left, columns])
        left, columns = left[kept], columns[kept]
        if not len(left) or (deadline is not None and place and monotonic() >= deadline):
            break
        found = candidates[left, columns]
        batch = batch_size(network, "cpu", PROBES[0])
        top = np.full(grid.size, cap)
        shares = first_errors(as_module(network), x[left], found, labels[left], np.zeros(grid.size), top, batch)
        points[left], distances[left] = _proved(network, x[left], found, shares, labels[left], grid, cap)
        left = left[~np.isfinite(distances[left])]
    return points, distances


def _proved(network: Network, x: Array, found: Array, shares: Array, labels: Array, grid: Grid, cap: float) -> tuple[Array, Array]:
    """(points (N, n), distances (N,)) on the segments from x to found (N, n), at share (N,) or just past it: proved errors."""
    points, distances = x.copy(), np.full(len(x), inf)

    def candidates(rows: Array, step: float) -> Array:
        share = np.minimum(1.0, shares[rows] * (1 + step))[:, None]
        images = x[rows] + share * (found[rows] - x[rows])
        return np.stack([settled(image[None], center, grid, cap)[0] for image, center in zip(images, x[rows], strict=True)])

    left = np.flatnonzero(~np.isnan(shares))
    for step in STEPS_PAST:
        if not len(left):
            break
        tried = candidates(left, step)
        proved = proven_margins(network, tried, labels[left])[0] >= 0
        for row, image in zip(left[proved], tried[proved], strict=True):
            points[row], distances[row] = image, distance_up(x[row], image, grid)
        left = left[~proved]
    for row in left:
        for step in STEPS_EXACT:
            image = candidates(np.array([row]), step)[0]
            if exact_margin(network, image, int(labels[row])) >= 0:
                points[row], distances[row] = image, distance_up(x[row], image, grid)
                break
    return points, distances

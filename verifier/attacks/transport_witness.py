"""What an attack found in a transport ball, decided exactly: mass, sign, distance and margin.

Points are moved onto the error set along the segment from their image, then made float64 images of exactly the image's mass. Distances
are those of an explicit plan, so proved upper bounds; margins are proved by intervals or in exact arithmetic.
"""

from math import inf
from time import monotonic

import numpy as np

from problems.data import Dataset
from problems.errors import InputError
from problems.network import Network
from problems.rounding import round_up
from problems.transport.conserved import conserved
from problems.transport.flows import distance
from problems.transport.grid import PIXELS, Grid
from verifier.attacks.module import as_module
from verifier.attacks.pgd import batch_size
from verifier.attacks.witness import PROBES, exact_margin, first_errors, float_margins, proven_margins

Array = np.ndarray

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

    def candidate(row: int, step: float) -> Array | None:
        share = min(1.0, shares[row] * (1 + step))
        return conserved(x[row], x[row] + share * (found[row] - x[row]), grid, cap=cap)

    left = np.flatnonzero(~np.isnan(shares))
    for step in STEPS_PAST:
        images = {row: image for row in left.tolist() if (image := candidate(row, step)) is not None}
        if not images:
            break
        rows = np.array(list(images))
        tried = np.stack(list(images.values()))
        proved = proven_margins(network, tried, labels[rows])[0] >= 0
        for row, image in zip(rows[proved], tried[proved], strict=True):
            points[row], distances[row] = image, distance_up(x[row], image, grid)
        left = left[~np.isfinite(distances[left])]
    for row in left.tolist():
        for step in STEPS_EXACT:
            exact = candidate(row, step)
            if exact is not None and exact_margin(network, exact, int(labels[row])) >= 0:
                points[row], distances[row] = exact, distance_up(x[row], exact, grid)
                break
    return points, distances

"""`attack` in image-space Wasserstein distance: images near the samples, with the samples' mass, that are misclassified."""

from collections.abc import Callable
from math import isfinite
from numbers import Real
from pathlib import Path
from time import monotonic
from typing import Any

import numpy as np

from problems import readers
from problems.data import Dataset, load
from problems.errors import InputError
from problems.network import Network
from problems.transport.dyadic import settled
from problems.transport.grid import Grid
from verifier.attacks import flow_gradient, frank_wolfe
from verifier.attacks.base import AttackReport, AttackRow
from verifier.attacks.classifier import ProvedClassifier
from verifier.attacks.module import one_thread
from verifier.attacks.transport_witness import checked, distance_up
from verifier.bracket import Status

Array = np.ndarray

METHODS: dict[str, Callable[..., tuple[Array, Array]]] = {"frank-wolfe": frank_wolfe.nearest, "flow-gradient": flow_gradient.nearest}
NORM = "wasserstein"


def attack_images(
    network: Network | str | Path | Any,
    data: Dataset | str | Path,
    *,
    method: str = "frank-wolfe",
    epsilon: float,
    ground: str = "l1",
    pixels: str = "simplex",
    samples: str | slice | None = None,
    steps: int = 50,
    seed: int = 0,
    device: str = "cpu",
    timeout: float | None = None,
) -> AttackReport:
    """Search for misclassified images within Wasserstein distance `epsilon` of each sample, in units of mass 1.

    method: "frank-wolfe" or "flow-gradient" (the baseline); ground "l1" or "l2"; pixels "simplex" or "image" (pixels stay <= 1); no box
    applies. The other options are those of `verifier.attack`. Successes are proved: a float64 image of exactly the sample's mass in every
    channel, at a distance that an explicit plan attains, whose margin is >= 0 for the stored weights as real numbers. Where none is found
    the row speaks about the image of largest margin met inside the ball. Raises InputError and its subclasses.
    """
    if method not in METHODS:
        raise InputError("method", f"{method!r} is not an attack in Wasserstein distance.", f"Choose one of: {', '.join(METHODS)}.")
    if isinstance(epsilon, bool) or not isinstance(epsilon, Real) or not (isfinite(epsilon) and epsilon >= 0):
        raise InputError("epsilon", f"is {epsilon!r}.", "Give a finite number, 0 or more.")
    if timeout is not None and not (isinstance(timeout, Real) and timeout >= 0):
        raise InputError("timeout", f"is {timeout!r}.", "Give a number of seconds, 0 or more.")
    deadline = None if timeout is None else monotonic() + timeout
    net = readers.load(network)
    dataset = load(data).select(samples)
    dataset.check_fits(net)
    grid = Grid.of_network(net, dataset.image_shape, ground)
    x, labels, grid, cap = checked(net, dataset.x, dataset.y, grid, ground, pixels)
    options: dict[str, Any] = {"steps": steps, "seed": seed, "device": device, "deadline": deadline}
    points, distances = METHODS[method](net, x, labels, shape=grid, pixels=pixels, **options)
    success = distances <= epsilon
    missed = np.flatnonzero(~success)
    model = ProvedClassifier(net, device)
    if len(missed):
        near = inside(net, x[missed], labels[missed], points[missed], grid, cap, float(epsilon), steps, device, deadline)
        points[missed] = near
        distances[missed] = [distance_up(image, point, grid) for image, point in zip(x[missed], near, strict=True)]
    margins = model.margins(points, labels)
    rows = tuple(
        AttackRow(int(number), int(label), bool(margin >= 0), float(distance), float(margin))
        for number, label, margin, distance in zip(dataset.numbers, labels, margins, distances, strict=True)
    )
    won = [row.distance for row in rows if row.success]
    kept = "pixels >= 0" if pixels == "simplex" else "pixels in [0, 1] as the network sees them"
    threat = (
        f"image-space Wasserstein: each of the {len(x)} samples moves by at most {float(epsilon)!r} in W1 with {ground} ground distance "
        f"in pixels, mass 1, {kept}"
    )
    status = Status.TIMED_OUT if deadline is not None and monotonic() >= deadline else Status.DECIDED
    return AttackReport(method, rows, points, 1 - len(won) / len(rows), sum(won) / len(rows), threat, model.judged_by, "margin", status)


def inside(
    network: Network,
    x: Array,
    labels: Array,
    points: Array,
    grid: Grid,
    cap: float,
    epsilon: float,
    steps: int,
    device: str,
    deadline: float | None,
) -> Array:
    """Images (N, n) of large margin within epsilon of x (N, n): points (N, n) drawn into the ball, or what Frank-Wolfe finds inside it."""
    search = frank_wolfe.Search(network, grid, cap, steps, device, deadline)
    with one_thread():
        found = search.ascended(x, labels, epsilon * x.sum(1))
    model = ProvedClassifier(network, device)
    results, margins = x.copy(), model.margins(x, labels)
    for candidates in (points, found):
        confined = np.stack([_confined(image, point, grid, cap, epsilon) for image, point in zip(x, candidates, strict=True)])
        reached = model.margins(confined, labels)
        results = np.where((reached > margins)[:, None], confined, results)
        margins = np.maximum(reached, margins)
    return results


def _confined(x: Array, point: Array, grid: Grid, cap: float, epsilon: float) -> Array:
    """An image with the mass of x within epsilon of it, on the way from x (n,) to the point (n,) or near that way."""
    share = 1.0
    for _ in range(8):
        image = settled((x + share * (point - x))[None], x, grid, cap)[0]
        distance = distance_up(x, image, grid)
        if distance <= epsilon:
            return image
        share *= min(epsilon / distance, 1.0) * (1 - 1e-9)
    return x

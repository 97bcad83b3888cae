"""`attack`: points near the samples that are misclassified. What is found is proved; what is not found proves nothing."""

from math import isfinite
from numbers import Real
from pathlib import Path
from time import monotonic
from typing import Any

from problems import readers
from problems.data import Dataset, load
from problems.errors import InputError
from problems.network import Network
from problems.regions.ball import exponent
from problems.regions.base import Region
from problems.regions.box import Box
from verifier.attacks.base import Attack, AttackReport, Problem
from verifier.attacks.module import check_device
from verifier.attacks.pgd import check_budget
from verifier.attacks.pointwise import ProjectedGradient

METHODS: dict[str, type[Attack]] = {attack.name: attack for attack in (ProjectedGradient,)}


def attack(
    network: Network | str | Path | Any,
    data: Dataset | str | Path,
    *,
    method: str = "pgd",
    norm: float | str,
    epsilon: float,
    region: Region | None = None,
    samples: str | slice | None = None,
    steps: int = 50,
    restarts: int = 5,
    seed: int = 0,
    device: str = "cpu",
    timeout: float | None = None,
) -> AttackReport:
    """Search for misclassified inputs within `epsilon` of each sample, in the norm 1, 2 or inf, inside the region.

    network: a Network, a torch module, a path or a bundled name; data: a Dataset, "digits:test", "mnist:FOLDER" or "FILE.npz", of which
    `samples` ("A:B") are taken. region None means the data's own ([0, 1] for images, R^n for files). timeout in seconds, for the
    search; what was found by then is reported. The same seed gives the same points (on one device, without timeout).

    Successes are proved: the point is a float64 point that lies exactly in ball and region, and its margin is >= 0 for the stored weights
    as real numbers. `accuracy` is an upper bound on the accuracy under attack. Nothing is trusted.
    Raises InputError and its subclasses (DataError: labels, shapes, samples outside the region).
    """
    if method not in METHODS:
        raise InputError("method", f"{method!r} is not an attack.", f"Choose one of: {', '.join(METHODS)}.")
    power = exponent(norm)
    if isinstance(epsilon, bool) or not isinstance(epsilon, Real) or not (isfinite(epsilon) and epsilon >= 0):
        raise InputError("epsilon", f"is {epsilon!r}.", "Give a finite number, 0 or more.")
    if timeout is not None and not (isinstance(timeout, Real) and timeout >= 0):
        raise InputError("timeout", f"is {timeout!r}.", "Give a number of seconds, 0 or more.")
    check_budget(steps=steps, restarts=restarts, seed=seed)
    check_device(device)
    net = readers.load(network)
    dataset = load(data).select(samples)
    dataset.check_fits(net)
    inside = region if region is not None else dataset.domain if dataset.domain is not None else Box.whole_space(net.input_size)
    dataset.check_inside(inside)
    problem = Problem(
        network=net,
        x=dataset.x,
        labels=dataset.y,
        numbers=dataset.numbers,
        norm=power,
        epsilon=float(epsilon),
        region=inside,
        steps=steps,
        restarts=restarts,
        seed=seed,
        device=device,
        deadline=None if timeout is None else monotonic() + timeout,
    )
    return METHODS[method]().attack(problem)

"""`attack`: points near the samples that are misclassified. What is found is proved; what is not found proves nothing."""

from dataclasses import fields
from math import isfinite
from numbers import Real
from pathlib import Path
from time import monotonic
from typing import Any

from problems.data import Dataset, load
from problems.errors import InputError
from problems.network import Network
from problems.regions.ball import exponent
from problems.regions.base import Region
from problems.regions.box import Box
from verifier.attacks.base import Attack, AttackReport, Choices, Problem
from verifier.attacks.classifier import classifier
from verifier.attacks.module import check_device
from verifier.attacks.pgd import check_budget
from verifier.attacks.pointwise import AutoProjectedGradient, ProjectedGradient
from verifier.attacks.transport import METHODS as IMAGE_METHODS
from verifier.attacks.transport import NORM, attack_images
from verifier.attacks.w_pgd import WassersteinGradient
from verifier.attacks.wda import BoughtFlips, FixedWeights, check_choices

METHODS: dict[str, type[Attack]] = {
    attack.name: attack for attack in (ProjectedGradient, AutoProjectedGradient, FixedWeights, BoughtFlips, WassersteinGradient)
}


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
    loss: str | None = None,
    order: float | str | None = None,
    copies: int | None = None,
    points: int | None = None,
    allocation: str | None = None,
    input_shape: tuple[int, ...] | None = None,
    ground: str | None = None,
    pixels: str | None = None,
) -> AttackReport:
    """Search for misclassified inputs near the samples, in the norm 1, 2 or inf, inside the region.

    Point-wise (pgd, apgd), each sample may move by `epsilon`. Distributional (wda, wda++, w-pgd), the data may move by `epsilon` in
    Wasserstein distance of `order` 1, 2 or inf; the two are different threat models, and the report says which.

    network: a Network, a path, a bundled name, or any torch module of inputs (B, n), or (B, *input_shape), default the shape of the data's
    images; data: a Dataset, "digits:test", "mnist:FOLDER" or "FILE.npz", of which `samples` ("A:B") are taken. region None means the data's
    own ([0, 1] for images, R^n for files); no attack needs a bounded one. timeout in seconds, for the search; what was found by then, or by
    Ctrl-C, is reported. The same seed gives the same points (on one device, without timeout).
    norm "wasserstein" with frank-wolfe or flow-gradient: each image moves by at most epsilon in W1, see `attack_images`; `ground` ("l1",
    "l2") and `pixels` ("simplex", "image") are for them alone.
    loss: of apgd and wda "dlr", "ce" or "margin", of w-pgd also "redlr"; copies k and points M of wda, allocation of wda++ ("greedy",
    "random"): see the classes. None is the attack's own default.

    Successes are proved: the point is a float64 point that lies exactly in ball and region, and its margin is >= 0 for the stored weights
    as real numbers; the cost of a distributional attack is proved too. Only a torch module that cannot be read as a network of affine
    and ReLU layers is taken at its own word (`judged_by` says so). `accuracy` is an upper bound on the accuracy under attack: no attack
    proves that there is no better one. Raises InputError and its subclasses (DataError: labels, shapes, samples outside the region).
    """
    if norm == NORM or method in IMAGE_METHODS:
        if norm != NORM:
            raise InputError("norm", f"{method} attacks in Wasserstein distance of images, not in {norm}.", f"Use --norm {NORM}.")
        _check_unused(region=region, loss=loss, order=order, copies=copies, points=points, allocation=allocation, input_shape=input_shape)
        check_budget(steps=steps, restarts=restarts, seed=seed)
        return attack_images(
            network, data, method=method, epsilon=epsilon, ground=ground or "l1", pixels=pixels or "simplex", samples=samples, steps=steps,
            seed=seed, device=device, timeout=timeout,
        )  # fmt: skip
    _check_unused(ground=ground, pixels=pixels)
    if method not in METHODS:
        raise InputError("method", f"{method!r} is not an attack.", f"Choose one of: {', '.join([*METHODS, *IMAGE_METHODS])}.")
    kind = METHODS[method]
    power = exponent(norm)
    if isinstance(epsilon, bool) or not isinstance(epsilon, Real) or not (isfinite(epsilon) and epsilon >= 0):
        raise InputError("epsilon", f"is {epsilon!r}.", "Give a finite number, 0 or more.")
    if timeout is not None and not (isinstance(timeout, Real) and timeout >= 0):
        raise InputError("timeout", f"is {timeout!r}.", "Give a number of seconds, 0 or more.")
    check_budget(steps=steps, restarts=restarts, seed=seed)
    check_device(device)
    check_choices(copies, points, allocation)
    power_of_cost = None if order is None else exponent(order, "order")
    choices = Choices(loss, power_of_cost, copies, points, allocation)
    _check_taken(kind, choices)
    dataset = load(data).select(samples)
    model = classifier(network, device, dataset.x.shape[1], input_shape or dataset.image_shape)
    dataset.check_fits(model)
    inside = region if region is not None else dataset.domain if dataset.domain is not None else Box.whole_space(model.input_size)
    dataset.check_inside(inside)
    problem = Problem(
        model=model,
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
        choices=choices,
    )
    return kind().attack(problem)


def _check_unused(**choices: Any) -> None:
    """Raises InputError for a choice of another kind of attack."""
    for name, value in choices.items():
        if value is not None:
            raise InputError(
                name, "means nothing for this norm.", f"Leave it out: ground and pixels go with --norm {NORM}, the rest does not."
            )


def _check_taken(kind: type[Attack], choices: Choices) -> None:
    """Raises InputError for a choice that the attack does not have, or a loss that it does not know."""
    for choice in fields(choices):
        if getattr(choices, choice.name) is not None and choice.name not in kind.takes:
            having = ", ".join(name for name, other in METHODS.items() if choice.name in other.takes)
            raise InputError(choice.name, f"{kind.name} has no such choice.", f"Leave it out, or choose among: {having}.")
    if choices.loss is not None and choices.loss not in kind.losses:
        raise InputError("loss", f"{kind.name} does not ascend {choices.loss!r}.", f"Choose one of: {', '.join(kind.losses)}.")

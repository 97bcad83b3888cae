"""Wasserstein smoothing (Levine and Feizi, AISTATS 2020): a rival's certificate, probabilistic, in the units of ours.

The smoothed classifier g(x) is the class that the base classifier f gives most often to x + s A delta, where s is the image's mass, A the
incidence matrix of the grid and delta has independent Laplace entries of scale b = sigma / sqrt(2) (sigma is their standard deviation).
Images at W1 distance rho (mass 1, L1 ground distance) differ by a flow of 1 norm rho, so certificates for Laplace noise and the 1 norm
apply. With P(f = y) >= p for the noisy images of x:

- Levine and Feizi: no density changes by more than a factor exp(rho/b), so there P(f = y) >= p exp(-rho/b) and every other class has at
  most (1 - p) exp(rho/b), which are equal at

      rho = b/2 log(p / (1 - p)) = sigma / (2 sqrt(2)) log(p / (1 - p)).

- Tight (Teng, Lee and Yuan 2019; Yang et al., ICML 2020): the worst shift goes along one axis. Its density over the old one, exp((|z| -
  |z - rho|) / b) in that coordinate z, increases with z, so by Neyman and Pearson the worst set of probability p is {z <= t} with
  1 - exp(-t/b)/2 = p. After the shift its probability is that of {z <= t - rho}, which is 1/2 at rho = t: for p >= 1/2

      rho = -b log(2 (1 - p)).

p is a one-sided Clopper-Pearson bound, from fresh noise after the class was chosen: each radius holds with the stated confidence over the
draw of the noise, for the SMOOTHED classifier, pseudo-random numbers and floating point trusted. That is no proof: never to be mixed
with brackets.
"""

from dataclasses import dataclass
from math import inf, log, sqrt
from typing import Any

import numpy as np
import torch

from problems import readers
from problems.data import Dataset, load
from problems.errors import InputError
from problems.network import Network
from problems.transport.grid import Grid
from verifier.attacks.flow_gradient import applied
from verifier.attacks.module import as_module, check_device, one_thread, operations
from verifier.attacks.pgd import LARGEST_BATCH, STEP_OPERATIONS

Array = np.ndarray

CHOOSING, BOUNDING = 1000, 10_000  # noisy images that choose the class, and that bound its probability: the authors' numbers
CONFIDENCE = 0.95  # the authors'


@dataclass(frozen=True)
class Smoothed:
    """One sample. predicted: the class chosen; hits of samples noisy images fell into it; p: the lower bound of its probability.

    published and tight: W1 radii (mass 1, L1 ground distance) by the two certificates, at the given confidence; 0 where p <= 1/2 or the
    class is wrong.
    """

    sample: int
    label: int
    predicted: int
    hits: int
    samples: int
    p: float
    published: float
    tight: float
    confidence: float


def smoothed_radii(
    network: Network | Any,
    data: Dataset | Any,
    *,
    sigma: float,
    samples: str | slice | None = None,
    choosing: int = CHOOSING,
    bounding: int = BOUNDING,
    confidence: float = CONFIDENCE,
    seed: int = 0,
    device: str = "cpu",
) -> list[Smoothed]:
    """Certified radii of the classifier smoothed with noise of standard deviation `sigma` (mass 1), one per sample.

    network: the base classifier, trained on such noise; its inputs are images with their own mass. The same seed gives a sample the same
    numbers, whatever other samples there are. Raises InputError and its subclasses.
    """
    if not (isinstance(sigma, int | float) and 0 < sigma < inf):
        raise InputError("sigma", f"is {sigma!r}.", "Give a positive number.")
    if not 0 < confidence < 1:
        raise InputError("confidence", f"is {confidence!r}.", "Give a number between 0 and 1.")
    if min(choosing, bounding) < 1:
        raise InputError("samples of noise", f"are {choosing} and {bounding}.", "Give whole numbers from 1 on.")
    check_device(device)
    net = readers.load(network)
    dataset = load(data).select(samples)
    dataset.check_fits(net)
    grid = Grid.of_network(net, dataset.image_shape)
    results = []
    for number, x, label in zip(dataset.numbers.tolist(), dataset.x, dataset.y.tolist(), strict=True):
        grid.check_image(x, f"{dataset.name}, sample {number}")
        generator = torch.Generator().manual_seed(seed * 1_000_003 + number)
        predicted = int(votes(net, x, grid, sigma, choosing, generator, device).argmax())
        hits = int(votes(net, x, grid, sigma, bounding, generator, device)[predicted])
        p = at_least(hits, bounding, confidence)
        right = predicted == label
        radii = (published_radius(p, sigma), tight_radius(p, sigma)) if right else (0.0, 0.0)
        results.append(Smoothed(number, label, predicted, hits, bounding, p, *radii, confidence))
    return results


def votes(network: Network, x: Array, grid: Grid, sigma: float, count: int, generator: torch.Generator, device: str = "cpu") -> Array:
    """(K,): how many of `count` noisy versions of the image x (n,) the network gives to each class."""
    module = as_module(network, device, torch.float32)
    kind = device.split(":")[0]
    step = int(max(1, min(LARGEST_BATCH[kind], STEP_OPERATIONS[kind] / max(1, operations(network)))))
    image = torch.from_numpy(x).to(device)
    edges = len(grid.edges[0])
    found = torch.zeros(network.output_size, dtype=torch.int64)
    with torch.no_grad(), one_thread():
        for begin in range(0, count, step):
            uniform = torch.rand(min(step, count - begin), edges, generator=generator) - 0.5
            # The inverse of the Laplace distribution; 2 |uniform| may be 1 to rounding.
            flows = -(sigma / sqrt(2)) * uniform.sign() * torch.log1p(-(2 * uniform.abs()).clamp(max=1 - 2.0**-24))
            noisy = image + image.sum() * applied(flows.to(device).double(), grid)
            found += torch.bincount(module(noisy.float()).argmax(1).cpu(), minlength=network.output_size)
    return found.numpy()


def at_least(hits: int, count: int, confidence: float) -> float:
    """The one-sided lower bound of Clopper and Pearson (1934) on a probability of which `count` trials hit `hits` times."""
    from scipy.stats import beta

    return 0.0 if hits == 0 else float(beta.ppf(1 - confidence, hits, count - hits + 1))


def published_radius(p: float, sigma: float) -> float:
    """sigma / (2 sqrt 2) log(p / (1 - p)): the certificate of Levine and Feizi (Theorem 1 with the other class bounded by 1 - p)."""
    return 0.0 if p <= 0.5 else inf if p >= 1 else sigma / (2 * sqrt(2)) * log(p / (1 - p))


def tight_radius(p: float, sigma: float) -> float:
    """-sigma / sqrt 2 log(2 (1 - p)): the largest radius that holds for every classifier of probability p >= 1/2."""
    return 0.0 if p <= 0.5 else inf if p >= 1 else -sigma / sqrt(2) * log(2 * (1 - p))

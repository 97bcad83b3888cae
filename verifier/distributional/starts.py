"""Points worth trying: ascents of the margin in balls of growing radius around every sample, all samples at once."""

from math import inf, isfinite
from time import monotonic

import numpy as np

from problems.maps import Array
from problems.network import Network
from problems.regions.base import Region

# Radii per call, steps per radius.
RUNGS, STEPS = 10, 40
MOST_SAMPLES = 512


def ladder(epsilon: list[float], count: int, order: float, reach: float) -> list[float]:
    """Radii at which a worst distribution may want its points: from a part of the smallest eps to the whole budget on one sample."""
    positive = [e for e in epsilon if e > 0]
    if not positive:
        return []
    if order == inf:
        return sorted(set(positive))
    low, high = 0.3 * min(positive), max(positive) * (count ** (1.0 / order))
    return np.geomspace(low, max(min(high, reach), 1.01 * low), RUNGS).tolist()


def starts(
    network: Network, x: Array, labels: Array, radii: list[float], *, norm: float, region: Region, seed: int = 0, device: str = "cpu",
    deadline: float | None = None,
) -> Array:  # fmt: skip
    """(R, N, n) float points about inside region and balls: for each radius (R,), smallest first, the ascent's point for samples (N, n).

    Each ascent starts from the better of the sample and the last radius' point pushed outward. What the deadline (an instant of
    time.monotonic()) leaves undone repeats the last points.
    """
    import torch

    from verifier.attacks.module import as_module, check_device, one_thread, search_precision
    from verifier.attacks.pgd import Reach, ascend, margin_objective

    check_device(device)
    kind = search_precision(network)
    module = as_module(network, device, kind)
    lower, upper = region.bounding_box()
    result = np.repeat(x[None], len(radii), axis=0)
    generator = torch.Generator().manual_seed(seed)

    def tensor(values: Array) -> torch.Tensor:
        return torch.from_numpy(np.array(values)).to(device=device, dtype=kind)

    with one_thread():
        for begin in range(0, len(x), MOST_SAMPLES):
            rows = slice(begin, begin + MOST_SAMPLES)
            centers = tensor(x[rows])
            sides = tensor(lower).expand_as(centers), tensor(upper).expand_as(centers)
            last, before = centers, 0.0
            for place, radius in enumerate(radii):
                if not isfinite(radius) or (deadline is not None and monotonic() >= deadline):
                    result[place:, rows] = last.cpu().numpy()
                    break
                reach = Reach.balls(centers, torch.full_like(centers[:, 0], radius), norm, *sides)
                outward = reach.project(centers + (last - centers) * (radius / before if before else 1.0))
                points = torch.cat([outward, centers])
                both = Reach.balls(
                    torch.cat([centers, centers]), torch.full_like(points[:, 0], radius), norm,
                    torch.cat([sides[0], sides[0]]), torch.cat([sides[1], sides[1]]),
                )  # fmt: skip
                twice = margin_objective(torch.from_numpy(np.concatenate([labels[rows]] * 2)).to(device))
                found, values = ascend(module, points, both, twice, steps=STEPS, generator=generator, deadline=deadline)
                half = len(centers)
                last = torch.where((values[:half] >= values[half:])[:, None], found[:half], found[half:]).detach()
                before = radius
                result[place, rows] = last.cpu().numpy()
    return result

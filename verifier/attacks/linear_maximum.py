"""The linear problem of Frank-Wolfe: the image of a transport ball at which a linear function is largest (THEORY.md F1).

On the CPU by the compiled search of `problems.regions.transport_kernel`, elsewhere by the batched one of `problems.transport.support`: the
same duality, the same bracketing tangents.
"""

import numpy as np
import torch
from torch import Tensor

from problems.transport.grid import Grid, all_lengths
from problems.transport.support import Support, support


def largest(c: Tensor, x: Tensor, radius: Tensor, grid: Grid) -> Support:
    """The support of the balls of radius (B,), in mass times pixels, around images x (B, n), in directions c (B, n), all float64.

    The cost is the radius: an upper bound of that of the maximiser's plan, and equal to it but where more mass would not help.
    """
    if c.device.type != "cpu":
        return support(c, x, radius, shape=grid)
    from problems.regions import transport_kernel  # compiled: loaded when first used

    euclidean = grid.ground == "l2"
    images = np.ascontiguousarray(x.numpy())
    turned = np.ascontiguousarray(images.reshape(len(images), *grid.shape).transpose(0, 1, 3, 2)).reshape(images.shape)
    value, multiplier, point = np.empty(len(images)), np.empty(len(images)), np.empty_like(images)
    transport_kernel.images(
        np.ascontiguousarray(c.numpy()), images, turned, images.sum(1), grid.shape, euclidean,
        all_lengths(grid) if euclidean else np.zeros((0, 0)), np.ascontiguousarray(radius.numpy()), value, point, multiplier,
    )  # fmt: skip
    return Support(torch.from_numpy(value), torch.from_numpy(point), torch.from_numpy(multiplier), radius)

"""Compile the kernels once, so that no later run has to: `python -m verifier.warm` (part of `make setup`).

numba keeps the compiled code beside the sources; a change of version or processor compiles anew at the next use.
"""

import sys
import time
from math import inf

import numpy as np
import torch

from problems.maps import Dense
from problems.network import sequential
from problems.regions.ball import Ball
from problems.regions.box import Box
from problems.regions.transport import TransportBall
from problems.specification import robustness
from problems.transport.grid import Grid
from verifier import certified
from verifier.attacks.linear_maximum import largest
from verifier.distributional.inner import Setting, Task, maximise
from verifier.distributional.losses import Margin
from verifier.enumeration.count import ready
from verifier.recession.tightness import tightness
from verifier.robustness import verify
from verifier.steepness.lipschitz import lipschitz


def main() -> None:
    """Run every compiled kernel on something small."""
    began = time.monotonic()
    print("Compiling kernels (once) ...", end=" ", file=sys.stderr, flush=True)
    ones, box = np.ones((1, 1, 2)), Box(np.zeros(2), np.ones(2))
    box.support(ones)
    for norm in (1, 2, inf):
        ball = Ball(np.full(2, 0.5), 0.25, norm, box)
        ball.support(ones)
        ball.closest(ones, -np.ones((1, 1)))
        certified.ready(norm, "auto")
        ball.penalised(ones, 1.0)
    image = TransportBall(np.full(4, 0.25), 0.25, Grid(1, 2, 2))
    image.support(np.ones((1, 1, 4)))
    image.closest(np.ones((1, 1, 4)), -np.ones((1, 1)))
    largest(torch.ones(1, 4).double(), torch.ones(1, 4).double(), torch.ones(1).double(), image.grid)
    generator = np.random.default_rng(0)
    layers = [Dense(generator.standard_normal(shape)) for shape in ((6, 2), (6, 6), (2, 6))]
    network = sequential(layers, [np.zeros(6), np.zeros(6), np.array([0.0, -1.0])])
    verify(network, robustness(box, 0, 2), timeout=60.0, workers=1)
    ready()
    for method in ("cells", "search"):
        lipschitz(network, box, input_norm=inf, of="vector:1", method=method)
        lipschitz(network, box, input_norm=1, of="pair:0,1", method=method)
    tightness(network, None, 2)
    for norm in (1, 2, inf):
        task = Task(0, np.full(2, 0.5), 0, (0.1,), (1e-9,), np.zeros((0, 2)), timeout=60.0)
        maximise(Setting(network, norm, 1, box, Margin()), task)
    print(f"done in {time.monotonic() - began:.0f} s.", file=sys.stderr)


if __name__ == "__main__":
    main()

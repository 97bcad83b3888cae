"""The support function of transport balls: the closed form in torch and compiled, beside the linear program that gives the same number.

    python -m benchmarks.support [--side N] [--rows N] [--programs N] [--seed N] [--cuda]

Random images with a fifth of their pixels lit, and smooth random functionals, on an N x N grid (default 28). Prints, for both ground
distances, processor seconds per functional, how many times faster than the program (HiGHS through scipy, on the grid's edges; for
Euclidean ground it has one variable per pair of pixels and is left out on large grids), and the largest relative difference of the values.
--cuda times the batch on the GPU too (wall clock).
"""

import argparse
import sys
import time
from collections.abc import Callable

import numpy as np
import scipy.sparse as sparse
from scipy.ndimage import gaussian_filter
from scipy.optimize import linprog

from problems.regions import TransportBall
from problems.transport.grid import Grid
from problems.transport.support import support

Array = np.ndarray
LARGEST_PROGRAM = 50_000  # variables


def main(arguments: list[str] | None = None) -> int:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--side", type=int, default=28)
    parser.add_argument("--rows", type=int, default=200)
    parser.add_argument("--programs", type=int, default=5)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--cuda", action="store_true")
    options = parser.parse_args(arguments)
    print(f"{'ground':8}{'method':12}{'ms/row':>10}{'times LP':>10}{'difference':>12}")
    for ground in ("l1", "l2"):
        measure(Grid(1, options.side, options.side, ground), options)
    return 0


def measure(grid: Grid, options: argparse.Namespace) -> None:
    """The lines of one ground distance."""
    generator = np.random.default_rng(options.seed)
    mu = generator.random(grid.size) * (generator.random(grid.size) < 0.2)
    c = np.stack([gaussian_filter(generator.normal(size=(grid.height, grid.width)), 1.0).ravel() for _ in range(options.rows)])
    radius = 0.03 * float(mu.sum())
    ball = TransportBall(mu, radius, grid)
    methods: dict[str, Callable[[], Array]] = {
        "compiled": lambda: ball.support(c[None])[0][0],
        "torch": lambda: support(c, mu[None], radius, shape=grid).value.numpy(),
    }
    if options.cuda:
        methods["torch cuda"] = lambda: support(c, mu[None], radius, shape=grid, device="cuda").value.cpu().numpy()
    found, seconds = {}, {}
    for name, method in methods.items():
        method()  # compiled, and the device awake
        clock = time.monotonic if name == "torch cuda" else time.process_time
        began = clock()
        found[name] = method()
        seconds[name] = (clock() - began) / options.rows
    if 2 * len(grid.edges[0]) <= LARGEST_PROGRAM:
        began = time.process_time()
        found["program"] = np.array([program(grid, row, mu, radius) for row in c[: options.programs]])
        seconds["program"] = (time.process_time() - began) / options.programs
    reference = found.get("program", found["torch"][: options.programs])
    for name, time_taken in seconds.items():
        difference = np.abs(found[name][: options.programs] - reference).max() / np.abs(reference).max()
        ratio = f"{seconds['program'] / time_taken:10.0f}" if "program" in seconds else f"{'':>10}"
        print(f"{grid.ground:8}{name:12}{1e3 * time_taken:10.3f}{ratio}{difference:12.1e}")


def program(grid: Grid, c: Array, mu: Array, radius: float) -> float:
    """max c.nu over the ball, by HiGHS."""
    both = sparse.hstack([grid.incidence, -grid.incidence]).tocsr()
    rows = sparse.vstack([-both, sparse.csr_matrix(np.tile(grid.edges[2], 2))])
    return float(c @ mu - linprog(-(both.T @ c), A_ub=rows, b_ub=np.append(mu, radius), bounds=(0, None), method="highs").fun)


if __name__ == "__main__":
    sys.exit(main())

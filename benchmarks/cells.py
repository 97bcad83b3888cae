"""Cells per second: the compiled search, the same search with HiGHS, and relucent, in one run.

    OMP_NUM_THREADS=1 python -m benchmarks.cells [--networks FOLDER] [--rival FOLDER] [--patience S]

Boxes: the rows of FOLDER/reference.csv (networks as .npz with arrays L, W0, b0, ..., X; the box of that radius around X[0]). All of R^n:
random networks; relucent enumerates only there. With --rival, relucent is installed into a virtual environment in that folder, if it is
not there yet. Times are processor seconds of one thread, without loading and compiling, which are told apart. Whatever takes longer than
the patience (default 60 s) is left out with a dash.
"""

import argparse
import csv
import json
import subprocess
import sys
import tempfile
import venv
from datetime import date
from importlib.metadata import version
from itertools import pairwise
from math import inf
from pathlib import Path
from time import process_time

import numpy as np

from benchmarks.solvers import cpu, row, table
from problems import readers
from problems.maps import Dense
from problems.network import Network, sequential
from problems.regions import Ball, Box, Region
from verifier.enumeration import stream_batches
from verifier.enumeration.compose import Composer
from verifier.enumeration.count import ready
from verifier.enumeration.frame import frame_of
from verifier.enumeration.plain import PlainSearch
from verifier.search.budget import Budget

NETWORKS = Path(__file__).resolve().parent.parent.parent / "shared" / "data" / "lipschitz"
RANDOM = [[2, 8, 8, 2], [2, 16, 16, 2], [3, 8, 8, 2], [3, 12, 12, 2], [4, 8, 8, 3], [4, 16, 16, 3]]

# What the rival's interpreter runs: weights in, count and processor seconds out.
RIVAL = """
import json, sys, time
from collections import OrderedDict
import numpy, relucent
from relucent.model.model import LinearLayer, ReLULayer, ReLUNetwork
arrays = numpy.load(sys.argv[1])
layers, count = OrderedDict(), int(arrays["L"])
for k in range(count):
    layers[f"fc{k}"] = LinearLayer(weight=arrays[f"W{k}"], bias=arrays[f"b{k}"].reshape(1, -1))
    if k < count - 1:
        layers[f"relu{k}"] = ReLULayer()
network = ReLUNetwork(layers, input_shape=(arrays["W0"].shape[1],))
complex = relucent.Complex(network)
began = time.process_time()
complex.bfs(start=numpy.full((1, arrays["W0"].shape[1]), 0.01234), nworkers=1, verbose=0)
print(json.dumps([len(complex), time.process_time() - began]))
"""


def ours(network: Network, region: Region) -> tuple[int, float, float]:
    """(cells, seconds in the kernel, seconds in all): the best of three where that is quick."""
    best: tuple[int, float, float] | None = None
    for _ in range(3):
        began = process_time()
        stream = stream_batches(network, region)
        cells = sum(len(batch) for batch in stream)
        figures = cells, stream.kernel_seconds, process_time() - began
        best = figures if best is None or figures[2] < best[2] else best
        if figures[2] > 5.0:
            break
    assert best is not None
    return best


def with_highs(network: Network, region: Region, patience: float) -> tuple[str, str]:
    """(cells, seconds) of the plain search, or dashes."""
    frame, budget = frame_of(region), Budget(patience)
    search = PlainSearch(Composer(network, frame), frame, late=budget.exceeded)
    began, count = process_time(), 0
    for leaf in search.leaves():
        if leaf is None:
            return "-", "-"
        count += leaf.point is not None
    return str(count), f"{process_time() - began:.2f}"


def with_relucent(python: Path | None, network: Network, patience: float) -> tuple[str, str]:
    """(cells, seconds) of relucent's breadth-first search over all of R^n, or dashes."""
    if python is None:
        return "-", "-"
    affine = network.nodes[1::2]
    arrays: dict[str, object] = {"L": len(affine)}
    for k, node in enumerate(affine):
        arrays |= {f"W{k}": node.maps[0].weights, f"b{k}": node.bias}  # type: ignore[union-attr]
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "network.npz"
        np.savez(file, **arrays)  # type: ignore[arg-type]
        try:
            done = subprocess.run([python, "-c", RIVAL, file], capture_output=True, text=True, timeout=patience + 30.0)
        except subprocess.TimeoutExpired:
            return "-", "-"
    if done.returncode:
        return "failed", done.stderr.strip().splitlines()[-1][:60]
    cells, seconds = json.loads(done.stdout.splitlines()[-1])
    return str(cells), f"{seconds:.2f}"


def installed(folder: Path) -> Path:
    """The interpreter of a virtual environment with relucent."""
    python = folder / "bin" / "python"
    if not python.exists():
        venv.create(folder, with_pip=True)
        subprocess.run([python, "-m", "pip", "install", "--quiet", "relucent"], check=True)
    return python


def random_network(sizes: list[int], seed: int = 0) -> Network:
    """Normal weights over the square root of the fan-in, biases 0.3 times normal."""
    generator = np.random.default_rng(seed)
    maps = [Dense(generator.normal(size=(b, a)) / np.sqrt(a)) for a, b in pairwise(sizes)]
    return sequential(maps, [0.3 * generator.normal(size=b) for b in sizes[1:]])


def main() -> None:
    """Print the tables, in Markdown."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--networks", type=Path, default=NETWORKS)
    parser.add_argument("--rival", type=Path)
    parser.add_argument("--patience", type=float, default=60.0)
    options = parser.parse_args()
    python = None if options.rival is None else installed(options.rival)
    print(f"{date.today()}, {cpu()}, one thread of a shared machine; numba {version('numba')}, highspy {version('highspy')}\n")
    print(f"Loading (and, the first time, compiling) the kernel: {ready():.1f} s\n", flush=True)
    if (options.networks / "reference.csv").exists():
        table("network", "radius", "reference", "cells", "kernel, s", "all, s", "cells/s", "HiGHS: cells", "s")
        with open(options.networks / "reference.csv", newline="", encoding="utf-8") as lines:
            for line in csv.DictReader(lines):
                file = options.networks / f"{line['network']}.npz"
                with np.load(file) as archive:
                    centre = np.asarray(archive["X"][0], dtype=np.float64)
                network, region = readers.load(file), Ball(centre, float(line["radius_linf"]), inf)
                cells, kernel, whole = ours(network, region)
                figures = str(cells), f"{kernel:.4f}", f"{whole:.3f}", f"{cells / max(kernel, 1e-6):.0f}"
                row(line["network"], line["radius_linf"], line["cells"], *figures, *with_highs(network, region, options.patience))
    else:
        print(f"{options.networks} has no reference.csv: no boxes.", file=sys.stderr)
    print()
    table("random network, all of space", "", "cells", "kernel, s", "all, s", "relucent: cells", "s")
    for sizes in RANDOM:
        network = random_network(sizes)
        cells, kernel, whole = ours(network, Box.whole_space(sizes[0]))
        rival = with_relucent(python, network, options.patience)
        row("-".join(map(str, sizes)), "", str(cells), f"{kernel:.4f}", f"{whole:.3f}", *rival)


if __name__ == "__main__":
    main()

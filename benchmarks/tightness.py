"""How often are cells tight, and how far are l and kappa* from L? A study over 100 random and 20 trained networks on R^n.

    python -m benchmarks.tightness [--output benchmarks/results/tightness.csv]

Random networks have the weights that torch gives a layer before training: uniform in +-1/sqrt(inputs), biases too. Trained ones learn small
classification problems of scikit-learn until their loss stands still; labels are those of the data, which also weigh the cells. Everything
is seeded. Writes one row per network and norm, and prints a summary in Markdown.
"""

import argparse
import csv
import platform
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import pairwise
from math import inf
from pathlib import Path

import numpy as np

from problems.data import Dataset
from problems.maps import Dense
from problems.network import Network, sequential
from verifier import tightness
from verifier.recession.audit import TightnessAudit

NORMS = (1.0, 2.0, inf)
SHAPES = ((2, 8, 8, 3), (2, 16, 16, 3), (3, 8, 8, 3), (3, 16, 16, 3), (4, 16, 16, 3))
SEEDS = 20
FIELDS = (
    "kind", "name", "shape", "norm", "cells", "unbounded_cells", "tight_cells", "L", "l", "kappa_star", "kappa_upper", "layers",
    "tight_data", "tight_data_top", "accuracy", "complete", "cpu_seconds",
)  # fmt: skip


@dataclass(frozen=True, eq=False)
class Subject:
    """A network of the study; trained ones bring their data."""

    kind: str
    name: str
    network: Network
    data: Dataset | None = None


def random_networks() -> Iterator[Subject]:
    """100 networks as torch would initialise them."""
    for shape in SHAPES:
        for seed in range(SEEDS):
            generator = np.random.default_rng([seed, *shape])
            limits = [1 / np.sqrt(a) for a in shape[:-1]]
            maps = [Dense(generator.uniform(-v, v, (b, a))) for v, a, b in zip(limits, shape, shape[1:], strict=False)]
            biases = [generator.uniform(-v, v, b) for v, b in zip(limits, shape[1:], strict=True)]
            yield Subject("random", f"random-{'-'.join(map(str, shape))}-{seed}", sequential(maps, biases))


def problems() -> Iterator[tuple[str, np.ndarray, np.ndarray, tuple[int, ...]]]:
    """(name, x (N, n), y (N,), hidden layers) of ten problems with 2 to 4 inputs."""
    from sklearn import datasets
    from sklearn.decomposition import PCA

    def scaled(x: np.ndarray) -> np.ndarray:
        return (x - x.mean(axis=0)) / x.std(axis=0)

    moons = datasets.make_moons(200, noise=0.15, random_state=0)
    circles = datasets.make_circles(200, noise=0.1, factor=0.4, random_state=0)
    blobs = datasets.make_blobs(200, centers=4, random_state=3)
    yield "moons", scaled(moons[0]), moons[1], (8, 8)
    yield "moons", scaled(moons[0]), moons[1], (16, 16)
    yield "circles", scaled(circles[0]), circles[1], (8, 8)
    yield "circles", scaled(circles[0]), circles[1], (16, 16)
    yield "blobs", scaled(blobs[0]), blobs[1], (8, 8)
    iris, wine = datasets.load_iris(return_X_y=True), datasets.load_wine(return_X_y=True)
    yield "iris", scaled(iris[0]), iris[1], (8, 8)
    yield "wine-pca3", scaled(PCA(3, random_state=0).fit_transform(scaled(wine[0]))), wine[1], (8, 8)
    digits = datasets.load_digits()
    for inputs, classes, hidden in ((2, 3, (16, 16)), (3, 5, (16, 16)), (4, 10, (12, 12))):
        chosen = digits.target < classes
        x = PCA(inputs, random_state=0).fit_transform(digits.data[chosen] / 16.0)
        yield f"digits{classes}-pca{inputs}", scaled(x), digits.target[chosen], hidden


def trained_networks() -> Iterator[Subject]:
    """20 networks: each problem from two seeds."""
    for name, x, y, hidden in problems():
        for seed in range(2):
            data = Dataset(x, y, name=name)
            yield Subject("trained", f"{name}-{'-'.join(map(str, hidden))}-{seed}", train(x, y, hidden, seed), data)


def train(x: np.ndarray, y: np.ndarray, hidden: tuple[int, ...], seed: int) -> Network:
    """A network fitted to all samples by 1500 steps of Adam with a little weight decay, in float64."""
    import torch

    torch.manual_seed(seed)
    torch.set_num_threads(1)
    sizes = (x.shape[1], *hidden, int(y.max()) + 1)
    layers: list[torch.nn.Module] = []
    for a, b in pairwise(sizes):
        layers += [torch.nn.Linear(a, b, dtype=torch.float64), torch.nn.ReLU()]
    model = torch.nn.Sequential(*layers[:-1])
    inputs, labels = torch.tensor(x), torch.tensor(y)
    optimiser = torch.optim.AdamW(model.parameters(), lr=0.01, weight_decay=0.01)
    for _ in range(1500):
        optimiser.zero_grad()
        torch.nn.functional.cross_entropy(model(inputs), labels).backward()
        optimiser.step()
    linear = [layer for layer in model if isinstance(layer, torch.nn.Linear)]
    return sequential([Dense(m.weight.detach().numpy().copy()) for m in linear], [m.bias.detach().numpy().copy() for m in linear])


def row(subject: Subject, norm: float, audit: TightnessAudit, seconds: float) -> dict[str, object]:
    network, data = subject.network, subject.data
    sizes = [network.input_size, *(network.nodes[i].size for i in network.relus), network.output_size]
    accuracy = None if data is None else float((network.forward(data.x).argmax(axis=1) == data.y).mean())
    return {
        "kind": subject.kind, "name": subject.name, "shape": "-".join(map(str, sizes)), "norm": f"{norm:g}", "cells": audit.cells,
        "unbounded_cells": audit.unbounded_cells, "tight_cells": audit.tight_cells, "L": audit.lipschitz.upper,
        "l": audit.tight_slope.lower, "kappa_star": audit.slope_at_infinity.lower, "kappa_upper": audit.slope_at_infinity.upper,
        "layers": " ".join(f"{share:.6g}" for share in audit.layers), "tight_data": audit.tight_data,
        "tight_data_top": audit.tight_data_top, "accuracy": accuracy, "complete": audit.complete, "cpu_seconds": round(seconds, 3),
    }  # fmt: skip


def summary(rows: list[dict[str, object]]) -> str:
    """The study in one table."""

    def numbers(chosen: list[dict[str, object]], name: str) -> np.ndarray:
        return np.array([float(r[name]) for r in chosen])  # type: ignore[arg-type]

    lines = [
        "| networks | norm | cells (median) | unbounded | tight, of all cells | tight, of unbounded | no tight cell | l/L median (largest) "
        "| l = L | kappa*/L median (largest) | l = kappa* | samples in tight cells |",
        "|" + "---|" * 12,
    ]
    for kind in ("random", "trained"):
        for norm in ("1", "2", "inf"):
            chosen = [r for r in rows if r["kind"] == kind and r["norm"] == norm]
            cells, free, tight = (numbers(chosen, name) for name in ("cells", "unbounded_cells", "tight_cells"))
            top, low, infinity = (numbers(chosen, name) for name in ("L", "l", "kappa_star"))
            share = "" if kind == "random" else f"{np.mean(numbers(chosen, 'tight_data')):.2%}"
            lines.append(
                f"| {len(chosen)} {kind} | {norm} | {np.median(cells):.0f} | {free.sum() / cells.sum():.1%} "
                f"| {tight.sum() / cells.sum():.3%} "
                f"| {tight.sum() / free.sum():.2%} | {np.mean(tight == 0):.0%} | {np.median(low / top):.3f} ({(low / top).max():.3f}) "
                f"| {np.mean(low >= top * (1 - 1e-9)):.0%} | {np.median(infinity / top):.3f} ({(infinity / top).max():.3f}) "
                f"| {np.mean(low >= infinity * (1 - 1e-6)):.0%} | {share} |"
            )
    return "\n".join(lines)


def main() -> None:
    """Run the study."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])  # type: ignore[union-attr]
    parser.add_argument("--output", default="benchmarks/results/tightness.csv", help="where the rows go")
    options = parser.parse_args()
    rows = []
    with Path(options.output).open("w", newline="", encoding="utf-8") as stream:
        writer = csv.DictWriter(stream, FIELDS)
        writer.writeheader()
        for subject in (*random_networks(), *trained_networks()):
            for norm in NORMS:
                began = time.process_time()
                audit = tightness(subject.network, None, norm, data=subject.data, timeout=300)
                rows.append(row(subject, norm, audit, time.process_time() - began))
                writer.writerow(rows[-1])
            stream.flush()
            print(rows[-1]["name"], rows[-1]["cells"], rows[-1]["cpu_seconds"], flush=True)
    print(f"\n{datetime.now(UTC):%Y-%m-%d}, {platform.machine()}, Python {platform.python_version()}\n\n{summary(rows)}")


if __name__ == "__main__":
    main()

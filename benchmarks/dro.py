"""Worst expected losses: the bracket's width, and the two gaps nobody could measure, published bound and best attack against the value.

    python -m benchmarks.dro [--network digits-16x2] [--norm 1|2|inf] [--loss margin|cross-entropy] [--samples 0:100]
                             [--timeout 300] [--data digits:test] [--points 20] [--range LOW HIGH] [--lipschitz SECONDS]
                             [--tolerance 0.01] [--workers N] [--properties FOLDER] [--output FILE.csv] [--plot FILE.png]

For each network (repeatable: a bundled name or a file), norm and loss, order 1: V(eps) at 20 radii, log-spaced in 1e-3..0.3 for norm inf,
in 1e-2..2 for the others, within the time limit. One row per eps:
gap = (upper - lower) / (upper - E), how much of the growth of the loss is not known;
published = L eps / (V - E), L the proved upper end of the Lipschitz constant over the labels present, at V's upper end (published_low) and
lower end (published_high); attack_ratio = (V - E) / (best attack - E) at V's lower end, the attack before any exact search.
"""

import argparse
import csv
import time
from collections.abc import Sequence
from dataclasses import dataclass, fields
from datetime import datetime
from math import inf
from pathlib import Path

import numpy as np

from benchmarks.properties import samples_of
from problems import readers
from problems.data import Dataset, load
from problems.regions import Box
from verifier import dro, lipschitz
from verifier.distributional.chain import steepest_of
from verifier.distributional.losses import loss_named
from verifier.distributional.worst_case import WorstCase
from verifier.report.machine import machine, versions

RANGES = {inf: (1e-3, 0.3), 2.0: (1e-2, 2.0), 1.0: (1e-2, 2.0)}
BUNDLED = ("digits-16x2", "digits-32x2", "digits-conv")
NORMS = {"1": 1.0, "2": 2.0, "inf": inf}


@dataclass(frozen=True)
class Row:
    """One eps of one question; seconds and cpu of the whole question, lipschitz_seconds those of L, not counted in them."""

    network: str
    samples: int
    loss: str
    norm: float
    epsilon: float
    clean: float
    attack: float
    lower: float
    upper: float
    gap: float
    lipschitz_lower: float
    lipschitz_upper: float
    published_low: float
    published_high: float
    attack_ratio: float
    status: str
    seconds: float
    lipschitz_seconds: float
    timeout: float


def steepest(network: str, data: Dataset, loss: str, norm: float, seconds: float) -> tuple[float, float, float]:
    """(lower, upper, seconds) of the loss's L over the labels present, on the data's domain."""
    began = time.monotonic()
    net = readers.load(network)
    region = data.domain if data.domain is not None else Box.whole_space(net.input_size)
    asked = steepest_of(loss_named(loss), net.output_size, sorted({int(y) for y in data.y}))
    questions = [of for each in asked.values() for of in each]
    found = [lipschitz(net, region, input_norm=norm, of=of, timeout=seconds / len(questions), tolerance=1e-3) for of in questions]
    return max(b.lower for b in found), max(b.upper for b in found), time.monotonic() - began


def ask(network: str, data: Dataset, loss: str, norm: float, epsilon: Sequence[float], options: argparse.Namespace) -> list[Row]:
    """All rows of one question."""
    low, high, spent = steepest(network, data, loss, norm, options.lipschitz)
    began = time.monotonic()
    records = dro(
        network, data, loss=loss, norm=norm, order=1, epsilon=list(epsilon), timeout=options.timeout, tolerance=options.tolerance,
        lines=False, workers=options.workers,
    )  # fmt: skip
    seconds = time.monotonic() - began
    name = Path(network).stem if network.endswith(".onnx") else network
    return [row_of(name, len(data), loss, norm, record, (low, high, spent), seconds, options.timeout) for record in records]


def row_of(
    network: str, samples: int, loss: str, norm: float, record: WorstCase, slope: tuple[float, float, float], seconds: float, timeout: float
) -> Row:  # fmt: skip
    """A record with its gaps."""
    assert record.clean is not None
    clean = record.clean[1]

    def ratio(above: float, below: float) -> float:
        return above / below if below > 0 else inf

    growth = slope[1] * record.epsilon
    return Row(
        network, samples, loss, norm, record.epsilon, clean, record.attack, record.lower, record.upper,
        ratio(record.upper - record.lower, record.upper - clean), slope[0], slope[1], ratio(growth, record.upper - clean),
        ratio(growth, record.lower - clean), ratio(record.lower - clean, record.attack - clean), record.status.name.lower(), seconds,
        slope[2], timeout,
    )  # fmt: skip


def line_of(row: Row) -> str:
    return (
        f"{row.epsilon:9.4g} {row.attack:11.5f} {row.lower:11.5f} {row.upper:11.5f} {row.gap:8.2%} {row.published_low:8.2f} "
        f"{row.attack_ratio:8.3f}  {row.status}"
    )


HEADING = f"{'eps':>9} {'attack':>11} {'lower':>11} {'upper':>11} {'gap':>8} {'L/exact':>8} {'/attack':>8}"


def write(file: Path, rows: list[Row]) -> None:
    """Append rows to a CSV file, with a comment that says when and where."""
    new = not file.exists()
    file.parent.mkdir(parents=True, exist_ok=True)
    here, made = machine("cpu"), versions()
    with file.open("a", encoding="utf-8", newline="") as stream:
        stream.write(f"# {datetime.now().astimezone().isoformat(timespec='seconds')}\n")
        stream.write(f"# {here['processor']}, {here['cores']} cores, {here['memory_gib'] or 0:.0f} GiB, {here['system']}\n")
        stream.write("# " + ", ".join(f"{name} {version}" for name, version in made.items()) + "\n")
        table = csv.writer(stream)
        if new:
            table.writerow([field.name for field in fields(Row)])
        for row in rows:
            table.writerow([getattr(row, field.name) for field in fields(Row)])


def read(file: Path) -> list[Row]:
    """The rows of a file that `write` made; the last of those with the same network, samples, loss, norm and eps counts."""
    with file.open(encoding="utf-8", newline="") as stream:
        table = csv.DictReader(line for line in stream if not line.startswith("#"))
        rows = [Row(**{f.name: f.type(row[f.name]) if callable(f.type) else row[f.name] for f in fields(Row)}) for row in table]
    return list({(r.network, r.samples, r.loss, r.norm, r.epsilon): r for r in rows}.values())


def plot(rows: list[Row], file: Path) -> None:
    """One panel per question: growth of the loss over eps, by attack, bracket and published bound."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    questions = list(dict.fromkeys((r.network, r.loss, r.norm) for r in rows))
    columns = min(3, len(questions))
    lines = -(-len(questions) // columns)
    figure, axes = plt.subplots(lines, columns, figsize=(4.6 * columns, 3.4 * lines), squeeze=False)
    for axis, question in zip(axes.flat, questions, strict=False):
        mine = sorted((r for r in rows if (r.network, r.loss, r.norm) == question), key=lambda r: r.epsilon)
        x = [r.epsilon for r in mine]
        axis.plot(x, [r.lipschitz_upper * r.epsilon for r in mine], color="tab:red", label="published: L ε")
        axis.fill_between(x, [r.lower - r.clean for r in mine], [r.upper - r.clean for r in mine], color="tab:blue", alpha=0.4)
        axis.plot(x, [r.upper - r.clean for r in mine], color="tab:blue", label="proved bracket")
        axis.plot(x, [r.attack - r.clean for r in mine], color="black", linestyle=":", label="best attack")
        axis.set(xscale="log", yscale="log", xlabel="ε", ylabel="growth of the loss")
        axis.set_title(f"{question[0]}, {question[1]}, norm {question[2]:g}")
        axis.legend(fontsize=7)
    for axis in axes.flat[len(questions) :]:
        axis.set_visible(False)
    figure.tight_layout()
    figure.savefig(file, dpi=130)
    plt.close(figure)


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--network", action="append", metavar="NET", help="a bundled name or a file (default: the bundled ones)")
    parser.add_argument("--data", default="digits:test")
    parser.add_argument("--properties", type=Path, metavar="FOLDER", help="take the images of a VNN-COMP folder's properties instead")
    parser.add_argument("--samples", default="0:100")
    parser.add_argument("--norm", action="append", choices=tuple(NORMS))
    parser.add_argument("--loss", action="append", choices=("margin", "cross-entropy"))
    parser.add_argument("--points", type=int, default=20)
    parser.add_argument("--range", nargs=2, type=float, metavar=("LOW", "HIGH"))
    parser.add_argument("--timeout", type=float, default=300.0, help="seconds per network, norm and loss")
    parser.add_argument("--lipschitz", type=float, default=60.0, help="seconds for L per network and norm")
    parser.add_argument("--tolerance", type=float, default=0.01)
    parser.add_argument("--workers", type=int)
    parser.add_argument("--output", type=Path)
    parser.add_argument("--plot", type=Path)
    options = parser.parse_args(arguments)
    folder = options.properties
    data = None if folder is not None else load(options.data).select(options.samples)
    written: list[Row] = []
    for network in options.network or BUNDLED:
        for norm in (NORMS[name] for name in options.norm or ("inf", "2")):
            for loss in options.loss or ("margin", "cross-entropy"):
                epsilon = np.geomspace(*(options.range or RANGES[norm]), options.points).tolist()
                samples = data if data is not None else samples_of(folder, Path(network).stem).select(options.samples)
                rows = ask(network, samples, loss, norm, epsilon, options)
                print(f"{network}, {loss}, norm {norm:g}, {len(samples)} samples: {rows[0].seconds:.0f} s")
                print(f"E {rows[0].clean:.5f}, L in [{rows[0].lipschitz_lower:.3f}, {rows[0].lipschitz_upper:.3f}]")
                print(HEADING)
                print("\n".join(map(line_of, rows)), flush=True)
                written += rows
                if options.output is not None:
                    write(options.output, rows)
    if options.plot is not None:
        plot(read(options.output) if options.output is not None else written, options.plot)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())

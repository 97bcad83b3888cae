"""Image-space Wasserstein radii side by side: certificates, the exact search, attacks, and smoothing.

    python -m benchmarks.transport FOLDER [--network NAME ...] [--samples N] [--timeout S] [--configurations A,B,...] [--gradient N]
        [--smoothing N] [--workers N] [--output results.csv] [--plot brackets.png] [--show results.csv]

FOLDER holds MNIST's test files and the networks. For each network the first N correctly classified test images (default 100 for fully
connected ones, 20 for the others), untargeted, L1 ground distance, simplex, radii in pixels for images of mass 1. Methods:

    vanilla          bounds on the L1 ball of flows (Wegel et al. 2021 with our bounds in place of FROWN)
    feasible         bounds on the transport ball, exact support function in every layer
    exact            the complete search, S seconds per image (default 60): a bracket
    frank-wolfe      attack; the search starts from its witness
    flow-gradient    attack: projected gradient in the flow domain, on the first N images of --gradient (default 20)
    smoothing        Levine and Feizi on its own base network, on the first N images of --smoothing (default 100), by the published and the
                     tight certificate: PROBABILISTIC, 95 % confidence each, about another (smoothed) classifier

Seconds are wall for certificates and processor seconds for attacks and smoothing. --output appends one line per image and method as
they come; --show prints the tables of such a file (the last of several results for an image counts) without running anything.
"""

import argparse
import csv
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, fields
from datetime import datetime
from math import inf
from pathlib import Path

import numpy as np

import verifier
from problems import readers
from problems.data import Dataset, load
from problems.network import Network
from problems.transport.grid import Grid
from verifier.report.machine import machine, versions
from verifier.warm import main as warm

NETWORKS = ("fc_3x100", "conv_vanilla", "conv_wasserstein_adv", "digits-16x2", "digits-32x2")
CONFIGURATIONS = {"vanilla": "vanilla", "feasible": "feasible", "complete-feasible": "exact"}
SMOOTHING_BASE, SIGMA = "conv_smoothing_base_0.01", 0.01


@dataclass(frozen=True)
class Row:
    """One image and method: its bracket in units of mass 1 (attacks: lower 0; certificates alone: upper inf)."""

    network: str
    sample: int
    label: int
    method: str
    lower: float
    upper: float
    seconds: float
    status: str


def correct(name: str, folder: Path, count: int | None) -> tuple[Network, Dataset]:
    """The network and the first `count` test images that it classifies rightly."""
    bundled = name.startswith("digits")
    network = readers.load(name if bundled else folder / f"{name}.onnx")
    data = load("digits:test" if bundled else f"mnist:{folder}")
    wanted = (20 if name.startswith("conv") else 100) if count is None else count
    found: list[int] = []
    for begin in range(0, len(data), 500):
        part = slice(begin, begin + 500)
        found += (begin + np.flatnonzero(network.forward(data.x[part]).argmax(1) == data.y[part])).tolist()
        if len(found) >= wanted:
            break
    rows = np.array(found[:wanted])
    return network, Dataset(data.x[rows], data.y[rows], data.domain, data.name, data.image_shape, rows)


def certificates(name: str, network: Network, data: Dataset, options: argparse.Namespace) -> Iterator[Row]:
    """Rows of the configurations asked for."""
    for configuration in options.configurations:
        method = CONFIGURATIONS.get(configuration, configuration)
        records = verifier.radius(
            network, data, norm="wasserstein", configuration=configuration, timeout=options.timeout, workers=options.workers
        )  # fmt: skip
        for record in records:
            bracket = record.bracket
            status = bracket.status.name.lower().replace("_", "-")
            upper = bracket.upper if configuration == "complete-feasible" else inf  # others start from the same witness
            yield Row(name, record.sample, record.label, method, bracket.lower, upper, bracket.seconds, status)


def attacks(name: str, network: Network, data: Dataset, gradient: int) -> Iterator[Row]:
    """Rows of the attacks: one batch each, its processor time shared evenly."""
    from verifier.attacks import flow_gradient, frank_wolfe

    grid = Grid.of_network(network, data.image_shape)
    frank_wolfe.nearest(network, data.x[:1], data.y[:1], shape=grid, steps=1)  # what is loaded and compiled once
    for method, nearest, count in (("frank-wolfe", frank_wolfe.nearest, len(data)), ("flow-gradient", flow_gradient.nearest, gradient)):
        if not count:
            continue
        began = time.process_time()
        _, distances = nearest(network, data.x[:count], data.y[:count], shape=grid)
        each = (time.process_time() - began) / len(distances)
        for number, label, distance in zip(data.numbers.tolist(), data.y.tolist(), distances.tolist(), strict=False):
            yield Row(name, number, label, method, 0.0, distance, each, "found" if distance < inf else "nothing-found")


def smoothing(folder: Path, count: int) -> Iterator[Row]:
    """Rows of both certificates of the smoothed classifier, on images that its base network classifies rightly."""
    from verifier.transport.smoothing import smoothed_radii

    network, data = correct(SMOOTHING_BASE, folder, count)
    for index in range(len(data)):
        began = time.process_time()
        (row,) = smoothed_radii(network, data, sigma=SIGMA, samples=f"{index}:{index + 1}")
        seconds = time.process_time() - began
        for method, radius in (("smoothing-published", row.published), ("smoothing-tight", row.tight)):
            yield Row(SMOOTHING_BASE, row.sample, row.label, method, radius, inf, seconds, f"confidence-{row.confidence:g}")


# --- tables -----------------------------------------------------------------------------------------------------------------------------


def table(name: str, rows: Sequence[Row]) -> str:
    """What is printed about one network: every method, then ratios over the images that both methods saw."""
    lines = [f"\n{name}: W1 radii, L1 ground distance, simplex, mass 1, untargeted"]
    lines.append(f"{'method':<22} {'images':>6} {'end':>6} {'mean':>9} {'median':>9} {'least':>9} {'largest':>9} {'s/image':>9}")
    by: dict[str, dict[int, Row]] = {}
    for row in rows:
        by.setdefault(row.method, {})[row.sample] = row
    for method, found in by.items():
        ends = (("lower",) if method not in ("frank-wolfe", "flow-gradient") else ()) + (
            ("upper",) if method in ("exact", "frank-wolfe", "flow-gradient") else ()
        )
        for end in ends:
            values = np.array([getattr(row, end) for row in found.values()])
            seconds = np.mean([row.seconds for row in found.values()])
            shown = f"{values.mean():9.5f} {np.median(values):9.5f} {values.min():9.5f} {values.max():9.5f} {seconds:9.3f}"
            lines.append(f"{method:<22} {len(values):6d} {end:>6} {shown}")
    for text, (first, one), (second, other) in (
        ("feasible / vanilla", ("feasible", "lower"), ("vanilla", "lower")),
        ("feasible / attack", ("feasible", "lower"), ("frank-wolfe", "upper")),
        ("certified / attack", ("exact", "lower"), ("frank-wolfe", "upper")),
        ("certified / vanilla", ("exact", "lower"), ("vanilla", "lower")),
        ("attack / exact upper", ("frank-wolfe", "upper"), ("exact", "upper")),
        ("flow-gradient / Frank-Wolfe", ("flow-gradient", "upper"), ("frank-wolfe", "upper")),
        ("tight / published", ("smoothing-tight", "lower"), ("smoothing-published", "lower")),
    ):
        both = sorted(set(by.get(first, {})) & set(by.get(second, {})))
        pairs = np.array([(getattr(by[first][i], one), getattr(by[second][i], other)) for i in both]).reshape(-1, 2)
        pairs = pairs[(pairs[:, 1] > 0) & np.isfinite(pairs).all(1)]
        if len(pairs):
            ratio = pairs[:, 0] / pairs[:, 1]
            shares = f"mean {ratio.mean():.4f}, median {np.median(ratio):.4f}, least {ratio.min():.4f}, largest {ratio.max():.4f}"
            lines.append(f"{text:<28} of means {pairs[:, 0].mean() / pairs[:, 1].mean():.4f}; per image {shares} ({len(ratio)} images)")
    if "exact" in by:
        ends_of = np.array([(row.lower, row.upper) for row in by["exact"].values()])
        closed = ends_of[:, 0] >= 0.99 * ends_of[:, 1]
        finished = sum(row.status == "closed" for row in by["exact"].values())
        lines.append(f"closed to 1 %: {closed.mean():.0%} of {len(closed)} images; to the tolerance: {finished}")
    if any(row.method.startswith("smoothing") for row in rows):
        lines.append("smoothing is PROBABILISTIC (confidence 95 % per image), and about the smoothed classifier")
    return "\n".join(lines)


def plot(rows: Sequence[Row], file: Path) -> None:
    """One panel per network: images in the order of the attack's radius, certificates and the exact bracket of each."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    names = list(dict.fromkeys(row.network for row in rows if row.method == "frank-wolfe"))
    figure, axes = plt.subplots(len(names), 1, figsize=(8, 2.6 * len(names)), squeeze=False, layout="constrained")
    for name, axis in zip(names, axes[:, 0], strict=True):
        found = {(row.method, row.sample): row for row in rows if row.network == name}
        attacked = {sample: row.upper for (method, sample), row in found.items() if method == "frank-wolfe"}
        order = sorted(attacked, key=lambda sample: attacked[sample])
        place = {sample: index for index, sample in enumerate(order)}
        for (method, sample), row in found.items():
            if method == "exact" and sample in place:
                axis.plot([place[sample]] * 2, [row.lower, row.upper], color="tab:blue", linewidth=2.5, solid_capstyle="butt")
        styles = (("vanilla", "lower", "v", "tab:gray"), ("feasible", "lower", "^", "tab:green"), ("exact", "lower", "_", "tab:blue"),
                  ("frank-wolfe", "upper", "_", "tab:red"), ("flow-gradient", "upper", "x", "tab:orange"))  # fmt: skip
        for method, end, marker, colour in styles:
            points = [(place[s], getattr(row, end)) for (m, s), row in found.items() if m == method and s in place]
            if points:
                axis.scatter(*zip(*points, strict=True), marker=marker, s=14, color=colour, label=method, zorder=3, linewidths=1)
        axis.set(title=name, ylabel="W1 radius (mass 1)", xlabel="images, by the attack's radius", ylim=(0, None))
        axis.xaxis.get_major_locator().set_params(integer=True)
        axis.legend(fontsize=7, ncols=5, frameon=False)
    figure.savefig(file, dpi=130)


# --- the CSV file -----------------------------------------------------------------------------------------------------------------------


def begin(path: Path, command: str) -> None:
    """Comment lines that say when, where and how the lines below them were measured; column names in a new file."""
    new = not path.exists() or not path.stat().st_size
    here, made = machine("cpu"), versions()
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a", encoding="utf-8", newline="") as file:
        file.write(f"# {datetime.now().astimezone().isoformat(timespec='seconds')}: {command}\n")
        file.write(f"# {here['processor']}, {here['cores']} cores, {here['memory_gib'] or 0:.0f} GiB, {here['system']}\n")
        file.write("# " + ", ".join(f"{name} {version}" for name, version in made.items()) + "\n")
        if new:
            csv.writer(file).writerow([field.name for field in fields(Row)])


def read(path: Path) -> list[Row]:
    """The rows of a file that this program wrote."""
    with path.open(encoding="utf-8", newline="") as file:
        lines = list(csv.DictReader(line for line in file if not line.startswith("#")))
    kinds = {field.name: field.type for field in fields(Row)}
    convert = {int: int, float: float, str: str, "int": int, "float": float, "str": str}
    return [Row(**{name: convert[kinds[name]](value) for name, value in line.items()}) for line in lines]  # type: ignore[index, arg-type]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run and print."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.transport", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path, nargs="?")
    parser.add_argument("--network", action="append", choices=NETWORKS, help="may be given several times (default all)")
    parser.add_argument("--samples", type=int, metavar="N")
    parser.add_argument("--timeout", type=float, default=60.0, metavar="S")
    parser.add_argument("--configurations", type=lambda text: [part for part in text.split(",") if part], default=list(CONFIGURATIONS))
    parser.add_argument("--gradient", type=int, default=20, metavar="N")
    parser.add_argument("--smoothing", type=int, default=100, metavar="N")
    parser.add_argument("--workers", type=int, default=1, metavar="N")
    parser.add_argument("--output", type=Path)
    parser.add_argument("--plot", type=Path)
    parser.add_argument("--show", type=Path)
    options = parser.parse_args(arguments)
    if options.show is not None:
        rows = read(options.show)
        for name in dict.fromkeys(row.network for row in rows):
            print(table(name, [row for row in rows if row.network == name]))
        if options.plot is not None:
            plot(rows, options.plot)
        return 0
    if options.folder is None:
        parser.error("FOLDER is needed, but with --show.")
    if options.configurations:
        warm()
    if options.output is not None:
        asked = (
            f"--samples {options.samples or 'default'} --timeout {options.timeout:g} --configurations {','.join(options.configurations)}"
        )
        begin(
            options.output, f"{' '.join(options.network or NETWORKS)} {asked} --gradient {options.gradient} --smoothing {options.smoothing}"
        )
    everything: list[Row] = []
    for name in options.network or NETWORKS:
        network, data = correct(name, options.folder, options.samples)
        rows = keep(attacks(name, network, data, min(options.gradient, len(data))), options.output)
        rows += keep(certificates(name, network, data, options), options.output)
        print(table(name, rows), flush=True)
        everything += rows
    if options.smoothing:
        rows = keep(smoothing(options.folder, options.smoothing), options.output)
        print(table(SMOOTHING_BASE, rows), flush=True)
        everything += rows
    if options.plot is not None:
        plot(everything, options.plot)
    return 0


def keep(rows: Iterator[Row], output: Path | None) -> list[Row]:
    """The rows, written as they come."""
    kept = []
    for row in rows:
        kept.append(row)
        if output is not None:
            with output.open("a", encoding="utf-8", newline="") as file:
                csv.writer(file).writerow(asdict(row).values())
    return kept


if __name__ == "__main__":
    sys.exit(main())

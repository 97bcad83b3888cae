"""Exact Lipschitz constants: the reference table, and networks too large for enumeration, beside what other tools need.

    python -m benchmarks.lipschitz FOLDER [--only TEXT] [--timeout S] [--digits N] [--output results.csv]

FOLDER holds networks (.npz) and reference.csv, see its columns below. Every row of that file is computed in all of its norms: the
constant, the largest relative difference from the table, cells or pieces, seconds in compiled code ("kernel") and from call to answer
(processor seconds, so that other work on the machine does not count), and what the rivals were measured to need for the same question.
--digits N adds the pair (runner-up, label) and the margin of the first N test images in the box of radius 0.1, for both bundled dense
networks, in three norms. Exit status 1 if a bracket contradicts the table, but for rows known to be doubtful.

Compiled code is warmed up first. Rivals: LipBaB (Bhowmick et al. 2021), ExLipBaB (its extension) and LipMIP (Jordan and Dimakis 2020),
processor seconds of one thread on a machine of this kind; none of them was run here.
"""

import argparse
import csv
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, fields
from math import inf
from pathlib import Path

import numpy as np

from problems import readers
from problems.data import load
from problems.network import Network
from problems.regions import Ball
from problems.regions.base import Region
from verifier import lipschitz
from verifier.warm import main as warm

# (column of reference.csv, input norm, what is differentiated; K and Y are the pair of the row)
COLUMNS = (
    ("jacobian_1to1", 1, "vector:1"),
    ("jacobian_2to2", 2, "vector:2"),
    ("jacobian_infto_inf", inf, "vector:inf"),
    ("pair_gradient_l1", inf, "pair:{pair_k},{pair_y}"),
    ("pair_gradient_l2", 2, "pair:{pair_k},{pair_y}"),
    ("pair_gradient_linf", 1, "pair:{pair_k},{pair_y}"),
)
# Measured seconds: (network, radius) -> {what: "tool seconds, ..."}.
RIVALS = {
    ("r2_16_16_2", 1.0): {"vector:2": "LipBaB 0.80, ExLipBaB 0.70", "vector:inf": "LipMIP 0.32"},
    ("t2_16_16_2", 1.0): {"vector:2": "LipBaB 0.41, ExLipBaB 0.37", "vector:inf": "LipMIP 0.16"},
    ("t4_32_32_3", 0.5): {"vector:2": "LipBaB 13.6", "vector:inf": "LipMIP 3.6"},
    ("t4_32_32_3", 1.0): {"vector:2": "LipBaB unsolved", "vector:inf": "LipMIP unsolved"},
    ("d64_32_32_10", 0.05): {"vector:2": "LipBaB 5.8", "vector:inf": "LipMIP unsolved"},
    ("d64_32_32_10", 0.2): {"vector:2": "enumeration > 20", "vector:inf": "enumeration with bounds 2.2"},
    ("lb_sd_10_20_15_10_3", 0.05): {"vector:inf": "LipMIP 1.6"},
}
# Rows of the table that its own network contradicts, with the reason.
DOUBTFUL = {("lb_iris_4_5_5_3", 0.05): "the gradient at the centre itself, no neuron being near zero, is steeper than the table's value"}
# A row that the table has not, since nobody had it.
BEYOND = {"network": "d64_32_32_10", "radius_linf": "0.2", "pair_k": "1", "pair_y": "8"}


@dataclass(frozen=True)
class Result:
    """One question. seconds: processor seconds of the call; kernel_seconds: wall, in compiled code; pieces: opened by a search."""

    network: str
    radius: float
    of: str
    input_norm: float
    lower: float
    upper: float
    status: str
    method: str
    cells: int | None
    pieces: int
    kernel_seconds: float
    seconds: float
    expected: float | None = None
    rivals: str = ""

    @property
    def difference(self) -> float | None:
        """How far the bracket is from the table's value, relatively; 0 where it contains it to the table's eight digits."""
        if self.expected is None:
            return None
        return max(0.0, self.lower / self.expected - 1.0, 1.0 - self.upper / self.expected)


def ask(name: str, network: Network, radius: float, region: Region, of: str, norm: float, timeout: float) -> Result:
    """One bracket with its costs."""
    began = time.process_time()
    bracket = lipschitz(network, region, input_norm=norm, of=of, timeout=timeout)
    stats = bracket.stats
    return Result(
        name, radius, of, norm, bracket.lower, bracket.upper, bracket.status.name.lower(), stats["method"], stats["cells"],
        stats["opened"], stats["kernel_seconds"], time.process_time() - began,
    )  # fmt: skip


def reference(folder: Path, only: str, timeout: float) -> Iterator[Result]:
    """Every row and column of the table, and the row beyond it."""
    with (folder / "reference.csv").open(encoding="utf-8") as file:
        rows = [*csv.DictReader(file), BEYOND]
    for row in rows:
        name, radius = row["network"], float(row["radius_linf"])
        if only not in name:
            continue
        network = readers.load(folder / f"{name}.npz")
        with np.load(folder / f"{name}.npz") as archive:
            center = archive["X"][0]
        for column, norm, of in COLUMNS:
            result = ask(name, network, radius, Ball(center, radius, inf), of.format(**row), norm, timeout)
            expected = float(row[column]) if column in row else None
            yield Result(**asdict(result) | {"expected": expected, "rivals": RIVALS.get((name, radius), {}).get(of, "")})


def digits(count: int, timeout: float) -> Iterator[Result]:
    """Pairs and margins of the bundled networks around test images."""
    data = load("digits:test")
    for name in ("digits-16x2", "digits-32x2"):
        network = readers.load(name)
        for x, label in zip(data.x[:count], data.y[:count].tolist(), strict=True):
            logits = network.forward(x)
            logits[label] = -inf
            for of in (f"pair:{int(logits.argmax())},{label}", f"margin:{label}"):
                for norm in (1, 2, inf):
                    yield ask(name, network, 0.1, Ball(x, 0.1, inf, data.domain), of, norm, timeout)


def show(result: Result) -> None:
    """One line of the table."""
    work = f"{result.cells} cells" if result.method == "cells" else f"{result.pieces} pieces"
    seen = "" if result.difference is None else f"  off by {result.difference:.0e}"
    constant = f"{result.upper:.6f}" if result.status == "closed" else f"[{result.lower:.6f}, {result.upper:.6f}] {result.status}"
    costs = f"kernel {result.kernel_seconds:.4f} s, all {result.seconds:.3f} s"
    name = f"{result.network} {result.radius:g}  {result.of} from {result.input_norm:g}"
    print(f"{name:45s} {constant}{seen}  {work}, {costs}  {result.rivals}", flush=True)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run and print; the exit status is 1 if a bracket contradicts the table."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.lipschitz", description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("folder", type=Path)
    parser.add_argument("--only", default="", help="networks whose name contains this")
    parser.add_argument("--timeout", type=float, default=60.0, help="seconds per question (default 60)")
    parser.add_argument("--digits", type=int, default=0, metavar="N", help="test images for the bundled networks (default none)")
    parser.add_argument("--output", type=Path, help="a CSV file for the results")
    options = parser.parse_args(arguments)
    warm()
    results: list[Result] = []
    for source in (reference(options.folder, options.only, options.timeout), digits(options.digits, options.timeout)):
        for result in source:
            show(result)
            results.append(result)
    differing = [result for result in results if (result.difference or 0.0) > 1e-6]
    wrong = [result for result in differing if (result.network, result.radius) not in DOUBTFUL]
    print(f"{len(results)} questions, {sum(r.status == 'closed' for r in results)} closed, {sum(r.seconds for r in results):.1f} s.")
    for result in differing:
        reason = DOUBTFUL.get((result.network, result.radius), "look into it")
        print(f"contradicts the table: {result.network} {result.radius:g} {result.of} from {result.input_norm:g}: {reason}")
    if options.output is not None:
        with options.output.open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, [field.name for field in fields(Result)])
            writer.writeheader()
            writer.writerows(asdict(result) for result in results)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())

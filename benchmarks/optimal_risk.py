"""What any classifier must get wrong between two classes: digits (one pair with what digits-16x2 gets wrong beside it) and MNIST.

    python -m benchmarks.optimal_risk [--mnist ../shared/data/mnist] [--output benchmarks/results/optimal_risk.csv]

The bundled network's error is exact up to the brackets of its radii: the share of the samples of both classes whose radius is at most
epsilon.
Writes one row per pair of classes, norm and epsilon, and prints a summary in Markdown. MNIST is left out where its files are not there.
"""

import argparse
import csv
import platform
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from math import inf
from pathlib import Path

import numpy as np

from problems.data import Dataset, load
from verifier import optimal_risk, radius
from verifier.optimality.risk import OptimalRisk

NORMS: tuple[float | str, ...] = (inf, 2.0, "wasserstein")
NETWORK = "digits-16x2"
GRIDS = {
    ("digits", inf): (0.02, 0.04, 0.06, 0.1, 0.2, 0.3, 0.35, 0.4, 0.45, 0.46875, 0.5),
    ("digits", 2.0): (0.1, 0.2, 0.3, 0.4, 0.6, 0.8, 0.9, 1.0, 1.1, 1.2, 1.4, 1.6),
    ("digits", "wasserstein"): (0.02, 0.04, 0.06, 0.08, 0.1, 0.15, 0.2, 0.25, 0.3, 0.35, 0.4, 0.5),
    ("mnist", inf): (0.3, 0.4, 0.45, 0.49, 0.5),
    ("mnist", 2.0): (2.0, 2.5, 3.0, 3.5, 4.0, 4.5),
    ("mnist", "wasserstein"): (0.5, 0.75, 1.0, 1.25, 1.5),
}
FIELDS = (
    "data", "classes", "samples", "norm", "epsilon", "lower", "upper", "matching", "conflicts", "open_pairs", "cpu_seconds",
    "network_lower", "network_upper",
)  # fmt: skip


@dataclass(frozen=True)
class Case:
    """Two classes of a data set; `rows` of it are looked at."""

    data: str
    classes: tuple[int, int]
    rows: str | None = None
    beside: bool = False  # whether the bundled network is asked too

    @property
    def kind(self) -> str:
        return self.data.partition(":")[0]


def cases(mnist: Path) -> list[Case]:
    """Pairs of digits that are easily taken for each other, and one that is not."""
    digits = [Case("digits:test", (3, 8), beside=True), Case("digits:test", (4, 9)), Case("digits:test", (0, 1))]
    found = (mnist / "t10k-images-idx3-ubyte.gz").exists()
    return digits + ([Case(f"mnist:{mnist}", (3, 7), "0:5000"), Case(f"mnist:{mnist}", (4, 9), "0:5000")] if found else [])


def two_classes(case: Case) -> Dataset:
    """The samples of the two classes only."""
    data = load(case.data).select(case.rows)
    keep = np.isin(data.y, case.classes)
    return Dataset(data.x[keep], data.y[keep], data.domain, data.name, data.image_shape, data.numbers[keep])


def network_errors(data: Dataset, norm: float | str, epsilons: tuple[float, ...]) -> list[tuple[float, float]]:
    """(lower, upper) of the bundled network's adversarial error within each epsilon."""
    found = [record.bracket for record in radius(NETWORK, data, norm=norm, timeout=120)]
    low, high = np.array([(b.lower, b.upper) for b in found]).T
    return [(float((high <= epsilon).mean()), float((low <= epsilon).mean())) for epsilon in epsilons]


def row(case: Case, data: Dataset, norm: float | str, risk: OptimalRisk, seconds: float, error: tuple[float, float] | None) -> dict:
    name = norm if isinstance(norm, str) else f"{norm:g}"
    return {
        "data": case.kind, "classes": "-".join(map(str, case.classes)), "samples": len(data), "norm": name, "epsilon": risk.epsilon,
        "lower": risk.lower, "upper": risk.upper, "matching": risk.matching, "conflicts": risk.conflicts, "open_pairs": risk.open_pairs,
        "cpu_seconds": round(seconds, 3), "network_lower": None if error is None else error[0],
        "network_upper": None if error is None else error[1],
    }  # fmt: skip


def summary(rows: list[dict]) -> str:
    """The rows as a table: the optimal risk per epsilon, and what the network gets wrong."""
    lines = ["| data | classes | samples | norm | epsilon | optimal risk | network | CPU s |", "|---|---|---|---|---|---|---|---|"]
    for r in rows:
        network = "" if r["network_lower"] is None else f"{r['network_lower']:.1%}"
        if network and r["network_upper"] - r["network_lower"] > 1e-9:
            network += f" to {r['network_upper']:.1%}"
        risk = f"{r['lower']:.1%}" if r["upper"] - r["lower"] < 1e-9 else f"{r['lower']:.1%} to {r['upper']:.1%}"
        what = f"| {r['data']} | {r['classes']} | {r['samples']} | {r['norm']} | {r['epsilon']:g} "
        lines.append(f"{what}| {risk} | {network} | {r['cpu_seconds']:.2f} |")
    return "\n".join(lines)


def main() -> None:
    """Run all cases."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])  # type: ignore[union-attr]
    parser.add_argument("--mnist", default="../shared/data/mnist", type=Path, help="folder of MNIST's t10k files")
    parser.add_argument("--output", default="benchmarks/results/optimal_risk.csv", help="where the rows go")
    options = parser.parse_args()
    rows: list[dict] = []
    with Path(options.output).open("w", newline="", encoding="utf-8") as stream:
        writer = csv.DictWriter(stream, FIELDS)
        writer.writeheader()
        for case in cases(options.mnist):
            data = two_classes(case)
            for norm in NORMS:
                grid = GRIDS[case.kind, norm]
                errors = network_errors(data, norm, grid) if case.beside else [None] * len(grid)
                for epsilon, error in zip(grid, errors, strict=True):
                    began = time.process_time()
                    (risk,) = optimal_risk(data, classes=case.classes, norm=norm, epsilon=epsilon)
                    rows.append(row(case, data, norm, risk, time.process_time() - began, error))
                    writer.writerow(rows[-1])
                stream.flush()
                print(case.kind, case.classes, norm, rows[-1]["cpu_seconds"], flush=True)
    print(f"\n{datetime.now(UTC):%Y-%m-%d}, {platform.machine()}, Python {platform.python_version()}\n\n{summary(rows)}")


if __name__ == "__main__":
    main()

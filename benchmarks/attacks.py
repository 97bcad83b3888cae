"""The experiments of the paper on distributional attacks, and what no paper has: attacks against the exact worst case.

    python -m benchmarks.attacks [--only NAME,...] [--output benchmarks/results/attacks.csv] [--timeout 60]

Experiments: `copies` (WDA with k = 1 is the point-wise attack; k = 2 and 4 against it, Omega_1), `allocation` (greedy against random
WDA++), `exact` (bundled networks: every attack beside the exact worst-case error of the same threat model), `mnist` (1,000 images, with
seconds).
Networks: the bundled digit classifiers, and MNIST networks where the folder ../shared/data is beside the project. One line per attack is
appended to the CSV file; `--report` turns that file into tables (.md) and a plot (.png) beside it without running anything.
"""

import argparse
import csv
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, fields
from functools import cached_property
from itertools import product
from math import inf
from pathlib import Path

import numpy as np

from benchmarks.results import begin
from problems.data import Dataset, load
from problems.errors import InputError
from verifier import attack, radius
from verifier.cli.parser import positive
from verifier.distributional.knapsack import worst_case_error

ROOT = Path(__file__).resolve().parent.parent
MNIST = ROOT.parent / "shared" / "data" / "mnist"
MNIST_NETWORKS = ("fc_3x100", "conv_vanilla", "conv_linf_certified")
SEEDS = 3
STEPS, RESTARTS = 50, 2


@dataclass(frozen=True)
class Row:
    """One attack. accuracy: an upper bound of the worst-case accuracy in its threat model, of which exact_lower and exact_upper (NaN where
    unknown) are the proved bracket; clean: the accuracy without attack; cpu and wall in seconds."""

    experiment: str
    network: str
    samples: int
    norm: float
    threat: str
    epsilon: float
    method: str
    setting: str
    clean: float
    accuracy: float
    budget_used: float
    exact_lower: float
    exact_upper: float
    cpu: float
    wall: float


@dataclass(frozen=True)
class Subject:
    """A network (name or path) on data."""

    name: str
    network: str
    data: Dataset

    @cached_property
    def clean(self) -> float:
        """The share of samples that are classified rightly, ties being errors."""
        return attack(self.network, self.data, method="pgd", norm=2, epsilon=0.0).accuracy


def digits(names: Sequence[str], samples: str) -> Iterator[Subject]:
    for name in names:
        yield Subject(name, name, load("digits:test").select(samples))


def mnist(names: Sequence[str], samples: str) -> Iterator[Subject]:
    if not MNIST.is_dir():
        print("MNIST networks are left out: the folder ../shared/data beside the project is absent.", file=sys.stderr)
        return
    for name in names:
        yield Subject(name, str(MNIST / f"{name}.onnx"), load(f"mnist:{MNIST}").select(samples))


def run(
    subject: Subject, experiment: str, norm: float, epsilon: float, method: str, exact: tuple[float, float] | None = None,
    **choices: object,
) -> Row:  # fmt: skip
    """One attack, timed."""
    options = {"norm": norm, "steps": STEPS, "restarts": RESTARTS, **choices}
    clean = subject.clean
    cpu, wall = time.process_time(), time.monotonic()
    report = attack(subject.network, subject.data, method=method, epsilon=epsilon, **options)  # type: ignore[arg-type]
    cpu, wall = time.process_time() - cpu, time.monotonic() - wall
    threat = "point-wise" if report.mixture is None else f"Omega_{report.mixture.order:g}"
    setting = " ".join(f"{name}={value:g}" if isinstance(value, float) else f"{name}={value}" for name, value in choices.items())
    return Row(
        experiment, subject.name, len(subject.data), norm, threat, epsilon, method, setting, clean, report.accuracy, report.budget_used,
        *(exact or (float("nan"),) * 2), round(cpu, 2), round(wall, 2),
    )  # fmt: skip


def copies(_: float) -> Iterator[Row]:
    """k = 1 equals the point-wise attack; k = 2 and 4 reach farther at less weight."""
    for subject in (*digits(("digits-16x2", "digits-32x2"), "0:200"), *mnist(MNIST_NETWORKS, "0:100")):
        for norm, sizes in grid(subject):
            for epsilon in sizes:
                for loss in ("ce", "dlr"):
                    yield run(subject, "copies", norm, epsilon, "apgd", loss=loss)
                    for count in (1, 2, 4) if loss == "dlr" else (1, 2):
                        yield run(subject, "copies", norm, epsilon, "wda", copies=count, loss=loss)


def allocation(_: float) -> Iterator[Row]:
    """The same flips, bought cheapest first or in a random sequence."""
    for subject in (*digits(("digits-16x2", "digits-32x2"), "0:200"), *mnist(MNIST_NETWORKS, "0:100")):
        for norm, sizes in grid(subject):
            for epsilon in sizes:
                yield run(subject, "allocation", norm, epsilon, "wda++")
                for seed in range(SEEDS):
                    yield run(subject, "allocation", norm, epsilon, "wda++", allocation="random", seed=seed)


def exact(timeout: float) -> Iterator[Row]:
    """Every attack beside the exact worst case of its threat model, which follows from exact radii (THEORY W4)."""
    for name, rows in (("digits-16x2", "0:60"), ("digits-32x2", "0:30")):
        (subject,) = digits((name,), rows)
        for norm in (2.0, inf):
            brackets = [record.bracket for record in radius(subject.network, subject.data, norm=norm, timeout=timeout, workers=1)]
            nearest, farthest = (np.array([getattr(bracket, end) for bracket in brackets]) for end in ("lower", "upper"))
            for order, epsilon in product((1.0, 2.0, inf), EXACT[name][norm]):
                low, high = worst_case_error(nearest, farthest, epsilon, order)
                for method, chosen in against(order):
                    yield run(subject, "exact", norm, epsilon, method, (1 - high, 1 - low), **chosen)


def against(order: float) -> list[tuple[str, dict[str, object]]]:
    """The attacks whose threat model is Omega_order."""
    if order == inf:
        point_wise: list[tuple[str, dict[str, object]]] = [("pgd", {}), ("apgd", {"loss": "ce"}), ("apgd", {"loss": "dlr"})]
        return [*point_wise, ("wda++", {"order": order}), ("w-pgd", {"order": order})]
    found: list[tuple[str, dict[str, object]]] = [
        ("wda++", {"order": order}),
        ("wda++", {"order": order, "allocation": "random"}),
        ("wda", {"order": order, "copies": 2}),
    ]
    return [*found, ("w-pgd", {"order": order})] if order > 1 else found


def large(_: float) -> Iterator[Row]:
    """1,000 MNIST images through a convolutional network, with the defaults of the command line: the figure to reach is 60 s."""
    for subject in mnist(("conv_vanilla",), "0:1000"):
        for norm, epsilon in ((2.0, 0.1), (2.0, 0.5), (inf, 0.03), (1.0, 2.0)):
            yield run(subject, "mnist", norm, epsilon, "wda++", restarts=5)
        for method, choices in (("apgd", {}), ("wda", {}), ("w-pgd", {"order": 2})):
            yield run(subject, "mnist", inf, 0.03, method, **choices)  # type: ignore[arg-type]


def grid(subject: Subject) -> tuple[tuple[float, tuple[float, ...]], ...]:
    if subject.name.startswith("digits"):
        return (2.0, (0.1, 0.3)), (inf, (0.02, 0.06))
    return (2.0, (0.5,)), (inf, (0.03,))


EXACT = {
    "digits-16x2": {2.0: (0.02, 0.05, 0.1, 0.2, 0.3), inf: (0.005, 0.01, 0.02, 0.04, 0.06)},
    "digits-32x2": {2.0: (0.01, 0.02, 0.05), inf: (0.001, 0.003, 0.005)},
}
EXPERIMENTS: dict[str, Callable[[float], Iterator[Row]]] = {
    "copies": copies, "allocation": allocation, "exact": exact, "mnist": large,
}  # fmt: skip


def read(path: Path) -> list[Row]:
    """The rows of a CSV file that this program wrote."""
    with path.open(encoding="utf-8", newline="") as file:
        lines = list(csv.DictReader(line for line in file if not line.startswith("#")))
    kinds = {field.name: field.type for field in fields(Row)}
    rows = [Row(**{name: kinds[name](value) for name, value in line.items()}) for line in lines]  # type: ignore[operator, arg-type]
    return list({(r.experiment, r.network, r.samples, r.norm, r.epsilon, r.method, r.setting): r for r in rows}.values())


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.attacks", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--only", metavar="NAMES", default=",".join(EXPERIMENTS), help="experiments, separated by commas (default all)")
    parser.add_argument("--output", type=Path, metavar="CSV", default=ROOT / "benchmarks" / "results" / "attacks.csv")
    parser.add_argument("--timeout", type=positive, metavar="S", default=60.0, help="for each exact radius (default 60)")
    parser.add_argument("--report", action="store_true", help="only write tables and plot of what the file holds")
    options = parser.parse_args(arguments)
    try:
        if not options.report:
            names = options.only.split(",")
            unknown = [name for name in names if name not in EXPERIMENTS]
            if unknown:
                raise InputError("--only", f"{unknown[0]!r} is not an experiment.", f"Choose among {', '.join(EXPERIMENTS)}.")
            begin(options.output, [field.name for field in fields(Row)])
            for name in names:
                for row in EXPERIMENTS[name](options.timeout):
                    print(*asdict(row).values(), flush=True)
                    with options.output.open("a", encoding="utf-8", newline="") as file:
                        csv.writer(file).writerow(asdict(row).values())
        from benchmarks.attack_tables import report

        report(read(options.output), options.output)
    except InputError as error:
        print(f"benchmarks.attacks: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())

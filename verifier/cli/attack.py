"""The command `attack`."""

from argparse import Namespace

import verifier
from problems.data import load
from verifier.cli.common import network_of
from verifier.cli.output import Output, at_most, plain
from verifier.cli.parser import UsageError
from verifier.cli.progress import waiting
from verifier.cli.region import region_of


def run(options: Namespace, output: Output) -> None:
    if options.method != "pgd":
        raise UsageError("--method", f"{options.method} is not available.", "The attack that is: pgd.")
    data = load(options.data).select(options.samples)
    with waiting("attacking"):
        report = verifier.attack(
            network_of(options),
            data,
            method=options.method,
            norm=options.norm,
            epsilon=options.epsilon,
            region=region_of(options, data.x.shape[1], data),
            steps=options.steps,
            restarts=options.restarts,
            seed=options.seed,
            device=options.device,
            timeout=options.timeout,
        )
    names = ("sample", "label", "success", "distance", "margin")
    for row in report.rows:
        found = f"misclassified at distance {at_most(row.distance)}" if row.success else "no misclassified input found"
        text = f"sample {row.sample}, label {row.label}: {found} (margin {plain(row.margin)!r})"
        output.answer({name: getattr(row, name) for name in names}, text)
    summary = {"accuracy": report.accuracy, "budget_used": report.budget_used, "threat_model": report.threat_model}
    output.answer(summary, f"accuracy {report.accuracy!r} at most, budget used {report.budget_used!r}; threat model: {report.threat_model}")

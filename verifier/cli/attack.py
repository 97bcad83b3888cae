"""The command `attack`."""

from argparse import Namespace
from dataclasses import asdict

import verifier
from problems.data import load
from verifier.cli.common import network_of
from verifier.cli.output import Output, at_most, plain
from verifier.cli.progress import waiting
from verifier.cli.region import region_of


def run(options: Namespace, output: Output) -> None:
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
            loss=options.loss,
            order=options.order,
            copies=options.copies,
            points=options.points,
            allocation=options.allocation,
            ground=options.ground,
            pixels=options.pixels,
        )
    for row in report.rows:
        found = f"misclassified at distance {at_most(row.distance)}" if row.success else "no misclassified input found"
        flipped = getattr(row, "flipped", None)  # of distributional attacks
        mass = f", {flipped:.4g} of its mass" if row.success and flipped is not None else ""
        text = f"sample {row.sample}, label {row.label}: {found}{mass} (margin {plain(row.margin)!r})"
        output.answer(asdict(row), text)
    names = ("accuracy", "budget_used", "threat_model", "judged_by", "loss")
    summary = {name: getattr(report, name) for name in names} | {"status": report.status.name.lower().replace("_", "-")}
    what = "of the attacking distribution" if report.mixture is not None else "under this attack"
    output.answer(
        summary,
        f"accuracy {what} {report.accuracy!r}, an upper bound of the worst; budget used {report.budget_used!r}; "
        f"threat model: {report.threat_model}; judged by: {report.judged_by}",
    )
    if not report.status.finished:
        output.message(f"The search ended early. {report.status}")

"""The command `audit`."""

from argparse import Namespace
from pathlib import Path

import verifier
from verifier.cli.common import everywhere, network_of
from verifier.cli.output import Output
from verifier.cli.progress import counting


def run(options: Namespace, output: Output) -> None:
    with counting() as progress:
        audit = verifier.audit(
            network_of(options),
            options.data,
            samples=options.samples,
            output=options.output,
            budget=options.budget,
            progress=progress,
            executor=options.executor,
            **everywhere(options),
        )
    report, results = Path(options.output) / "index.html", Path(options.output) / "results.json"
    done = {"radii_closed": audit.radii_closed, "radii_done": audit.radii_done, "radii_wanted": audit.radii_wanted}
    record = {"report": str(report), "results": str(results), "complete": audit.complete} | done | {"seconds": audit.seconds}
    output.answer(record, f"{report}: {audit.radii_closed} of {audit.radii_wanted} radii are exact ({audit.seconds:.0f} s)")
    if not audit.complete:
        output.message("Interrupted: the report shows what is done. Run the same command again to go on.")

"""The command `audit`."""

from argparse import Namespace
from pathlib import Path
from typing import Any

import verifier
from verifier.cli.common import everywhere, network_of
from verifier.cli.output import Output
from verifier.cli.progress import counting
from verifier.report.coding import encode
from verifier.report.record import Audit, median


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
    closed = sum(status == "CLOSED" for curve in audit.losses for status in curve.status)
    wanted = sum(len(curve.status) for curve in audit.losses)
    text = f"{report}: {audit.radii_closed} of {audit.radii_wanted} radii are exact"
    text += f", {closed} of {wanted} worst expected losses closed" if wanted else ""
    output.answer(record | _parts(audit), f"{text} ({audit.seconds:.0f} s)")
    if not audit.complete:
        output.message("Interrupted: the report shows what is done. Run the same command again to go on.")


def _parts(audit: Audit) -> dict[str, Any]:
    """What came after the radii, without the distributions and the samples: those are in results.json."""
    losses = [{name: value for name, value in encode(curve).items() if name != "worst"} for curve in audit.losses]
    certified = [
        {"norm": part.norm, "median_radius": {method.name: median(method.radii) for method in part.methods}, "seconds": part.seconds}
        for part in audit.certified
    ]
    return {"losses": losses, "certified": certified, "tightness": encode(audit.tightness), "notes": audit.notes}

"""The command `tightness`: options in, one record out, and the picture of the cells where one is asked for."""

from argparse import Namespace
from typing import Any

import verifier
from problems import readers
from problems.data import load
from verifier.cli.common import everywhere, network_of
from verifier.cli.output import Output, at_least, at_most, plain
from verifier.cli.parser import UsageError
from verifier.cli.progress import telling
from verifier.cli.region import region_of
from verifier.recession.audit import TightnessAudit


def run(options: Namespace, output: Output) -> None:
    """Run the audit and print it."""
    if options.picture is not None and not options.picture.endswith((".svg", ".png")):
        raise UsageError("--picture", f"{options.picture!r} is neither .svg nor .png.")
    data = None if options.data is None else load(options.data).select(options.samples)
    loaded = readers.load(network_of(options))
    region = region_of(options, loaded.input_size, data)
    with telling("listing cells") as progress:
        audit = verifier.tightness(loaded, region, options.norm, labels=options.labels, data=data, progress=progress, **everywhere(options))
    output.answer(record(audit), text(audit))
    if not audit.complete:
        output.message(f"Incomplete: {audit.status} What is reported of cells is about those seen.")
    if options.picture is not None:
        from verifier.report.cells import save

        save(options.picture, loaded, region, options.norm, labels=audit.labels, data=data, audit=audit)
        output.message(f"{options.picture}: drawn.")


def record(audit: TightnessAudit) -> dict[str, Any]:
    """The JSON record: L is the proved end, l, kappa_star and lambda_0 the witnessed ones; the other ends stand beside them."""
    slopes = {"L": audit.lipschitz, "l": audit.tight_slope, "kappa_star": audit.slope_at_infinity}
    if audit.lambda_0 is not None:
        slopes["lambda_0"] = audit.lambda_0
    return {
        "L": audit.lipschitz.upper,
        "l": audit.tight_slope.lower,
        "kappa_star": audit.slope_at_infinity.lower,
        "lambda_0": None if audit.lambda_0 is None else audit.lambda_0.lower,
        "cells": audit.cells,
        "unbounded_cells": audit.unbounded_cells,
        "tight_cells": audit.tight_cells,
        "undecided_cells": audit.undecided,
        "layers": audit.layers,
        "tight_data": audit.tight_data,
        "tight_data_top": audit.tight_data_top,
        "complete": audit.complete,
        "seconds": audit.seconds,
        "brackets": {name: [b.lower, b.upper] for name, b in slopes.items()},
        "norm": plain(audit.norm),
        "labels": audit.labels,
        "steepest_point": None if audit.steepest is None else audit.steepest.point,
        "steepest_pair": None if audit.steepest is None else audit.steepest.pair,
        "tight_direction": audit.tight_slope.witness,
        "direction_at_infinity": audit.slope_at_infinity.witness,
        "status": audit.status,
        "reason": audit.reason,
    }


def text(audit: TightnessAudit) -> str:
    """The record for people."""
    ends = [
        f"{name} in [{at_least(b.lower)}, {at_most(b.upper)}]  {meaning}"
        for name, b, meaning in (
            ("L     ", audit.lipschitz, "steepest slope of a margin anywhere"),
            ("l     ", audit.tight_slope, "steepest slope that goes on to infinity at full strength"),
            ("kappa*", audit.slope_at_infinity, "steepest slope at infinity"),
        )
    ]
    if audit.lambda_0 is not None:
        low, high = at_least(audit.lambda_0.lower), at_most(audit.lambda_0.upper)
        ends.append(f"lambda_0 in [{low}, {high}]  steepest rise of the margin from a sample")
    lines = [
        *ends,
        f"{audit.cells} cells, {audit.unbounded_cells} unbounded, {audit.tight_cells} tight"
        + (f"; {audit.undecided} patterns undecided" if audit.undecided else ""),
        "rows hold at the steepest direction up to layer: " + (", ".join(f"{share:.2%}" for share in audit.layers) or "no layer"),
    ]
    if audit.tight_data is not None and audit.tight_data_top is not None:
        lines.append(f"samples in tight cells: {audit.tight_data:.2%} (for the top competitor: {audit.tight_data_top:.2%})")
    if audit.reason is not None:
        lines.append(audit.reason)
    return "\n".join([*lines, f"({audit.seconds:.2f} s)"])

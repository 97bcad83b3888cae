"""The command `lipschitz`."""

from argparse import Namespace

import verifier
from problems import readers
from problems.data import load
from verifier.bracket import Bracket
from verifier.cli.common import everywhere, network_of
from verifier.cli.output import Output, at_least, at_most, interval
from verifier.cli.parser import UsageError
from verifier.cli.progress import narrowing
from verifier.cli.region import region_of


def run(options: Namespace, output: Output) -> None:
    """Answer with one bracket."""
    net = readers.load(network_of(options))
    data = None if options.data is None else load(options.data).select(options.samples)
    region = region_of(options, net.input_size, data)
    if region is None:
        raise UsageError("region", "is missing.", "Give --box, --all-space, --region, --box-center with --radius, or --data with --radius.")
    with narrowing("Lipschitz constant") as progress:
        bracket = verifier.lipschitz(
            net, region, input_norm=options.input_norm, of=options.of, method=options.method, progress=progress, **everywhere(options)
        )  # fmt: skip
    stats = bracket.stats
    record = {
        "lower": bracket.lower,
        "upper": bracket.upper,
        "status": bracket.status,
        "witness": bracket.witness,
        "seconds": bracket.seconds,
        "bounds": stats["bounds"],
        "method": stats["method"],
        "cells": stats["cells"],
        "kernel_seconds": stats["kernel_seconds"],
        "semantics": bracket.semantics,
    }
    output.answer(record | ({"claimed": stats["claimed"]} if "claimed" in stats else {}), _text(bracket))


def _text(bracket: Bracket) -> str:
    text = f"{interval(bracket, 'Lipschitz constant')} ({bracket.seconds:.2f} s, {bracket.stats['method']})"
    if not bracket.status.finished:
        text += f". {bracket.status}"
    names = {"norm_product": "norm product", "interval": "interval bound", "relaxation": "quadratic bound", "search": "search"}
    listed = ", ".join(f"{names[name]} {at_most(value)}" for name, value in bracket.stats["bounds"].items())
    lines = [text, f"upper bounds: {listed}; the gradient at the witness reaches {at_least(bracket.lower)}"]
    return "\n".join([*lines, *bracket.notes])

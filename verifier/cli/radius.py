"""The command `radius`."""

from argparse import Namespace

import verifier
from problems.data import load
from verifier.bracket import Status
from verifier.cli.common import everywhere, network_of
from verifier.cli.output import Output, interval
from verifier.cli.parser import WASSERSTEIN, UsageError
from verifier.cli.progress import count_up
from verifier.cli.region import region_of


def run(options: Namespace, output: Output) -> None:
    data = load(options.data).select(options.samples)
    region = region_of(options, data.x.shape[1], data)
    places = {"resume": options.resume, "executor": options.executor}
    transport = {name: getattr(options, name) for name in ("ground", "pixels", "configuration") if getattr(options, name) is not None}
    if transport and options.norm != WASSERSTEIN:
        raise UsageError(f"--{next(iter(transport))}", "goes with --norm wasserstein.")
    records = verifier.radius(network_of(options), data, norm=options.norm, region=region, **places, **transport, **everywhere(options))
    finished = 0
    for record in count_up(records, len(data), "radii"):
        bracket = record.bracket
        answer = {
            "sample": record.sample,
            "label": record.label,
            "lower": bracket.lower,
            "upper": bracket.upper,
            "status": bracket.status,
            "seconds": bracket.seconds,
            "witness": bracket.witness,
            "semantics": bracket.semantics,
        }
        if options.norm == WASSERSTEIN:
            answer |= {name: bracket.stats[name] for name in ("ground", "pixels", "configuration", "mass", "bounds")}
        text = f"sample {record.sample}, label {record.label}: {interval(bracket, 'radius')} ({bracket.seconds:.2f} s)"
        output.answer(answer, text if bracket.status.finished else f"{text}. {bracket.status}")
        finished += bracket.status.finished
        if bracket.status is Status.INTERRUPTED:
            break
    output.message(f"{finished} of {len(data)} radii are exact to the tolerance.")

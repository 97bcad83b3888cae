"""The command `radius`."""

from argparse import Namespace

import verifier
from problems import readers
from problems.data import Dataset, load
from problems.transport.grid import Grid
from verifier.bracket import Status
from verifier.cli.common import everywhere, network_of
from verifier.cli.output import Output, interval
from verifier.cli.parser import WASSERSTEIN, UsageError
from verifier.cli.progress import count_up
from verifier.cli.region import region_of
from verifier.radii import Radius


def run(options: Namespace, output: Output) -> None:
    data = load(options.data).select(options.samples)
    region = region_of(options, data.x.shape[1], data)
    places = {"resume": options.resume, "executor": options.executor}
    transport = {name: getattr(options, name) for name in ("ground", "pixels", "configuration") if getattr(options, name) is not None}
    drawn = {} if options.picture is None else {"picture": options.picture}
    if (transport or drawn) and options.norm != WASSERSTEIN:
        raise UsageError(f"--{next(iter(transport | drawn))}", "goes with --norm wasserstein.")
    if drawn and not options.picture.endswith((".svg", ".png")):
        raise UsageError("--picture", f"{options.picture!r} is neither .svg nor .png.")
    records = verifier.radius(network_of(options), data, norm=options.norm, region=region, **places, **transport, **everywhere(options))
    found = []
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
        found.append(record)
        if bracket.status is Status.INTERRUPTED:
            break
    finished = sum(record.bracket.status.finished for record in found)
    output.message(f"{finished} of {len(data)} radii are exact to the tolerance.")
    if drawn:
        _draw(options, data, found, output)


def _draw(options: Namespace, data: Dataset, found: list[Radius], output: Output) -> None:
    """The picture of what was found."""
    from verifier.report import transport

    network = readers.load(network_of(options))
    grid = Grid.of_network(network, data.image_shape, options.ground or "l1")
    rows = transport.moved(found, data, network)
    if transport.drawable(rows, grid):
        transport.save(options.picture, rows, grid)
        output.message(f"{options.picture}: drawn.")
    else:
        output.message(f"{options.picture}: nothing to draw, no image has a misclassified neighbour.")

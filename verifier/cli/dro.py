"""The command `dro`."""

from argparse import Namespace

import verifier
from problems.data import load
from verifier.cli.common import everywhere, network_of
from verifier.cli.output import Output, at_least, at_most
from verifier.cli.parser import UsageError
from verifier.cli.progress import waiting
from verifier.cli.region import region_of


def run(options: Namespace, output: Output) -> None:
    if options.loss != "zero-one":
        raise UsageError("--loss", f"{options.loss} is not available yet.", "The worst-case error, --loss zero-one, is.")
    data = load(options.data).select(options.samples)
    with waiting("refining radii"):
        records = verifier.dro(
            network_of(options),
            data,
            loss=options.loss,
            norm=options.norm,
            order=options.order,
            epsilon=options.epsilon,
            region=region_of(options, data.x.shape[1], data),
            label_cost=options.label_cost,
            resume=options.resume,
            executor=options.executor,
            **everywhere(options),
        )
    names = ("epsilon", "attack", "lower", "upper", "lipschitz_bound", "slope_bounds", "seconds", "status")
    for record in records:
        ends = f"{at_least(record.lower)} <= worst-case error <= {at_most(record.upper)}"
        text = f"epsilon {record.epsilon!r}: {ends}, attack {at_least(record.attack)} ({record.seconds:.2f} s)"
        output.answer({name: getattr(record, name) for name in names}, text if record.status.finished else f"{text}. {record.status}")

"""The command `dro`."""

from argparse import Namespace

import verifier
from problems.data import load
from verifier.cli.common import everywhere, network_of
from verifier.cli.output import Output, at_least, at_most
from verifier.cli.progress import waiting
from verifier.cli.region import region_of


def run(options: Namespace, output: Output) -> None:
    data = load(options.data).select(options.samples)
    with waiting("refining radii" if options.loss == "zero-one" else "refining suprema"):
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
    what = "worst-case error" if options.loss == "zero-one" else f"worst expected {options.loss}"
    for record in records:
        ends = f"{at_least(record.lower)} <= {what} <= {at_most(record.upper)}"
        text = f"epsilon {record.epsilon!r}: {ends}, attack {at_least(record.attack)} ({record.seconds:.2f} s)"
        output.answer({name: getattr(record, name) for name in names}, text if record.status.finished else f"{text}. {record.status}")
    for reason in dict.fromkeys(reason for record in records for reason in record.reasons):
        output.message(reason)
    if options.export is not None:
        from verifier.distributional.distribution import save

        save(options.export, [record.distribution for record in records if record.distribution is not None])
        output.message(f"{options.export}: the worst distributions.")

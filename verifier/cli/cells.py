"""The command `cells`."""

from argparse import Namespace

import verifier
from problems import readers
from problems.data import load
from verifier.cli.common import everywhere, network_of
from verifier.cli.output import Output
from verifier.cli.parser import UsageError
from verifier.cli.progress import enumerating
from verifier.cli.region import region_of


def run(options: Namespace, output: Output) -> None:
    """Count the cells and print how many."""
    data = None if options.data is None else load(options.data).select(options.samples)
    net = readers.load(network_of(options))
    region = region_of(options, net.input_size, data)
    if region is None:
        raise UsageError("region", "is missing.", "Give --box, --all-space, --region, --box-center with --radius, or --data with --radius.")
    with enumerating() as progress:
        count = verifier.cells(net, region, progress=progress, **everywhere(options))
    names = ("cells", "complete", "seconds", "kernel_seconds", "compile_seconds", "thin", "status")
    text = f"{'' if count.complete else 'at least '}{count.cells} cells ({count.seconds:.2f} s, {count.kernel_seconds:.2f} s in the kernel)"
    if count.thin:
        text += f"; {count.thin} more have an inscribed radius of at most {options.tolerance!r}"
    output.answer({name: getattr(count, name) for name in names}, text)
    if not count.complete:
        output.message(f"{count.status.name.capitalize().replace('_', ' ')}: what was counted is no more than a part.")

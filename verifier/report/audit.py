"""The audit: exact radii of many samples, worst-case error and loss curves, what other certificates prove, and one report that says it all.

Every radius and every part is stored as soon as it is known. Ctrl-C, a crash or kill -9 lose nothing but the work in hand: the report
shows what is done, and the same call goes on from there.
"""

import math
import time
from collections.abc import Sequence
from concurrent.futures import Executor
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from problems import data as datasets
from problems import readers
from problems.data import Dataset
from problems.errors import InputError
from verifier.report import machine
from verifier.report.cells import picture_of
from verifier.report.ground import NORMS, Ground, Options, about_data, about_network, at_least, choices, examine
from verifier.report.html import write
from verifier.report.part_certified import CertifiedPart
from verifier.report.part_losses import LOSSES, LossPart, loss_epsilons, shown_of
from verifier.report.part_tightness import TightPart
from verifier.report.part_transport import TransportPart, transportable
from verifier.report.parts import Part, run_parts
from verifier.report.radii import Progress, all_radii, norm_audit
from verifier.report.record import Audit, Certified, LossCurve, NormAudit, TightShare
from verifier.report.record_transport import TransportRadii
from verifier.report.session import Session
from verifier.search.executors import default_workers
from verifier.search.store import Store

STORE = "store.sqlite"
# Seconds for the parts that come after the radii.
BUDGET = 240.0
# Epsilons of a curve of worst expected losses.
LOSS_POINTS = 14


def audit(
    network: Any = "digits-16x2",
    data: str | Path | Dataset = "digits:test",
    *,
    output: str | Path = "report",
    samples: str | slice | None = None,
    count: int = 100,
    norms: Sequence[str | float] = ("inf", "2"),
    orders: Sequence[str | float] = (1, 2, math.inf),
    points: int = 160,
    timeout: float | None = None,
    budget: float = BUDGET,
    memory: float | None = None,
    workers: int | None = None,
    device: str = "cpu",
    solver: str = "auto",
    tolerance: float = 1e-6,
    seed: int = 0,
    semantics: str = "real",
    progress: Progress | None = None,
    executor: Executor | str | None = None,
) -> Audit:
    """The whole story of a network on the first `count` samples of `data` (or on `samples`, "A:B"), as one report.

    Writes index.html (opens offline), results.json (docs/results.md) and store.sqlite (for resuming) into the folder `output`.
    norms: of the inputs, among 1, 2, inf; orders: of the Wasserstein distance of error curves, among 1, 2, inf; points: about how many
    epsilons per error curve. timeout (seconds) and memory (GB) bound the work on one radius. budget: seconds for all that comes after the
    radii (worst expected losses, other certificates, tightness), shared out among them; 0: radii and error curves alone. The rest is
    handed to `verifier.radius` and `verifier.dro`.

    Ends in an Audit: `complete` is False after Ctrl-C, and what it then says about the missing samples is that nothing is known. Every
    witness is checked once more in exact arithmetic. Mathematics: THEORY W1, W4, T2. What is trusted is listed in the report.
    Errors: InputError.
    """
    clock = time.monotonic()
    net = readers.load(network)
    dataset = datasets.load(data)
    about = about_data(dataset)  # fingerprint and size are those of the whole data set
    dataset = dataset.select(samples if samples is not None else slice(0, min(at_least("count", count, 1), len(dataset))))
    dataset.check_fits(net)
    options = Options(
        norms=choices("norms", norms), orders=choices("orders", orders), points=at_least("points", points, 2),
        timeout=timeout, budget=at_least("budget", budget, 0), memory=memory, workers=workers or default_workers(), device=device,
        solver=solver, tolerance=tolerance, seed=seed, semantics=semantics, executor=executor,
    )  # fmt: skip
    ground = Ground(net, dataset, about["fingerprint"], options)
    folder = _folder(output)
    examined = tuple(examine(ground))
    with Store(folder / STORE) as store:
        session = Session(store, ground, clock)
        radii, complete = all_radii(ground, session, progress)
        norms_done = tuple(norm_audit(ground, norm, found, session) for norm, found in radii.items())
        records: list[Any] = []
        notes: tuple[str, ...] = ()
        if complete and options.budget > 0:
            records, complete, notes = run_parts(parts_of(ground, norms_done), ground, session, progress)
        dropped = tuple(note for found in radii.values() for radius in found.values() if radius.checked is False for note in radius.notes)
        record = Audit(
            network=about_network(net),
            data=about,
            options=options.record(len(dataset)),
            samples=examined,
            norms=norms_done,
            sessions=session.all(),
            date=datetime.now(UTC).isoformat(timespec="seconds"),
            machine=machine.machine(device),
            versions=machine.versions(),
            complete=complete,
            notes=dropped + notes,
            cells=picture_of(net, dataset, options.norms[0]) if complete else None,
            losses=tuple(part for part in records if isinstance(part, LossCurve)),
            certified=tuple(part for part in records if isinstance(part, Certified)),
            tightness=tuple(part for part in records if isinstance(part, TightShare)),
            moved=tuple(part for part in records if isinstance(part, TransportRadii)),
        )
        write(record, folder)
    return record


def parts_of(ground: Ground, norms: Sequence[NormAudit]) -> list[Part]:
    """What comes after the radii."""
    uppers = {norm.norm: {radius.sample: radius.upper for radius in norm.radii} for norm in norms}
    parts: list[Part] = [CertifiedPart(norm, reach) for norm, reach in uppers.items()]
    parts += [TightPart(norm) for norm in uppers]
    for loss in LOSSES:
        for norm, reach in uppers.items():
            epsilon = loss_epsilons(list(reach.values()), LOSS_POINTS, _width(ground.dataset, norm) / 4)
            parts.append(LossPart(norm, loss, epsilon, shown_of(epsilon)))
    # Last, since one image may take longer than its share, and the others must not pay for that.
    parts += [TransportPart()] if transportable(ground) else []
    return parts


def _width(dataset: Dataset, norm: str) -> float:
    """The norm of the sides of the region, 4 where it is unbounded or a point."""
    if dataset.domain is None:
        return 4.0
    lower, upper = dataset.domain.bounding_box()
    width = float(np.linalg.norm(upper - lower, ord=NORMS[norm]))
    return width if 0 < width < math.inf else 4.0


def _folder(output: str | Path) -> Path:
    folder = Path(output)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(str(folder), f"cannot be made ({error.strerror}).", "Name another folder with --output.") from None
    return folder

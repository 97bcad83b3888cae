"""The part of an audit about moved mass: image-space Wasserstein radii of the first images that are classified rightly."""

import time
from dataclasses import dataclass
from math import inf
from typing import Any, ClassVar

import verifier
from problems.errors import InputError
from problems.transport.domain import check_affine_start
from problems.transport.grid import Grid
from verifier.report.ground import Ground
from verifier.report.parts import Part
from verifier.report.record_transport import MovedImage, TransportRadii
from verifier.report.transport import Moved, moved
from verifier.search.executors import default_workers
from verifier.search.store import Store

IMAGES = 12


@dataclass(frozen=True, eq=False)
class TransportPart(Part):
    """Exact radii, as far as the time reaches; bounds and attack come first, so every image has a bracket."""

    norm: str = "wasserstein"
    share: ClassVar[float] = 4.0
    kind: ClassVar[type] = TransportRadii

    @property
    def title(self) -> str:
        return "moved mass"

    def question(self, ground: Ground) -> dict[str, Any]:
        return {"norm": self.norm, "samples": ground.dataset.numbers, "images": IMAGES}

    def settled(self, record: TransportRadii) -> bool:
        tolerance = 1e-4
        return len(record.images) == record.wanted and all(image.lower >= image.upper * (1 - tolerance) for image in record.images)

    def compute(self, ground: Ground, seconds: float, meant: float, store: Store) -> TransportRadii:
        start, options = time.monotonic(), ground.options
        grid = Grid.of_network(ground.network, ground.dataset.image_shape)
        wanted = _wanted(ground)
        left_out = [int(number) for number in ground.dataset.numbers if int(number) not in wanted]
        workers = options.workers or default_workers()
        each = None if seconds == inf else max(seconds, 0.0) * min(workers, max(len(wanted), 1)) / max(len(wanted), 1)
        records, complete = [], True
        try:
            for record in verifier.radius(
                ground.network, ground.dataset, norm="wasserstein", skip=left_out, timeout=each, memory=options.memory, workers=workers,
                device=options.device, solver=options.solver, tolerance=options.tolerance, seed=options.seed,
            ):  # fmt: skip
                records.append(record)
        except KeyboardInterrupt:
            complete = False
        images = tuple(_stored(row) for row in moved(records, ground.dataset, ground.network))
        return TransportRadii(grid.shape, "l1", "simplex", images, len(wanted), time.monotonic() - start, meant, complete)


def transportable(ground: Ground) -> bool:
    """Whether the network's inputs are images, all samples have mass to move, and some are classified rightly."""
    try:
        check_affine_start(ground.network)
        grid = Grid.of_network(ground.network, ground.dataset.image_shape)
        for x in ground.dataset.x:
            grid.check_image(x)
    except InputError:
        return False
    return bool(_wanted(ground))


def _wanted(ground: Ground) -> set[int]:
    """The first samples that the network labels rightly."""
    right = ground.network.forward(ground.dataset.x).argmax(axis=1) == ground.dataset.y
    return {int(number) for number in ground.dataset.numbers[right][:IMAGES]}


def _stored(row: Moved) -> MovedImage:
    after = None if row.after is None else tuple(row.after.tolist())
    return MovedImage(row.sample, row.label, row.lower, row.upper, row.bounds, row.attack, tuple(row.before.tolist()), after, row.found)

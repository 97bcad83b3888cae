"""The part of an audit about tightness: how often the published bound E + L epsilon is attained (THEORY T2)."""

import time
from dataclasses import dataclass
from math import isfinite
from typing import Any, ClassVar

import numpy as np

from problems.errors import InputError
from problems.regions import Box
from verifier.bracket import Bracket
from verifier.recession.audit import BOUNDED
from verifier.report.cells import cells_in_data_plane
from verifier.report.ground import NORMS, Ground
from verifier.report.parts import Part
from verifier.report.record import TightShare
from verifier.search.store import Store


@dataclass(frozen=True, eq=False)
class TightPart(Part):
    """L, l and kappa* over all of R^n, the samples' own cells, and the cells that meet the plane through three samples."""

    share: ClassVar[float] = 2.0
    kind: ClassVar[type] = TightShare

    @property
    def title(self) -> str:
        return f"tightness, norm {self.norm}"

    def question(self, ground: Ground) -> dict[str, Any]:
        return {"norm": self.norm, "samples": ground.dataset.numbers}

    def settled(self, record: TightShare) -> bool:
        return record.exhaustive

    def compute(self, ground: Ground, seconds: float, meant: float, store: Store) -> TightShare:
        from verifier.enumeration.count import ready
        from verifier.recession.tightness import tightness

        ready()  # compiled before the clock starts
        start = time.monotonic()
        network, dataset, norm = ground.network, ground.dataset, NORMS[self.norm]
        free = Box.whole_space(network.input_size)
        everywhere = tightness(
            network, free, norm, data=dataset, timeout=0.6 * seconds, memory=ground.options.memory, seed=ground.options.seed
        )  # fmt: skip
        plane_cells = plane_tight = 0
        try:
            cells = cells_in_data_plane(network, dataset, free, self.norm, timeout=max(0.3 * seconds, 1.0))
            if cells is not None:
                plane_cells, plane_tight = len(cells.tight), int(np.sum(cells.tight))
        except InputError:
            pass  # fewer than three classes: there is no plane
        domain = dataset.domain
        bounded = domain is not None and all(isfinite(side) for sides in domain.bounding_box() for side in sides)

        def ends(bracket: Bracket) -> tuple[float, float]:
            return float(bracket.lower), float(bracket.upper)

        return TightShare(
            self.norm,
            ends(everywhere.lipschitz),
            ends(everywhere.tight_slope),
            ends(everywhere.slope_at_infinity),
            samples=everywhere.tight_data or 0.0,
            cells=everywhere.cells,
            tight=everywhere.tight_cells,
            exhaustive=everywhere.complete,
            plane_cells=plane_cells,
            plane_tight=plane_tight,
            reason=BOUNDED if bounded else None,
            status=everywhere.status.name,
            seconds=time.monotonic() - start,
            timeout=meant,
            lambda_0=None if everywhere.lambda_0 is None else ends(everywhere.lambda_0),
        )

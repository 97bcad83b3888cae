"""The part of an audit about certificates: what those of the literature prove of the same samples, beside the exact radii."""

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from verifier.report.coding import decode, encode
from verifier.report.ground import NORMS, Ground
from verifier.report.parts import Part
from verifier.report.record import Certified, CertifiedMethod
from verifier.search.store import Store

# Relative precision of a certified radius.
TOLERANCE = 0.01


@dataclass(frozen=True)
class _Sample:
    """One sample, as it is stored."""

    sample: int
    radii: dict[str, Any]
    seconds: dict[str, Any]
    complete: dict[str, Any]


@dataclass(frozen=True, eq=False)
class CertifiedPart(Part):
    """reach: {sample: distance of a misclassified input}, from the exact radii. Every sample is stored by itself, too."""

    reach: Mapping[int, float]
    share: ClassVar[float] = 10.0
    kind: ClassVar[type] = Certified

    @property
    def title(self) -> str:
        return f"certificates, norm {self.norm}"

    def question(self, ground: Ground) -> dict[str, Any]:
        return {"norm": self.norm, "precision": TOLERANCE, "samples": ground.dataset.numbers}

    def settled(self, record: Certified) -> bool:
        return all(method.complete == method.done for method in record.methods)

    def compute(self, ground: Ground, seconds: float, meant: float, store: Store) -> Certified:
        from verifier.certified import certified_radii, ready

        ready(NORMS[self.norm], ground.options.solver)  # compiled before the clock starts
        start = time.monotonic()
        kept = (decode(_Sample, raw) for _, raw in store.records("sample/"))
        found = {sample.sample: sample for sample in kept if all(sample.complete.values())}
        complete = True
        try:
            for result in certified_radii(
                ground.network, ground.dataset, norm=NORMS[self.norm], reach=self.reach, tolerance=TOLERANCE, timeout=seconds,
                workers=ground.options.workers, solver=ground.options.solver, skip=frozenset(found),
            ):  # fmt: skip
                sample = _Sample(result.sample, dict(result.radii), dict(result.seconds), dict(result.complete))
                store.put_record(f"sample/{sample.sample:08}", encode(sample))
                found[sample.sample] = sample
        except KeyboardInterrupt:
            complete = False
        return Certified(self.norm, methods_of(ground, found), time.monotonic() - start, meant, complete)


def methods_of(ground: Ground, found: Mapping[int, _Sample]) -> tuple[CertifiedMethod, ...]:
    """Sample by sample to method by method; a sample that is missing has radius 0."""
    from verifier.certified import METHODS

    numbers = ground.dataset.numbers.tolist()
    return tuple(
        CertifiedMethod(
            name,
            method.title,
            method.meaning,
            tuple(float(found[number].radii[name]) if number in found else 0.0 for number in numbers),
            len(found),
            sum(bool(sample.complete[name]) for sample in found.values()),
            sum(float(sample.seconds[name]) for sample in found.values()),
        )
        for name, method in METHODS.items()
    )

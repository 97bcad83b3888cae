"""One run of an audit, and what the store keeps of all runs: radii, parts, and how long every run has worked."""

import time
from collections.abc import Iterator
from datetime import UTC, datetime
from uuid import uuid4

from verifier.report.coding import decode, encode
from verifier.report.ground import NORMS, Ground
from verifier.report.record import SampleRadius
from verifier.search.store import Store


class Session:
    """This run's use of the store. `computed` counts the radii and parts that it has added."""

    def __init__(self, store: Store, ground: Ground, clock: float) -> None:
        self._store = store
        self._audit = ground.run("audit", norms=list(ground.options.norms))
        self._radii = {norm: ground.run("radius", norm=norm) for norm in NORMS}
        self._clock = clock
        self._key = f"session/{datetime.now(UTC).isoformat()}/{uuid4().hex}"
        self.computed = 0

    def of_norm(self, norm: str) -> Store:
        """What is kept of the radii of a norm."""
        return self._store.for_run(self._radii[norm])

    def radii(self, norm: str) -> Iterator[SampleRadius]:
        """What earlier runs found."""
        return (decode(SampleRadius, record) for _, record in self.of_norm(norm).records("sample/"))

    def keep(self, norm: str, radius: SampleRadius, norm_seconds: float) -> None:
        """Store a radius: when this returns it survives a kill."""
        self.of_norm(norm).put_record(f"sample/{radius.sample:08}", encode(radius))
        self.of_norm(norm).put_record(self._key, norm_seconds)
        self.count()

    def of_part(self, run: str) -> Store:
        """What is kept of a part, by the name of its run."""
        return self._store.for_run(run)

    def count(self) -> None:
        """One answer more is in the store."""
        self.computed += 1
        self._store.for_run(self._audit).put_record(self._key, [time.monotonic() - self._clock, self.computed])

    def seconds(self, norm: str) -> float:
        """Wall-clock seconds that all runs have spent on the radii of this norm."""
        return sum(seconds for _, seconds in self.of_norm(norm).records("session/"))

    def all(self) -> tuple[tuple[float, int], ...]:
        """(seconds, answers computed) of every run that computed any; this run last."""
        store = self._store.for_run(self._audit)
        if self.computed:
            store.put_record(self._key, [time.monotonic() - self._clock, self.computed])
        return tuple((float(seconds), int(count)) for _, (seconds, count) in store.records("session/"))

"""The parts of an audit that come after the radii: each is computed within its share of the time, stored as a whole, and never repeated.

One place runs them all. A part that was interrupted is shown and not stored; one that ran out of time is tried again where the audit is
given more time than it had. What a part cannot be about (a region that a method does not take) is said in a note.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from problems.errors import InputError
from verifier.report.coding import decode, encode
from verifier.report.ground import Ground
from verifier.report.radii import Progress
from verifier.report.session import Session
from verifier.search.executors import WorkersLost
from verifier.search.store import Store, StoreError

# Of what it was meant to have a part gets at least this share, however much the others before it took.
LEAST_SHARE = 0.5


@dataclass(frozen=True, eq=False)
class Part(ABC):
    """One answer of the audit; `share`: of the time for all parts, relative to the others' shares."""

    norm: str
    share: ClassVar[float]
    kind: ClassVar[type]

    @property
    @abstractmethod
    def title(self) -> str:
        """What it is, for people who wait for it."""

    @abstractmethod
    def question(self, ground: Ground) -> dict[str, Any]:
        """All that its answer depends on, besides the network, the data and the options."""

    @abstractmethod
    def compute(self, ground: Ground, seconds: float, meant: float, store: Store) -> Any:
        """The record, within about so many seconds (compiling, once, aside); `meant`: what it has to name as its timeout.

        Interrupted it is a record of what is there.
        """

    @abstractmethod
    def settled(self, record: Any) -> bool:
        """Whether more time would change nothing."""


def run_parts(
    parts: Sequence[Part], ground: Ground, session: Session, progress: Progress | None
) -> tuple[list[Any], bool, tuple[str, ...]]:
    """(records, whether all are there and none was interrupted, notes on parts that could not be)."""
    records: list[Any] = []
    notes: list[str] = []
    total, budget = sum(part.share for part in parts), ground.options.budget
    due = used = 0.0
    for part in parts:
        meant = budget * part.share / total
        due += meant
        store = session.of_part(ground.run(part.title, **part.question(ground)))
        record = _kept(part, store)
        if record is not None and (part.settled(record) or meant <= record.timeout):
            records.append(record)
            used += meant
            continue
        try:
            if progress is not None:
                progress(part.title, 0, 1)
            record = part.compute(ground, max(due - used, LEAST_SHARE * meant), meant, store)
        except (StoreError, WorkersLost):
            raise
        except InputError as error:
            notes.append(f"Left out: {part.title}. {error}")
            continue
        except KeyboardInterrupt:
            return records, False, tuple(notes)
        used += record.seconds
        records.append(record)
        if not record.complete:
            return records, False, tuple(notes)
        store.put_record("record", encode(record))
        session.count()
        if progress is not None:
            progress(part.title, 1, 1)
    return records, True, tuple(notes)


def _kept(part: Part, store: Store) -> Any:
    """What an earlier run left of the part; None if there is nothing, or nothing that this version reads."""
    kept = store.get_record("record")
    try:
        return None if kept is None else decode(part.kind, kept)
    except (TypeError, ValueError):
        return None

"""What a search may use: time, memory, and the user's patience."""

import os
import threading
import time
from dataclasses import dataclass, field
from math import inf
from pathlib import Path
from typing import Protocol

from verifier.bracket import Status

# GB of resident memory that a process may use unless told otherwise.
DEFAULT_MEMORY = 5.0
# From this share of its memory on a search works on pieces that end soon, and stops to pile up open ones.
CROWDED = 0.75


class Flag(Protocol):
    """An event of threading or of multiprocessing."""

    def is_set(self) -> bool: ...


def resident_bytes(process: int | None = None) -> int:
    """Resident memory of this process, or of the one with that number, in bytes (0 where the system does not tell)."""
    try:
        return int(Path(f"/proc/{process or 'self'}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, ValueError, IndexError):
        return 0


def bytes_of(gigabytes: float | None) -> float:
    """A memory limit as users give it, in bytes."""
    return 1e9 * (DEFAULT_MEMORY if gigabytes is None else gigabytes)


@dataclass
class Budget:
    """timeout in seconds from now, memory in bytes of resident set; `interrupt` may be set from a signal handler or a thread.

    whole: the instant of time.monotonic() at which the call must have its answer, where this budget is a part of that call's.
    """

    timeout: float | None = None
    memory: float | None = None
    interrupt: Flag = field(default_factory=threading.Event)
    started: float = field(default_factory=time.monotonic)
    whole: float | None = None

    @property
    def deadline(self) -> float:
        return inf if self.timeout is None else self.started + self.timeout

    @property
    def end(self) -> float:
        """The instant by which even a single long computation must be over: the deadline of the whole call."""
        return self.deadline if self.whole is None else self.whole

    def part(self, seconds: float) -> "Budget":
        """At most this many of the remaining seconds. What is begun within them may take longer, but not beyond the end of the whole."""
        return Budget(min(seconds, max(self.remaining, 0.0)), self.memory, self.interrupt, whole=self.end)

    @property
    def elapsed(self) -> float:
        return time.monotonic() - self.started

    @property
    def remaining(self) -> float:
        return self.deadline - time.monotonic()

    @property
    def crowded(self) -> bool:
        """Whether most of the memory is used."""
        return self.memory is not None and resident_bytes() > CROWDED * self.memory

    def exceeded(self) -> Status | None:
        """Why to stop now, or None to go on."""
        if self.interrupt.is_set():
            return Status.INTERRUPTED
        if time.monotonic() >= self.deadline:
            return Status.TIMED_OUT
        if self.memory is not None and resident_bytes() > self.memory:
            return Status.OUT_OF_MEMORY
        return None

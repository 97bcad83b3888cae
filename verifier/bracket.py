"""Every answer is a bracket: a proved end, a witnessed end, and how the work stopped."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from math import inf, isnan
from typing import Any, Literal

import numpy as np

Array = np.ndarray
Sense = Literal["max", "min"]


class Status(Enum):
    """How the work stopped: what happened and what to do."""

    CLOSED = "The bracket is closed to the stated tolerance."
    DECIDED = "The question is decided; the bracket was left open once its answer was certain."
    EMPTY = "Proved: no point of the region satisfies the question, so the value is infinite."
    TIMED_OUT = "The time limit was reached; the bracket holds. Raise --timeout to narrow it."
    OUT_OF_MEMORY = "The memory limit was reached; the bracket holds. Raise --memory to narrow it."
    INTERRUPTED = "Interrupted; the bracket holds. Give it more time to narrow it."
    BOUNDS_ONLY = "The bracket is what bounds alone give, as was asked for. A complete configuration narrows it."
    UNDECIDED = "Pieces remain that rounding leaves open; the bracket holds. The margin there is within the rounding errors of zero."
    REPLAY_DIFFERS = "A witness is true in exact arithmetic but not in replay (or the reverse), so the verdict depends on rounding."
    UNBOUNDED_SEARCH = "No witness was found in an unbounded region; the proved end holds. Give a bounded region to decide."

    def __str__(self) -> str:
        return self.value

    @property
    def finished(self) -> bool:
        return self in (Status.CLOSED, Status.DECIDED, Status.EMPTY)


@dataclass(frozen=True, eq=False)
class Bracket:
    """lower <= value <= upper. For sense "max" the upper end is proved and the lower end witnessed; for "min" the reverse.

    witness (n,) attains the witnessed end (None where that end is infinite); semantics names the arithmetic the proof speaks
    about: "real" (stored weights as exact numbers) or "float32" (any order of summation). stats holds counts and timings.
    """

    sense: Sense
    lower: float
    upper: float
    status: Status
    witness: Array | None = None
    semantics: str = "real"
    seconds: float = 0.0
    stats: Mapping[str, Any] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if isnan(self.lower) or isnan(self.upper) or self.lower > self.upper:
            raise AssertionError(f"bracket [{self.lower}, {self.upper}] is crossed: an end is wrong, please report this network")
        if self.witness is None and self.witnessed_end not in (inf, -inf):
            raise AssertionError("a finite witnessed end needs its witness")

    @property
    def witnessed_end(self) -> float:
        return self.lower if self.sense == "max" else self.upper

    @property
    def gap(self) -> float:
        return 0.0 if self.lower == self.upper else self.upper - self.lower

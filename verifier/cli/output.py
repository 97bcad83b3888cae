"""What the command line prints: answers to standard output, everything else to standard error."""

import json
import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from decimal import ROUND_CEILING, ROUND_FLOOR, Context
from enum import Enum
from fractions import Fraction
from math import inf, isfinite
from typing import Any, TextIO

import numpy as np

from verifier.bracket import Bracket, Status


class Output:
    """One answer per call of `answer`; `message` and `error` go to standard error."""

    def __init__(self, as_json: bool) -> None:
        self.as_json = as_json
        self.answers = 0
        self._stream: TextIO = sys.stdout

    @contextmanager
    def guarded(self) -> Iterator[None]:
        """While inside, whatever else writes to standard output (solvers write from C) ends up on standard error."""
        sys.stdout.flush()
        try:
            target, elsewhere = sys.stdout.fileno(), sys.stderr.fileno()
        except (OSError, ValueError, AttributeError):  # not a real file, as under a test harness: nothing below Python writes to it
            yield
            return
        saved = os.dup(target)
        self._stream = os.fdopen(saved, "w", encoding="utf-8")
        os.dup2(elsewhere, target)
        try:
            yield
        finally:
            sys.stdout.flush()
            os.dup2(saved, target)
            stream, self._stream = self._stream, sys.stdout
            stream.close()

    def answer(self, record: Mapping[str, Any], text: str) -> None:
        """An answer, as one line of JSON or as text."""
        self.answers += 1
        line = json.dumps(plain(record), allow_nan=False, ensure_ascii=False) if self.as_json else text
        print(line, file=self._stream, flush=True)

    def text(self, text: str) -> None:
        """A line for people, between or after the answers; not part of the JSON."""
        if not self.as_json:
            print(text, file=self._stream, flush=True)

    def message(self, text: str) -> None:
        print(text, file=sys.stderr, flush=True)

    def error(self, text: str) -> None:
        if self.as_json:
            print(json.dumps({"error": text}, ensure_ascii=False), file=self._stream, flush=True)
        print(f"error: {text}", file=sys.stderr, flush=True)


def plain(value: Any) -> Any:
    """The value as JSON knows it: arrays as lists, infinities as "inf" and "-inf", exact fractions as "p/q"."""
    if isinstance(value, Mapping):
        return {str(key): plain(part) for key, part in value.items()}
    if isinstance(value, np.ndarray):
        return plain(value.tolist())
    if isinstance(value, list | tuple):
        return [plain(part) for part in value]
    if isinstance(value, np.generic):
        return plain(value.item())
    if isinstance(value, Fraction):
        return str(value)
    if isinstance(value, Status):
        return status_name(value)
    if isinstance(value, Enum):
        return plain(value.value)
    if isinstance(value, float) and not isfinite(value):
        return {inf: "inf", -inf: "-inf"}.get(value, "nan")
    return value


def status_name(status: Status) -> str:
    """The status in one word, as scripts compare it: "closed", "timed-out", ..."""
    return status.name.lower().replace("_", "-")


def at_least(value: float, digits: int = 6) -> str:
    """A lower end in `digits` digits, rounded down: what is printed is as true as the number."""
    return _rounded(value, digits, ROUND_FLOOR)


def at_most(value: float, digits: int = 6) -> str:
    """An upper end in `digits` digits, rounded up."""
    return _rounded(value, digits, ROUND_CEILING)


def _rounded(value: float, digits: int, direction: str) -> str:
    """Decimal digits that name `value` itself where that many can, else the next decimal number in the direction."""
    value = float(value)
    short = f"{value:.{digits}g}"
    if float(short) == value or not isfinite(value):
        return short
    number = Context(prec=digits, rounding=direction).create_decimal_from_float(value)
    return f"{number.normalize():f}" if -5 <= number.adjusted() < 15 else f"{number.normalize():e}"


def interval(bracket: Bracket, name: str) -> str:
    """ "0.0831 <= radius <= 0.0832", or "radius = inf" where both ends are the same."""
    if bracket.lower == bracket.upper:
        return f"{name} = {bracket.lower!r}"
    return f"{at_least(bracket.lower)} <= {name} <= {at_most(bracket.upper)}"

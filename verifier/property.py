"""One property of one network, as it travels: to worker processes, and into the name under which a run is kept."""

import tempfile
from dataclasses import dataclass, fields, is_dataclass, replace
from fractions import Fraction
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from problems.errors import InputError
from problems.maps import Array
from problems.network import Network
from problems.readers.agreement import replayer
from problems.specification import Specification
from verifier import __version__
from verifier.milp import WholeProgram
from verifier.piecewise import Splitting
from verifier.search.question import Question
from verifier.search.store import run_fingerprint
from verifier.violation import Violation, targets_of

METHODS = ("auto", "cells", "milp")


@dataclass(frozen=True, eq=False)
class Property:
    """What is asked, and how: from it `question` poses the same question in every process. It can be pickled.

    model: the bytes of the network's file, for workers that do not see it; see `portable`. Raises InputError where float32 may overflow.
    """

    network: Network
    specification: Specification
    method: str = "auto"
    solver: str = "auto"
    semantics: str = "real"
    model: bytes | None = None

    @cached_property
    def violation(self) -> Violation:
        """The question itself, posed once per process."""
        envelope = _envelope(self.network, self.specification) if self.semantics == "float32" else None
        return Violation(
            self.network, targets_of(self.specification, envelope), _splitting(self.method), specification=self.specification,
            replay=replayer(self._here), solver=self.solver, envelope=envelope,
            condenses=self.method != "milp",  # a program is encoded from the stored weights
        )  # fmt: skip

    @cached_property
    def question(self) -> Question:
        """What is searched: the violation, or the program that encodes it whole."""
        return WholeProgram(self.violation, solver=self.solver) if self.method == "milp" else self.violation

    @property
    def batch(self) -> int:
        """Pieces per step: many while a piece is small, so that matrix products are worth their call."""
        return 1 if self.method == "milp" else int(np.clip(200_000 // max(1, self.network.neurons), 16, 256))

    def portable(self) -> "Property":
        """The same, with the network's file inside."""
        source = self.network.source
        return self if source is None else replace(self, model=source.read_bytes())

    def fingerprint(self, **others: object) -> str:
        """Names the run in a store; others: further options that can change a result."""
        return run_fingerprint(
            self.network.fingerprint, "verify", disjuncts=[_plain(disjunct) for disjunct in self.specification.disjuncts],
            precision=self.network.precision, method=self.method, solver=self.solver, semantics=self.semantics, version=__version__,
            **others,
        )  # fmt: skip

    def __getstate__(self) -> dict[str, Any]:
        return {field.name: getattr(self, field.name) for field in fields(self)}

    @property
    def _here(self) -> Network:
        """The network, with its file where this process can read it."""
        source = self.network.source
        if source is None or self.model is None or source.exists():
            return self.network
        folder = Path(tempfile.mkdtemp(prefix="tightcert-"))
        file = folder / source.name
        file.write_bytes(self.model)
        return replace(self.network, source=file)


def _splitting(method: str) -> Splitting | None:
    """How a method cuts pieces; None lets the engine choose."""
    return None if method == "auto" else "neuron"


def _envelope(network: Network, specification: Specification) -> Array:
    """The largest rounding envelope over the regions of the specification, (K,)."""
    from verifier.bounds.envelope import float32_envelope

    parts = [float32_envelope(network, *region.bounding_box()) for region in specification.input_boxes()]
    envelope = np.max([np.zeros(network.output_size), *parts], axis=0)
    if not np.isfinite(envelope).all():
        raise InputError(network.name, "may overflow in float32 on the property's region.", "Use the semantics real.")
    return envelope


def _plain(value: Any) -> Any:
    """The value as `run_fingerprint` takes it."""
    if is_dataclass(value) and not isinstance(value, type):
        return [type(value).__name__, *(_plain(getattr(value, field.name)) for field in fields(value))]
    if isinstance(value, tuple | list):
        return [_plain(part) for part in value]
    return str(value) if isinstance(value, Fraction) else value

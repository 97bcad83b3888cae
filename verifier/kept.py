"""Radii as a store keeps them: under what name, and in what form."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from verifier.bracket import Bracket, Status
from verifier.search.store import Record, Store, run_fingerprint

if TYPE_CHECKING:
    from verifier.radii import Radius, Setting, Task


@contextmanager
def stored(setting: "Setting", file: str | Path | None, seed: int) -> Iterator["Setting"]:
    """The setting with the store in the file, if one is given. Entries are named by everything that can change a radius."""
    if file is None:
        yield setting
        return
    from verifier import __version__

    sides = None if setting.box is None else list(setting.box.bounding_box())
    run = run_fingerprint(
        setting.network.fingerprint, "radius", norm=setting.norm, box=sides, tolerance=setting.tolerance, solver=setting.solver,
        float32=setting.float32, seed=seed, version=__version__,
    )  # fmt: skip
    with Store(file, run=run) as store:
        yield replace(setting, store=store)


def place_of(setting: "Setting", task: "Task") -> str:
    """What the keys of a task begin with: all that its search depends on."""
    digest = sha256(task.x.tobytes() + repr((task.label, task.enough)).encode())
    if setting.float32 and task.start is not None:
        digest.update(task.start.tobytes())
    return f"sample/{task.sample:08}/{digest.hexdigest()[:16]}/"


def record_of(result: "Radius") -> Record:
    """A radius as the store keeps it."""
    bracket = result.bracket
    names = ("lower", "upper", "witness", "semantics", "seconds", "notes")
    kept = {name: getattr(bracket, name) for name in names} | {"status": bracket.status.name, "stats": dict(bracket.stats)}
    return kept | {"sample": result.sample, "label": result.label}


def recorded(record: Record) -> tuple[int, int, Bracket]:
    """(sample, label, bracket) of a radius that was kept."""
    witness = None if record["witness"] is None else np.array(record["witness"])
    ends = record["lower"], record["upper"], Status[record["status"]], witness
    bracket = Bracket("min", *ends, record["semantics"], record["seconds"], record["stats"], tuple(record["notes"]))
    return record["sample"], record["label"], bracket

"""Checks of the options that every question takes."""

from math import isfinite
from typing import Any

import solvers
from problems.errors import InputError

SEMANTICS = ("real", "float32")


def check(
    *,
    timeout: float | None = None,
    memory: float | None = None,
    workers: int | None = None,
    solver: str = "auto",
    tolerance: float = 1e-6,
    seed: int = 0,
    semantics: str = "real",
) -> None:
    """Raise InputError for a value that makes no sense, naming the option and what it may be."""
    if timeout is not None and not (isinstance(timeout, int | float) and timeout >= 0):
        raise InputError("timeout", f"{timeout!r} is not a number of seconds.", "Give a number of seconds, 0 or more.")
    _positive("memory", memory, "GB")
    if workers is not None and (isinstance(workers, bool) or not isinstance(workers, int) or workers < 1):
        raise InputError("workers", f"{workers!r} is not a number of workers.", "Give a whole number >= 1.")
    if solver != "auto" and solver not in solvers.names():
        raise InputError("solver", f"{solver!r} is not known.", f"Choose one of auto, {', '.join(solvers.names())}.")
    if solver not in ("auto", "gurobi"):  # gurobi has a fall-back of its own
        solvers.capabilities(solver)  # raises SolverUnavailableError where it cannot be loaded
    if not (isinstance(tolerance, int | float) and tolerance > 0 and isfinite(tolerance)):
        raise InputError("tolerance", f"{tolerance!r} is not a tolerance.", "Give a number > 0, such as 1e-6.")
    if isinstance(seed, bool) or not isinstance(seed, int) or seed < 0:
        raise InputError("seed", f"{seed!r} is not a seed.", "Give a whole number >= 0.")
    if semantics not in SEMANTICS:
        raise InputError("semantics", f"{semantics!r} is not known.", f"Choose one of {', '.join(SEMANTICS)}.")


def _positive(name: str, value: Any, unit: str) -> None:
    if value is not None and not (isinstance(value, int | float) and value > 0):
        raise InputError(name, f"{value!r} is not a number of {unit}.", f"Give a number of {unit} above 0.")

"""What all commands read off their options in the same way."""

import re
from argparse import Namespace
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import solvers
from verifier.cli.parser import UsageError


def network_of(options: Namespace) -> str:
    """NETWORK, or the file in VNN-LIB's name=NETWORK."""
    text = options.network
    named = re.fullmatch(r"[A-Za-z_]\w*=(.+)", text)
    return text if named is None or Path(text).exists() else named[1]


def everywhere(options: Namespace) -> dict[str, Any]:
    """The options that every question has."""
    known = ("auto", *solvers.names())
    if options.solver not in known:
        raise UsageError("--solver", f"{options.solver!r} is not a solver.", f"Choose one of {', '.join(known)}.")
    names: Iterable[str] = ("timeout", "memory", "workers", "device", "solver", "tolerance", "seed", "semantics")
    return {name: getattr(options, name) for name in names}

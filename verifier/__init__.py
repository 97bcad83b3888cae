"""Exact answers about piecewise-affine networks, each a bracket with a witness for one end and a proof for the other.

    from verifier import attack, audit, cells, dro, lipschitz, optimal_risk, radius, tightness, verify

The functions take a torch module, a path to an ONNX or .npz file, the name of a bundled network, or a `problems.network.Network`,
and return what the command line prints. They are loaded when first used: `import verifier` alone costs nothing.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from verifier.attacks.attack import attack
    from verifier.distributional.dro import dro
    from verifier.enumeration.count import cells
    from verifier.optimality.risk import optimal_risk
    from verifier.radii import radius
    from verifier.recession.tightness import tightness
    from verifier.report.audit import audit
    from verifier.robustness import verify
    from verifier.steepness.lipschitz import lipschitz

__all__ = ["__version__", "attack", "audit", "cells", "dro", "lipschitz", "optimal_risk", "radius", "tightness", "verify"]
__version__ = "0.1.0"

_HOMES = {
    "attack": "verifier.attacks.attack",
    "audit": "verifier.report.audit",
    "cells": "verifier.enumeration.count",
    "dro": "verifier.distributional.dro",
    "lipschitz": "verifier.steepness.lipschitz",
    "optimal_risk": "verifier.optimality.risk",
    "radius": "verifier.radii",
    "tightness": "verifier.recession.tightness",
    "verify": "verifier.robustness",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'verifier' has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)

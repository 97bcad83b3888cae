"""What a result was computed with: the machine and the versions of everything that took part."""

import os
import platform
from importlib import metadata
from pathlib import Path
from typing import Any

from verifier.search.executors import default_workers

_PACKAGES = ("numpy", "scipy", "highspy", "gurobipy", "clarabel", "cvxpy", "numba", "torch", "onnx", "onnxruntime")


def machine(device: str) -> dict[str, Any]:
    """system, processor, cores usable by this process, memory_gib (None where the system does not tell), device of the attacks."""
    return {
        "system": platform.system(),
        "processor": _processor(),
        "cores": default_workers(),
        "memory_gib": _memory(),
        "device": device,
    }


def versions() -> dict[str, str]:
    """Versions of tightcert, Python and the installed packages that it uses, without importing them."""
    from verifier import __version__

    found = {"tightcert": __version__, "python": platform.python_version()}
    for name in _PACKAGES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


def _processor() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def _memory() -> float | None:
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 2**30
    except (AttributeError, OSError, ValueError):
        return None

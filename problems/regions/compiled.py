"""How the kernels of this folder are compiled.

numba keeps compiled code beside the sources and renews it when the file of a function changes, but not when a function that it calls
in another file does. A bound must not come from yesterday's error analysis, so code older than any source of this folder is removed.
"""

from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path
from time import time

import numba


def discard_outdated(folder: Path, name: str = "*", *, also: Iterable[Path] = ()) -> None:
    """Remove the compiled code of the files `name`.py (a pattern) that is older than any of them, or than a file in `also`."""
    with suppress(OSError):  # a folder that cannot be written: numba keeps its code elsewhere, and an installer leaves one set of sources
        times = [file.stat().st_mtime for file in (*folder.glob(f"{name}.py"), *also)]
        newest = max([moment for moment in times if moment <= time()], default=0.0)  # a clock that was wrong must not cost every start
        for index in (folder / "__pycache__").glob(f"{name}.nbi"):
            if index.stat().st_mtime < newest:
                index.unlink(missing_ok=True)


def kept_on_disk(fastmath: bool | set[str] = False) -> Callable[[Callable], Callable]:
    """numba.njit without the interpreter lock, its code kept on disk where any place for that can be written."""

    def compile_when_called(function: Callable) -> Callable:
        try:
            return numba.njit(cache=True, nogil=True, error_model="numpy", fastmath=fastmath)(function)
        except RuntimeError:  # neither the sources' folder nor the user's: compiled anew in every process
            return numba.njit(nogil=True, error_model="numpy", fastmath=fastmath)(function)

    return compile_when_called


discard_outdated(Path(__file__).parent)

# What is proved keeps the order and the roundings as written, without fused or rewritten operations.
strict = kept_on_disk()
# Sums in any order (vectorised), where the error bound allows any order.
any_order = kept_on_disk(fastmath={"reassoc"})
# The search for a multiplier, which proves nothing.
search = kept_on_disk(fastmath={"reassoc", "contract", "nsz"})

"""How the kernels of this folder are compiled.

numba keeps compiled code beside the sources and renews it when the file of a function changes, but not when a function that it calls
in another file does. A bound must not come from yesterday's error analysis, so code older than any source of this folder is removed.
"""

from contextlib import suppress
from pathlib import Path
from time import time

import numba


def discard_outdated(folder: Path, name: str = "*") -> None:
    """Remove the compiled code of the files `name`.py (a pattern) that is older than any of them."""
    with suppress(OSError):  # a folder that cannot be written: numba keeps its code elsewhere, and an installer leaves one set of sources
        times = [file.stat().st_mtime for file in folder.glob(f"{name}.py")]
        newest = max([moment for moment in times if moment <= time()], default=0.0)  # a clock that was wrong must not cost every start
        for index in (folder / "__pycache__").glob(f"{name}.nbi"):
            if index.stat().st_mtime < newest:
                index.unlink(missing_ok=True)


discard_outdated(Path(__file__).parent)

# What is proved keeps the order and the roundings as written, without fused or rewritten operations.
strict = numba.njit(cache=True, nogil=True, error_model="numpy")
# Sums in any order (vectorised), where the error bound allows any order.
any_order = numba.njit(cache=True, nogil=True, error_model="numpy", fastmath={"reassoc"})
# The search for a multiplier, which proves nothing.
search = numba.njit(cache=True, nogil=True, error_model="numpy", fastmath={"reassoc", "contract", "nsz"})

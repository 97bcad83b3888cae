"""How the dense kernels are compiled, and the products they are made of.

Rows are named by matrix and index.
"""

from collections.abc import Callable
from typing import Any

import numba
import numpy as np

Array = np.ndarray


def kept_on_disk(**options: Any) -> Callable[[Callable], Any]:
    """numba.njit without the interpreter lock, its code kept on disk where any place for that can be written.

    Nothing here allocates: without numba's runtime it counts no references to arrays either, which cost more than the arithmetic did.
    """
    common: dict[str, Any] = {"nogil": True, "error_model": "numpy", "_nrt": False} | options

    def compile_when_called(function: Callable) -> Any:
        try:
            return numba.njit(cache=True, **common)(function)
        except RuntimeError:  # no folder can be written: compiled anew in every process
            return numba.njit(**common)(function)

    return compile_when_called


# Products and sums may fuse, and some sums go in any order. Calls with many arrays are dear: what runs at every pivot is put in line.
fused = kept_on_disk(fastmath={"contract"})
inlined = kept_on_disk(fastmath={"contract"}, forceinline=True)
any_order = kept_on_disk(fastmath={"contract", "reassoc"}, forceinline=True)


@any_order
def dot(a: Array, b: Array) -> float:
    """a . b, summed in any order."""
    total = 0.0
    for i in range(a.shape[0]):
        total += a[i] * b[i]
    return total


@any_order
def dot_row(matrix: Array, i: int, b: Array) -> float:
    """matrix[i] . b, summed in any order."""
    total = 0.0
    for k in range(b.shape[0]):
        total += matrix[i, k] * b[k]
    return total


@inlined
def add_row(target: Array, factor: float, matrix: Array, i: int) -> None:
    """target += factor matrix[i]; two different arrays."""
    for k in range(target.shape[0]):
        target[k] += factor * matrix[i, k]

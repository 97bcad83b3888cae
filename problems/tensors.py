"""The tensors that a VNN-LIB 2.0 file declares: names, element types, shapes, and where an element stands in the flat order."""

from dataclasses import dataclass
from math import prod

import numpy as np


@dataclass(frozen=True)
class Tensor:
    """A declared tensor. `element_type` is in lower case ('real', 'float32', ...); elements are numbered in row-major order."""

    name: str
    element_type: str
    shape: tuple[int, ...]

    @property
    def size(self) -> int:
        """The number of elements; 1 for a scalar (empty shape)."""
        return prod(self.shape)

    def element(self, number: int) -> str:
        """'X[0,3]' for the flat number of an element; the name alone for a scalar."""
        if not self.shape:
            return self.name
        return f"{self.name}[{','.join(str(int(index)) for index in np.unravel_index(number, self.shape))}]"

    def number(self, indices: tuple[int, ...]) -> int | None:
        """The flat number of an element; None for a wrong number of indices or one out of range."""
        if len(indices) != len(self.shape) or not all(index < size for index, size in zip(indices, self.shape, strict=True)):
            return None
        number = 0
        for index, size in zip(indices, self.shape, strict=True):
            number = number * size + index
        return number

"""What the handlers of torch operations share: the tables they stand in, and the scope they get.

A handler takes the scope, (for layers) the layer, and the call's own arguments, each a `Value`, a NumPy array (a parameter) or a
Python number. MODULES holds them by layer class, FUNCTIONS by function, METHODS by method name.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from problems.maps import Array
from problems.readers.builder import Builder, Value


@dataclass(frozen=True)
class Scope:
    """What a handler needs beside its arguments; `dtype` is the module's precision."""

    builder: Builder
    dtype: np.dtype
    name: str
    place: str

    def array(self, number: Any) -> Array:
        """A parameter, or a Python number rounded to the module's precision, as float64."""
        return np.asarray(number, dtype=self.dtype).astype(np.float64)

    def value(self, operand: Any) -> Value:
        """An operand as a value of the builder; numbers and parameters are lifted."""
        return operand if isinstance(operand, Value) else self.builder.constant(self.array(operand))


MODULES: dict[type, Callable[..., Any]] = {}
FUNCTIONS: dict[Any, Callable[..., Any]] = {}
METHODS: dict[Any, Callable[..., Any]] = {}

Handler = Callable[..., Any]


def layer_handler(*kinds: type) -> Callable[[Handler], Handler]:
    """Enters a handler into MODULES for these layer classes."""

    def register(handler: Handler) -> Handler:
        MODULES.update(dict.fromkeys(kinds, handler))
        return handler

    return register


def function_handler(*targets: Any) -> Callable[[Handler], Handler]:
    """Functions, and methods where the target is a name."""

    def register(handler: Handler) -> Handler:
        for target in targets:
            (METHODS if isinstance(target, str) else FUNCTIONS)[target] = handler
        return handler

    return register


def parameter(tensor: torch.Tensor | None) -> Array | None:
    """A parameter or buffer as float64, or None."""
    return None if tensor is None else tensor.detach().numpy().astype(np.float64)


def pair(number: int | Sequence[int], axes: int = 2) -> tuple[int, ...]:
    """One number for all `axes`, or one for each."""
    return tuple(int(n) for n in number) if isinstance(number, Sequence) else (int(number),) * axes

"""One operator call of an ONNX graph, as its handler sees it: inputs, attributes, and the errors that name it.

An operand is a NumPy array where the graph computes with constants only (weights, shapes), else a `Value` of the builder.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NoReturn

import numpy as np

from problems.errors import NetworkError, UnsupportedOperatorError
from problems.maps import Array
from problems.readers.builder import Builder, Value

Operand = Array | Value


@dataclass
class Call:
    """`place` names file, node and operator; `attributes` are already decoded; an omitted optional input is None."""

    builder: Builder
    operator: str
    place: str
    opset: int
    inputs: list[Operand | None]
    attributes: dict[str, Any]
    outputs: int = 1
    name: str = ""

    def given(self, index: int) -> bool:
        """Whether input `index` is there."""
        return index < len(self.inputs) and self.inputs[index] is not None

    def operand(self, index: int) -> Operand:
        """Input `index` as it is. Raises NetworkError where it is missing."""
        operand = self.inputs[index] if index < len(self.inputs) else None
        if operand is None:
            self.malformed(f"its input {index} is missing.")
        return operand

    def value(self, index: int) -> Value:
        """Input `index` as a value of the builder; constants are lifted."""
        operand = self.operand(index)
        return operand if isinstance(operand, Value) else self.lift(operand, f"input {index}")

    def lift(self, array: Array, what: str) -> Value:
        """A finite constant as a value of the builder; `what` names it in errors."""
        return self.builder.constant(self.finite(array, what))

    def constant(self, index: int, what: str) -> Array:
        """Input `index`, which must be constant and finite, as float64."""
        operand = self.operand(index)
        if isinstance(operand, Value):
            self.unsupported(f"its {what} is not a constant.", f"Supported: {self.operator} with a constant {what} stored in the file.")
        return self.finite(operand, what)

    def finite(self, array: Array, what: str) -> Array:
        """The array as float64. Raises NetworkError where it holds NaN, infinite numbers or another type."""
        if array.dtype not in (np.float32, np.float64) and not np.issubdtype(array.dtype, np.integer):
            self.malformed(f"its {what} has element type {array.dtype}; float32 and float64 are supported.")
        wide = array.astype(np.float64)
        if not np.isfinite(wide).all():
            self.malformed(f"its {what} holds NaN or infinite numbers.", "Retrain or repair the network: nothing can be proved about it.")
        return wide

    def integers(self, attribute: str, index: int | None = None) -> tuple[int, ...] | None:
        """A list of integers that is an attribute in some opsets and input `index` in others; None if neither is given."""
        if index is not None and self.given(index):
            operand = self.operand(index)
            if isinstance(operand, Value) or not (np.issubdtype(operand.dtype, np.integer) or operand.dtype == bool):
                self.unsupported(f"its {attribute} depends on the input.", f"Supported: {self.operator} with constant {attribute}.")
            return tuple(int(v) for v in operand.reshape(-1))
        if attribute not in self.attributes:
            return None
        found = self.attributes[attribute]
        return tuple(int(v) for v in (found if isinstance(found, list) else [found]))

    def number(self, attribute: str, default: float) -> float:
        """A real attribute."""
        return float(self.attributes.get(attribute, default))

    def integer(self, attribute: str, default: int) -> int:
        """A whole attribute."""
        return int(self.attributes.get(attribute, default))

    def unsupported(self, problem: str, nearest: str) -> NoReturn:
        """Raises UnsupportedOperatorError: an operator, or a use of it, that cannot be rewritten."""
        raise UnsupportedOperatorError(self.place, problem, nearest)

    def malformed(self, problem: str, advice: str = "Export the network again.") -> NoReturn:
        """Raises NetworkError: a call that ONNX does not allow."""
        raise NetworkError(self.place, problem, advice)


Handler = Callable[[Call], Operand | list[Operand]]

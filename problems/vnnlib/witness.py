"""Counter-examples in the form of the verification competition (VNN-COMP, VNN-LIB 1.0)."""

from collections.abc import Iterable
from math import isfinite


def format_witness(x: Iterable[float], y: Iterable[float]) -> str:
    """'((X_0 0.5)\\n(X_1 -0.25)\\n(Y_0 1.0))': inputs, then outputs, each with the digits that give back the same float64.

    Fractions are accepted: an output is written as the nearest float64; an input that is no float64 is refused, since the file
    would then name another point. ValueError for NaN and infinities.
    """
    parts = []
    for letter, values in (("X", x), ("Y", y)):
        for index, value in enumerate(values):
            number = float(value)
            if not isfinite(number) or (letter == "X" and number != value):
                raise ValueError(f"{letter}_{index} = {value} cannot be written as a float64.")
            parts.append(f"({letter}_{index} {number!r})")
    return "(" + "\n".join(parts) + ")"

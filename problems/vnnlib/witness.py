"""Counter-examples in the two forms of the verification competition: names X_i and Y_i (VNN-LIB 1.0), declared tensors (VNN-LIB 2.0)."""

from collections.abc import Iterable, Iterator, Sequence
from math import isfinite

from problems.tensors import Tensor


def format_witness(x: Iterable[float], y: Iterable[float], tensors: Sequence[Tensor] = ()) -> str:
    """The counter-example x with outputs y, as the property's version of VNN-LIB prescribes; `tensors` are those of its Specification.

    Without tensors, as in VNN-COMP: '((X_0 0.5)\\n(X_1 -0.25)\\n(Y_0 1.0))', inputs, then outputs. With the input and the output tensor
    of a VNN-LIB 2.0 file, as that standard says of the output of `verify`: a line 'X float32 [1,2]', then a line per element in row-major
    order; the same for Y. Numbers have the digits that give back the same float64. Fractions are accepted: an output is written as the
    nearest float64; an input that is no float64 is refused, since the file would then name another point. ValueError for NaN, infinities,
    and tensors of other sizes.
    """
    if not tensors:
        names = [f"({name} {number!r})" for letter, values in (("X", x), ("Y", y)) for name, number in _named(letter, values)]
        return "(" + "\n".join(names) + ")"
    lines = []
    for tensor, values in zip(tensors, (x, y), strict=True):
        numbers = [repr(number) for _, number in _named("X" if values is x else "Y", values)]
        if len(numbers) != tensor.size:
            raise ValueError(f"{tensor.name} has {tensor.size} elements, not {len(numbers)}.")
        lines += [f"{tensor.name} {tensor.element_type} [{','.join(map(str, tensor.shape))}]", *numbers]
    return "\n".join(lines)


def _named(letter: str, values: Iterable[float]) -> Iterator[tuple[str, float]]:
    for index, value in enumerate(values):
        number = float(value)
        if not isfinite(number) or (letter == "X" and number != value):
            raise ValueError(f"{letter}_{index} = {value} cannot be written as a float64.")
        yield f"{letter}_{index}", number

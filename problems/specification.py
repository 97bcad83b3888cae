"""What is asked of a network: a disjunction of regions with linear rows over the logits.

A point x with logits z violates the specification (is a counter-example) iff some disjunct's region contains x and ALL rows of
that disjunct hold. Row i holds where its violation, coefficients[i].z + offsets[i], is >= 0 (> 0 where `strict[i]`).
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from functools import cached_property
from math import gcd, isfinite, lcm
from pathlib import Path
from typing import NamedTuple

import numpy as np
import scipy.sparse as sparse

from problems.errors import SpecificationError
from problems.network import Network
from problems.regions.base import Region
from problems.rounding import is_float64, round_up
from problems.tensors import Tensor

Array = np.ndarray
Number = float | Fraction
Terms = tuple[tuple[int, Fraction], ...]


class Row(NamedTuple):
    """The exact row sum outputs . z + sum inputs . x + offset >= 0 (> 0 if strict); terms are pairs (index, coefficient)."""

    outputs: Terms
    offset: Fraction
    strict: bool = False
    inputs: Terms = ()


@dataclass(frozen=True, eq=False)
class Disjunct:
    """A region and m >= 1 rows; unsafe where x lies in the region and all rows hold. Make one with `make_disjunct`.

    `coefficients` (m, K) are exact. `offsets` (m,) are `exact_offsets` rounded UP to float64: the float row is implied by the exact
    one, so that refuting the float row refutes the exact one. `strict` (m,) bool. `input_terms[i]` holds the pairs (input index,
    coefficient) of a row that speaks of inputs too, and is empty for a row over logits only (the usual case).
    """

    region: Region
    coefficients: Array
    offsets: Array
    strict: Array
    exact_coefficients: tuple[tuple[Fraction, ...], ...]
    exact_offsets: tuple[Fraction, ...]
    input_terms: tuple[Terms, ...]

    @property
    def rows(self) -> int:
        """m."""
        return len(self.exact_offsets)

    @cached_property
    def input_rows(self) -> sparse.csr_matrix | None:
        """The input coefficients (m, n) float64, exact, of rows that speak of inputs; None where no row does.

        The rows are then input_rows x + coefficients z + offsets: an affine node with the input and the output as parents.
        """
        if not any(self.input_terms):
            return None
        data = [(row, index, float(value)) for row, terms in enumerate(self.input_terms) for index, value in terms]
        rows, columns, values = zip(*data, strict=True)
        return sparse.csr_matrix((values, (rows, columns)), shape=(self.rows, self.region.dimension))

    def violations(self, z: Sequence[Number] | Array, x: Sequence[Number] | Array | None = None) -> list[Fraction]:
        """The violation of every row at the logits z (K,), as fractions; z and x (n,) are taken as exact.

        x is needed only for rows that speak of inputs (ValueError without it).
        """
        logits = [Fraction(value) for value in _python(z)]
        point = None if x is None else _python(x)
        result = []
        for coefficients, offset, terms in zip(self.exact_coefficients, self.exact_offsets, self.input_terms, strict=True):
            value = sum((c * v for c, v in zip(coefficients, logits, strict=True) if c), offset)
            if terms:
                if point is None:
                    raise ValueError("the rows of this disjunct speak of inputs: x is needed.")
                value += sum(c * Fraction(point[index]) for index, c in terms)
            result.append(value)
        return result

    def margin(self, z: Sequence[Number] | Array, x: Sequence[Number] | Array | None = None) -> Fraction:
        """The smallest violation among the rows, exact."""
        return min(self.violations(z, x))

    def holds(self, z: Sequence[Number] | Array, x: Sequence[Number] | Array | None = None) -> bool:
        """Whether all rows hold at the logits z, strict rows strictly; the region is not looked at."""
        return all(v > 0 or (v == 0 and not s) for v, s in zip(self.violations(z, x), self.strict.tolist(), strict=True))


@dataclass(frozen=True, eq=False)
class Specification:
    """A disjunction of disjuncts over n = input_size inputs and K = output_size logits; disjuncts of one box share one region object.

    `tensors`: the input and the output tensor that a VNN-LIB 2.0 file declares; none for every other specification.
    """

    disjuncts: tuple[Disjunct, ...]
    input_size: int
    output_size: int
    source: Path | None = field(default=None)
    tensors: tuple[Tensor, ...] = field(default=())

    @property
    def name(self) -> str:
        """The file it came from, for messages."""
        return str(self.source) if self.source else "specification"

    @property
    def has_input_rows(self) -> bool:
        """Whether some row speaks of inputs beyond the closed region: over several inputs, inputs and logits, or strict."""
        return any(terms for disjunct in self.disjuncts for terms in disjunct.input_terms)

    def input_boxes(self) -> tuple[Region, ...]:
        """The different regions of the disjuncts, in order."""
        return tuple({id(disjunct.region): disjunct.region for disjunct in self.disjuncts}.values())

    def is_violated(self, x: Sequence[Number] | Array, z: Sequence[Number] | Array) -> bool:
        """Whether x (n,) with exact logits z (K,) is a counter-example; decided in exact arithmetic."""
        return any(disjunct.holds(z, x) for disjunct in self._containing(x))

    def margin(self, x: Sequence[Number] | Array, z: Sequence[Number] | Array) -> Fraction | None:
        """Largest over the disjuncts that contain x of the smallest violation among their rows; None where none contains x."""
        return max((disjunct.margin(z, x) for disjunct in self._containing(x)), default=None)

    def check_network(self, network: Network) -> None:
        """SpecificationError when the specification does not fit the network's number of inputs or outputs, or the declared precision."""
        for what, here, there in (("inputs", self.input_size, network.input_size), ("outputs", self.output_size, network.output_size)):
            if here != there:
                raise SpecificationError(
                    self.name,
                    f"speaks of {here} {what}, but the network '{network.name}' has {there}.",
                    "Give the property of this network.",
                )
        declared = {tensor.element_type for tensor in self.tensors} - {"real", network.precision}
        if declared:
            raise SpecificationError(
                self.name,
                f"declares {declared.pop()}, but the network '{network.name}' computes in {network.precision}.",
                "Declare the tensors as real: the answer is about real numbers.",
            )

    def _containing(self, x: Sequence[Number] | Array) -> Iterable[Disjunct]:
        inside: dict[int, bool] = {}
        for disjunct in self.disjuncts:
            key = id(disjunct.region)
            if key not in inside:
                inside[key] = disjunct.region.contains(x)
            if inside[key]:
                yield disjunct


def make_disjunct(region: Region, rows: Sequence[Row], *, output_size: int, place: Callable[[int], str] | None = None) -> Disjunct:
    """The disjunct of exact rows over K = output_size logits.

    A row with coefficients that are not float64 numbers (0.1, 1/3) is multiplied by the positive rational that makes them integers
    without common factor, which changes nothing about where the row holds; its violation is then measured in that multiple. Rows
    with float64 coefficients (+-1, 0.5) stay as they are. No rows at all means "unsafe everywhere in the region", written as the
    row 0.z + 0 >= 0. SpecificationError where even the multiplied coefficients do not fit into float64; `place` names row i in it.
    """
    place = place or "specification, row {}".format
    scaled = [_scaled(row, place, index) for index, row in enumerate(rows)] or [Row((), Fraction(0))]
    exact = tuple(_dense(row.outputs, output_size) for row in scaled)
    offsets = tuple(row.offset for row in scaled)
    rounded = [round_up(offset) for offset in offsets]
    for index, offset in enumerate(rounded):
        if not isfinite(offset):
            raise SpecificationError(place(index), "holds a constant beyond the range of float64.", "Rescale the constraint.")
    return Disjunct(
        region,
        _frozen(np.array([[float(c) for c in row] for row in exact], dtype=np.float64).reshape(len(scaled), output_size)),
        _frozen(np.array(rounded, dtype=np.float64)),
        _frozen(np.array([row.strict for row in scaled], dtype=bool)),
        exact,
        offsets,
        tuple(row.inputs for row in scaled),
    )


def robustness(region: Region, label: int, classes: int) -> Specification:
    """Misclassification of the region's points, K = classes: some other logit is >= that of the label (a tie is an error).

    Raises SpecificationError for a label that is no class, or fewer than two classes.
    """
    if classes < 2:
        raise SpecificationError("classes", f"is {classes}.", "A classifier has at least two classes.")
    if isinstance(label, bool) or label != int(label) or not 0 <= label < classes:
        raise SpecificationError("label", f"{label} is out of range.", f"Labels of {classes} classes are 0 to {classes - 1}.")
    one = Fraction(1)
    rows = [Row(((other, one), (int(label), -one)), Fraction(0)) for other in range(classes) if other != label]
    return Specification(tuple(make_disjunct(region, [row], output_size=classes) for row in rows), region.dimension, classes)


def _merged(row: Row) -> Row:
    """The row with one term per index, summed exactly."""

    def merge(terms: Terms) -> Terms:
        total: dict[int, Fraction] = {}
        for index, value in terms:
            total[index] = total.get(index, Fraction(0)) + value
        return tuple(total.items())

    return Row(merge(row.outputs), row.offset, row.strict, merge(row.inputs))


def _scaled(row: Row, place: Callable[[int], str], position: int) -> Row:
    row = _merged(row)
    values = [value for _, value in (*row.outputs, *row.inputs)]
    if all(map(is_float64, values)):
        return row
    denominator = lcm(*(value.denominator for value in values))
    factor = Fraction(denominator, gcd(*(value.numerator for value in values if value)))
    if not all(is_float64(value * factor) for value in values):
        raise SpecificationError(
            place(position),
            "holds coefficients that no common multiple makes exact in float64 (53 bits).",
            "Write the coefficients of the constraint with fewer digits.",
        )
    outputs, inputs = (tuple((index, value * factor) for index, value in terms) for terms in (row.outputs, row.inputs))
    return Row(outputs, row.offset * factor, row.strict, inputs)


def _dense(terms: Terms, size: int) -> tuple[Fraction, ...]:
    dense = [Fraction(0)] * size
    for index, value in terms:
        dense[index] += value
    return tuple(dense)


def _python(values: Sequence[Number] | Array) -> list[Number]:
    return values.tolist() if isinstance(values, np.ndarray) else list(values)


def _frozen(array: Array) -> Array:
    array.setflags(write=False)
    return array

"""A formula over inputs and outputs -> disjunction of (input box, rows): the normal form that the engine works on.

Constraints on one input become sides of the box, with exact decimals; all others become rows. A strict side (X_0 < 0.5) is a side
of the closed box and, so that its boundary is not taken for unsafe, also a strict row over that input.
"""

from collections.abc import Iterable, Iterator
from fractions import Fraction

import numpy as np

from problems.regions.base import Region
from problems.regions.box import Box
from problems.rounding import round_down, round_up
from problems.specification import Disjunct, Row, Specification, make_disjunct
from problems.vnnlib.formula import And, Atom, Linear, Or
from problems.vnnlib.lexer import Source
from problems.vnnlib.parser import Parsed

Side = tuple[Fraction, bool, int]  # exact value, strict, token
Sides = dict[int, Side]  # input -> its side
_Atoms = tuple[list[Atom], "_Atoms"] | None  # linked lists
_Ors = tuple[Or, "_Ors"] | None


def normalise(parsed: Parsed, source: Source) -> Specification:
    """The specification of a parsed file. Disjuncts whose box is empty are dropped; if all are, that is an error."""
    return _Normaliser(parsed, source).run()


def box_region(lower: list[Fraction], upper: list[Fraction]) -> Region:
    """The box with these exact sides; its float64 sides are rounded outward."""
    floats = np.array([round_down(value) for value in lower]), np.array([round_up(value) for value in upper])
    return Box(*floats, exact=(tuple(lower), tuple(upper)))


class _Normaliser:
    def __init__(self, parsed: Parsed, source: Source) -> None:
        self.parsed = parsed
        self.source = source
        self.lower: Sides = {}  # sides that every disjunct has
        self.upper: Sides = {}
        self.regions: dict[object, Region] = {}
        self.empty: tuple[int, int] | None = None  # tokens of two sides that exclude each other

    def run(self) -> Specification:
        formula, outputs = self.parsed.formula, self.parsed.outputs
        rows = self._collect(formula.atoms, self.lower, self.upper)
        disjuncts: dict[object, Disjunct] = {}
        if rows is not None and not self._excluded(self.lower, self.upper, self.lower):
            for literals in _conjunctions(formula):
                own_lower: Sides = {}
                own_upper: Sides = {}
                own_rows = self._collect(literals, own_lower, own_upper)
                if own_rows is not None:
                    self._disjunct(disjuncts, rows + own_rows, own_lower, own_upper)
        if not disjuncts:
            self._fail_empty()
        return Specification(tuple(disjuncts.values()), self.parsed.inputs, outputs, tensors=self.parsed.tensors)

    def _disjunct(self, disjuncts: dict[object, Disjunct], atoms: list[Atom], own_lower: Sides, own_upper: Sides) -> None:
        """Adds the disjunct of `atoms` and of the sides of the box, unless it is empty or already there."""
        own_lower = {index: side for index, side in own_lower.items() if _tighter(side, self.lower.get(index), 1)}
        own_upper = {index: side for index, side in own_upper.items() if _tighter(side, self.upper.get(index), -1)}
        if own_lower or own_upper:
            lower, upper = {**self.lower, **own_lower}, {**self.upper, **own_upper}
            if self._excluded(lower, upper, own_lower.keys() | own_upper.keys()):
                return
        else:
            lower, upper = self.lower, self.upper
        strict_rows = _strict_rows(lower, 1) | _strict_rows(upper, -1)
        tokens = {_row(atom): atom.token for atom in sorted(atoms, key=lambda atom: atom.token)} | strict_rows  # equal rows once
        rows = tuple(tokens)
        region = self._region(lower, upper, (_moved(own_lower, self.lower), _moved(own_upper, self.upper)))
        if (id(region), rows) not in disjuncts:
            disjuncts[id(region), rows] = make_disjunct(
                region, rows, output_size=self.parsed.outputs, place=lambda index: self.source.place(tokens[rows[index]])
            )

    def _region(self, lower: Sides, upper: Sides, key: object) -> Region:
        """The box with these sides; one object for all disjuncts with the same sides, told by what they change in the common box."""
        region = self.regions.get(key)
        if region is None:
            count = self.parsed.inputs
            for sides, what in ((lower, "lower"), (upper, "upper")):
                missing = next((index for index in range(count) if index not in sides), None)
                if missing is not None:
                    name, token = self.parsed.declaration(missing)
                    self.source.fail(
                        token,
                        f"{name} has no {what} bound" + (" in some disjunct." if self.parsed.formula.ors else "."),
                        f"Assert bounds of every input, such as (assert ({'>=' if sides is lower else '<='} {name} 0)).",
                    )
            exact = [[sides[index][0] for index in range(count)] for sides in (lower, upper)]
            region = self.regions[key] = box_region(*exact)
        return region

    def _collect(self, atoms: list[Atom], lower: Sides, upper: Sides) -> list[Atom] | None:
        """Puts atoms about one input into lower and upper and returns the others; None where a constant atom is false."""
        rows = []
        for atom in atoms:
            terms = atom.terms
            if len(terms) == 1:
                ((variable, coefficient),) = terms.items()
                if variable >= 0:
                    value = _bound(coefficient, atom.offset)
                    side = (value, atom.strict, atom.token)
                    if coefficient > 0:
                        if _tighter(side, lower.get(variable), 1):
                            lower[variable] = side
                    elif _tighter(side, upper.get(variable), -1):
                        upper[variable] = side
                    continue
            elif not terms:
                if atom.offset < 0 or (atom.offset == 0 and atom.strict):
                    self.empty = self.empty or (atom.token, atom.token)
                    return None
                continue
            rows.append(atom)
        return rows

    def _excluded(self, lower: Sides, upper: Sides, indices: Iterable[int]) -> bool:
        """Whether the box is empty at one of `indices`."""
        for index in indices:
            low, high = lower.get(index), upper.get(index)
            if low and high and (low[0] > high[0] or (low[0] == high[0] and (low[1] or high[1]))):
                self.empty = self.empty or (low[2], high[2])
                return True
        return False

    def _fail_empty(self) -> None:
        assert self.empty is not None  # a disjunct is left out only where something excluded it
        first, second = sorted(self.empty)
        if first == second:
            self.source.fail(first, "empty region: this condition is never true.", "Correct it.")
        self.source.fail(second, f"empty region: excludes the bound on {self.source.line(first)}.", "Correct one of the two bounds.")


def _conjunctions(formula: And) -> Iterator[list[Atom]]:
    """The conjunctions of the disjunctive normal form in the order of the file, without the atoms that `formula` itself holds.

    A depth-first walk; atoms so far and open `or`s are linked lists, which the branches share.
    """
    stack: list[tuple[_Atoms, _Ors]] = [(None, _pushed(formula.ors, None))]
    while stack:
        atoms, agenda = stack.pop()
        if agenda is None:
            literals: list[Atom] = []
            while atoms is not None:
                literals += atoms[0]
                atoms = atoms[1]
            yield literals
        else:
            for branch in reversed(agenda[0].branches):
                stack.append(((branch.atoms, atoms), _pushed(branch.ors, agenda[1])))


def _pushed(ors: list[Or], agenda: _Ors) -> _Ors:
    for clause in reversed(ors):
        agenda = (clause, agenda)
    return agenda


def _tighter(side: Side, other: Side | None, sign: int) -> bool:
    if other is None:
        return True
    if side[0] == other[0]:
        return side[1] and not other[1]
    return (side[0] > other[0]) == (sign > 0)


def _bound(coefficient: Fraction, offset: Fraction) -> Fraction:
    """The x with coefficient x + offset = 0."""
    if coefficient == -1:  # nearly always +-1
        return offset
    return -offset if coefficient == 1 else -offset / coefficient


def _moved(sides: Sides, common: Sides) -> frozenset[tuple[int, Fraction]]:
    """The sides that differ from the common box; strictness alone does not make another (closed) box."""
    return frozenset((index, side[0]) for index, side in sides.items() if index not in common or common[index][0] != side[0])


def _strict_rows(sides: Sides, sign: int) -> dict[Row, int]:
    """For a strict lower side x > v (sign 1): x - v > 0; for an upper side (sign -1): v - x > 0."""
    return {Row((), -sign * value, True, ((index, Fraction(sign)),)): token for index, (value, strict, token) in sides.items() if strict}


def _row(atom: Atom) -> Row:
    return Row(_terms(atom.terms, outputs=True), atom.offset, atom.strict, _terms(atom.terms, outputs=False))


def _terms(terms: Linear, *, outputs: bool) -> tuple[tuple[int, Fraction], ...]:
    if outputs:
        return tuple(sorted((-1 - variable, value) for variable, value in terms.items() if variable < 0))
    return tuple(sorted((variable, value) for variable, value in terms.items() if variable >= 0))

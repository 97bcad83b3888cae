"""Formulas of a VNN-LIB file: exact linear atoms under and / or.

Nodes are flattened as they are built (no `and` directly below an `and`, no `or` below an `or`), and know how large their
disjunctive normal form is, so that an explosion is refused before anything is expanded. Nothing here recurses.
"""

from dataclasses import dataclass
from fractions import Fraction
from typing import NamedTuple

Linear = dict[int, Fraction]  # variable -> coefficient; variable CONSTANT carries the constant
CONSTANT = -(1 << 62)


def output_variable(index: int) -> int:
    """Outputs are the negative variables: Y_i is -1 - i. Inputs are themselves: X_i is i."""
    return -1 - index


class Atom(NamedTuple):
    """sum terms + offset >= 0 (> 0 if strict); `token` is where it stands. No zero coefficients; no terms for a constant truth."""

    terms: Linear
    offset: Fraction
    strict: bool
    token: int


@dataclass(eq=False)
class And:
    """All `atoms` and all `ors` hold. `disjuncts`, `literals`: number and total length of the conjunctions that `ors` multiply out to."""

    atoms: list[Atom]
    ors: list["Or"]
    disjuncts: int = 1
    literals: int = 0


@dataclass(eq=False)
class Or:
    """Some branch holds."""

    branches: list[And]


def conjunction(parts: list[And]) -> And:
    """The conjunction of parts, which are consumed."""
    if len(parts) == 1:
        return parts[0]
    result = max(parts, key=lambda part: len(part.atoms) + len(part.ors))  # grow the largest: linear over deep nesting
    for part in parts:
        if part is not result:
            result.atoms += part.atoms
            result.ors += part.ors
            # Each conjunction of one side is joined with each of the other.
            result.literals = result.literals * part.disjuncts + part.literals * result.disjuncts
            result.disjuncts *= part.disjuncts
    return result


def disjunction(parts: list[And]) -> And:
    """The disjunction of parts, which are consumed; wrapped as a conjunction of one `Or`."""
    if len(parts) == 1:
        return parts[0]
    lone = [part.ors[0].branches if len(part.ors) == 1 and not part.atoms else [part] for part in parts]
    branches = max(lone, key=len)
    for other in lone:
        if other is not branches:
            branches += other
    disjuncts = sum(part.disjuncts for part in parts)
    literals = sum(part.literals + len(part.atoms) * part.disjuncts for part in parts)
    return And([], [Or(branches)], disjuncts, literals)


def single(atom: Atom) -> And:
    """The formula that is one atom."""
    return And([atom], [])

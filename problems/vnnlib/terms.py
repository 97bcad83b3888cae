"""The operators of VNN-LIB on exact values: comparisons, and / or, and linear arithmetic."""

from collections.abc import Callable
from fractions import Fraction
from itertools import pairwise

from problems.vnnlib.formula import CONSTANT, And, Atom, Linear, conjunction, disjunction, single
from problems.vnnlib.lexer import Source

MAX_DISJUNCTS = 250_000  # conjunctions in disjunctive normal form
MAX_LITERALS = 5_000_000  # constraints in all conjunctions together
MAX_BITS = 1 << 16  # of the numerator or denominator of a product

Value = Fraction | int | Linear | And  # a constant, a variable, a linear term, a formula
Operator = Callable[[Source, int, list[Value]], Value]  # the file, the token of its parenthesis, its operands (at least one, consumed)

_ZERO, _ONE, _MINUS_ONE = Fraction(0), Fraction(1), Fraction(-1)


def _both(source: Source, opened: int, operands: list[Value]) -> And:
    return guard(source, conjunction(_formulas(source, opened, operands)), opened)


def _either(source: Source, opened: int, operands: list[Value]) -> And:
    return guard(source, disjunction(_formulas(source, opened, operands)), opened)


def _formulas(source: Source, opened: int, operands: list[Value]) -> list[And]:
    formulas = [value for value in operands if isinstance(value, And)]
    if len(formulas) != len(operands):
        source.fail(opened, f"'{source.tokens[opened + 1]}' joins a number, not a condition.", "Compare terms with <=, >=, <, > or =.")
    return formulas


def _compare(source: Source, opened: int, operands: list[Value]) -> And:
    """A chain (<= a b c) means a <= b and b <= c."""
    operator = source.tokens[opened + 1]
    if len(operands) < 2:
        source.fail(opened, f"'{operator}' needs two terms.")
    result: list[And] = []
    for left, right in pairwise(operands):
        strict = operator in ("<", ">")
        if operator in (">=", ">", "=", "=="):
            result.append(_atom(source, opened, left, right, strict))
        if operator in ("<=", "<", "=", "=="):
            result.append(_atom(source, opened, right, left, strict))
    return result[0] if len(result) == 1 else conjunction(result)


def _differ(source: Source, opened: int, operands: list[Value]) -> And:
    """Less or greater (VNN-LIB 2.0)."""
    if len(operands) != 2:
        source.fail(opened, "'!=' needs two terms.")
    left, right = operands
    sides = [_atom(source, opened, left, right, strict=True), _atom(source, opened, right, left, strict=True)]
    return guard(source, disjunction(sides), opened)


def _atom(source: Source, opened: int, larger: Value, smaller: Value, strict: bool) -> And:
    """larger - smaller >= 0."""
    if type(larger) is int and type(smaller) is Fraction:  # the two forms that fill most files
        return single(Atom({larger: _ONE}, -smaller, strict, opened))
    if type(larger) is Fraction and type(smaller) is int:
        return single(Atom({smaller: _MINUS_ONE}, larger, strict, opened))
    if isinstance(larger, dict):
        larger = dict(larger)  # '=' and chains use a term twice
    terms = _sum(source, opened, [larger, smaller], minus=True)
    offset = terms.pop(CONSTANT, _ZERO)
    return single(Atom({variable: value for variable, value in terms.items() if value}, offset, strict, opened))


def _add(source: Source, opened: int, operands: list[Value]) -> Value:
    return _simplified(_sum(source, opened, operands))


def _subtract(source: Source, opened: int, operands: list[Value]) -> Value:
    if len(operands) == 1:
        operands = [_ZERO, *operands]
    return _simplified(_sum(source, opened, operands, minus=True))


def _sum(source: Source, opened: int, operands: list[Value], *, minus: bool = False) -> Linear:
    """The sum of operands, or the first minus the others."""
    # A linear term has one user: the largest is extended in place, so that deep sums take linear time.
    extendable = [operand for operand in (operands[:1] if minus else operands) if isinstance(operand, dict)]
    total: Linear = max(extendable, key=len, default={})
    for position, operand in enumerate(operands):
        if operand is total:
            continue
        negative = minus and position > 0
        for variable, value in _linear(source, opened, operand).items():
            total[variable] = total.get(variable, _ZERO) + (-value if negative else value)
    return total


def _multiply(source: Source, opened: int, operands: list[Value]) -> Value:
    factor = _ONE
    term: Value | None = None
    for operand in operands:
        if isinstance(operand, Fraction):
            factor = _bounded(source, opened, factor * operand)
        elif term is None:
            term = operand
        else:
            source.fail(opened, "non-linear term: a product of variables.", "One factor at most may contain variables.")
    if term is None:
        return factor
    return _simplified({v: _bounded(source, opened, c * factor) for v, c in _linear(source, opened, term).items()})


def _divide(source: Source, opened: int, operands: list[Value]) -> Value:
    if len(operands) < 2:
        source.fail(opened, "'/' needs two terms.")
    factor = _ONE
    for divisor in operands[1:]:
        if not isinstance(divisor, Fraction):
            source.fail(opened, "non-linear term: a division by a variable.", "Divide by constants only.")
        if not divisor:
            source.fail(opened, "division by zero.")
        factor = _bounded(source, opened, factor / divisor)
    return _multiply(source, opened, [operands[0], factor])


def _linear(source: Source, opened: int, value: Value) -> Linear:
    if isinstance(value, dict):
        return value
    if isinstance(value, Fraction):
        return {CONSTANT: value}
    if isinstance(value, int):
        return {value: _ONE}
    source.fail(opened, f"'{source.tokens[opened + 1]}' is applied to a condition.", "It takes numbers, variables and linear terms.")


def _simplified(total: Linear) -> Value:
    if not total:
        return _ZERO
    return total[CONSTANT] if total.keys() == {CONSTANT} else total


def _bounded(source: Source, opened: int, value: Fraction) -> Fraction:
    if max(value.numerator.bit_length(), value.denominator.bit_length()) > MAX_BITS:
        source.fail(opened, f"a coefficient of more than {MAX_BITS} bits.", "Write smaller numbers.")
    return value


def guard(source: Source, formula: And, token: int) -> And:
    """`formula`, unless its disjunctive normal form is too large; `token` is where it stands."""
    if formula.disjuncts > MAX_DISJUNCTS or formula.literals > MAX_LITERALS:
        source.fail(
            token,
            f"the property has more than {MAX_DISJUNCTS} disjuncts or {MAX_LITERALS} constraints once its and/or are multiplied out.",
            "Split it into several files.",
        )
    return formula


OPERATORS: dict[str, Operator] = {
    "and": _both,
    "or": _either,
    "<=": _compare,
    ">=": _compare,
    "<": _compare,
    ">": _compare,
    "=": _compare,
    "+": _add,
    "-": _subtract,
    "*": _multiply,
    "/": _divide,
}

# VNN-LIB 2.0 writes equality with two signs; quotients are ours, chains and '=' are read as in 1.0.
QUERY_OPERATORS: dict[str, Operator] = OPERATORS | {"==": _compare, "!=": _differ}

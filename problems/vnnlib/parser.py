"""Tokens of VNN-LIB 1.0 -> declared variables and one formula, by a stack machine (no recursion, any depth of nesting).

`Parser` is also what the reader of VNN-LIB 2.0 (module `problems.vnnlib.queries`) stands on: conditions are read by the same machine.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from typing import NoReturn

from problems.errors import SpecificationError
from problems.tensors import Tensor
from problems.vnnlib.formula import And, conjunction, output_variable
from problems.vnnlib.lexer import END, Source
from problems.vnnlib.terms import OPERATORS, Operator, Value, guard

MAX_DIGITS = 4000  # of a number, and size of its exponent: below the limit of Python's int()

_NUMBER = re.compile(r"([+-]?)([0-9]*)(?:\.([0-9]*))?(?:[eE]([+-]?[0-9]+))?", re.ASCII)
_VARIABLE = re.compile(r"([XY])_(0|[1-9][0-9]*)", re.ASCII)
_IGNORED = {"set-logic", "set-info", "set-option"}  # they do not change the meaning of a file
_CLOSING = {"check-sat", "get-model", "exit"}  # allowed at the end
_VERSION_2 = {"vnnlib-version", "declare-network", "declare-input", "declare-output", "declare-hidden"}  # commands of VNN-LIB 2.0
_TENS = [10**k for k in range(40)]


@dataclass(eq=False)
class Parsed:
    """What a file says: n inputs, K outputs, the conjunction of its assertions; and, in VNN-LIB 2.0, the declared tensors."""

    inputs: int
    outputs: int
    formula: And
    declared: dict[str, int] = field(default_factory=dict)  # name -> token of the declaration
    tensors: tuple[Tensor, ...] = ()

    def declaration(self, index: int) -> tuple[str, int]:
        """(name, token of the declaration) of input `index`, for messages."""
        if not self.tensors:
            return f"X_{index}", self.declared[f"X_{index}"]
        tensor = self.tensors[0]
        return tensor.element(index), self.declared[tensor.name]


def parse(source: Source) -> Parsed:
    """The variables and the formula of a VNN-LIB 1.0 file."""
    return Parser(source).run()


class Parser:
    """Reads one file. A subclass changes what commands there are (`run`) and what stands for a variable or a number (`_leaf`)."""

    operators: Mapping[str, Operator] = OPERATORS

    def __init__(self, source: Source) -> None:
        self.source = source
        self.tokens = source.tokens
        self.leaves: dict[str, Value] = {}  # declared variables, and numbers once read
        self.declared: dict[str, int] = {}
        self.asserted: list[And] = []
        self.closed: str | None = None

    def run(self) -> Parsed:
        tokens, index = self.tokens, 0
        while tokens[index] != END:
            if tokens[index] != "(":
                self._not_a_command(index)
            command = tokens[index + 1]
            if self.closed and command not in _CLOSING:
                self.source.fail(index, f"'{command}' follows '{self.closed}'.", f"Put '{self.closed}' at the end of the file.")
            if command == "assert":
                index = self._assert(index)
            elif command in ("declare-const", "declare-fun"):
                index = self._declare(index)
            elif command in _IGNORED or command in _CLOSING:
                self.closed = command if command in _CLOSING else None
                index = self._skip(index)
            else:
                self._unsupported(index)
        inputs, outputs = self._count("X"), self._count("Y")
        if not inputs:
            raise SpecificationError(self.source.name, "declares no inputs.", "Declare X_0, X_1, ... with (declare-const X_0 Real).")
        if not self.asserted:
            raise SpecificationError(self.source.name, "asserts nothing.", "Assert bounds of every input, and the unsafe outputs.")
        formula = guard(self.source, conjunction(self.asserted), 0)
        return Parsed(inputs, outputs, formula, self.declared)

    # --- commands -------------------------------------------------------------------------------------------------------------

    def _declare(self, index: int) -> int:
        tokens = self.tokens
        name, at = tokens[index + 2], index + 3
        if tokens[index + 1] == "declare-fun":
            if tokens[at : at + 2] != ["(", ")"]:
                self._expected(at, "'()' (functions with arguments are not supported)", index)
            at += 2
        match = _VARIABLE.fullmatch(name)
        if match is None:
            if name in ("(", ")", END):
                self._expected(index + 2, "a name", index)
            self.source.fail(index + 2, f"declares '{name}'.", "Inputs are named X_0, X_1, ... and outputs Y_0, Y_1, ...")
        if name in self.declared:
            self.source.fail(
                index + 2, f"declares {name} twice (first on {self.source.line(self.declared[name])}).", "Remove one of the two."
            )
        if tokens[at] != "Real":
            if tokens[at] in ("(", ")", END):
                self._expected(at, "the type Real", index)
            self.source.fail(at, f"{name} has type '{tokens[at]}'.", "Variables are Real.")
        if tokens[at + 1] != ")":
            self._expected(at + 1, "')' after the declaration", index)
        self.declared[name] = index + 2
        if len(match[2]) > 8:
            self.source.fail(index + 2, f"declares {name}.", "Number variables without gaps from 0.")
        number = int(match[2])
        self.leaves[name] = number if match[1] == "X" else output_variable(number)
        return at + 2

    def _assert(self, index: int) -> int:
        value, end = self._expression(index + 2, index)
        if not isinstance(value, And):
            self.source.fail(index + 2, "asserts a number, not a condition.", "Compare terms with <=, >=, <, > or =.")
        if self.tokens[end] != ")":
            self._expected(end, "')' after the condition of 'assert'", index)
        self.asserted.append(value)
        return end + 1

    def _skip(self, index: int) -> int:
        depth, at = 0, index
        while True:
            token = self.tokens[at]
            if token == END:
                self._unclosed(index)
            depth += (token == "(") - (token == ")")
            at += 1
            if depth == 0:
                return at

    # --- expressions ----------------------------------------------------------------------------------------------------------

    def _expression(self, index: int, outer: int) -> tuple[Value, int]:
        """(value, index after it) of the expression that begins at token `index`; `outer` is the parenthesis around it."""
        tokens, leaves = self.tokens, self.leaves
        stack: list[tuple[int, list[Value]]] = []  # open parentheses and the values read inside so far
        while True:
            token = tokens[index]
            if token == "(":
                if tokens[index + 1] not in self.operators:
                    self._not_an_operator(index)
                stack.append((index, []))
                index += 2
                continue
            if token == ")" and stack:
                opened, operands = stack.pop()
                if not operands:
                    self.source.fail(opened, f"'{tokens[opened + 1]}' has no operands.")
                value = self.operators[tokens[opened + 1]](self.source, opened, operands)
            else:
                known = leaves.get(token)
                if known is None:
                    if token in (")", END):
                        self._expected(index, "a condition", stack[-1][0] if stack else outer)
                    known = leaves[token] = self._leaf(index)
                value = known
            index += 1
            if not stack:
                return value, index
            stack[-1][1].append(value)

    def _leaf(self, index: int) -> Value:
        """The value of token `index`, which is not known yet: a number."""
        number = self._number(index)
        return self._unknown(index) if number is None else number

    def _number(self, index: int) -> Fraction | None:
        """The number that token `index` is; None where it is none."""
        token = self.tokens[index]
        match = _NUMBER.fullmatch(token)
        if match is None or not (match[2] or match[3]):
            return None
        sign, whole, part, exponent = match.groups(default="")
        if len(token) > MAX_DIGITS or (exponent and (len(exponent) > 6 or abs(int(exponent)) > MAX_DIGITS)):
            self.source.fail(index, f"number with more than {MAX_DIGITS} digits.", "Write it with fewer.")
        numerator = int(sign + whole + part)
        power = int(exponent or 0) - len(part)
        if power >= 0:
            return Fraction(numerator * 10**power)
        return Fraction(numerator, _TENS[-power] if -power < len(_TENS) else 10**-power)

    # --- errors ---------------------------------------------------------------------------------------------------------------

    def _count(self, letter: str) -> int:
        indices = {int(name[2:]) for name in self.declared if name[0] == letter}
        missing = next((index for index in range(len(indices)) if index not in indices), None)
        if missing is not None:
            last = next(token for name, token in reversed(self.declared.items()) if name[0] == letter and int(name[2:]) > missing)
            self.source.fail(
                last, f"declares {self.tokens[last]}, but {letter}_{missing} is not declared.", "Number variables without gaps from 0."
            )
        return len(indices)

    def _unknown(self, index: int) -> NoReturn:
        token = self.tokens[index]
        match = _VARIABLE.fullmatch(token)
        if match is None:
            what = "a malformed number" if token[0] in "0123456789+-." else "an unknown name"
            self.source.fail(index, f"'{token}' is {what}.", "Terms are made of numbers and of declared X_i and Y_i.")
        known = sum(name[0] == match[1] for name in self.declared)
        declared = f"{match[1]}_0 to {match[1]}_{known - 1} are" if known else "none is"
        self.source.fail(index, f"unknown variable {token}: {declared} declared before this line.", "Declare it, or correct its index.")

    def _expected(self, index: int, what: str, opened: int) -> NoReturn:
        if self.tokens[index] == END:
            self._unclosed(opened)
        self.source.fail(index, f"expected {what}, found '{self.tokens[index]}'.")

    def _unclosed(self, opened: int) -> NoReturn:
        self.source.fail(opened, "unbalanced parentheses: this one is never closed.", "Close it with ')'.")

    def _not_a_command(self, index: int) -> NoReturn:
        if self.tokens[index] == ")":
            self.source.fail(index, "unbalanced parentheses: this ')' closes nothing.", "Remove it, or open it before.")
        self.source.fail(index, f"expected '(' and a command, found '{self.tokens[index]}'.", "Give a VNN-LIB file.")

    def _unsupported(self, index: int) -> NoReturn:
        command = self.tokens[index + 1]
        if command == END:
            self._unclosed(index)
        if command in _VERSION_2:
            self.source.fail(
                index, f"'{command}' is VNN-LIB 2.0, in a file of VNN-LIB 1.0.", "Begin a file of 2.0 with (vnnlib-version <2.0>)."
            )
        self.source.fail(index + 1, f"unsupported command '{command}'.", "Supported are declare-const, declare-fun and assert.")

    def _not_an_operator(self, index: int) -> NoReturn:
        token = self.tokens[index + 1]
        if token == END:
            self._unclosed(index)
        self.source.fail(index + 1, f"unsupported operator '{token}'.", f"Supported are {' '.join(self.operators)}.")

"""VNN-LIB 2.0: one network with one input and one output tensor, and linear conditions on their elements.

(vnnlib-version <2.0>) (declare-network f (declare-input X float32 [1,5]) (declare-output Y float32 [1,2])) (assert (<= X[0,3] 0.5)) ...

Source: the VNN-LIB 2.0 standard (vnnlib.org), chapter on the query language; of its theories NH, SIO, SNET, MNC and LIN are read. What it
allows beyond these (hidden nodes, several tensors or networks, products of variables) is refused by name. Read more freely than it
asks: whole and decimal numbers mix, exponents are numbers, conditions may chain.
"""

import re
from math import prod
from typing import NoReturn

from problems.errors import SpecificationError
from problems.tensors import Tensor
from problems.vnnlib.formula import conjunction, output_variable
from problems.vnnlib.lexer import END, Source
from problems.vnnlib.parser import Parsed, Parser
from problems.vnnlib.terms import QUERY_OPERATORS, Value, guard

MAX_ELEMENTS = 100_000_000  # of a tensor
TYPES = ("real", "float32")

_VERSION = re.compile(r"<([0-9]{1,9})\.[0-9]{1,9}>", re.ASCII)
_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_]*", re.ASCII)
_BRACKETED = re.compile(r"([A-Za-z][A-Za-z0-9_]*)\s*\[([\s0-9,]*)\]", re.ASCII)
_TENSORS = ("declare-input", "declare-output")


def is_query(source: Source) -> bool:
    """Whether the file says that it is of VNN-LIB 2 (or later): its first command is vnnlib-version."""
    return source.tokens[:2] == ["(", "vnnlib-version"] and not source.tokens[2].startswith("<1.")


def parse_query(source: Source) -> Parsed:
    """The variables and the formula of a VNN-LIB 2.0 file."""
    return _QueryParser(source).run()


class _QueryParser(Parser):
    operators = QUERY_OPERATORS

    def __init__(self, source: Source) -> None:
        super().__init__(source)
        self.tensors: dict[str, Tensor] = {}

    def run(self) -> Parsed:
        index = self._network(self._version())
        while self.tokens[index] != END:
            if self.tokens[index] != "(":
                self._not_a_command(index)
            if self.tokens[index + 1] == "declare-network":
                self.source.fail(index, "declares a second network.", "Properties that relate several networks are not supported.")
            if self.tokens[index + 1] != "assert":
                self._unsupported(index)
            index = self._assert(index)
        if not self.asserted:
            raise SpecificationError(self.source.name, "asserts nothing.", "Assert bounds of every input, and the unsafe outputs.")
        inputs, outputs = self.tensors.values()
        formula = guard(self.source, conjunction(self.asserted), 0)
        return Parsed(inputs.size, outputs.size, formula, self.declared, (inputs, outputs))

    # --- declarations ---------------------------------------------------------------------------------------------------------

    def _version(self) -> int:
        match = _VERSION.fullmatch(self.tokens[2])
        if match is None or int(match[1]) != 2:
            self._expected(2, "a version <2.0>", 0)
        return self._closed(3, 0)

    def _network(self, index: int) -> int:
        if self.tokens[index : index + 2] != ["(", "declare-network"]:
            self._expected(index, "(declare-network ...)", 0)
        network, at = index, index + 2
        if _NAME.fullmatch(self.tokens[at]) is None:
            self._expected(at, "a name", network)
        at += 1
        for command in _TENSORS:
            if self.tokens[at] != "(":
                self._expected(at, f"({command} ...)", network)
            if self.tokens[at + 1] != command:
                self._unsupported(at)
            at = self._tensor(at)
        if self.tokens[at] == "(":
            self._unsupported(at)
        return self._closed(at, network)

    def _tensor(self, index: int) -> int:
        name, described = self.tokens[index + 2 : index + 4]
        if _NAME.fullmatch(name) is None:
            self._expected(index + 2, "a name", index)
        if name in self.declared:
            self.source.fail(index + 2, f"declares {name} twice.", "Give each tensor a name of its own.")
        match = _BRACKETED.fullmatch(described)
        sizes = None if match is None else _integers(match[2])
        if match is None or sizes is None:
            self._expected(index + 3, "an element type and a shape such as float32 [1,5]", index)
        tensor = Tensor(name, match[1].lower(), sizes)
        if tensor.element_type not in TYPES:
            self.source.fail(
                index + 3, f"{name} has elements of type {match[1]}.", f"Supported are {' and '.join(TYPES)}; real stands for any."
            )
        if not 0 < prod(sizes) <= MAX_ELEMENTS:
            self.source.fail(index + 3, f"{name} has {prod(sizes)} elements.", f"Declare between 1 and {MAX_ELEMENTS}.")
        self.tensors[name], self.declared[name] = tensor, index + 2
        at = index + 4
        if self.tokens[at].startswith('"'):  # the node's name in the file: there is only one that it can be
            at += 1
        return self._closed(at, index)

    def _closed(self, index: int, opened: int) -> int:
        if self.tokens[index] != ")":
            self._expected(index, "')'", opened)
        return index + 1

    # --- elements and numbers -------------------------------------------------------------------------------------------------

    def _leaf(self, index: int) -> Value:
        token = self.tokens[index]
        number = self._number(index)
        if number is not None:
            return number
        match = _BRACKETED.fullmatch(token)
        name = token if match is None else match[1]
        tensor = self.tensors.get(name)
        indices = () if match is None else _integers(match[2])
        if tensor is None:
            self._no_tensor(index, name)
        element = None if indices is None else tensor.number(indices)
        if element is None:
            shape = ",".join(map(str, tensor.shape))
            self.source.fail(index, f"'{token}' is no element of {name}, of shape [{shape}].", "Give one index from 0 per axis.")
        return element if name == next(iter(self.tensors)) else output_variable(element)

    def _no_tensor(self, index: int, name: str) -> NoReturn:
        if _NAME.fullmatch(name) is None:
            what = "a malformed number" if name[0] in "0123456789+-." else "neither a number nor an element of a tensor"
            self.source.fail(index, f"'{self.tokens[index]}' is {what}.", f"Elements are written as in {next(iter(self.tensors))}[0,3].")
        self.source.fail(index, f"unknown variable {name}.", f"Declared are {' and '.join(self.tensors)}.")

    def _unsupported(self, index: int) -> NoReturn:
        command = self.tokens[index + 1]
        if command == END:
            self._unclosed(index)
        reasons = {
            "declare-hidden": "hidden nodes are not supported.",
            "declare-input": "several input tensors are not supported.",
            "declare-output": "several output tensors are not supported.",
            "equal-to": "properties that relate several networks are not supported.",
            "isomorphic-to": "properties that relate several networks are not supported.",
        }
        reason = reasons.get(command, f"unsupported command '{command}' in a file of VNN-LIB 2.0.")
        self.source.fail(index, reason, "Supported is one network with one input and one output.")


def _integers(text: str) -> tuple[int, ...] | None:
    """'1, 5' -> (1, 5); '' -> (); None for what is no list of numbers."""
    parts = [part.strip() for part in text.split(",")] if text.strip() else []
    if not all(part.isdigit() and len(part) <= 9 for part in parts):
        return None
    return tuple(map(int, parts))

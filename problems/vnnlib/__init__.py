"""VNN-LIB 1.0 and 2.0 as the verification competitions use them: properties in, counter-examples out.

Of 2.0, which a file announces in its first command, module `queries` says what is read. Of 1.0, read are (declare-const X_0 Real),
(declare-fun X_0 () Real) and (assert ...) with <=, >=, <, >, =, and, or to any depth, over linear terms of inputs X_i and outputs Y_i
with decimal or rational constants. The conjunction of all assertions describes the
counter-examples. Decimals are exact; `=` is two rows, or a side of zero width for an input. A file that constrains no output
calls the whole input box unsafe (see `problems.specification.make_disjunct`), which also lets a file describe a region alone.
Errors are SpecificationError with file, line and column.
"""

from dataclasses import replace
from pathlib import Path

from problems.specification import Specification
from problems.vnnlib.lexer import load, tokenise
from problems.vnnlib.normal import normalise
from problems.vnnlib.parser import parse
from problems.vnnlib.queries import is_query, parse_query
from problems.vnnlib.witness import format_witness

__all__ = ["format_witness", "parse_text", "read"]


def read(path: str | Path) -> Specification:
    """The specification in a .vnnlib file, plain or gzip."""
    return replace(parse_text(load(path), name=str(path)), source=Path(path))


def parse_text(text: str, *, name: str = "property") -> Specification:
    """The specification in a text; `name` is what errors call it."""
    source = tokenise(text, name)
    return normalise(parse_query(source) if is_query(source) else parse(source), source)

"""Every kind of malformed property: one typed error that names file, line and column."""

import gzip
import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from problems import vnnlib
from problems.errors import SpecificationError

DECLARED = "\n".join(f"(declare-const {name} Real)" for name in ("X_0", "X_1", "Y_0", "Y_1"))
BOX = "\n".join(f"(assert (>= X_{i} -2)) (assert (<= X_{i} 2))" for i in range(2))

MALFORMED = {
    # what stands on line 7 (after declarations and box), column of the fault, words of the message
    "unclosed": ("(assert (<= Y_0 1)", 1, "unbalanced parentheses: this one is never closed"),
    "unclosed-inner": ("(assert (or (<= Y_0 1)", 9, "never closed"),
    "unclosed-declaration": ("(declare-const X_2 Real", 1, "never closed"),
    "unclosed-info": ("(set-info :a (b)", 1, "never closed"),
    "lone-open": ("(", 1, "never closed"),
    "lone-open-inside": ("(assert (", 9, "never closed"),
    "lone-close": ("(assert (<= Y_0 1)))", 20, "this ')' closes nothing"),
    "lone-word": ("assert (<= Y_0 1)", 1, "expected '(' and a command, found 'assert'"),
    "unknown-variable": ("(assert (<= Y_0 Z_1))", 17, "'Z_1' is an unknown name"),
    "index": ("(assert (<= X_2 1))", 13, "unknown variable X_2: X_0 to X_1 are declared"),
    "leading-zero": ("(assert (<= X_01 1))", 13, "'X_01' is an unknown name"),
    "number": ("(assert (<= X_0 1.2.3))", 17, "'1.2.3' is a malformed number"),
    "exponent": ("(assert (<= X_0 1e))", 17, "malformed number"),
    "nan": ("(assert (<= X_0 nan))", 17, "'nan' is an unknown name"),
    "point": ("(assert (<= X_0 .))", 17, "malformed number"),
    "huge-exponent": ("(assert (<= X_0 1e999999999))", 17, "more than 4000 digits"),
    "huge-number": (f"(assert (<= X_0 {'1' * 5000}))", 17, "more than 4000 digits"),
    "huge-product": (f"(assert (<= X_0 (* {'1e4000 ' * 9})))", 17, "more than 65536 bits"),
    "product": ("(assert (<= (* X_0 Y_0) 1))", 13, "non-linear term: a product"),
    "quotient": ("(assert (<= (/ 1 Y_0) 1))", 13, "non-linear term: a division"),
    "zero": ("(assert (<= (/ Y_0 0.0) 1))", 13, "division by zero"),
    "one-divided": ("(assert (<= (/ Y_0) 1))", 13, "'/' needs two terms"),
    "one-compared": ("(assert (<= Y_0))", 9, "'<=' needs two terms"),
    "no-operands": ("(assert (or))", 9, "'or' has no operands"),
    "empty": ("(assert)", 8, "expected a condition, found ')'"),
    "no-operator": ("(assert ())", 10, "unsupported operator ')'"),
    "operator": ("(assert (not (<= Y_0 1)))", 10, "unsupported operator 'not'"),
    "double": ("(assert ((<= Y_0 1)))", 10, "unsupported operator '('"),
    "number-asserted": ("(assert (+ Y_0 1))", 9, "asserts a number"),
    "name-asserted": ("(assert Y_0)", 9, "asserts a number"),
    "number-joined": ("(assert (or (<= Y_0 1) Y_0))", 9, "'or' joins a number"),
    "condition-compared": ("(assert (<= (<= Y_0 1) 2))", 9, "'<=' is applied to a condition"),
    "condition-added": ("(assert (<= (+ 1 (<= Y_0 1)) 2))", 13, "'+' is applied to a condition"),
    "condition-multiplied": ("(assert (<= (* 2 (<= Y_0 1)) 2))", 13, "'*' is applied to a condition"),
    "two-conditions": ("(assert (<= Y_0 1) (<= Y_0 2))", 20, "expected ')' after the condition of 'assert', found '('"),
    "command": ("(push 1)", 2, "unsupported command 'push'"),
    "no-command": ("()", 2, "unsupported command ')'"),
    "version": ("(vnnlib-version <2.0>)", 1, "'vnnlib-version' is VNN-LIB 2.0, in a file of VNN-LIB 1.0"),
    "network": ("(declare-network f (declare-input X Real [2]))", 1, "'declare-network' is VNN-LIB 2.0, in a file"),
    "twice": ("(declare-const Y_0 Real)", 16, "declares Y_0 twice (first on line 3)"),
    "name": ("(declare-const in0 Real)", 16, "declares 'in0'"),
    "no-name": ("(declare-const)", 15, "expected a name, found ')'"),
    "long-index": ("(declare-const X_123456789 Real)", 16, "declares X_123456789"),
    "type": ("(declare-const X_2 Int)", 20, "X_2 has type 'Int'"),
    "no-type": ("(declare-const X_2)", 19, "expected the type Real, found ')'"),
    "two-types": ("(declare-const X_2 Real Real)", 25, "expected ')' after the declaration"),
    "function": ("(declare-fun X_2 (Real) Real)", 18, "expected '()'"),
    "gap": ("(declare-const X_3 Real)", 16, "declares X_3, but X_2 is not declared"),
    "after-the-end": ("(check-sat)(assert (<= Y_0 1))", 12, "'assert' follows 'check-sat'"),
    "unbounded": ("(declare-const X_2 Real)(assert (<= X_2 1))", 16, "X_2 has no lower bound."),
    "unbounded-above": ("(declare-const X_2 Real)(assert (>= X_2 1))", 16, "X_2 has no upper bound."),
    "unbounded-somewhere": (
        "(declare-const X_2 Real)(assert (or (<= 0 X_2 1) (<= Y_0 1)))",
        16,
        "X_2 has no lower bound in some disjunct.",
    ),
    "empty-box": ("(assert (<= X_0 -3))", 9, "empty region: excludes the bound on line 5"),
    "empty-strict": ("(assert (< X_0 -2))", 9, "empty region: excludes the bound on line 5"),
    "all-empty": ("(assert (or (<= X_0 -3) (and (<= Y_0 1) (>= X_1 3))))", 13, "empty region: excludes the bound on line 5"),
    "false": ("(assert (<= 1 0))", 9, "empty region: this condition is never true"),
    "digits": ("(assert (<= (+ (* 0.1234567890123456789 Y_0) Y_1) 1))", 9, "holds coefficients that no common multiple"),
    "large": ("(assert (<= Y_0 1e400))", 9, "a constant beyond the range"),
}


@pytest.mark.parametrize(("assertion", "column", "words"), MALFORMED.values(), ids=MALFORMED)
def test_malformed_file_names_line_and_column(assertion: str, column: int, words: str) -> None:
    line = 7
    for text in (assertion, f"{assertion} ; a comment (with\tparentheses))"):
        with pytest.raises(SpecificationError) as caught:
            vnnlib.parse_text(f"{DECLARED}\n{BOX}\n{text}\n", name="p.vnnlib")
        assert caught.value.place == f"p.vnnlib, line {line}, column {column}"
        assert words in caught.value.problem


def test_files_that_say_nothing() -> None:
    with pytest.raises(SpecificationError, match=r"^p: declares no inputs"):
        vnnlib.parse_text("; nothing", name="p")
    with pytest.raises(SpecificationError, match=r"^p: declares no inputs"):
        vnnlib.parse_text("(declare-const Y_0 Real)(assert (<= Y_0 1))", name="p")
    with pytest.raises(SpecificationError, match=r"^p: asserts nothing"):
        vnnlib.parse_text(DECLARED, name="p")
    with pytest.raises(SpecificationError, match="none is declared before"):
        vnnlib.parse_text("(assert (<= Y_0 1))", name="p")


@given(st.text(alphabet="()XY_01.-+*/<=> \n;|aor", max_size=60), st.integers(0, 400))
def test_no_text_breaks_the_reader(noise: str, at: int) -> None:
    text = f"{DECLARED}\n{BOX}\n(assert (or (<= Y_0 1) (and (<= Y_1 1) (>= (+ Y_0 1) 0))))\n"
    for candidate in (noise, text[:at] + noise + text[at:], text[:at]):
        try:
            vnnlib.parse_text(candidate, name="p")
        except SpecificationError as error:
            assert error.place.startswith("p")  # noqa: PT017


# --- unreadable files


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (None, "does not exist"),
        (gzip.compress(b"(assert" * 100, mtime=0)[:-9], "damaged gzip"),
        (b"\x1f\x8bnonsense that is no gzip", "damaged gzip"),
        (b"\x08\x07onnx\xff\xfe", "is not text"),
    ],
)
def test_unreadable_file(tmp_path: Path, content: bytes | None, words: str) -> None:
    path = tmp_path / "p.vnnlib"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(SpecificationError, match=re.escape(str(path)) + ".*" + words):
        vnnlib.read(path)


def test_folder_instead_of_file(tmp_path: Path) -> None:
    with pytest.raises(SpecificationError, match="cannot be read"):
        vnnlib.read(tmp_path)

"""VNN-LIB files as files: line endings, sizes, compression; and the counter-examples that are written."""

import gzip
import re
from fractions import Fraction
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from problems import vnnlib
from problems.errors import SpecificationError

DECLARED = "\n".join(f"(declare-const {name} Real)" for name in ("X_0", "X_1", "Y_0", "Y_1"))
BOX = "\n".join(f"(assert (>= X_{i} -2)) (assert (<= X_{i} 2))" for i in range(2))


@pytest.mark.parametrize("ending", ["\n", "\r\n", "\r"])
def test_every_line_ending_ends_a_comment(ending: str) -> None:
    """A condition after a comment must not be lost: without it the whole box would be unsafe."""
    text = f"{DECLARED}\n; the box\n{BOX}\n; and the outputs\n(assert (>= Y_0 1))\n(assert (>= Y_0 1)\n"
    read = vnnlib.parse_text(text[: text.rindex("(assert")].replace("\n", ending))
    assert not read.is_violated([0, 0], [0, 0])
    assert read.is_violated([0, 0], [1, 0])
    with pytest.raises(SpecificationError, match=r"^property, line 10, column 1: unbalanced"):
        vnnlib.parse_text(text.replace("\n", ending))


def test_files_too_large_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also those that are small until they are unpacked."""
    text = f"{DECLARED}\n{BOX}\n(assert (>= Y_0 1))\n"
    monkeypatch.setattr("problems.vnnlib.lexer.MAX_BYTES", len(text))
    for file, content in ((tmp_path / "p.vnnlib", text), (tmp_path / "p.vnnlib.gz", text)):
        pack = gzip.compress if file.suffix == ".gz" else bytes
        file.write_bytes(pack(content.encode()))
        assert vnnlib.read(file).input_size == 2
        file.write_bytes(pack(content.encode() + b"\n" * 1_000_000))
        with pytest.raises(SpecificationError, match=f"is larger than {len(text)} bytes"):
            vnnlib.read(file)


# --- witnesses -----------------------------------------------------------------------------------------------------------------------


@given(st.lists(st.floats(allow_nan=False, allow_infinity=False), min_size=1, max_size=4), st.lists(st.floats(-1e9, 1e9), max_size=3))
def test_witness_gives_back_the_same_floats(x: list[float], y: list[float]) -> None:
    text = vnnlib.format_witness(x, y)
    assert text.count("(") == text.count(")") == len(x) + len(y) + 1
    found = re.findall(r"\(([XY])_(\d+) ([^)]+)\)", text)
    assert [float(v) for letter, _, v in found if letter == "X"] == x
    assert [float(v) for letter, _, v in found if letter == "Y"] == y
    assert [int(i) for _, i, _ in found] == [*range(len(x)), *range(len(y))]


def test_witness_form() -> None:
    assert vnnlib.format_witness([0.1, Fraction(-1, 2)], [Fraction(1, 3)]) == "((X_0 0.1)\n(X_1 -0.5)\n(Y_0 0.3333333333333333))"
    with pytest.raises(ValueError):
        vnnlib.format_witness([Fraction(1, 3)], [])
    with pytest.raises(ValueError):
        vnnlib.format_witness([float("nan")], [])

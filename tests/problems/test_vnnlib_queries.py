"""VNN-LIB 2.0: the reader against the reference parser of the standard (package vnnlib), and what it refuses."""

from contextlib import suppress
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
import vnnlib as reference
from hypothesis import given
from hypothesis import strategies as st

from problems import vnnlib
from problems.errors import SpecificationError
from problems.maps import Dense
from problems.network import sequential
from problems.specification import Specification
from problems.tensors import Tensor

HEAD = "(vnnlib-version <2.0>)\n(declare-network f\n  (declare-input X float32 [1,2])\n  (declare-output Y float32 [2,1]))\n"
BOX = "".join(f"(assert (and (>= X[0,{i}] -2.0) (<= X[0,{i}] 2.0)))\n" for i in range(2))


def spec(assertions: str, *, head: str = HEAD, box: str = BOX) -> Specification:
    return vnnlib.parse_text(f"{head}{box}{assertions}\n", name="q.vnnlib")


# --- against the reference parser ---------------------------------------------------------------------------------------------------

elements = st.sampled_from(["X[0,0]", "X[0,1]", "X [0, 1]", "Y[0,0]", "Y[1,0]", "Y[ 1 ,0 ]"])
numbers = st.integers(-8, 8).map(lambda eighth: repr(eighth / 4))
terms = st.recursive(
    elements | numbers,
    lambda inner: st.one_of(
        st.lists(inner, min_size=2, max_size=3).map(lambda parts: f"(+ {' '.join(parts)})"),
        st.lists(inner, min_size=2, max_size=3).map(lambda parts: f"(- {' '.join(parts)})"),
        inner.map(lambda part: f"(- {part})"),
        st.tuples(numbers, inner).map(lambda pair: f"(* {pair[0]} {pair[1]})"),
    ),
    max_leaves=5,
)
comparisons = st.tuples(st.sampled_from(["<=", ">=", "<", ">", "==", "!="]), terms, terms).map(lambda parts: "({} {} {})".format(*parts))
conditions = st.recursive(
    comparisons,
    lambda inner: st.tuples(st.sampled_from(["and", "or"]), st.lists(inner, min_size=2, max_size=3)).map(
        lambda parts: f"({parts[0]} {' '.join(parts[1])})"
    ),
    max_leaves=5,
)
halves = st.integers(-4, 4).map(lambda half: Fraction(half, 2))


def truth(expression: Any, values: dict[str, np.ndarray]) -> Any:
    """The value of a tree of the reference parser, exactly."""
    kind = type(expression).__name__
    if kind == "Var":
        return values[expression.name][tuple(expression.indices)]
    if kind in ("Float", "Int", "Literal"):
        return Fraction(expression.lexeme)
    if kind == "Negate":
        return -truth(expression.expr, values)
    if kind == "Minus":
        return truth(expression.head, values) - sum(truth(part, values) for part in expression.rest)
    if kind in ("Plus", "Multiply", "And", "Or"):
        parts = [truth(part, values) for part in expression.args]
        return {"Plus": sum, "Multiply": np.prod, "And": all, "Or": any}[kind](parts)
    left, right = truth(expression.lhs, values), truth(expression.rhs, values)
    return {
        "LessThan": left < right, "LessEqual": left <= right, "GreaterThan": left > right, "GreaterEqual": left >= right,
        "Equal": left == right, "NotEqual": left != right,
    }[kind]  # fmt: skip


def read_or_empty(text: str) -> Specification | None:
    """None for a property that no point satisfies, which is refused as a mistake."""
    try:
        return vnnlib.parse_text(text)
    except SpecificationError as error:
        if "empty region" not in error.problem:
            raise
        return None


@given(conditions, st.lists(st.tuples(halves, halves, halves, halves), min_size=1, max_size=6))
def test_queries_mean_what_the_reference_parser_says(condition: str, points: list[tuple[Fraction, ...]]) -> None:
    text = f"{HEAD}{BOX}(assert {condition})"
    query = reference.parse_query_string(text)
    read = read_or_empty(text)
    for point in points:
        values = {"X": np.array(point[:2]).reshape(1, 2), "Y": np.array(point[2:]).reshape(2, 1)}
        expected = all(truth(assertion.expr, values) for assertion in query.assertions)
        assert (read is not None and read.is_violated(point[:2], point[2:])) == expected


REFUSED_BY_BOTH = [
    "(assert (<= X[0,2] 1.0))",
    "(assert (<= X[0] 1.0))",
    "(assert (<= X 1.0))",
    "(assert (<= Z[0,0] 1.0))",
    "(assert (<= X_0 1.0))",
    "(assert (<= X[0,0 1.0))",
    "(assert (<= [0,0] 1.0))",
    "(assert (<= X[0,0][0] 1.0))",
    "(assert X[0,0])",
    "(assert (and 1.0 (<= X[0,0] 1.0)))",
    "(assert (!= X[0,0] 1.0 2.0))",
    "(declare-const X_0 Real)",
    "(assert (<= X[0,0] 1.0)",
    "(assert (<= X[0,0] 1.0)))",
    "(assert (sin X[0,0]))",
]


@pytest.mark.parametrize("assertion", REFUSED_BY_BOTH)
def test_what_the_reference_parser_refuses_is_refused(assertion: str) -> None:
    with pytest.raises(reference.VNNLibException):
        reference.parse_query_string(f"{HEAD}{BOX}{assertion}")
    with pytest.raises(SpecificationError, match=r"^q\.vnnlib, line 7, column "):
        spec(assertion)


# --- what is read -------------------------------------------------------------------------------------------------------------------


def test_the_same_property_in_both_versions() -> None:
    old = vnnlib.parse_text(
        "(declare-const X_0 Real)(declare-const X_1 Real)(declare-const Y_0 Real)(declare-const Y_1 Real)"
        "(assert (<= -2 X_0 2))(assert (<= -2 X_1 2))(assert (or (and (>= Y_0 Y_1) (<= X_1 0.1)) (<= (+ Y_0 X_0) 1e-1)))"
    )
    new = spec("(assert (or (and (>= Y[0,0] Y[1,0]) (<= X[0,1] 0.1)) (<= (+ Y[0,0] X[0,0]) 1e-1)))")
    assert (new.input_size, new.output_size) == (old.input_size, old.output_size) == (2, 2)
    for mine, other in zip(new.disjuncts, old.disjuncts, strict=True):
        assert mine.exact_coefficients == other.exact_coefficients
        assert mine.exact_offsets == other.exact_offsets
        assert mine.input_terms == other.input_terms
        assert np.array_equal(mine.region.bounding_box(), other.region.bounding_box())
    assert old.tensors == ()
    assert new.tensors == (Tensor("X", "float32", (1, 2)), Tensor("Y", "float32", (2, 1)))


def test_elements_are_numbered_row_by_row() -> None:
    tensor = Tensor("X", "real", (2, 3, 4))
    for number, indices in enumerate(np.ndindex(2, 3, 4)):
        assert tensor.number(indices) == number
        assert tensor.element(number) == f"X[{','.join(map(str, indices))}]"
    assert tensor.number((2, 0, 0)) is None
    assert Tensor("Y", "real", ()).size == 1


def test_scalars_names_and_comments() -> None:
    head = '; 2.0\n(vnnlib-version <2.1>) (declare-network n (declare-input in_1 Real [2] "node [1]") (declare-output out REAL []))'
    read = spec("(assert (>= out in_1[1])) ; in_1[7]", head=head, box="(assert (<= 0 in_1[0] 1)) (assert (<= 0 in_1[1] 1))")
    assert read.tensors == (Tensor("in_1", "real", (2,)), Tensor("out", "real", ()))
    assert read.is_violated([0, 0.5], [0.5])
    assert not read.is_violated([0, 0.5], [0.25])


# --- what is refused ----------------------------------------------------------------------------------------------------------------

X, Y = "(declare-input X real [2])", "(declare-output Y real [2])"
HEADS = {
    "version": ("(vnnlib-version <3.0>)", "expected a version <2.0>"),
    "no version": ("(vnnlib-version)", "expected a version <2.0>"),
    "no network": ("(vnnlib-version <2.0>)", "expected (declare-network ...)"),
    "hidden": (f'(vnnlib-version <2.0>)(declare-network f {X} (declare-hidden H real [1] "h") {Y})', "hidden nodes are not supported"),
    "inputs": (f"(vnnlib-version <2.0>)(declare-network f {X} (declare-input Z real [1]) {Y})", "several input tensors"),
    "outputs": (f"(vnnlib-version <2.0>)(declare-network f {X} {Y} (declare-output Z real [1]))", "several output tensors"),
    "equal": (f"(vnnlib-version <2.0>)(declare-network f (equal-to g) {X} {Y})", "relate several networks"),
    "second": (f"(vnnlib-version <2.0>)(declare-network f {X} {Y})(declare-network g {X} {Y})", "declares a second network"),
    "no output": (f"(vnnlib-version <2.0>)(declare-network f {X})", "expected (declare-output ...)"),
    "type": (f"(vnnlib-version <2.0>)(declare-network f (declare-input X int8 [2]) {Y})", "X has elements of type int8"),
    "no shape": (f"(vnnlib-version <2.0>)(declare-network f (declare-input X real) {Y})", "expected an element type and a shape"),
    "empty": (f"(vnnlib-version <2.0>)(declare-network f (declare-input X real [2,0]) {Y})", "X has 0 elements"),
    "large": (f"(vnnlib-version <2.0>)(declare-network f (declare-input X real [100000,100000]) {Y})", "X has 10000000000 elements"),
    "gap": (f"(vnnlib-version <2.0>)(declare-network f (declare-input X real [2,,2]) {Y})", "expected an element type and a shape"),
    "twice": (f"(vnnlib-version <2.0>)(declare-network f {X} (declare-output X real [2]))", "declares X twice"),
    "name": (f"(vnnlib-version <2.0>)(declare-network 2f {X} {Y})", "expected a name"),
    "open": (f"(vnnlib-version <2.0>)(declare-network f {X} {Y}", "unsupported command 'assert'"),
}


@pytest.mark.parametrize(("head", "words"), HEADS.values(), ids=HEADS)
def test_refused_declarations(head: str, words: str) -> None:
    with pytest.raises(SpecificationError) as caught:
        spec("(assert (<= 0 X[0] 1))", head=head, box="")
    assert words in caught.value.problem
    assert caught.value.place.startswith("q.vnnlib, line 1, column ")


def test_refused_conditions() -> None:
    with pytest.raises(SpecificationError, match=r"non-linear term"):
        spec("(assert (<= (* X[0,0] X[0,1]) 1))")
    with pytest.raises(SpecificationError, match=r"X\[0,1\] has no upper bound.*\(<= X\[0,1\] 0\)"):
        spec("(assert (>= X[0,1] 1)) (assert (<= 0 X[0,0] 1))", box="")
    with pytest.raises(SpecificationError, match="asserts nothing"):
        spec("", box="")


@given(st.text(alphabet='()[],.<>=!-+*;"XY01 \n', max_size=40), st.integers(0, len(HEAD + BOX)))
def test_no_text_breaks_the_reader(noise: str, at: int) -> None:
    text = HEAD + BOX
    with suppress(SpecificationError):
        vnnlib.parse_text(text[:at] + noise + text[at:], name="q.vnnlib")


def test_float32_of_a_network_that_computes_in_float64() -> None:
    network = sequential([Dense(np.ones((2, 2)))], [np.zeros(2)], precision="float64")
    with pytest.raises(SpecificationError, match="declares float32"):
        spec("(assert (>= Y[0,0] 1))").check_network(network)
    spec("(assert (>= Y[0,0] 1))", head=HEAD.replace("float32", "real")).check_network(network)


# --- witnesses ----------------------------------------------------------------------------------------------------------------------


def test_witness_of_a_query() -> None:
    tensors = spec("(assert (>= Y[0,0] 1))").tensors
    assert vnnlib.format_witness([0.1, -0.5], [1.0, 2.0], tensors) == "X float32 [1,2]\n0.1\n-0.5\nY float32 [2,1]\n1.0\n2.0"
    with pytest.raises(ValueError, match="Y has 2 elements, not 1"):
        vnnlib.format_witness([0.1, -0.5], [1.0], tensors)
    with pytest.raises(ValueError):
        vnnlib.format_witness([0.1, float("inf")], [1.0, 2.0], tensors)

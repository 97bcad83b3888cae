"""The VNN-LIB reader against the and/or tree itself, the benchmark files, and every kind of malformed file."""

import gzip
from fractions import Fraction
from pathlib import Path
from time import process_time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from problems import vnnlib
from problems.errors import SpecificationError
from problems.specification import Specification
from problems.vnnlib.formula import And, Atom, Or, single
from problems.vnnlib.lexer import tokenise
from problems.vnnlib.parser import parse
from problems.vnnlib.terms import MAX_DISJUNCTS

DECLARED = "\n".join(f"(declare-const {name} Real)" for name in ("X_0", "X_1", "Y_0", "Y_1"))
BOX = "\n".join(f"(assert (>= X_{i} -2)) (assert (<= X_{i} 2))" for i in range(2))


def spec(assertions: str, *, box: str = BOX) -> Specification:
    return vnnlib.parse_text(f"{DECLARED}\n{box}\n{assertions}\n", name="p.vnnlib")


def one_row(assertions: str) -> tuple[list[float], float, bool]:
    (disjunct,) = spec(assertions).disjuncts
    assert disjunct.rows == 1
    return disjunct.coefficients[0].tolist(), disjunct.offsets[0], bool(disjunct.strict[0])


# --- what each form means ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("condition", "coefficients", "offset", "strict"),
    [
        ("(>= Y_0 3.5)", [1, 0], -3.5, False),
        ("(<= Y_0 3.5)", [-1, 0], 3.5, False),
        ("(> Y_0 Y_1)", [1, -1], 0, True),
        ("(< Y_0 Y_1)", [-1, 1], 0, True),
        ("(<= (+ Y_0 (* 2 Y_1) 1) (- Y_1 4))", [-1, -1], -5, False),
        ("(<= (- Y_0) (- 2))", [1, 0], -2, False),
        ("(>= (- Y_0 Y_1 1) (/ 1 2))", [1, -1], -1.5, False),
        ("(>= (* Y_0 (/ 1 4) 2) 1e-1)", [0.5, 0], -0.1, False),
        ("(>= (* (+ Y_0 3) 2) +1.5E+1)", [2, 0], -9, False),
        ("(>= (/ Y_0 4 2) .5)", [0.125, 0], -0.5, False),
        ("(>= (* 0.1 Y_0) 1)", [1, 0], -10, False),  # multiplied by 10
        ("(>= (+ (/ Y_0 3) (* 0.5 Y_1)) 1)", [2, 3], -6, False),  # multiplied by 6
        ("(and (and (>= Y_0 1)))", [1, 0], -1, False),
        ("(or (or (>= Y_0 1)))", [1, 0], -1, False),
    ],
)
def test_row(condition: str, coefficients: list[float], offset: float, strict: bool) -> None:
    got = one_row(f"(assert {condition})")
    assert got[0] == coefficients
    assert got[1] == pytest.approx(offset, abs=1e-16)
    assert got[2] == strict
    (disjunct,) = spec(f"(assert {condition})").disjuncts
    assert Fraction(disjunct.offsets[0]) >= disjunct.exact_offsets[0]
    assert list(map(float, disjunct.exact_coefficients[0])) == coefficients


def test_offset_is_rounded_up() -> None:
    (low,) = spec("(assert (>= Y_0 0.1))").disjuncts
    assert low.exact_offsets == (Fraction(-1, 10),)
    assert low.offsets[0] == -0.09999999999999999  # float(-0.1) is below -1/10
    (high,) = spec("(assert (<= Y_0 0.1))").disjuncts
    assert high.offsets[0] == 0.1  # float(0.1) is above 1/10


def test_equality_on_outputs_is_two_rows() -> None:
    (disjunct,) = spec("(assert (= (+ Y_0 Y_1) 1))").disjuncts
    assert disjunct.coefficients.tolist() == [[1, 1], [-1, -1]]
    assert disjunct.offsets.tolist() == [-1, 1]


def test_chain() -> None:
    (disjunct,) = spec("(assert (<= 0 (+ Y_0 Y_1) Y_1 2))").disjuncts
    assert disjunct.coefficients.tolist() == [[1, 1], [-1, 0], [0, -1]]
    assert disjunct.offsets.tolist() == [0, 0, 2]


def test_equality_on_an_input_is_a_side_of_zero_width() -> None:
    specification = spec("(assert (= X_0 0.1)) (assert (>= Y_0 0))")
    lower, upper = specification.disjuncts[0].region.bounding_box()
    assert lower[0] < Fraction(1, 10) < upper[0]
    assert specification.is_violated([Fraction(1, 10), 0], [1, 0])
    assert not specification.is_violated([0.1, 0], [1, 0])  # the float64 is another number


def test_box_is_exact_inside_and_rounded_outward() -> None:
    specification = spec("(assert (>= Y_0 0))", box="(assert (<= 0.1 X_0 0.3)) (assert (<= (* 3 X_1) 1)) (assert (>= (* 6 X_1) (- 2)))")
    (region,) = specification.input_boxes()
    lower, upper = region.bounding_box()
    for low, high, exact_low, exact_high in zip(
        lower, upper, (Fraction(1, 10), Fraction(-1, 3)), (Fraction(3, 10), Fraction(1, 3)), strict=True
    ):
        assert Fraction(low) < exact_low < Fraction(low) + Fraction(1, 10**15)
        assert Fraction(high) - Fraction(1, 10**15) < exact_high < Fraction(high)
    assert region.contains([Fraction(1, 10), Fraction(-1, 3)])
    assert not region.contains([Fraction(1, 10) - Fraction(1, 10**30), Fraction(0)])


def test_strict_bound_on_an_input_excludes_its_side() -> None:
    specification = spec("(assert (< X_0 0.5)) (assert (>= Y_0 0))")
    assert specification.has_input_rows
    assert specification.is_violated([0.4999, 0], [0, 0])
    assert not specification.is_violated([0.5, 0], [0, 0])
    assert specification.disjuncts[0].region.contains([0.5, 0])  # regions are closed
    specification = spec("(assert (or (< X_0 2) (<= Y_0 0)))")
    assert len(specification.input_boxes()) == 1
    assert [specification.is_violated([x, 0], [z, 0]) for x, z in ((1, 1), (2, 1), (2, 0))] == [True, False, True]


def test_rows_over_inputs_and_outputs() -> None:
    specification = spec("(assert (<= (+ X_0 (* 2 X_1)) (+ Y_0 0.5)))")
    (disjunct,) = specification.disjuncts
    assert disjunct.input_rows is not None
    assert disjunct.input_rows.toarray().tolist() == [[-1, -2]]
    assert disjunct.coefficients.tolist() == [[1, 0]]
    assert disjunct.violations([2, 0], [1, 0.25]) == [Fraction(1)]
    assert specification.margin([1, 0.25], [2, 0]) == 1


def test_no_output_constraint_means_the_whole_box_is_unsafe() -> None:
    specification = spec("")
    (disjunct,) = specification.disjuncts
    assert disjunct.coefficients.tolist() == [[0, 0]]
    assert specification.is_violated([2, 2], [-5, 7])
    assert specification.margin([2, 2], [-5, 7]) == 0
    assert not specification.is_violated([2.5, 2], [-5, 7])


def test_a_region_alone_needs_no_outputs() -> None:
    specification = vnnlib.parse_text("(declare-fun X_0 () Real)(assert (<= 0 X_0 1))")
    assert (specification.input_size, specification.output_size) == (1, 0)
    assert specification.input_boxes()[0].contains([1.0])


def test_constant_conditions() -> None:
    (disjunct,) = spec("(assert (or (>= Y_0 1) (< 1 1)))").disjuncts  # the false branch goes
    assert disjunct.coefficients.tolist() == [[1, 0]]
    (disjunct,) = spec("(assert (and (>= Y_0 1) (<= 1 1) (>= Y_1 Y_1)))").disjuncts
    assert disjunct.rows == 1


def test_boxes_are_shared() -> None:
    specification = spec(
        """(assert (or (and (<= X_0 0) (<= X_1 1)) (and (>= X_0 1) (>= X_1 -7))))
           (assert (or (<= Y_0 Y_1) (and (<= Y_0 0) (<= Y_1 0)) (<= X_1 9)))"""
    )
    assert len(specification.disjuncts) == 6
    assert len(specification.input_boxes()) == 2
    boxes = [id(disjunct.region) for disjunct in specification.disjuncts]
    assert boxes[:3] == boxes[:1] * 3
    assert boxes[3:] == boxes[3:4] * 3  # X_1 >= -7 and X_1 <= 9 change nothing
    assert [disjunct.rows for disjunct in specification.disjuncts] == [1, 2, 1] * 2


def test_equal_disjuncts_and_rows_are_kept_once() -> None:
    specification = spec("(assert (or (<= Y_0 1) (<= Y_0 1) (and (>= 1 Y_0) (<= Y_0 1.0))))")
    assert [disjunct.rows for disjunct in specification.disjuncts] == [1]


def test_empty_disjunct_is_dropped() -> None:
    specification = spec("(assert (or (and (>= X_0 1) (<= X_0 0) (<= Y_0 0)) (and (> X_0 2) (<= Y_0 0)) (<= Y_1 0)))")
    assert [disjunct.coefficients.tolist() for disjunct in specification.disjuncts] == [[[0, -1]]]


def test_commands_without_meaning_are_allowed() -> None:
    head, tail = '; head\n(set-logic QF_LRA) (set-info :source |a (b|) (set-info :x "(")\r\n', "; (tail\n(check-sat)(exit);end"
    text = f"{head}{DECLARED}{BOX}(assert (<= Y_0 0)){tail}"
    assert len(vnnlib.parse_text(text).disjuncts) == 1


# --- random formulas against direct evaluation -----------------------------------------------------------------------------------

NUMBERS = st.sampled_from(["0", "1", "-1", "0.5", "-.5", "2.", "1e0", "(- 1)", "(/ 1 2)", "(/ -3 2)", "25e-2", "(* 2 0.1)", "(/ 1 3)"])
VARIABLES = st.sampled_from(["X_0", "X_1", "Y_0", "Y_1"])
TERMS = st.recursive(
    NUMBERS | VARIABLES,
    lambda inner: st.one_of(
        st.tuples(st.sampled_from(["+", "-"]), inner, inner),
        st.tuples(st.sampled_from(["+", "-"]), inner, inner, inner),
        st.tuples(st.just("-"), inner),
        st.tuples(st.just("*"), NUMBERS, inner),
        st.tuples(st.just("*"), inner, NUMBERS),
        st.tuples(st.just("/"), inner, st.sampled_from(["2", "-4", "0.5"])),
    ),
    max_leaves=5,
)
COMPARISONS = st.tuples(st.sampled_from(["<=", ">=", "<", ">", "="]), TERMS, TERMS) | st.tuples(
    st.sampled_from(["<=", ">=", "<", ">"]), VARIABLES, NUMBERS
)
FORMULAS = st.recursive(
    COMPARISONS,
    lambda inner: st.lists(inner, min_size=1, max_size=3).flatmap(lambda parts: st.sampled_from([("and", *parts), ("or", *parts)])),
    max_leaves=8,
)
POINTS = st.lists(st.sampled_from([Fraction(i, 4) for i in range(-8, 9)]) | st.fractions(-3, 3), min_size=4, max_size=4)


def written(tree: Any) -> str:
    return tree if isinstance(tree, str) else f"({' '.join(map(written, tree))})"


def value(tree: Any, point: dict[str, Fraction]) -> Any:
    """Direct evaluation by the meaning of each operator."""
    if isinstance(tree, str):
        if tree in point:
            return point[tree]
        if tree.startswith("("):
            return value(tuple(tree.strip("()").split()), point)
        return Fraction(tree.rstrip(".") if tree.endswith(".") else tree)
    operator, *operands = tree
    values = [value(operand, point) for operand in operands]
    first, last = values[0], values[-1]
    match operator:
        case "and":
            return all(values)
        case "or":
            return any(values)
        case "+":
            return sum(values, Fraction(0))
        case "-":
            return -first if len(values) == 1 else first - sum(values[1:])
        case "*":
            return first * last
        case "/":
            return first / last
        case "<=":
            return first <= last
        case ">=":
            return first >= last
        case "<":
            return first < last
        case ">":
            return first > last
    return first == last


@given(FORMULAS, FORMULAS, st.lists(POINTS, min_size=1, max_size=8))
def test_random_formulas_mean_what_they_say(first: Any, second: Any, points: list[list[Fraction]]) -> None:
    try:
        specification = spec(f"(assert {written(first)}) ; and\n(assert {written(second)})")
    except SpecificationError as error:
        assert error.problem.startswith("empty region")  # noqa: PT017
        specification = None
    for numbers in points:
        point = dict(zip(("X_0", "X_1", "Y_0", "Y_1"), numbers, strict=True))
        x, z = numbers[:2], numbers[2:]
        truth = bool(value(first, point) and value(second, point)) and all(-2 <= v <= 2 for v in x)
        if specification is None:
            assert not truth
            continue
        assert specification.is_violated(x, z) == truth
        margin = specification.margin(x, z)
        if truth:
            assert margin is not None
            assert margin >= 0
        elif margin is not None and not any(disjunct.strict.any() for disjunct in specification.disjuncts):
            assert margin < 0
        for disjunct in specification.disjuncts:  # the float row is implied by the exact one
            assert all(Fraction(offset) >= exact for offset, exact in zip(disjunct.offsets.tolist(), disjunct.exact_offsets, strict=True))
            assert [list(map(Fraction, row)) for row in disjunct.coefficients.tolist()] == list(map(list, disjunct.exact_coefficients))


# --- size ------------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "nested",
    [
        "(>= " + "(- " * 100_000 + "Y_0" + ")" * 100_000 + " 1)",
        "(>= " + "(+ Y_1 " * 100_000 + "Y_0" + ")" * 100_000 + " 1)",
        "(and " * 100_000 + "(>= Y_0 1)" + ")" * 100_000,
        "(or (and " * 50_000 + "(>= Y_0 1)" + "))" * 50_000,
        "(and (>= Y_0 1) " * 30_000 + "(>= Y_0 1)" + ")" * 30_000,
        "(or (>= Y_0 1) " * 30_000 + "(>= Y_0 1)" + ")" * 30_000,
    ],
    ids=["minus", "plus", "and", "or-and", "and-conditions", "or-conditions"],
)
def test_deep_nesting(nested: str) -> None:
    (disjunct,) = spec(f"(assert {nested})").disjuncts
    assert disjunct.rows == 1


def test_deep_unclosed_nesting() -> None:
    with pytest.raises(SpecificationError, match=r"line 7, column 500009: unbalanced parentheses"):
        spec("(assert " + "(and " * 100_001)


def test_alternating_nesting_multiplies_out_in_order() -> None:
    depth = 40
    text = "".join(f"(or (<= Y_0 {i}) (and (<= Y_1 {i}) " for i in range(depth)) + "(<= Y_0 99)" + "))" * depth
    disjuncts = spec(f"(assert {text})").disjuncts
    assert [disjunct.rows for disjunct in disjuncts] == [*range(1, depth + 1), depth + 1]


def test_explosion_is_refused() -> None:
    choices = "\n".join(f"(assert (or (<= Y_0 {i}) (>= Y_1 {i})))" for i in range(18))
    with pytest.raises(SpecificationError, match=f"more than {MAX_DISJUNCTS} disjuncts or"):
        spec(choices)
    nested = f"(assert (and {choices.replace('(assert', '(and')}))"
    with pytest.raises(SpecificationError, match=r"line 7, column 9: the property has more than"):
        spec(nested)
    deep = "(or (<= Y_0 0) (and (<= Y_1 0) " * 20_000 + "(<= Y_0 9)" + "))" * 20_000
    with pytest.raises(SpecificationError, match="multiplied out"):
        spec(f"(assert {deep})")


def test_size_of_the_normal_form_is_predicted() -> None:
    first = "(or (<= Y_0 1) (and (<= Y_0 2) (<= Y_0 3)) (and (<= Y_0 4) (or (<= Y_0 5) (<= Y_0 6))))"
    text = f"(and (<= Y_0 0) {first} (or (<= Y_0 7) (<= Y_0 8)))"
    formula = parse(tokenise(f"{DECLARED}(assert {text})", "p")).formula
    assert (formula.disjuncts, formula.literals) == (8, (1 + 2 + 2 + 2) * 2 + 4 * 2)
    assert spec(f"(assert {text})").disjuncts[0].rows == 3
    assert isinstance(formula.ors[0], Or)
    assert isinstance(formula, And)
    assert single(Atom({}, Fraction(0), False, 0)).disjuncts == 1


# --- files -------------------------------------------------------------------------------------------------------------------------


def test_files_plain_and_compressed(tmp_path: Path) -> None:
    text = f"{DECLARED}\n{BOX}\n(assert (<= Y_0 1))\n"
    (tmp_path / "a.vnnlib").write_text(text, encoding="utf-8-sig")
    (tmp_path / "b.vnnlib.gz").write_bytes(gzip.compress(text.replace("\n", "\r\n").encode()))
    for name in ("a.vnnlib", "b.vnnlib.gz"):
        specification = vnnlib.read(tmp_path / name)
        assert specification.source == tmp_path / name
        assert specification.disjuncts[0].coefficients.tolist() == [[-1, 0]]


@pytest.mark.parametrize(
    ("folder", "inputs", "outputs", "files"),
    [("acasxu", 5, 5, 10), ("mnist_fc", 784, 10, 30), ("oval21", 3072, 10, 30), ("sri_resnet_a", 3072, 10, 72)],
)
def test_benchmark_files(shared_data: Path, folder: str, inputs: int, outputs: int, files: int) -> None:
    paths = sorted((shared_data / "vnncomp" / folder / "vnnlib").iterdir())
    assert len(paths) == files
    fastest = 60.0
    for path in paths:
        start = process_time()
        specification = vnnlib.read(path)
        fastest = min(fastest, process_time() - start)
        assert (specification.input_size, specification.output_size) == (inputs, outputs)
        if folder != "acasxu":
            assert len(specification.disjuncts) == outputs - 1
            assert len(specification.input_boxes()) == 1
            assert all(disjunct.rows == 1 and not disjunct.strict.any() for disjunct in specification.disjuncts)
    assert fastest < 0.15  # seconds of processor time; the largest files take 0.05 s


def test_acasxu_property_6(shared_data: Path) -> None:
    specification = vnnlib.read(shared_data / "vnncomp" / "acasxu" / "vnnlib" / "prop_6.vnnlib")
    assert len(specification.disjuncts) == 8
    first, second = specification.input_boxes()
    middle = [Fraction("0.1"), Fraction("0.11140846"), Fraction("-0.499999896"), Fraction("-0.5"), Fraction("0.5")]
    assert first.contains(middle)
    assert not second.contains(middle)
    assert second.contains([-v if i == 1 else v for i, v in enumerate(middle)])

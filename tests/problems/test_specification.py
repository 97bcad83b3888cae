"""Rows, disjuncts and margins in exact arithmetic."""

import pickle
from fractions import Fraction
from math import inf

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from problems.errors import SpecificationError
from problems.maps import Dense
from problems.network import sequential
from problems.regions.box import Box
from problems.rounding import is_float64
from problems.specification import Row, Specification, make_disjunct, robustness

ONE, HALF, TENTH = Fraction(1), Fraction(1, 2), Fraction(1, 10)
UNIT = Box(np.zeros(2), np.ones(2))

# --- rows ------------------------------------------------------------------------------------------------------------------------

COEFFICIENTS = st.lists(st.fractions(-9, 9, max_denominator=50), min_size=1, max_size=4)


@given(COEFFICIENTS, st.fractions(max_denominator=1000), st.lists(st.fractions(-5, 5), min_size=4, max_size=4))
def test_scaled_rows_hold_at_the_same_points(coefficients: list[Fraction], offset: Fraction, z: list[Fraction]) -> None:
    z = z[: len(coefficients)]
    row = Row(tuple((i, c) for i, c in enumerate(coefficients) if c), offset)
    disjunct = make_disjunct(UNIT, [row], output_size=len(coefficients))
    original = sum((c * v for c, v in zip(coefficients, z, strict=True)), offset)
    (scaled,) = disjunct.violations(z)
    assert (scaled > 0, scaled == 0) == (original > 0, original == 0)
    if all(map(is_float64, coefficients)):
        assert scaled == original
    assert tuple(map(Fraction, disjunct.coefficients[0].tolist())) == disjunct.exact_coefficients[0]
    assert Fraction(disjunct.offsets[0]) >= disjunct.exact_offsets[0] > Fraction(np.nextafter(disjunct.offsets[0], -inf))


def test_inexact_coefficients_are_multiplied() -> None:
    rows = [Row(((0, TENTH), (1, 3 * TENTH)), ONE), Row(((1, HALF),), TENTH), Row(((0, Fraction(1, 3)),), ONE, False, ((1, HALF),))]
    disjunct = make_disjunct(UNIT, rows, output_size=2)
    assert disjunct.coefficients.tolist() == [[1, 3], [0, 0.5], [2, 0]]
    assert disjunct.exact_offsets == (10, TENTH, 6)
    assert disjunct.input_rows is not None
    assert disjunct.input_rows.toarray().tolist() == [[0, 0], [0, 0], [0, 3]]
    assert disjunct.violations(np.array([1.0, 2.0]), np.array([0.25, 0.5])) == [17, ONE + TENTH, 2 + 6 + Fraction(3, 2)]


def test_coefficients_with_too_many_digits_are_refused() -> None:
    row = Row(((0, Fraction("0.12345678901234567")), (1, ONE)), ONE)
    with pytest.raises(SpecificationError, match="row 0: holds coefficients that no common multiple"):
        make_disjunct(UNIT, [row], output_size=2)
    with pytest.raises(SpecificationError, match="row 1: holds a constant beyond"):
        make_disjunct(UNIT, [Row(((0, ONE),), ONE), Row((), Fraction(10) ** 400)], output_size=2)
    assert make_disjunct(UNIT, [row._replace(outputs=row.outputs[:1])], output_size=2).coefficients.tolist() == [[1, 0]]


def test_strictness_decides_on_the_boundary() -> None:
    rows = [Row(((0, ONE),), -HALF, True), Row(((1, ONE),), -HALF)]
    disjunct = make_disjunct(UNIT, rows, output_size=2)
    assert disjunct.strict.tolist() == [True, False]
    assert disjunct.holds([0.75, 0.5])
    assert not disjunct.holds([0.5, 0.75])
    assert disjunct.margin([0.5, 0.75]) == 0
    assert not disjunct.holds([0.75, 0.25])


def test_rows_over_inputs_need_the_input() -> None:
    disjunct = make_disjunct(UNIT, [Row((), ONE, False, ((0, -ONE),))], output_size=2)
    with pytest.raises(ValueError, match="x is needed"):
        disjunct.violations([0, 0])
    assert disjunct.violations([0, 0], [Fraction(1, 3), 0]) == [Fraction(2, 3)]


def test_arrays_are_read_only() -> None:
    disjunct = make_disjunct(UNIT, [Row(((0, ONE),), ONE)], output_size=2)
    for array in (disjunct.coefficients, disjunct.offsets, disjunct.strict):
        with pytest.raises(ValueError):
            array[0] = 0


# --- specifications ----------------------------------------------------------------------------------------------------------------


def two_boxes() -> Specification:
    far = Box(np.array([1.0, 1.0]), np.array([2.0, 2.0]))
    rows = [Row(((0, ONE),), Fraction(0)), Row(((1, ONE),), Fraction(0))]
    return Specification(
        (
            make_disjunct(UNIT, rows, output_size=2),
            make_disjunct(far, rows[:1], output_size=2),
            make_disjunct(UNIT, rows[1:], output_size=2),
        ),
        2,
        2,
    )


def test_margin_is_the_best_disjunct_that_contains_the_point() -> None:
    specification = two_boxes()
    assert specification.margin([0, 0], [3, -1]) == -1
    assert specification.margin([2, 2], [3, -1]) == 3
    assert specification.margin([1, 1], [3, 5]) == 5  # in both boxes
    assert specification.margin([3, 3], [3, 5]) is None
    assert specification.margin([Fraction(1, 3), 1], [TENTH, -TENTH]) == -TENTH
    assert not specification.is_violated([0, 0], [3, -1])
    assert specification.is_violated([0, 0], [-3, 0])
    assert not specification.is_violated([3, 3], [1, 1])


def test_boxes_in_order() -> None:
    specification = two_boxes()
    first, second, third = specification.disjuncts
    assert specification.input_boxes() == (first.region, second.region)
    assert third.region is first.region
    assert not specification.has_input_rows


def test_specifications_travel_to_workers() -> None:
    specification = pickle.loads(pickle.dumps(two_boxes()))
    assert len(specification.input_boxes()) == 2
    assert specification.margin([1, 1], [3, 5]) == 5


def test_network_of_another_size_is_refused() -> None:
    specification = two_boxes()
    specification.check_network(sequential([Dense(np.ones((2, 2)))], [np.zeros(2)]))
    with pytest.raises(SpecificationError, match="speaks of 2 outputs, but the network 'f' has 3"):
        specification.check_network(sequential([Dense(np.ones((3, 2)))], [np.zeros(3)], name="f"))
    with pytest.raises(SpecificationError, match="speaks of 2 inputs, but the network 'network' has 4"):
        specification.check_network(sequential([Dense(np.ones((2, 4)))], [np.zeros(2)]))


@given(st.integers(2, 5), st.data())
def test_robustness_is_misclassification_with_ties_as_errors(classes: int, data: st.DataObject) -> None:
    label = data.draw(st.integers(0, classes - 1))
    z = data.draw(st.lists(st.integers(-2, 2), min_size=classes, max_size=classes))
    specification = robustness(UNIT, label, classes)
    others = [value for k, value in enumerate(z) if k != label]
    assert len(specification.disjuncts) == classes - 1
    assert specification.input_boxes() == (UNIT,)
    assert specification.is_violated([0, 1], z) == (max(others) >= z[label])
    assert specification.margin([0, 1], z) == max(others) - z[label]
    assert not specification.is_violated([0, 2], z)


@pytest.mark.parametrize(
    ("label", "classes", "words"), [(-1, 3, "label"), (3, 3, "label"), (0.5, 3, "label"), (True, 3, "label"), (0, 1, "classes")]
)
def test_robustness_refuses_labels_out_of_range(label: int, classes: int, words: str) -> None:
    with pytest.raises(SpecificationError, match=words):
        robustness(UNIT, label, classes)

"""Boxes: support, membership and clipping, exact sides included."""

import os
from fractions import Fraction
from math import inf

import numpy as np
import pytest

from problems.errors import RegionError
from problems.regions import Box, compiled


def dot(a, b) -> Fraction:
    return sum((Fraction(x) * Fraction(y) for x, y in zip(a, b, strict=True)), Fraction(0))


def test_box_support_is_the_best_corner():
    rng = np.random.default_rng(3)
    box = Box(-rng.random(6), rng.random(6))
    lower, upper = rng.uniform(-2.0, 0.0, size=(3, 6)), rng.uniform(0.0, 2.0, size=(3, 6))
    c = rng.normal(size=(3, 5, 6))
    value, point = box.support(c, lower, upper)
    low, high = np.maximum(box.lower, lower), np.minimum(box.upper, upper)
    for b in range(3):
        for s in range(5):
            best = max(dot(c[b, s], np.where(c[b, s] > 0, high[b], low[b])), dot(c[b, s], point[b, s]))
            assert best <= Fraction(value[b, s]) <= best + Fraction(1e-12)


def test_box_with_infinite_sides():
    box = Box([-inf, 0.0, -1.0], [inf, inf, -1.0])
    value, point = box.support(np.array([[[0, 0, 1], [0, -1, 0], [1, 0, 0], [0, 1, 0], [-1e-300, 0, 0], [0, 0, 0]]]))
    assert value[0].tolist() == [pytest.approx(-1.0), 0.0, inf, inf, inf, 0.0]
    assert np.isfinite(point).all()
    assert all(box.contains(p) for p in point[0])
    assert value[0, 0] >= -1.0
    whole = Box.whole_space(2)
    assert whole.contains([1e308, Fraction(1, 3)])
    assert not whole.contains([inf, 0.0])
    assert whole.support(np.zeros((1, 1, 2)))[0].item() == 0.0


def test_box_empty_after_the_cut():
    value, _ = Box([0.0], [1.0]).support(np.ones((2, 1, 1)), np.array([[2.0], [0.5]]), np.array([[3.0], [3.0]]))
    assert value[0, 0] == -inf
    assert value[1, 0] == pytest.approx(1.0)


def test_box_underflow_and_overflow():
    value, _ = Box([-1e-200], [1e-200]).support(np.array([[[1e-200]]]))
    assert Fraction(value[0, 0]) >= Fraction(1e-200) ** 2
    value, _ = Box([-1e300], [1e300]).support(np.array([[[1e300]]]))
    assert value[0, 0] == inf
    assert Box([0.0], [1.0]).support(np.array([[[np.nan]]]))[0][0, 0] == inf


def test_exact_sides():
    third, tenth = Fraction(1, 3), Fraction(1, 10)
    box = Box.from_exact([tenth, -inf], [third, third])
    assert box.lower[0] <= tenth
    assert box.upper[0] >= third
    assert box.contains([tenth, third])
    assert not box.contains([tenth - Fraction(1, 10**30), third])
    assert not box.contains([third + Fraction(1, 10**30), 0])
    assert box.contains(box.clip(np.array([-5.0, 5.0])))
    assert box.contains(box.clip(np.array([5.0, -5.0])))
    assert not box.contains(box.upper)
    assert not box.contains(box.upper.tolist())
    narrow = Box.from_exact([tenth - Fraction(1, 10**40)], [tenth + Fraction(1, 10**40)])  # no float64 in there
    assert narrow.contains([tenth])
    assert not narrow.contains(narrow.clip(np.array([0.1])))


@pytest.mark.parametrize(
    ("lower", "upper", "words"),
    [
        ([0.0, np.nan], [1.0, 1.0], "input 1"),
        ([2.0], [1.0], "empty"),
        ([0.0, 0.0], [1.0], "2 lower but 1 upper"),
        ([[0.0]], [[1.0]], "shape"),
        ([inf], [inf], "bound is inf"),
        ([-inf], [-inf], "bound is -inf"),
        (["a"], [1.0], "numbers"),
    ],
)
def test_bad_boxes(lower, upper, words):
    with pytest.raises(RegionError, match=words):
        Box(lower, upper)


def test_bad_exact_boxes():
    with pytest.raises(RegionError, match="cut the exact"):
        Box([0.1], [0.2], exact=([Fraction(1, 10)], [Fraction(1, 5)]))  # float 0.1 is above 1/10
    with pytest.raises(RegionError, match="empty"):
        Box.from_exact([Fraction(1, 3) + Fraction(1, 10**30)], [Fraction(1, 3)])
    with pytest.raises(RegionError, match="one per input"):
        Box([0.0], [1.0], exact=([0.0, 0.0], [1.0, 1.0]))


def test_bad_arguments():
    box = Box([0.0, 0.0], [1.0, 1.0])
    with pytest.raises(RegionError, match="dimension 2"):
        box.contains([0.5])
    with pytest.raises(RegionError, match="nodes, rows, 2"):
        box.support(np.ones((1, 1, 3)))
    with pytest.raises(RegionError, match="nodes, 2"):
        box.support(np.ones((3, 1, 2)), np.zeros(2), np.ones(2))
    with pytest.raises(RegionError, match="length 2"):
        box.clip(np.zeros((4, 3)))
    with pytest.raises(RegionError, match="node boxes"):
        box.support(np.ones((3, 1, 2)), np.zeros((2, 2)), np.ones((2, 2)))


def test_outdated_code_is_removed(tmp_path):
    folder = tmp_path / "__pycache__"
    folder.mkdir()
    old, new = folder / "old.nbi", folder / "new.nbi"
    for file, moment in ((old, 1000), (tmp_path / "source.py", 2000), (new, 3000), (tmp_path / "future.py", 10**11)):
        file.touch()
        os.utime(file, (moment, moment))
    compiled.discard_outdated(tmp_path)
    assert not old.exists()
    assert new.exists()
    compiled.discard_outdated(tmp_path / "absent")

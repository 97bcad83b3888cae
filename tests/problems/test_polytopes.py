"""Polytopes: boxes with rows."""

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from problems.errors import RegionError
from problems.regions import Box, Polytope
from tests.verifier import oracles


@given(st.integers(0, 2**32 - 1))
@settings(max_examples=30)
def test_support_is_a_bound_and_near(seed: int) -> None:
    generator = np.random.default_rng(seed)
    n, m = int(generator.integers(1, 4)), int(generator.integers(1, 4))
    matrix, offsets = generator.integers(-4, 5, (m, n)) / 2.0, generator.integers(1, 5, m) / 4.0
    region = Polytope(Box(-np.ones(n), np.ones(n)), matrix, offsets)
    piece: oracles.Polytope | None = oracles.box_polytope([Fraction(-1)] * n, [Fraction(1)] * n)
    for row, b in zip(matrix.tolist(), offsets.tolist(), strict=True):
        assert piece is not None
        piece = piece.cut(oracles.Form(tuple(Fraction(a) for a in row), Fraction(b)))
    assert piece is not None
    c = generator.normal(size=(2, 3, n))
    value, _ = region.support(c)
    alone, _ = region.box.support(c)
    assert np.all(value <= alone)
    for node in range(2):
        for row in range(3):
            exact = max(sum(Fraction(a) * x for a, x in zip(c[node, row].tolist(), vertex, strict=True)) for vertex, _ in piece.vertices)
            assert Fraction(float(value[node, row])) >= exact
    point = region.clip(generator.normal(size=n) * 3.0)
    assert np.all(matrix @ point + offsets >= -1e-6)
    assert np.all(np.abs(point) <= 1.0)


def test_contains_is_exact() -> None:
    region = Polytope(Box.whole_space(2), np.array([[1.0, 3.0]]), np.array([-1.0]))
    assert region.contains([Fraction(0), Fraction(1, 3)])
    assert not region.contains(np.array([0.0, 1.0 / 3.0]))  # the float64 number is below a third
    assert region.contains(np.array([0.0, np.nextafter(1.0 / 3.0, 1.0)]))


def test_bad_rows_are_told() -> None:
    with pytest.raises(RegionError, match="shape"):
        Polytope(Box(np.zeros(2), np.ones(2)), np.ones((1, 3)), np.ones(1))
    with pytest.raises(RegionError, match="not finite"):
        Polytope(Box(np.zeros(2), np.ones(2)), np.ones((1, 2)), np.array([np.inf]))

"""Norms of gradients and Jacobians against brute force over vertices and against an LP, as intervals that must hold."""

from itertools import product
from math import inf

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import linprog

from problems.regions import Ball, Box
from verifier.steepness.directions import Directions
from verifier.steepness.norms import gradient_norms, operator_norms, spectral_norms

NORMS = (1, 2, inf)


def brute_force(matrix: np.ndarray, r: float, q: float) -> float:
    """The operator norm by trying the vertices of the input ball, or by duality those of the dual of the output ball."""
    outputs, inputs = matrix.shape
    if r == 1:
        return max(np.linalg.norm(column, q) for column in matrix.T)
    if r == inf:
        return max(np.linalg.norm(matrix @ np.array(u), q) for u in product((-1, 1), repeat=inputs))
    if q == 2:
        return float(np.linalg.svd(matrix)[1][0])
    if q == 1:
        return max(np.linalg.norm(matrix.T @ np.array(t), 2) for t in product((-1, 1), repeat=outputs))
    return max(np.linalg.norm(row, 2) for row in matrix)


@pytest.mark.parametrize("r", NORMS)
@pytest.mark.parametrize("q", NORMS)
@pytest.mark.parametrize("scale", [1e-200, 1.0, 1e200])
def test_operator_norms(r: float, q: float, scale: float) -> None:
    matrices = np.random.default_rng(0).standard_normal((4, 3, 5)) * scale
    lower, upper = operator_norms(matrices, input_norm=r, output_norm=q)
    for matrix, low, high in zip(matrices / scale, lower / scale, upper / scale, strict=True):
        value = brute_force(matrix, r, q)
        assert low <= value * (1 + 1e-14)
        assert high >= value * (1 - 1e-14)
        assert high - low <= 1e-12 * value


@pytest.mark.parametrize(("r", "q"), [(2, 1), (inf, 1), (inf, 2)])
def test_many_signs_leave_an_interval_that_holds(r: float, q: float) -> None:
    matrices = np.random.default_rng(1).standard_normal((3, 14, 14))
    lower, upper = operator_norms(matrices, input_norm=r, output_norm=q)
    for matrix, low, high in zip(matrices, lower, upper, strict=True):
        value = brute_force(matrix, r, q) if (r, q) != (inf, 1) else _largest_sum(matrix)
        assert low <= value * (1 + 1e-12)
        assert value <= high
        assert high < 2.5 * value


def _largest_sum(matrix: np.ndarray) -> float:
    signs = np.array(list(product((-1.0, 1.0), repeat=matrix.shape[0])))
    return float(np.abs(signs @ matrix).sum(axis=1).max())


@given(seed=st.integers(0, 10**6), size=st.sampled_from([0.0, 1e-9, 1e-3]))
def test_entrywise_errors_are_covered(seed: int, size: float) -> None:
    generator = np.random.default_rng(seed)
    true = generator.standard_normal((2, 4, 3))
    errors = size * generator.random((2, 4, 3))
    given_floats = true + errors * generator.uniform(-1, 1, true.shape)
    for r, q in product(NORMS, NORMS):
        lower, upper = operator_norms(given_floats, errors * (1 + 1e-9), input_norm=r, output_norm=q)
        for matrix, low, high in zip(true, lower, upper, strict=True):
            value = brute_force(matrix, r, q)
            assert low <= value * (1 + 1e-14)
            assert value * (1 - 1e-14) <= high


@pytest.mark.parametrize("matrix", [np.zeros((1, 2, 3)), np.ones((1, 3, 2)), np.diag([1e-300, 1e300])[None], np.full((1, 2, 2), np.inf)])
def test_singular_values_of_degenerate_matrices(matrix: np.ndarray) -> None:
    lower, upper = spectral_norms(matrix)
    if np.isfinite(matrix).all():
        value = float(np.linalg.svd(matrix[0])[1][0])
        assert lower[0] <= value * (1 + 1e-13)
        assert value <= upper[0] <= value * (1 + 1e-12) + 1e-270
    else:
        assert lower[0] == 0.0
        assert upper[0] == inf


@given(seed=st.integers(0, 10**6))
def test_gradients_on_a_simplex_are_those_of_an_lp(seed: int) -> None:
    """max <g, u> over sum u = 0, u_4 = 0, ||u||_r <= 1: an LP for r = 1 and inf, a projection for r = 2."""
    gradient = np.random.default_rng(seed).standard_normal(5)
    directions = Directions(np.array([True, True, True, True, False]), (np.arange(4),))
    part = gradient[:4]
    split = np.concatenate([-part, part])  # u = p - q
    sums = np.concatenate([np.ones(4), -np.ones(4)])[None]
    expected = {2: float(np.linalg.norm(part - part.mean()))}
    expected[1] = -linprog(split, A_ub=np.ones((1, 8)), b_ub=[1.0], A_eq=sums, b_eq=[0.0]).fun
    expected[inf] = -linprog(-part, A_eq=np.ones((1, 4)), b_eq=[0.0], bounds=[(-1, 1)] * 4).fun
    for norm, value in expected.items():
        lower, upper = gradient_norms(gradient, input_norm=norm, directions=directions)
        assert lower <= value + 1e-9
        assert value - 1e-9 <= upper
        assert upper - lower <= 1e-12


def test_directions_of_regions() -> None:
    flat = Box(np.array([0.0, 1.0]), np.array([1.0, 1.0]))
    assert Directions.of(flat).free.tolist() == [True, False]
    assert Directions.of(Ball(np.array([0.5, 1.0]), 0.0, 2)).free.tolist() == [False, False]
    assert Directions.of(Ball(np.array([0.5, 1.0]), 1e-30, 2, flat)).free.tolist() == [True, False]
    assert Directions.of(Ball(np.array([0.1, 0.7]), 0.25, inf)).dimension == 2
    assert Directions.of(Box.whole_space(2)).dimension == 2

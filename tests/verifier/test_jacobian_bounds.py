"""Bounds of Jacobians hold for every choice of open derivatives, also between 0 and 1; exact decisions about cells."""

from itertools import product
from math import inf

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from problems.maps import Conv, Dense, Sparse
from problems.network import Affine, Input, Network, Relu, sequential
from problems.regions import Ball, Box
from tests.verifier.slopes import affine, full_cells, operator_norm, random_network
from verifier.bounds.eigenvalues import largest_eigenvalues
from verifier.bounds.jacobian import jacobian, masks_of
from verifier.bounds.quadratic import QuadraticBound
from verifier.bounds.stack import stack_of
from verifier.steepness.directions import Directions
from verifier.steepness.exact_cell import exact_rows, interior, locate
from verifier.steepness.inside import Inside
from verifier.steepness.judge import Judge
from verifier.steepness.objective import objective_of

NORMS = (1, 2, inf)


def product_of(network: Network, derivatives: np.ndarray) -> np.ndarray:
    """J for given derivatives (h,) of a chain of dense layers."""
    weights = [node.maps[0].weights for node in network.nodes[1::2]]
    result, place = weights[0], 0
    for matrix in weights[1:]:
        part = derivatives[place : place + matrix.shape[1]]
        result, place = matrix @ (part[:, None] * result), place + matrix.shape[1]
    return result


def pieces(seed: int, neurons: int) -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.default_rng(seed)
    kind = generator.integers(0, 3, neurons)
    return kind == 1, kind > 0  # inactive, active, open


@settings(max_examples=25)
@given(seed=st.integers(0, 10**6), r=st.sampled_from(NORMS), q=st.sampled_from(NORMS), size=st.sampled_from([1e-9, 1.0, 1e9]))
def test_quadratic_bound_holds_for_all_derivatives(seed: int, r: float, q: float, size: float) -> None:
    network = random_network(seed, (4, 6, 5, 3))
    scaled = Dense(network.nodes[3].maps[0].weights * size)
    network = sequential([network.nodes[1].maps[0], scaled, network.nodes[5].maps[0]], [np.zeros(6), np.zeros(5), np.zeros(3)])
    low, high = pieces(seed, network.neurons)
    stack = stack_of(network)
    assert stack is not None
    generator = np.random.default_rng(seed)
    free = np.flatnonzero(high & ~low)
    for rows in [np.eye(3)] if q < inf else [np.eye(3)[:1], np.array([[1.0, 0.0, -1.0]])]:
        bound = QuadraticBound(stack, rows, r, q)
        value, state, scores = bound.bound(low, high, steps=30)
        assert scores.shape == (network.neurons,)
        assert (scores[low | ~high] == 0).all()
        children = []
        for sign in (True, False):
            if len(free):
                narrow, wide = low.copy(), high.copy()
                narrow[free[0]] = wide[free[0]] = sign
                children.append((bound.bound(narrow, wide, state, steps=4)[0], sign))
        for _ in range(60):
            derivatives = low.astype(float)
            share = generator.random(len(free))
            derivatives[free] = share if generator.random() < 0.3 else share < 0.5
            norm = operator_norm(rows @ product_of(network, derivatives), r, q)
            assert norm <= value * (1 + 1e-14)
            for child, sign in children:
                if derivatives[free[0]] == float(sign):
                    assert norm <= child * (1 + 1e-14)
        assert all(child <= value * (1 + 1e-9) for child, _ in children)


@settings(max_examples=15)
@given(seed=st.integers(0, 10**6))
def test_quadratic_bound_is_exact_where_nothing_is_open(seed: int) -> None:
    network = random_network(seed, (4, 6, 5, 3))
    active = np.random.default_rng(seed).random(network.neurons) < 0.5
    exact = operator_norm(product_of(network, active.astype(float)), 2, 2)
    value, _, _ = QuadraticBound(stack_of(network), np.eye(3), 2, 2).bound(active, active)
    # Squares are bounded: what is lost is the root of a rounding error where the exact product is small.
    assert exact * (1 - 1e-12) <= value <= np.hypot(exact, 1e-5) * (1 + 1e-9)


@settings(max_examples=15)
@given(seed=st.integers(0, 10**6))
def test_interval_jacobian_holds_for_all_derivatives(seed: int) -> None:
    network = random_network(seed, (4, 6, 5, 3))
    low, high = pieces(seed, network.neurons)
    bounds = jacobian(network, low[None], high[None], np.eye(3))
    generator = np.random.default_rng(seed)
    for _ in range(40):
        derivatives = np.where(low, 1.0, np.where(high, generator.random(network.neurons), 0.0))
        assert (np.abs(product_of(network, derivatives) - bounds.centre[0]) <= bounds.radius[0] * (1 + 1e-12) + 1e-12).all()


def test_jacobian_of_a_graph_with_branches_convolutions_and_divisions() -> None:
    """x -> relu(conv x) + relu(conv x) / 3 twice over: against differences."""
    generator = np.random.default_rng(0)
    conv = Conv(generator.standard_normal((2, 1, 2, 2)), (1, 3, 3))
    thirds = Sparse(np.eye(8), np.full(8, 3.0))
    last = Dense(generator.standard_normal((2, 8)))
    nodes = (
        Input(9),
        Affine((0,), (conv,), generator.standard_normal(8)),
        Relu(1, 8),
        Affine((2, 2), (thirds, Dense(generator.standard_normal((8, 8)))), np.zeros(8)),
        Relu(3, 8),
        Affine((4, 2), (last, last), np.zeros(2)),
    )
    network = Network(nodes, (9,), (2,))
    x = generator.standard_normal(9)
    judge = Judge(network, Box.whole_space(9), objective_of(network, "vector:2", 2, Directions.everywhere(9)))
    active, _ = judge.patterns(x[None])
    exact = jacobian(network, active, active, np.eye(2))
    assert stack_of(network) is None
    step = 1e-7
    moved = (network.forward(x + step * np.eye(9)) - network.forward(x - step * np.eye(9))).T / (2 * step)
    assert np.abs(moved - exact.centre[0]).max() < 1e-6
    assert exact.radius.max() < 1e-11


def test_masks_know_signs_and_overflow() -> None:
    low, high = masks_of(
        np.array([[-1.0, 0.0, -1.0, 0.0, np.nan, -1.0]]), np.array([[1.0, 1.0, 0.0, 0.0, np.nan, 1.0]]), np.array([[0, 0, 0, 0, 0, -1]])
    )
    assert low[0].tolist() == [False, True, False, False, False, False]
    assert high[0].tolist() == [True, True, False, False, True, False]


def test_largest_eigenvalues_from_above() -> None:
    generator = np.random.default_rng(0)
    matrices = generator.standard_normal((5, 7, 7))
    matrices = matrices @ np.swapaxes(matrices, 1, 2)
    upper, vectors = largest_eigenvalues(matrices, np.zeros(5))
    true = np.linalg.eigvalsh(matrices)[:, -1]
    assert (upper >= true * (1 - 1e-14)).all()
    assert (upper <= true * (1 + 1e-11)).all()
    assert np.allclose(np.einsum("bi,bij,bj->b", vectors, matrices, vectors), true)
    assert largest_eigenvalues(np.full((1, 2, 2), np.nan), np.zeros(1))[0][0] == inf


@settings(max_examples=10)
@given(seed=st.integers(0, 10**6), biases=st.booleans(), unbounded=st.booleans())
def test_exact_decisions_about_all_patterns(seed: int, biases: bool, unbounded: bool) -> None:
    """Every pattern is empty or has a point that `locate` finds in it; duplicate neurons make many patterns meet in facets."""
    network = random_network(seed, (2, 3, 2), biases=biases)
    first, second = network.nodes[1], network.nodes[3]
    doubled = Dense(np.concatenate([first.maps[0].weights, first.maps[0].weights[:1], -first.maps[0].weights[:1]]))
    network = sequential(
        [doubled, Dense(np.concatenate([second.maps[0].weights, np.ones((2, 2))], axis=1))],
        [np.concatenate([first.bias, first.bias[:1], -first.bias[:1]]), second.bias],
    )  # fmt: skip
    region = Box.whole_space(2) if unbounded else Box(np.full(2, -1.0), np.full(2, 1.0))
    full = {tuple(pattern) for pattern, _ in full_cells(network, region)}
    everywhere = Directions.everywhere(2)
    for pattern in product((-1, 1), repeat=network.neurons):
        decided = interior(network, region, np.array(pattern, dtype=np.int8), np.zeros((0, 2)), everywhere)
        assert decided.empty == (pattern not in full), pattern
        if not decided.empty:
            located = locate(network, region, region.clip(decided.point), everywhere)
            assert located is not None
            assert tuple(located.pattern) == pattern


def test_exact_rows_agree_with_floats() -> None:
    network = random_network(2, (3, 4, 3, 2))
    for seed in range(5):
        pattern = np.where(np.random.default_rng(seed).random(7) < 0.5, 1, -1)
        rows, offsets, slopes, constants = affine(network, pattern)
        pre, logits = exact_rows(network, pattern)
        for exact, matrix, offset in ((pre, rows, offsets), (logits, slopes, constants)):
            values = (exact.numerators / exact.denominator).astype(float)
            assert np.allclose(values[:, :-1], matrix, rtol=1e-12, atol=1e-12)
            assert np.allclose(values[:, -1], offset, rtol=1e-12, atol=1e-12)


def test_a_point_on_a_facet_or_outside_is_no_witness() -> None:
    network = sequential([Dense(np.array([[1.0, 0.0]])), Dense(np.ones((1, 1)))], [np.zeros(1), np.zeros(1)])
    everywhere = Directions.everywhere(2)
    box = Box(np.full(2, -1.0), np.full(2, 1.0))
    assert locate(network, box, np.array([0.0, 0.5]), everywhere) is None
    assert locate(network, box, np.array([2.0, 0.5]), everywhere) is None
    assert locate(network, box, np.array([1e-300, 1.0]), everywhere).pattern.tolist() == [1]
    # Along a region that lies in the facet the neuron is constantly 0.
    assert (
        locate(network, Box(np.array([0.0, -1.0]), np.array([0.0, 1.0])), np.array([0.0, 0.5]), Directions(np.array([False, True])))
        is not None
    )


@given(seed=st.integers(0, 10**6))
def test_inside_agrees_with_a_general_program(seed: int) -> None:
    from scipy.optimize import linprog

    generator = np.random.default_rng(seed)
    matrix, offsets = generator.standard_normal((8, 3)), generator.standard_normal(8) + 0.2
    lower, upper = np.array([-1.0, 0.5, -2.0]), np.array([1.0, 0.5, 3.0])
    part = Inside(matrix, offsets, lower, upper)
    empty, point = part.empty, part.point
    best = -linprog(
        np.array([0.0, 0.0, 0.0, -1.0]), A_ub=np.column_stack([-matrix, np.ones(8)]), b_ub=offsets,
        bounds=[*zip(lower, upper, strict=True), (None, 10.0)],
    ).fun  # fmt: skip
    assert empty == (best <= 0)
    if not empty:
        assert ((lower <= point) & (point <= upper)).all()
        assert (matrix @ point + offsets > -1e-9).all()


@pytest.mark.parametrize("region", [Box(np.full(3, -1.0), np.full(3, 1.0)), Ball(np.zeros(3), 1.0, 2), Ball(np.zeros(3), 1.0, 1)])
def test_witnesses_are_judged_exactly(region: Box | Ball) -> None:
    network = random_network(4, (3, 5, 2))
    judge = Judge(network, region, objective_of(network, "pair:0,1", 2, Directions.of(region)))
    points = region.clip(np.random.default_rng(0).uniform(-1, 1, (50, 3)))
    witness = judge.best(points, -inf)
    assert witness is not None
    assert region.contains(witness.point)
    assert witness.value <= judge.norms_at(points).max()
    assert witness.value == pytest.approx(judge.norms_at(points).max())
    assert judge.best(points, witness.value) is None

"""Exact radii of linear classifiers under moved mass, against linear programs and optimal transport."""

from math import inf

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import linprog

from problems.data import load
from problems.errors import DataError, NetworkError
from problems.transport.flows import distance
from problems.transport.grid import Grid
from problems.transport.linear import linear_radius, vanilla_linear_radius

SHAPES = st.sampled_from([(1, 1, 5), (1, 3, 3), (2, 2, 3)])


def cheapest_flow(c: np.ndarray, mu: np.ndarray, needed: float, grid: Grid, *, feasible: bool) -> float:
    """min sum of length |delta| such that c.A delta >= needed [and mu + A delta >= 0]: a linear program. inf where there is none."""
    incidence, length = grid.incidence.toarray(), grid.edges[2]
    both = np.concatenate([incidence, -incidence], axis=1)
    rows, sides = [-(c @ both)[None, :]], [np.array([-needed])]
    if feasible:
        rows.append(-both)
        sides.append(mu)
    done = linprog(np.tile(length, 2), A_ub=np.concatenate(rows), b_ub=np.concatenate(sides), bounds=(0, None), method="highs")
    assert done.status in (0, 2), done.message
    return done.fun if done.status == 0 else inf


def random_case(seed: int, grid: Grid, classes: int = 3) -> tuple[np.ndarray, np.ndarray, np.ndarray, int]:
    """(weights, bias, image with empty pixels, label)."""
    rng = np.random.default_rng(seed)
    weights, bias = rng.normal(size=(classes, grid.size)), 0.3 * rng.normal(size=classes)
    x = rng.random(grid.size) * (rng.random(grid.size) < 0.6)
    x[rng.integers(grid.size)] = 0.7
    return weights, bias, x, int((weights @ x + bias).argmax())


@settings(max_examples=25)
@given(st.integers(0, 2**32 - 1), SHAPES, st.sampled_from(["l1", "l2"]))
def test_radii_are_those_of_linear_programs(seed: int, shape: tuple[int, int, int], ground: str) -> None:
    grid = Grid(*shape, ground)
    weights, bias, x, label = random_case(seed, grid)
    margins = weights[label] @ x + bias[label] - weights @ x - bias
    others = [t for t in range(len(bias)) if t != label]
    exact = {feasible: min(
        cheapest_flow(weights[t] - weights[label], x, margins[t], grid, feasible=feasible) for t in others
    ) / x.sum() for feasible in (False, True)}  # fmt: skip
    found = linear_radius(weights, bias, x, label, grid)
    assert found.lower <= found.upper
    if exact[True] == inf:
        assert (found.lower, found.upper, found.target) == (inf, inf, None)
    else:
        assert found.lower == pytest.approx(exact[True], abs=1e-7)
        assert found.upper - found.lower <= 1e-10 * found.upper + 1e-12
        assert found.image.min() >= 0.0
        assert found.image.sum() == pytest.approx(x.sum())
        logits = weights @ found.image + bias
        assert logits[found.target] == pytest.approx(logits[label])
    vanilla = vanilla_linear_radius(weights, bias, x, label, grid)
    assert vanilla == pytest.approx(exact[False], abs=1e-7)
    assert vanilla <= found.upper


def test_the_image_is_as_far_as_the_radius_says() -> None:
    # Independent of everything here: the distance between the two images by optimal transport, decided exactly.
    grid = Grid(1, 4, 4)
    for seed in range(6):
        weights, bias, x, label = random_case(seed, grid)
        x = np.round(x * 1024) / 1024
        found = linear_radius(weights, bias, x, label, grid)
        if found.target is None:
            continue
        units = np.round(found.image * 2**40) / 2**40
        units[int(x.argmax())] += x.sum() - units.sum()
        assert float(distance(x, units, grid).upper) / x.sum() == pytest.approx(found.upper, abs=1e-8)


def test_by_hand() -> None:
    # Three pixels in a row, class 1 sees the last one only. All mass lies on the first: it gains 1 per bit, two steps away.
    grid, weights = Grid(1, 1, 3), np.array([[0.0, 0.0, 0.0], [0.0, 0.0, 1.0]])
    x = np.array([1.0, 0.0, 0.0])
    found = linear_radius(weights, np.array([0.25, 0.0]), x, 0, grid)
    assert found.lower <= 0.5 <= found.upper
    assert found.upper - found.lower < 1e-12
    assert found.image == pytest.approx([0.75, 0.0, 0.25])
    # Flows that may leave pixels negative take it from the middle: half as far. Twice the brightness has the same weights act twice.
    assert vanilla_linear_radius(weights, np.array([0.25, 0.0]), x, 0, grid) == pytest.approx(0.25)
    bright = linear_radius(weights, np.array([0.25, 0.0]), 2 * x, 0, grid)
    assert bright.lower == pytest.approx(0.25)
    # No amount of moving gains more than 1.
    assert linear_radius(weights, np.array([1.5, 0.0]), x, 0, grid).lower == inf
    assert linear_radius(np.ones((2, 3)), np.array([0.1, 0.0]), x, 0, grid).lower == inf
    assert vanilla_linear_radius(np.ones((2, 3)), np.array([0.1, 0.0]), x, 0, grid) == inf
    # Misclassified, or a tie: nothing has to move.
    assert linear_radius(weights, np.array([0.0, 0.0]), x, 0, grid).upper == 0.0
    assert vanilla_linear_radius(weights, np.array([0.0, 0.0]), x, 0, grid) == 0.0


def test_lemma_7_needs_the_absolute_value() -> None:
    # The steepest edge leads downwards from tail to head: without |w| the edge of slope 1 would be taken, and 0.3 certified.
    grid, weights = Grid(1, 1, 3), np.array([[0.0, 0.0, 0.0], [3.0, 0.0, 1.0]])
    x, bias = np.array([0.0, 1.0, 0.0]), np.array([0.3, 0.0])
    assert vanilla_linear_radius(weights, bias, x, 0, grid) == pytest.approx(0.1)
    assert linear_radius(weights, bias, x, 0, grid).lower == pytest.approx(0.1)


def test_digits_of_a_trained_classifier() -> None:
    from sklearn.linear_model import LogisticRegression

    train, test = load("digits:train"), load("digits:test").select("0:20")
    model = LogisticRegression(max_iter=300).fit(train.x / train.x.sum(axis=1, keepdims=True) * 20, train.y)
    grid, ratios = Grid(1, 8, 8), []
    for x, y in zip(test.x, test.y.tolist(), strict=True):
        image = x / x.sum() * 20
        vanilla = vanilla_linear_radius(model.coef_, model.intercept_, image, y, grid)
        found = linear_radius(model.coef_, model.intercept_, image, y, grid)
        assert found.lower <= found.upper <= found.lower * (1 + 1e-9) + 1e-12
        assert vanilla <= found.upper
        ratios.append(found.lower / vanilla if vanilla else 1.0)
    assert np.mean(ratios) > 1.05


@pytest.mark.parametrize(
    ("change", "kind", "message"),
    [
        ({"weights": np.ones((2, 4))}, NetworkError, "do not fit"),
        ({"bias": np.array([np.nan, 0.0])}, NetworkError, "not finite"),
        ({"label": 2}, DataError, "not one of the classes"),
        ({"x": np.array([1.0, -1.0, 0.0])}, DataError, "negative"),
        ({"x": np.zeros(3)}, DataError, "no mass"),
    ],
)
def test_bad_input(change: dict, kind: type, message: str) -> None:
    given_ = {"weights": np.ones((2, 3)), "bias": np.zeros(2), "x": np.ones(3), "label": 0, "grid": Grid(1, 1, 3)} | change
    for function in (linear_radius, vanilla_linear_radius):
        with pytest.raises(kind, match=message):
            function(**given_)

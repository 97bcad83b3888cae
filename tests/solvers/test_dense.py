"""The compiled dense simplex and the rational one: against each other, against HiGHS, and where only exact arithmetic decides."""

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from solvers import Program, Status, open_session
from solvers.dense import CLOSED, OPEN, UNDECIDED, Polytope, maximise, room_for, settle
from solvers.dense_basis import proves_nowhere_positive
from solvers.rational import Optimum, largest

SEEDS = st.integers(0, 2**32 - 1)


def polytope(matrix: np.ndarray, offsets: np.ndarray, lower: np.ndarray, upper: np.ndarray) -> Polytope:
    reach = np.maximum(np.abs(lower), np.abs(upper))
    sizes = (np.abs(matrix) @ reach + np.abs(offsets)) * (1.0 + 1e-12)
    return Polytope(matrix, offsets, np.zeros(len(offsets)), sizes, lower, upper, reach)


def objects(values: np.ndarray) -> np.ndarray:
    return np.array(values.tolist(), dtype=object).reshape(values.shape)


def exact_maximum(matrix: np.ndarray, offsets: np.ndarray, c: np.ndarray, constant: float) -> Optimum | None:
    """16 times the maximum over [-1, 1]^n, data in sixteenths: v = 2 w - 1."""
    rows, cost = 16 * matrix, 16 * c
    return largest(
        objects((2 * cost).astype(int)), int(16 * constant - cost.sum()), objects((2 * rows).astype(int)),
        objects((16 * offsets - rows.sum(axis=1)).astype(int)),
    )  # fmt: skip


@given(SEEDS)
@settings(max_examples=200)
def test_signs(seed: int) -> None:
    """CLOSED is proved, OPEN comes with a point, and UNDECIDED only where the exact maximum is zero. Ties are frequent in sixteenths."""
    generator = np.random.default_rng(seed)
    n, m = int(generator.integers(1, 7)), int(generator.integers(1, 12))
    matrix = generator.integers(-16, 17, (m, n)) / 16.0
    inner = generator.integers(-8, 9, n) / 16.0
    slack = generator.integers(1, 8, m) / 16.0
    offsets = slack - np.round((matrix @ inner) * 16) / 16.0
    slack = matrix @ inner + offsets
    if (slack <= 0.0).any():
        return
    c = generator.integers(-16, 17, n) / 16.0
    constant = float(generator.integers(-32, 5)) / 16.0
    box = polytope(matrix, offsets, -np.ones(n), np.ones(n))
    room = room_for(n, m)
    code = settle(box, m, c, constant, 0.0, float(np.abs(c).sum() + abs(constant)) + 1e-9, inner, slack, float(c @ inner + constant), room)
    exact = exact_maximum(matrix, offsets, c, constant)
    assert exact is not None
    if code == CLOSED:
        assert exact.value <= 0
    elif code == OPEN:
        assert exact.value > 0
        assert c @ room.point + constant > 0.0
        assert np.all(matrix @ room.point + offsets > 0.0)
        assert np.all(np.abs(room.point) <= 1.0)
    else:
        assert code == UNDECIDED
        assert exact.value == 0
    if maximise(box, m, c, room):
        assert c @ room.vertex + constant == pytest.approx(float(exact.value) / 16.0, abs=1e-9)


@given(SEEDS)
@settings(max_examples=100)
def test_rational_programs(seed: int) -> None:
    """Value and feasibility as HiGHS has them, and the point exactly feasible."""
    generator = np.random.default_rng(seed)
    n, m = int(generator.integers(1, 6)), int(generator.integers(0, 8))
    rows, offsets = generator.integers(-5, 6, (m, n)), generator.integers(-4, 6, m)
    cost, constant = generator.integers(-5, 6, n), int(generator.integers(-3, 4))
    found = largest(objects(cost), constant, objects(rows), objects(offsets))
    program = Program(
        cost=-cost.astype(float), matrix=rows.astype(float).reshape(m, n), row_lower=-offsets.astype(float), row_upper=np.full(m, np.inf),
        lower=np.zeros(n), upper=np.ones(n),
    )  # fmt: skip
    with open_session(program, "highs") as session:
        solution = session.solve()
    if found is None:
        assert solution.status in (Status.INFEASIBLE, Status.CLAIMED_INFEASIBLE)
        return
    assert solution.objective is not None
    assert float(found.value) == pytest.approx(constant - solution.objective, abs=1e-7)
    assert all(0 <= w <= 1 for w in found.point)
    for row, b in zip(rows, offsets, strict=True):
        assert sum((int(a) * w for a, w in zip(row, found.point, strict=True)), Fraction(int(b))) >= 0
    assert sum((int(a) * w for a, w in zip(cost, found.point, strict=True)), Fraction(constant)) == found.value


@given(SEEDS)
@settings(max_examples=60)
def test_functions_on_cones(seed: int) -> None:
    """On a cone every maximum is zero or positive: what the basis proves is so, in rationals; in general position it proves all."""
    generator = np.random.default_rng(seed)
    n, m = int(generator.integers(2, 5)), int(generator.integers(4, 9))
    inner = np.append(generator.uniform(-0.5, 0.5, n - 1), 0.5)
    matrix = generator.integers(-1000, 1001, (m, n)) / 1024.0
    matrix *= np.where(matrix @ inner > 0.0, 1.0, -1.0)[:, None]
    c = generator.integers(-1000, 1001, n) / 1024.0
    c *= -1.0 if c @ inner > 0.0 else 1.0
    lower, upper = np.append(-np.ones(n - 1), 0.0), np.ones(n)
    cone = polytope(matrix, np.zeros(m), lower, upper)
    room = room_for(n, m)
    code = settle(cone, m, c, 0.0, 0.0, float(np.abs(c).sum()) + 1e-9, inner, matrix @ inner, float(c @ inner), room)
    scaled, cost = objects((1024 * matrix).astype(int)), objects((1024 * c).astype(int))
    widths = objects(np.append(np.full(n - 1, 2), 1))
    exact = largest(cost * widths, -int(sum(cost[: n - 1])), scaled * widths, -scaled[:, : n - 1].sum(axis=1))
    assert exact is not None
    proved = code == UNDECIDED and proves_nowhere_positive(cone, c, 0.0, room, False)
    if code == CLOSED or proved:
        assert exact.value <= 0
    if code == OPEN:
        assert exact.value > 0

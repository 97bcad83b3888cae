"""The safe bounds: never above the exact minimum whatever the duals, and close to it when the duals are good."""

from fractions import Fraction
from math import inf

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from solvers import Cone, Program, Status, exact_safe_bound, open_session, projection, proves_infeasible, safe_bound
from solvers.implied import implied_bounds
from tests.solvers.exact_optimum import exact_minimum, exact_objective, feasible
from tests.solvers.problems_table import random_program

SCALES = st.sampled_from([1.0, 1.0, 1.0, 1e-9, 1e9, 0.1, 3e-5])
EIGHTHS = st.integers(-16, 16).map(lambda k: k / 8)
WILD = st.one_of(st.floats(), st.floats(-10, 10), st.sampled_from([0.0, -0.0, 1e-320, 1e308, inf, -inf, float("nan")]))


@st.composite
def tiny_programs(draw: st.DrawFn) -> Program:
    """1 to 3 bounded variables, up to 3 rows, rows scaled by 1e-9 .. 1e9; feasible or not."""
    n, m = draw(st.integers(1, 3)), draw(st.integers(0, 3))
    matrix = np.array([[draw(EIGHTHS) for _ in range(n)] for _ in range(m)]).reshape(m, n)
    low = np.array([draw(EIGHTHS) for _ in range(n)])
    high = low + np.array([abs(draw(EIGHTHS)) for _ in range(n)])
    sides = np.array([sorted([draw(EIGHTHS) * 2, draw(EIGHTHS) * 2]) for _ in range(m)]).reshape(m, 2)
    factors = np.array([draw(SCALES) for _ in range(m)])
    row_lower, row_upper = sides[:, 0] * factors, sides[:, 1] * factors
    for i in range(m):
        kind = draw(st.integers(0, 3))
        if kind == 0:
            row_lower[i] = -inf
        elif kind == 1:
            row_upper[i] = inf
        elif kind == 2:
            row_lower[i] = row_upper[i]
    cost = np.array([draw(EIGHTHS) * draw(SCALES) for _ in range(n)])
    return Program(
        cost=cost, matrix=matrix * factors[:, None], row_lower=row_lower, row_upper=row_upper, lower=low, upper=high, offset=draw(EIGHTHS)
    )


@settings(max_examples=150)
@given(tiny_programs(), st.data())
def test_any_duals_are_sound_against_the_exact_optimum(program: Program, data: st.DataObject) -> None:
    minimum = exact_minimum(program)
    for _ in range(4):
        garbage = [data.draw(WILD) for _ in range(program.rows)]
        assert safe_bound(program, garbage) <= minimum
        assert exact_safe_bound(program, garbage) <= minimum
        if proves_infeasible(program, garbage):
            assert minimum == inf


@settings(max_examples=150)
@given(tiny_programs(), st.integers(0, 2**32 - 1))
def test_good_duals_are_close_and_perturbed_ones_sound(program: Program, seed: int) -> None:
    minimum = exact_minimum(program)
    with open_session(program, "highs") as session:
        solution = session.solve()
    assert solution.safe_bound <= minimum
    if minimum == inf:
        assert solution.status in (Status.INFEASIBLE, Status.CLAIMED_INFEASIBLE, Status.NUMERICAL_TROUBLE, Status.OPTIMAL)
        return
    assert solution.status is not Status.INFEASIBLE
    assert solution.row_duals is not None
    scale = 1 + float(np.abs(program.cost) @ np.maximum(np.abs(program.lower), np.abs(program.upper)))
    if solution.status is Status.OPTIMAL and np.all((np.abs(program.matrix.data) > 1e-3) & (np.abs(program.matrix.data) < 1e3)):
        assert solution.safe_bound >= float(minimum) - 1e-7 * scale
        assert exact_safe_bound(program, solution.row_duals) >= solution.safe_bound
    generator = np.random.default_rng(seed)
    for size in (1e-15, 1e-9, 1e-3, 1.0, 1e6):
        perturbed = solution.row_duals + size * generator.standard_normal(program.rows)
        assert safe_bound(program, perturbed) <= minimum
        assert exact_safe_bound(program, perturbed) <= minimum


@settings(max_examples=200)
@given(st.integers(0, 2**32 - 1))
def test_sound_where_the_bound_is_tight_to_rounding(seed: int) -> None:
    """Programs built around a feasible point x whose optimality is shown by y up to the rounding of the cost alone, exponents far apart.

    The exact objective at x is then within rounding of the bound: an error term that is too small would show.
    """
    generator = np.random.default_rng(seed)
    m, n = int(generator.integers(0, 8)), int(generator.integers(1, 8))
    spread = float(generator.choice([0.0, 3.0, 12.0]))
    matrix = generator.standard_normal((m, n)) * 10.0 ** generator.uniform(-spread, spread, (m, n)) * (generator.random((m, n)) < 0.7)
    y = generator.standard_normal(m) * 10.0 ** generator.uniform(-spread, spread, m)
    x = np.round(generator.standard_normal(n) * 64) / 64
    activity = [sum((Fraction(a) * Fraction(v) for a, v in zip(row, x.tolist(), strict=True)), Fraction(0)) for row in matrix.tolist()]
    tight = np.array([float(a) for a in activity])
    # x satisfies the rounded rows exactly only if the side is rounded away from it.
    row_lower = np.where(y > 0, np.nextafter(tight, -inf), -inf)
    row_upper = np.where(y < 0, np.nextafter(tight, inf), inf)
    quadratic = np.where(generator.random(n) < 0.3, 10.0 ** generator.uniform(-2, 2, n), 0.0)
    reduced = generator.standard_normal(n) * (generator.random(n) < 0.6)
    cost = matrix.T @ y + reduced - quadratic * x
    infinite = generator.random(n) < 0.3
    lower = np.where(reduced > 0, x, np.where(infinite, -inf, x - 1))
    upper = np.where(reduced < 0, x, np.where(infinite, inf, x + 1))
    program = Program(
        cost=cost, matrix=matrix, row_lower=row_lower, row_upper=row_upper, lower=lower, upper=upper, quadratic=quadratic, offset=0.25
    )
    point = [Fraction(v) for v in x.tolist()]
    assert feasible(program, point)
    value = exact_objective(program, point)
    bound, exact = safe_bound(program, y), exact_safe_bound(program, y)
    assert bound <= value
    assert exact <= value
    if bound > -inf and not np.isinf(lower).any() and not np.isinf(upper).any():
        assert bound <= exact
    size = float(np.abs(cost) @ (np.abs(x) + 1) + np.abs(y) @ (np.abs(matrix) @ (np.abs(x) + 1)) + quadratic @ (np.abs(x) + 1) ** 2 + 1)
    if not infinite.any():
        assert float(value) - bound <= 1e-13 * size
    for _ in range(5):
        assert safe_bound(program, y * (1 + 0.1 * generator.standard_normal(m))) <= value
        assert safe_bound(program, generator.standard_normal(m)) <= value


@settings(max_examples=60)
@given(st.integers(0, 2**32 - 1))
def test_cones_are_sound_and_tight(seed: int) -> None:
    """min c.x over a ball and rows through its centre, against exact points of the ball: Pythagorean directions have rational norms."""
    generator = np.random.default_rng(seed)
    triple = [(3, 4, 5), (5, 12, 13), (8, 15, 17), (20, 21, 29)][int(generator.integers(4))]
    shift = np.round(generator.standard_normal(2) * 8) / 8
    limit = float(triple[2]) / 64
    cone = Cone([0, 1], shift, limit)
    width = float(generator.choice([1.0, 1e6, inf]))
    program = Program(cost=[triple[0], triple[1]], lower=[-width] * 2, upper=[width] * 2, cones=[cone])
    # The minimum lies at shift - limit * (a, b) / c, and is cost.shift - limit * c.
    minimum = Fraction(triple[0]) * Fraction(shift[0]) + Fraction(triple[1]) * Fraction(shift[1]) - Fraction(limit) * triple[2]
    inside = np.all(np.abs(shift) + limit <= width)
    good = [np.array([triple[0], triple[1]], dtype=float)]
    assert safe_bound(program, None, good) <= minimum if inside else True
    assert exact_safe_bound(program, None, good) <= minimum if inside else True
    if inside:
        assert safe_bound(program, None, good) >= float(minimum) - 1e-12 * abs(float(minimum)) - 1e-12
        for size in (1e-12, 1e-6, 1.0):
            noisy = [good[0] + size * generator.standard_normal(2)]
            assert safe_bound(program, None, noisy) <= minimum
            assert exact_safe_bound(program, None, noisy) <= minimum
        with open_session(program) as session:
            solution = session.solve()
        assert solution.safe_bound <= minimum
        assert solution.safe_bound >= float(minimum) - 1e-6
    assert safe_bound(program, None, [[float("nan"), inf]]) <= minimum if inside else True


@settings(max_examples=40)
@given(st.integers(0, 2**32 - 1))
def test_projection_bounds_half_the_squared_distance(seed: int) -> None:
    generator = np.random.default_rng(seed)
    n, m = int(generator.integers(1, 6)), int(generator.integers(0, 6))
    center = generator.uniform(0, 1, n)
    matrix = generator.standard_normal((m, n))
    witness = generator.uniform(0, 1, n)
    program = projection(
        center,
        matrix=matrix,
        row_lower=np.full(m, -inf),
        row_upper=np.nextafter(matrix @ witness + 1e-12, inf),
        lower=np.zeros(n),
        upper=np.ones(n),
    )
    point = [Fraction(v) for v in witness.tolist()]
    assert feasible(program, point)
    distance = sum(((a - Fraction(b)) ** 2 for a, b in zip(point, center.tolist(), strict=True)), Fraction(0)) / 2
    for _ in range(5):
        assert safe_bound(program, generator.standard_normal(m) * 10) <= distance
    with open_session(program) as session:
        solution = session.solve()
    assert solution.status is Status.OPTIMAL
    assert solution.objective is not None
    assert solution.safe_bound <= distance
    assert solution.safe_bound >= solution.objective - 1e-7


def test_a_program_of_wrong_sign_gives_nothing_wrong() -> None:
    """A dual of the wrong sign, on a side that does not exist, counts as zero."""
    program = Program(cost=[1.0], matrix=[[1.0]], row_lower=[-inf], row_upper=[5.0], lower=[0.0], upper=[9.0])
    assert safe_bound(program, [7.0]) == 0.0
    assert exact_safe_bound(program, [7.0]) == 0
    assert safe_bound(program, None) == 0.0
    assert safe_bound(program, [1.0, 2.0]) == 0.0  # of another program


def test_infinite_bounds() -> None:
    """A free variable: -inf for a wrong residual; with a residual of the size of rounding, the rows or a repair of the duals help."""
    free = Program(cost=[1.0, 0.0], matrix=[[1.0, -1.0]], row_lower=[0.0], row_upper=[inf], lower=[-inf, 2.0], upper=[inf, 3.0])
    assert safe_bound(free, [1.0]) == pytest.approx(2.0, abs=1e-13)
    # The row implies x >= 2, so that any residual is affordable.
    assert implied_bounds(free)[0][0] == pytest.approx(2.0)
    assert safe_bound(free, [1.0 - 1e-12]) == pytest.approx(2.0)
    # x + y >= 1, x - y >= 1 imply x >= 1 only together: exact repair of the duals.
    pair = Program(
        cost=[1.0, 0.0], matrix=[[1.0, 1.0], [1.0, -1.0]], row_lower=[1.0, 1.0], row_upper=[inf, inf], lower=[-inf] * 2, upper=[inf] * 2
    )
    assert safe_bound(pair, [0.5, 0.5]) == pytest.approx(1.0, abs=1e-15)
    assert safe_bound(pair, [0.5 + 1e-9, 0.5 - 3e-10]) == pytest.approx(1.0, abs=1e-15)
    assert safe_bound(pair, [0.7, 0.5]) == -inf
    thirds = Program(cost=[1.0], matrix=[[3.0]], row_lower=[1.0], row_upper=[inf], lower=[-inf], upper=[inf])
    assert exact_safe_bound(thirds, [1 / 3]) <= Fraction(1, 3)
    assert safe_bound(thirds, [1 / 3]) <= Fraction(1, 3)
    assert safe_bound(thirds, [1 / 3]) == pytest.approx(1 / 3)


def test_the_exact_bound_decides_what_floats_cannot() -> None:
    """A margin of 1e-30 inside cancelling terms of size 1: floats must not claim it, exact arithmetic sees it."""
    tiny = 2.0**-100
    program = Program(cost=[1.0, -1.0], matrix=[[1.0, -1.0]], row_lower=[tiny], row_upper=[inf], lower=[-1.0, -1.0], upper=[1.0, 1.0])
    assert exact_safe_bound(program, [1.0]) == Fraction(tiny)
    assert safe_bound(program, [1.0]) <= 0
    contradiction = Program(
        cost=[0.0, 0.0], matrix=[[1.0, -1.0], [-1.0, 1.0]], row_lower=[tiny, 0.0], row_upper=[inf, inf], lower=[-1.0] * 2, upper=[1.0] * 2
    )
    assert proves_infeasible(contradiction, [1.0, 1.0])
    assert proves_infeasible(contradiction, [1e-300, 1e-300])
    assert proves_infeasible(contradiction, [1e300, 1e300])
    assert not proves_infeasible(contradiction, [1.0, 0.5])
    assert not proves_infeasible(contradiction, [-1.0, -1.0])


def test_a_feasible_program_is_never_proved_infeasible() -> None:
    generator = np.random.default_rng(0)
    program = random_program(1, 10, 8)
    for size in (1e-12, 1.0, 1e200):
        for _ in range(50):
            assert not proves_infeasible(program, size * generator.standard_normal(10))


def test_an_unbounded_ray_claim_is_not_believed() -> None:
    """A solution that claims infeasibility with a ray that proves nothing is reported as a claim."""
    from solvers.session import Limits, Outcome, Session

    class Lying(Session):
        name = "lying"
        capabilities = open_session(random_program(0)).capabilities

        def _load(self) -> None:
            """Nothing to load."""

        def _solve(self, limits: Limits) -> Outcome:
            return Outcome(status=Status.INFEASIBLE, raw_status="trust me", ray=np.ones(self.program.rows), claimed_bound=inf)

    solution = Lying(random_program(2)).solve()
    assert solution.status is Status.CLAIMED_INFEASIBLE
    assert solution.raw_status == "trust me"
    assert solution.safe_bound < inf

"""Every backend through one table of programs that know their answer, by capability."""

from fractions import Fraction
from math import inf
from time import perf_counter

import numpy as np
import pytest

from solvers import Capability, Program, Session, Status, available, capabilities, exact_safe_bound, names, open_session
from solvers.registry import session_class
from tests.solvers.problems_table import INFEASIBLE, TABLE, UNBOUNDED, Known, random_program


def _started() -> list[str]:
    complaints = available()
    return [name for name in names() if not complaints[name]]


BACKENDS = _started()


def _open(program: Program, solver: str) -> Session:
    """The backend itself, without the fall-back of open_session: it is this backend that is tested."""
    return session_class(solver)(program)


def _cases(*needed: Capability) -> list[str]:
    return [name for name in BACKENDS if frozenset(needed) <= capabilities(name)]


PAIRS = [
    pytest.param(name, known, id=f"{name}-{known}") for name in BACKENDS for known in TABLE if known.program.needs <= capabilities(name)
]


def test_the_backends_that_the_project_depends_on_start() -> None:
    assert {"highs", "clarabel", "cvxpy", "scipy"} <= set(BACKENDS)


def _check(known: Known, solver: str) -> None:
    with _open(known.program, solver) as session:
        solution = session.solve()
    minimum = known.minimum
    if minimum == inf:
        assert solution.status in INFEASIBLE, solution
        if Capability.RAY in capabilities(solver) and solution.ray is not None:
            assert solution.status is Status.INFEASIBLE
            assert solution.safe_bound == inf
    elif minimum == -inf:
        assert solution.status in UNBOUNDED
        assert solution.safe_bound == -inf
    else:
        assert solution.safe_bound <= minimum + (1e-14 if isinstance(minimum, float) else 0)  # sqrt is rounded in the table
        if solver in known.lies:
            assert solution.objective != pytest.approx(float(minimum), abs=1e-5, rel=1e-6)
            return
        assert solution.status is Status.OPTIMAL, solution.raw_status
        assert solution.objective == pytest.approx(float(minimum), abs=1e-5, rel=1e-6)
        assert solution.x is not None
        quadratic = 0.5 * known.program.quadratic @ solution.x**2
        assert known.program.cost @ solution.x + quadratic + known.program.offset == pytest.approx(float(minimum), abs=1e-5, rel=1e-6)
        exact = exact_safe_bound(known.program, solution.row_duals, solution.cone_duals)
        assert exact <= minimum + (1e-14 if isinstance(minimum, float) else 0)
        assert solution.claimed_bound <= float(minimum) + 1e-5
        if known.gap is not None:
            assert solution.safe_bound >= float(minimum) - known.gap
            assert exact >= float(minimum) - known.gap
    assert solution.raw_status
    assert solution.seconds > 0


@pytest.mark.parametrize(("solver", "known"), PAIRS)
def test_known_programs(solver: str, known: Known) -> None:
    _check(known, solver)


@pytest.mark.parametrize("solver", _cases(Capability.LINEAR, Capability.RAY))
@pytest.mark.parametrize("name", ["lp infeasible", "lp infeasible by its bounds", "lp infeasible with free variables"])
def test_infeasibility_of_linear_programs_is_proved_where_rays_are_promised(solver: str, name: str) -> None:
    known = next(case for case in TABLE if case.name == name)
    with _open(known.program, solver) as session:
        solution = session.solve()
    assert solution.status is Status.INFEASIBLE
    assert solution.proves_infeasible


@pytest.mark.parametrize(
    ("solver", "reference", "curvature"),
    [(name, "highs", 0.0) for name in _cases(Capability.LINEAR)] + [(name, "clarabel", 1.0) for name in _cases(Capability.STRICTLY_CONVEX)],
)
@pytest.mark.parametrize("seed", range(3))
def test_edits_agree_with_cold_solves(solver: str, reference: str, curvature: float, seed: int) -> None:
    """A session edited twelve times gives, each time, what a new session gives for the same program."""
    generator = np.random.default_rng(seed)
    program = random_program(seed, rows=12, variables=10, quadratic=np.full(10, curvature))
    with _open(program, solver) as session:
        session.solve()
        for step in range(12):
            _edit(session, generator, step)
            hot = session.solve()
            with _open(session.program, reference) as fresh:
                cold = fresh.solve()
            if cold.status is Status.OPTIMAL:
                assert hot.status is Status.OPTIMAL, (step, hot.raw_status)
                assert hot.objective == pytest.approx(cold.objective, abs=1e-6)
                assert hot.safe_bound == pytest.approx(cold.safe_bound, abs=1e-6)
            else:
                assert cold.status is Status.INFEASIBLE
                assert hot.status in INFEASIBLE
        session.set_row_bounds([0], 500.0, 600.0)
        assert session.solve().status in INFEASIBLE
        session.set_row_bounds([0], -inf, 600.0)
        again = session.solve()
        with _open(session.program, reference) as fresh:
            assert again.objective == pytest.approx(fresh.solve().objective, abs=1e-6)


def _edit(session: Session, generator: np.random.Generator, step: int) -> None:
    program = session.program
    kind = step % 6
    if kind == 0:
        which = generator.choice(program.variables, 3, replace=False)
        middle = generator.uniform(-0.4, 0.4, 3)
        session.set_bounds(which, middle - 0.6, middle + 0.6)
    elif kind == 1:
        session.set_cost(generator.standard_normal(program.variables), offset=1.5)
    elif kind == 2:
        rows = generator.standard_normal((2, program.variables))
        assert session.add_rows(rows, [-inf, -3.0], [4.0, 3.0]) == program.rows
    elif kind == 3:
        session.set_row_bounds([0, program.rows - 1], [-inf, -4.0], [1.5, inf])
    elif kind == 4:
        session.delete_rows(program.rows - 1)
    else:
        session.set_bounds(None, -1.0, 1.0)
        session.set_row_bounds([1], 0.1, 0.1)


@pytest.mark.parametrize("solver", _cases(Capability.QUADRATIC, Capability.CONES))
def test_edits_of_conic_programs(solver: str) -> None:
    known = next(case for case in TABLE if case.name == "qp over a cone")
    with _open(known.program, solver) as session:
        session.solve()
        session.set_cost([-0.5, 0.0])
        assert session.solve().objective == pytest.approx(-0.125, abs=1e-6)  # (1/2, 0) lies inside the disc
        session.set_bounds([0], 0.0, 0.25)
        assert session.solve().objective == pytest.approx(0.03125 - 0.125, abs=1e-6)
        session.set_bounds([0], 0.25, 0.25)
        solution = session.solve()
        assert solution.objective == pytest.approx(0.03125 - 0.125, abs=1e-6)
        assert solution.safe_bound == pytest.approx(0.03125 - 0.125, abs=1e-6)
        session.add_rows([[0.0, 1.0]], [0.5], [inf])
        assert session.solve().objective == pytest.approx(0.03125, abs=1e-6)


@pytest.mark.parametrize("solver", BACKENDS)
def test_time_limit_returns_quickly_with_a_status(solver: str) -> None:
    program = _hard_milp() if Capability.INTEGER in capabilities(solver) else random_program(0, 600, 600, quadratic=np.ones(600))
    with _open(program, solver) as session:
        start = perf_counter()
        solution = session.solve(time_limit=0.05)
        assert perf_counter() - start < 5
    assert solution.status is Status.TIME_LIMIT, solution.raw_status
    assert solution.safe_bound < inf


@pytest.mark.parametrize("solver", _cases(Capability.HOT_START, Capability.INTEGER))
def test_time_limit_is_counted_anew_for_each_solve(solver: str) -> None:
    with _open(_hard_milp(), solver) as session:
        session.solve(time_limit=0.2)
        session.set_bounds(None, 0.0, 0.0)
        session.set_row_bounds(None, -inf, inf)
        assert session.solve(time_limit=0.2).status is Status.OPTIMAL


@pytest.mark.parametrize("solver", _cases(Capability.INTERRUPT))
def test_interrupt_callback(solver: str) -> None:
    program = _hard_milp() if Capability.INTEGER in capabilities(solver) else random_program(0, 150, 150, quadratic=np.ones(150))
    asked = []

    def interrupt() -> bool:
        asked.append(1)
        return True

    with _open(program, solver) as session:
        solution = session.solve(interrupt=interrupt, time_limit=20)
        assert asked
        assert solution.status is Status.INTERRUPTED, solution.raw_status

        def fails() -> bool:
            raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            session.solve(interrupt=fails, time_limit=20)


@pytest.mark.parametrize("solver", _cases(Capability.OBJECTIVE_LIMIT, Capability.INTEGER))
def test_decision_form_of_integer_programs(solver: str) -> None:
    known = next(case for case in TABLE if case.name == "milp")
    with _open(known.program, solver) as session:
        above = session.solve(objective_limit=-9.5)
        below = session.solve(objective_limit=-8.5)
        again = session.solve()
    assert above.status is Status.ABOVE_LIMIT
    assert above.claimed_bound >= -9.5
    assert below.status in (Status.BELOW_LIMIT, Status.OPTIMAL)
    assert below.objective is not None
    assert below.objective <= -8.5
    assert again.objective == pytest.approx(-9)


def test_objective_limit_of_a_linear_program_leaves_duals_that_prove_it() -> None:
    stopped = 0
    for seed in range(10):
        program = random_program(seed, 60, 40)
        with open_session(program) as session:
            minimum = session.solve().objective
            assert minimum is not None
            # From the basis of another cost, so that the dual simplex has a way to go.
            session.set_cost(-program.cost)
            session.solve()
            session.set_cost(program.cost)
            session.set_bounds([0], -1.0, 0.9)
            limited = session.solve(objective_limit=minimum - 1)
        if limited.status is Status.ABOVE_LIMIT:
            stopped += 1
            assert limited.safe_bound > minimum - 1
        else:
            assert limited.status is Status.OPTIMAL
    assert stopped > 0


def test_solutions_keep_the_program_they_were_computed_for() -> None:
    known = TABLE[0]
    with open_session(known.program) as session:
        before = session.solve()
        session.set_bounds([0], 2.0, 4.0)
        session.add_rows([[1.0, 0.0]], [3.0], [inf])
        after = session.solve()
    assert before.safe_bound == pytest.approx(7)
    assert after.safe_bound == pytest.approx(11)
    assert after.program is session.program


@pytest.mark.parametrize("solver", _cases(Capability.LINEAR))
def test_badly_scaled_rows(solver: str) -> None:
    """Rows times 1e-9 .. 1e9 and entries down to 1e-300: no crash, no wrong bound, and close where the solver does its work."""
    for seed in range(4):
        program = random_program(seed, 15, 12)
        factors = 10.0 ** np.random.default_rng(seed).uniform(-9, 9, 15)
        matrix = program.matrix.toarray() * factors[:, None]
        matrix[0, :3] = 1e-300
        sides = program.row_lower * factors, program.row_upper * factors
        scaled = Program(cost=program.cost, matrix=matrix, row_lower=sides[0], row_upper=sides[1], lower=program.lower, upper=program.upper)
        unscaled = Program(
            cost=program.cost,
            matrix=matrix / factors[:, None],
            row_lower=program.row_lower,
            row_upper=program.row_upper,
            lower=program.lower,
            upper=program.upper,
        )
        with open_session(unscaled) as reference:
            best = reference.solve()
        assert best.objective is not None
        with _open(scaled, solver) as session:
            solution = session.solve()
        assert solution.safe_bound <= best.objective + 1e-6
        if solver == "highs":
            assert solution.status is Status.OPTIMAL
            assert solution.safe_bound >= best.objective - 1e-6


def _hard_milp() -> Program:
    """Equal knapsacks with odd sides (market split): far beyond a fraction of a second for every solver."""
    generator = np.random.default_rng(3)
    weights = generator.integers(0, 100, (5, 40))
    sides = weights.sum(axis=1) // 2
    slack = np.hstack([np.eye(5), -np.eye(5)])
    return Program(
        cost=np.concatenate([np.zeros(40), np.ones(10)]),
        matrix=np.hstack([weights, slack]),
        row_lower=sides,
        row_upper=sides,
        lower=np.zeros(50),
        upper=np.concatenate([np.ones(40), np.full(10, inf)]),
        integer=np.arange(50) < 40,
    )


def test_exact_and_float_bounds_agree_on_all_backends() -> None:
    program = random_program(11)
    for solver in _cases(Capability.LINEAR):
        with _open(program, solver) as session:
            solution = session.solve()
        exact = exact_safe_bound(program, solution.row_duals)
        assert isinstance(exact, Fraction)
        assert solution.safe_bound <= exact
        assert solution.safe_bound == pytest.approx(float(exact), abs=1e-10)


@pytest.mark.parametrize("solver", _cases(Capability.LINEAR, Capability.INTERRUPT))
def test_a_stopped_linear_program_leaves_a_sound_bound_and_can_go_on(solver: str) -> None:
    with _open(random_program(0, 150, 150), solver) as session:
        interrupted = session.solve(interrupt=lambda: True)
        finished = session.solve()
    assert interrupted.status is Status.INTERRUPTED, interrupted.raw_status
    assert finished.status is Status.OPTIMAL
    assert finished.objective is not None
    assert interrupted.safe_bound <= finished.objective + 1e-9
    assert finished.safe_bound == pytest.approx(finished.objective, abs=1e-6)

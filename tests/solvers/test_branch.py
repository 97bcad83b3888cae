"""Branch and bound with safe bounds: agrees with the other solvers, and proves what it says."""

from math import inf

import numpy as np
import pytest

from solvers import Cone, Program, Status, open_session
from tests.solvers.problems_table import random_program


def _milp(seed: int) -> Program:
    return random_program(seed, 12, 14, integer=np.arange(14) < 8)


@pytest.mark.parametrize("seed", range(8))
def test_agrees_with_highs_and_proves_it(seed: int) -> None:
    program = _milp(seed)
    with open_session(program, "highs") as reference:
        claimed = reference.solve()
    with open_session(program, "branch") as session:
        solution = session.solve()
        if claimed.status is not Status.OPTIMAL:
            assert solution.status is Status.INFEASIBLE
            assert solution.safe_bound == inf
            assert solution.proves_infeasible
            return
        assert claimed.objective is not None
        assert solution.status is Status.OPTIMAL
        assert solution.objective == pytest.approx(claimed.objective, abs=1e-6)
        assert claimed.objective - 1e-6 <= solution.safe_bound <= claimed.objective + 1e-9
        above = session.solve(objective_limit=claimed.objective - 1e-3)
        assert above.status is Status.ABOVE_LIMIT
        assert above.safe_bound > claimed.objective - 1e-3
        below = session.solve(objective_limit=claimed.objective + 1e-3)
        assert below.status is Status.BELOW_LIMIT
        assert below.x is not None
        assert np.abs(below.x[:8] - np.round(below.x[:8])).max() <= 1e-6


def test_some_seeds_are_feasible_and_some_not() -> None:
    """Guards the test above against becoming one-sided."""
    statuses = set()
    for seed in range(8):
        with open_session(_milp(seed), "highs") as session:
            statuses.add(session.solve().status)
    assert Status.OPTIMAL in statuses


@pytest.mark.parametrize("seed", range(4))
def test_edits(seed: int) -> None:
    program = _milp(seed)
    generator = np.random.default_rng(seed)
    with open_session(program, "branch") as session:
        session.solve()
        session.set_cost(generator.standard_normal(14))
        session.set_bounds([0, 9], [0.0, -0.5], [1.0, 0.5])
        session.add_rows(generator.standard_normal((1, 14)), [-inf], [1.0])
        session.set_row_bounds([0], -1.0, 3.0)
        hot = session.solve()
        with open_session(session.program, "highs") as fresh:
            cold = fresh.solve()
    if cold.status is Status.OPTIMAL:
        assert hot.objective == pytest.approx(cold.objective, abs=1e-6)
        assert hot.safe_bound == pytest.approx(cold.objective, abs=1e-6)
    else:
        assert hot.status is Status.INFEASIBLE


def test_limits_leave_a_sound_bound() -> None:
    program = random_program(5, 30, 40, integer=np.ones(40, dtype=bool), quadratic=np.full(40, 0.1))
    with open_session(program, "branch") as session:
        stopped = session.solve(time_limit=0.05)
        asked: list[int] = []
        interrupted = session.solve(interrupt=lambda: len(asked) > 5 or bool(asked.append(1)))
    assert stopped.status in (Status.TIME_LIMIT, Status.OPTIMAL, Status.INFEASIBLE)
    assert interrupted.status in (Status.INTERRUPTED, Status.OPTIMAL, Status.INFEASIBLE)
    for solution in (stopped, interrupted):
        if solution.objective is not None:
            assert solution.safe_bound <= solution.objective


def test_integer_points_of_a_ball() -> None:
    """The longest step in direction (1, 1) inside the disc of radius 2.5 on integers: (1, 2), (2, 1) or less; -3."""
    program = Program(cost=[-1, -1], lower=[-9, -9], upper=[9, 9], integer=[True, True], cones=[Cone([0, 1], [0, 0], 2.5)])
    with open_session(program) as session:
        assert session.name == "branch"
        solution = session.solve()
    assert solution.objective == pytest.approx(-3, abs=1e-6)
    assert -3 - 1e-5 <= solution.safe_bound <= -3

"""Projections: the dual Newton method against Clarabel, its fall-back, and its hot starts."""

from math import inf

import pytest

from benchmarks.solvers import projection_program
from solvers import Program, Status, open_session


@pytest.mark.parametrize(("rows", "variables"), [(5, 64), (30, 64), (100, 64), (200, 64)])
@pytest.mark.parametrize("seed", range(3))
def test_agrees_with_clarabel(seed: int, rows: int, variables: int) -> None:
    """With three times as many rows as variables the method may give up: the answer then is Clarabel's own."""
    program = projection_program(rows, variables, seed)
    with open_session(program) as session, open_session(program, "clarabel") as reference:
        assert session.name == "newton"
        mine, other = session.solve(), reference.solve()
    assert mine.status is Status.OPTIMAL
    assert mine.objective == pytest.approx(other.objective, abs=1e-7)
    assert mine.x == pytest.approx(other.x, abs=1e-3)
    assert mine.safe_bound == pytest.approx(other.objective, abs=1e-7)
    assert mine.raw_status == "converged" or mine.raw_status.startswith("newton, then clarabel")
    if rows <= variables:
        assert mine.raw_status == "converged"
        assert mine.objective is not None
        assert abs(mine.safe_bound - mine.objective) < 1e-10  # the active set is found: exact to rounding


def test_hot_starts_take_fewer_steps() -> None:
    program = projection_program(60)
    with open_session(program) as session:
        cold = session.solve()
        session.set_row_bounds([3], -inf, float(program.row_upper[3]) + 1e-6)
        hot = session.solve()
    assert hot.iterations < cold.iterations


def test_contradicting_rows_are_proved_infeasible() -> None:
    program = projection_program(30, seed=1)
    with open_session(program) as session:
        session.solve()
        session.set_row_bounds([3], -inf, -1000.0)
        solution = session.solve()
        assert solution.status is Status.INFEASIBLE
        assert solution.safe_bound == inf
        # Contradicting equations of free variables: no box to exceed, the dual grows without end.
        free = Program(
            cost=[0.0, 0.0],
            matrix=[[1.0, 1.0], [1.0, 1.0]],
            row_lower=[0.0, 1.0],
            row_upper=[0.0, 1.0],
            lower=[-inf] * 2,
            upper=[inf] * 2,
            quadratic=[1.0, 1.0],
        )
    with open_session(free) as session:
        assert session.solve().status is Status.INFEASIBLE

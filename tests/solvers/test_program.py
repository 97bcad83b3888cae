"""Bad programs and edits give one typed error; programs and solutions travel between processes; the layer stands alone."""

import logging
import pickle
import subprocess
import sys
from math import inf, nan
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.sparse import coo_matrix

import solvers
from solvers import (
    Capability,
    Cone,
    Level,
    Program,
    ProgramError,
    SolverError,
    SolverUnavailableError,
    Status,
    available,
    capabilities,
    choose,
    names,
    open_session,
)
from tests.solvers.problems_table import random_program

GOOD: dict[str, Any] = {
    "cost": [1.0, 2.0],
    "matrix": [[1.0, 1.0]],
    "row_lower": [0.0],
    "row_upper": [1.0],
    "lower": [0.0, 0.0],
    "upper": [1.0, 1.0],
}

BAD: list[tuple[str, dict[str, Any], str]] = [
    ("no variables", {"cost": []}, "no variables"),
    ("NaN cost", {"cost": [nan, 1]}, "cost: NaN at position 0"),
    ("infinite cost", {"cost": [inf, 1]}, "cost: infinite"),
    ("cost of two dimensions", {"cost": [[1.0, 2.0]]}, "one dimension"),
    ("cost of words", {"cost": ["a", "b"]}, "not a vector of numbers"),
    ("matrix with too many columns", {"matrix": [[1.0, 1.0, 1.0]]}, "2 columns are needed"),
    ("NaN matrix", {"matrix": [[nan, 1.0]]}, "matrix: NaN or infinite"),
    ("ragged matrix", {"matrix": [[1.0], [1.0, 2.0]]}, "not a matrix of numbers"),
    ("too many rows", {"matrix": np.ones((2, 2))}, r"shape \(1,\) where shape \(2,\)"),
    ("crossed rows", {"row_lower": [2.0]}, "lower 2.0 and upper 1.0|leave nothing"),
    ("crossed bounds", {"lower": [0.0, 3.0]}, "position 1 leave nothing"),
    ("NaN bound", {"upper": [nan, 1.0]}, "NaN at position 0"),
    ("lower bound of +inf", {"lower": [inf, 0.0], "upper": [inf, 1.0]}, "leave nothing"),
    ("upper bound of -inf", {"row_lower": [-inf], "row_upper": [-inf]}, "leave nothing"),
    ("bounds of another size", {"lower": [0.0]}, r"shape \(1,\)"),
    ("mask of another size", {"integer": [True]}, "integer: the mask"),
    ("concave objective", {"quadratic": [1.0, -1.0]}, "not convex"),
    ("NaN offset", {"offset": nan}, "offset: NaN"),
    ("cone with repeated indices", {"cones": [Cone([0, 0], [0.0, 0.0], 1.0)]}, "indices repeat"),  # type: ignore[arg-type]
    ("cone outside", {"cones": [Cone([0, 2], [0.0, 0.0], 1.0)]}, "outside the 2 variables"),  # type: ignore[arg-type]
    ("cone of fractions", {"cones": [Cone([0.5], [0.0], 1.0)]}, "integers"),  # type: ignore[arg-type]
    ("cone with negative limit", {"cones": [Cone([0], [0.0], -1.0)]}, "negative"),  # type: ignore[arg-type]
    ("cone with wrong shift", {"cones": [Cone([0], [0.0, 1.0], 1.0)]}, "shift"),  # type: ignore[arg-type]
]


@pytest.mark.parametrize(("changes", "message"), [pytest.param(changes, message, id=name) for name, changes, message in BAD])
def test_bad_programs(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ProgramError, match=message):
        Program(**GOOD | changes)


EDITS: list[tuple[str, Any]] = [
    ("crossed bounds", lambda session: session.set_bounds([0], [1.0], [0.0])),
    ("NaN bounds", lambda session: session.set_bounds([0], [nan], [0.0])),
    ("NaN scalar bound", lambda session: session.set_bounds([0], nan, 1.0)),
    ("wrong count", lambda session: session.set_bounds([0, 1], [0.0], [1.0])),
    ("index out of range", lambda session: session.set_bounds([2], [0.0], [1.0])),
    ("negative index", lambda session: session.set_bounds([-1], [0.0], [1.0])),
    ("index that is no integer", lambda session: session.set_bounds([0.5], [0.0], [1.0])),
    ("row out of range", lambda session: session.set_row_bounds([1], [0.0], [1.0])),
    ("rows of another width", lambda session: session.add_rows([[1.0]], [0.0], [1.0])),
    ("rows with NaN", lambda session: session.add_rows([[1.0, nan]], [0.0], [1.0])),
    ("rows without sides", lambda session: session.add_rows([[1.0, 1.0]], [], [])),
    ("too many rows to delete", lambda session: session.delete_rows(2)),
    ("cost of another size", lambda session: session.set_cost([1.0])),
    ("NaN cost", lambda session: session.set_cost([1.0, nan])),
    ("negative time", lambda session: session.solve(time_limit=-1)),
    ("NaN time", lambda session: session.solve(time_limit=nan)),
    ("NaN limit", lambda session: session.solve(objective_limit=nan)),
]


@pytest.mark.parametrize("edit", [pytest.param(edit, id=name) for name, edit in EDITS])
@pytest.mark.parametrize("solver", ["highs", "clarabel"])
def test_bad_edits_leave_the_session_as_it_was(solver: str, edit: Any) -> None:
    with open_session(Program(**GOOD), solver) as session:
        before = session.program
        with pytest.raises(SolverError):
            edit(session)
        assert session.program is before
        assert session.solve().objective == pytest.approx(0.0, abs=1e-6)


def test_repeated_indices_take_the_last_mention() -> None:
    with open_session(Program(**GOOD)) as session:
        session.set_bounds([1, 0, 1], [0.1, 0.2, 0.3], [1.0, 1.0, 1.0])
        assert session.program.lower.tolist() == [0.2, 0.3]
        assert session.solve().objective == pytest.approx(0.8)


def test_duplicates_of_a_sparse_matrix_are_added_up() -> None:
    matrix = coo_matrix(([1.0, 1.0, 5.0], ([0, 0, 0], [0, 0, 1])), shape=(1, 2))
    assert Program(**GOOD | {"matrix": matrix}).matrix.toarray().tolist() == [[2.0, 5.0]]


def test_the_arrays_of_the_caller_are_copied() -> None:
    cost = np.array([1.0, 2.0])
    program = Program(**GOOD | {"cost": cost})
    cost[0] = nan
    assert program.cost[0] == 1.0


def test_programs_and_solutions_can_be_pickled() -> None:
    with open_session(random_program(3)) as session:
        solution = session.solve()
    copy = pickle.loads(pickle.dumps(solution))
    assert copy.status is solution.status
    assert copy.safe_bound == solution.safe_bound
    error = pickle.loads(pickle.dumps(ProgramError("here", "wrong.", "Change it.")))
    assert str(error) == "here: wrong. Change it."


def test_registry() -> None:
    assert set(available()) == set(names())
    assert Capability.CONES in capabilities("clarabel")
    with pytest.raises(SolverError, match="no backend is called 'simplex'"):
        open_session(Program(**GOOD), "simplex")
    with pytest.raises(SolverUnavailableError, match="cannot take integer variables"):
        open_session(Program(**GOOD | {"integer": [True, False]}), "clarabel")
    with pytest.raises(SolverUnavailableError, match="quadratic"):
        open_session(Program(**GOOD | {"quadratic": [1.0, 1.0]}), "highs")
    assert choose(Program(**GOOD)) == "highs"
    assert choose(Program(**GOOD | {"integer": [True, True]})) == "highs"
    assert choose(Program(**GOOD | {"quadratic": [1.0, 0.0]})) == "clarabel"
    assert choose(Program(**GOOD | {"quadratic": [1.0, 1.0]})) == "newton"
    assert choose(Program(**GOOD | {"quadratic": [1.0, 0.0], "integer": [True, True]})) == "gurobi"


def test_statuses_are_sentences_with_a_level() -> None:
    for status in Status:
        assert status.value[0].isupper()
        assert status.value.endswith(".")
        assert ";" in status.value  # what happened; what to do
    assert Status.TIME_LIMIT.level is Level.STOPPED
    assert Status.NUMERICAL_TROUBLE.level is Level.FAILED
    assert Status.INFEASIBLE.level is Level.ANSWERED


def test_gurobi_past_its_restricted_licence_is_replaced_with_one_message(caplog: pytest.LogCaptureFixture) -> None:
    """True of any Gurobi: with a full licence, or none, the answers are the same."""
    wide = Program(
        cost=np.ones(2001), lower=np.zeros(2001), upper=np.ones(2001), matrix=np.ones((1, 2001)), row_lower=[2.0], row_upper=[inf]
    )
    with caplog.at_level(logging.WARNING, logger="solvers"), open_session(wide, "gurobi") as session:
        assert session.solve().objective == pytest.approx(2.0)
        name = session.name
    assert len(caplog.records) == (0 if name == "gurobi" else 1)
    caplog.clear()
    # Edits may outgrow the licence too: the session goes on, and says so once.
    small = Program(cost=np.ones(10), lower=np.zeros(10), upper=np.ones(10))
    with caplog.at_level(logging.WARNING, logger="solvers"), open_session(small, "gurobi") as session:
        assert session.solve().objective == pytest.approx(0.0)
        session.add_rows(np.ones((2001, 10)), np.full(2001, 3.0), np.full(2001, inf))
        first = session.solve()
        assert first.objective == pytest.approx(3.0)
        assert first.safe_bound == pytest.approx(3.0)
        session.set_row_bounds([2000], 4.0, 6.0)
        session.set_bounds([0], 0.0, 0.0)
        session.set_cost(np.full(10, 2.0), offset=1.0)
        assert session.solve().objective == pytest.approx(9.0)
        session.delete_rows(0)
        assert session.solve().objective == pytest.approx(1.0)
    assert len(caplog.records) <= 1


def test_integer_programs_with_cones_need_a_solver_that_takes_them(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where Gurobi has no licence, and cvxpy finds no other solver, the one error says both."""

    def refuse() -> None:
        raise SolverUnavailableError("solver gurobi", "it does not start (no licence).", "Check its licence.")

    monkeypatch.setattr("solvers.gurobi.environment", refuse)
    monkeypatch.setattr("cvxpy.installed_solvers", lambda: ["CLARABEL", "GUROBI", "HIGHS"])
    program = Program(**GOOD | {"integer": [True, False], "cones": [Cone([0, 1], [0.0, 0.0], 1.0)]})
    for solver in ("auto", "gurobi"):
        with pytest.raises(SolverUnavailableError, match=r"cvxpy: it finds no solver for integer variables .*no licence") as raised:
            open_session(program, solver)
        assert "Install pyscipopt" in raised.value.advice
    for solver in ("highs", "clarabel"):
        with pytest.raises(SolverUnavailableError, match="cannot take"):
            open_session(program, solver)


def test_the_layer_stands_alone_and_loads_quickly() -> None:
    """No other package of the project, and no slow backend, is imported before it is used."""
    code = (
        "import sys, solvers; solvers.open_session(solvers.Program(cost=[1.0], lower=[0.0], upper=[1.0])).solve();"
        "print([name for name in ('problems', 'verifier', 'torch', 'cvxpy', 'gurobipy', 'clarabel') if name in sys.modules])"
    )
    root = Path(solvers.__file__).resolve().parent.parent
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=root)
    assert result.stdout.strip() == "[]"

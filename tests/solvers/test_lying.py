"""The lying-solver family: y = s relu(x - 1) on [0, 1 + 1/s], s = 1e6 and 2^30, both directions (max y is 1, min y is 0).

Solvers work with tolerances of 1e-6 to 1e-9 on rows whose entries differ by s, and claim optima that no point has; nothing that
is called proved may believe them. LIES below lists the claims that are wrong by more than 0.1 (found 2026-11).
"""

from fractions import Fraction

import numpy as np
import pytest

from solvers import Program, Status, available, capabilities
from solvers.program import Capability
from solvers.registry import session_class
from tests.solvers.exact_optimum import exact_minimum

SLOPES = [1e6, 2.0**30]
STARTED = [name for name, complaint in available().items() if not complaint and Capability.LINEAR in capabilities(name)]


def triangle(slope: float, sign: float) -> Program:
    """Variables x, z = s (x - 1), y; y between relu(z) and the chord over [-s, u], rounded outward; minimise sign * y."""
    high = 1 + 1 / slope
    top = float(np.nextafter(slope * (high - 1), 2))
    chord = float(np.nextafter(top / (top + slope), 1))
    matrix = [[-slope, 1.0, 0.0], [0.0, -1.0, 1.0], [0.0, -chord, 1.0]]
    return Program(
        cost=[0.0, 0.0, sign],
        matrix=matrix,
        row_lower=[-slope, 0.0, -np.inf],
        row_upper=[-slope, np.inf, np.nextafter(chord * slope, np.inf)],
        lower=[0.0, -slope, 0.0],
        upper=[high, top, top],
    )


def big_m(slope: float, sign: float) -> Program:
    """The same neuron exactly, by big-M: y >= z, y <= z + s (1 - a), y <= u a, a binary."""
    high = 1 + 1 / slope
    top = float(np.nextafter(slope * (high - 1), 2))
    matrix = [[-slope, 1.0, 0.0, 0.0], [0.0, -1.0, 1.0, 0.0], [0.0, -1.0, 1.0, slope], [0.0, 0.0, 1.0, -top]]
    return Program(
        cost=[0.0, 0.0, sign, 0.0],
        matrix=matrix,
        row_lower=[-slope, 0.0, -np.inf, -np.inf],
        row_upper=[-slope, np.inf, slope, 0.0],
        lower=[0.0, -slope, 0.0, 0.0],
        upper=[high, top, top, 1.0],
        integer=[False, False, False, True],
    )


ENCODINGS = {"triangle": triangle, "big-M": big_m}
CASES = [(encoding, slope, sign) for encoding in ENCODINGS for slope in SLOPES for sign in (1.0, -1.0)]


def _truth(slope: float, sign: float) -> Fraction:
    """The exact minimum of sign * y over the network itself, with the stored (rounded) end of the interval."""
    return min(Fraction(0), sign * Fraction(slope) * (Fraction(1 + 1 / slope) - 1)) if sign < 0 else Fraction(0)


@pytest.mark.parametrize("solver", STARTED)
@pytest.mark.parametrize(("encoding", "slope", "sign"), CASES)
def test_no_proved_bound_is_wrong(solver: str, encoding: str, slope: float, sign: float) -> None:
    program = ENCODINGS[encoding](slope, sign)
    if not program.needs <= capabilities(solver):
        assert Capability.INTEGER in program.needs
        program = program.relaxed()
    truth = _truth(slope, sign)
    assert exact_minimum(program) <= truth  # the encoding is a relaxation, or exact
    with session_class(solver)(program) as session:
        for objective_limit in (None, float(truth) - 0.5, float(truth) + 0.5):
            solution = session.solve(objective_limit=objective_limit)
            assert not solution.proves_infeasible
            assert solution.safe_bound <= truth
            # Through edits: the phase of the neuron fixed, as a search would do.
        session.set_bounds([1], 0.0, program.upper[1])
        assert session.solve().safe_bound <= truth
        session.set_bounds([1], -slope, 0.0)
        session.set_bounds([2], 0.0, 0.0)
        assert session.solve().safe_bound <= 0


@pytest.mark.parametrize(("slope", "sign"), [(slope, sign) for slope in SLOPES for sign in (1.0, -1.0)])
def test_safe_bounds_of_the_triangle_are_also_close(slope: float, sign: float) -> None:
    """HiGHS finds the right basis even where its claimed value is off: the proof is close to the truth."""
    program = triangle(slope, sign)
    with session_class("highs")(program) as session:
        solution = session.solve()
    assert solution.safe_bound >= float(exact_minimum(program)) - 1e-6


# (backend, encoding, slope, sign): the claimed objective is wrong by more than 0.1, with status OPTIMAL and no warning.
# cvxpy hands the model to HiGHS as it is: the claimed maximum of y is 0. (Clarabel says 1.15 for the triangle, but admits doubts.)
LIES = [("cvxpy", "big-M", 2.0**30, -1.0)]


@pytest.mark.parametrize(("solver", "encoding", "slope", "sign"), LIES)
def test_the_claims_that_lie_today(solver: str, encoding: str, slope: float, sign: float) -> None:
    """Documents why claims are never passed on. If a newer solver stops lying here, take its line out of LIES."""
    program = ENCODINGS[encoding](slope, sign)
    with session_class(solver)(program) as session:
        solution = session.solve()
    assert solution.status is Status.OPTIMAL
    assert solution.objective is not None
    assert abs(solution.objective - float(exact_minimum(program))) > 0.1
    assert solution.safe_bound <= _truth(slope, sign)

"""A program goes in, a solution with duals comes out, and only safe dual bounds are called proved.

Knows nothing of networks and imports nothing of the other packages: other tools can use it alone.

    from solvers import Program, open_session
    with open_session(Program(cost=c, matrix=A, row_lower=l, row_upper=u, lower=low, upper=high)) as session:
        solution = session.solve(time_limit=10)
        solution.safe_bound          # proved, whatever the solver did
        session.set_bounds([3], 0.0, 0.0)
        solution = session.solve()   # hot start
"""

from solvers.errors import ProgramError, SolverError, SolverUnavailableError
from solvers.program import Capability, Cone, Program, projection
from solvers.registry import available, capabilities, choose, names, open_session
from solvers.safe import exact_safe_bound, proves_infeasible, safe_bound
from solvers.session import Session
from solvers.solution import Level, Solution, Status

__all__ = [
    "Capability",
    "Cone",
    "Level",
    "Program",
    "ProgramError",
    "Session",
    "Solution",
    "SolverError",
    "SolverUnavailableError",
    "Status",
    "available",
    "capabilities",
    "choose",
    "exact_safe_bound",
    "names",
    "open_session",
    "projection",
    "proves_infeasible",
    "safe_bound",
]

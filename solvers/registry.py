"""Which backends there are, what they can do, and which one takes a program."""

import logging
from collections.abc import Callable
from importlib import import_module

from solvers.errors import SolverError, SolverUnavailableError
from solvers.program import Capability, Program
from solvers.session import Session

logger = logging.getLogger("solvers")

# name: (module, class, module that must be importable). Loaded on first use: cvxpy alone takes more than a second.
_BACKENDS = {
    "highs": ("solvers.highs", "HighsSession", "highspy"),
    "gurobi": ("solvers.gurobi", "GurobiSession", "gurobipy"),
    "newton": ("solvers.newton", "NewtonSession", "scipy"),
    "clarabel": ("solvers.clarabel", "ClarabelSession", "clarabel"),
    "cvxpy": ("solvers.cvxpy", "CvxpySession", "cvxpy"),
    "scipy": ("solvers.scipy", "ScipySession", "scipy"),
}


def names() -> tuple[str, ...]:
    """The backends by name, whether they start here or not."""
    return tuple(_BACKENDS)


def available() -> dict[str, str]:
    """For each backend, why it cannot be used here, or "" where it starts. Probes licences; the first call may take a second."""
    return {name: _complaint(name) for name in _BACKENDS}


def capabilities(solver: str) -> frozenset[Capability]:
    """What a backend can do. Raises SolverUnavailableError."""
    return session_class(solver).capabilities


def choose(program: Program) -> str:
    """The backend that "auto" stands for: highs without cones and quadratic terms, clarabel with them, gurobi if integer besides;
    newton for strictly convex quadratic objectives over rows and bounds (projections)."""
    if Capability.INTEGER_QUADRATIC in program.needs:
        return "gurobi"
    if Capability.STRICTLY_CONVEX in program.needs:
        return "newton"
    return "clarabel" if program.needs & {Capability.CONES, Capability.QUADRATIC} else "highs"


def without_gurobi(program: Program) -> str:
    """The backend that takes over where gurobi does not start or cannot go on: the choice of "auto", or cvxpy where that is gurobi."""
    other = choose(program)
    return "cvxpy" if other == "gurobi" else other


def open_session(program: Program, solver: str = "auto") -> Session:
    """A session for the program. `solver`: "auto" or a name of `names()`.

    gurobi falls back to another backend, with one warning in the log, where it does not start or its restricted licence is too small.
    Raises SolverUnavailableError where no backend takes this kind of program, or the one named does not; SolverError for an unknown name.
    """
    if solver == "auto":
        solver = choose(program)
    if solver == "gurobi":
        return _open_gurobi(program)
    return session_class(solver)(program)


def _open_gurobi(program: Program) -> Session:
    try:
        return session_class("gurobi")(program)
    except SolverUnavailableError as reason:
        other = without_gurobi(program)
        try:
            session = session_class(other)(program)
        except SolverUnavailableError as also:
            raise SolverUnavailableError(also.place, f"{also.problem} {reason}", also.advice) from reason
        logger.warning("gurobi is not used: %s Falling back to %s.", reason, other)
        return session


def _complaint(name: str) -> str:
    try:
        session = session_class(name)
    except SolverUnavailableError as reason:
        return str(reason)
    probe: Callable[[], str] | None = getattr(session, "complaint", None)
    return probe() if probe is not None else ""


def session_class(name: str) -> type[Session]:
    """The class of a backend, loaded on first use. Raises SolverUnavailableError, and SolverError for an unknown name."""
    if name not in _BACKENDS:
        raise SolverError("solver", f"no backend is called {name!r}.", f"Choose one of auto, {', '.join(_BACKENDS)}.")
    module, session, needed = _BACKENDS[name]
    try:
        import_module(needed)
        found: type[Session] = getattr(import_module(module), session)
    except ImportError as error:
        raise SolverUnavailableError(f"solver {name}", f"{needed} cannot be imported ({error}).", f"Install {needed}.") from error
    return found

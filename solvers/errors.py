"""Typed errors of the solver layer: each names the place, the problem, and what to do about it."""


class SolverError(ValueError):
    """A program or a request that a solver cannot take. `place` is where it stands, `problem` what is wrong, `advice` what to do."""

    def __init__(self, place: str, problem: str, advice: str = "") -> None:
        self.place = place
        self.problem = problem
        self.advice = advice
        super().__init__(f"{place}: {problem}" + (f" {advice}" if advice else ""))

    def __reduce__(self) -> tuple[type, tuple[str, str, str]]:
        # Errors cross process boundaries when programs are solved by workers.
        return type(self), (self.place, self.problem, self.advice)


class ProgramError(SolverError):
    """A malformed program or edit: NaN, wrong shape, lower > upper, index out of range."""


class SolverUnavailableError(SolverError):
    """A backend that is not installed, has no licence, or cannot take this kind of program."""

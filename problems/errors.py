"""One typed error for each kind of bad input.

Every message names the place (a file, a line, a node, an argument), says what is wrong there, and ends with what to do.
The command line prints the message and exits with status 2; nothing in this package lets a bare traceback of bad input through.
"""


class InputError(ValueError):
    """Bad input. `place` is where it stands, `problem` what is wrong, `advice` what to do."""

    def __init__(self, place: str, problem: str, advice: str = "") -> None:
        self.place = place
        self.problem = problem
        self.advice = advice
        super().__init__(f"{place}: {problem}" + (f" {advice}" if advice else ""))

    def __reduce__(self) -> tuple[type, tuple[str, str, str]]:
        # Errors cross process boundaries when samples are fanned out to workers.
        return type(self), (self.place, self.problem, self.advice)


class NetworkError(InputError):
    """A network that cannot be read, is malformed, or holds NaN or infinite weights."""


class UnsupportedOperatorError(NetworkError):
    """An operator that is not piecewise affine, or not yet rewritten into affine and ReLU nodes."""


class SpecificationError(InputError):
    """A property that cannot be read or does not fit the network."""


class RegionError(InputError):
    """An input region that is empty, malformed, or of another dimension than the network's input."""


class DataError(InputError):
    """Samples that do not fit: wrong shape, NaN, labels out of range, points outside the region."""

"""What a solve returns: a status in three levels, the solver's claims, and the proofs that are computed from them on demand."""

from dataclasses import dataclass
from enum import Enum
from functools import cached_property
from math import inf

from solvers.program import Array, Program
from solvers.safe import proves_infeasible, safe_bound


class Level(Enum):
    """First level of a status: did the solver answer, was it stopped, or did it fail."""

    ANSWERED = "answered"
    STOPPED = "stopped"
    FAILED = "failed"


class Status(Enum):
    """Second level: what happened, and what to do. The third level is the solver's own word, `Solution.raw_status`."""

    OPTIMAL = "The solver claims an optimum within its tolerances; use safe_bound as proof and check x yourself."
    INFEASIBLE = "No point is feasible: the Farkas ray was checked rigorously; nothing is left to do."
    CLAIMED_INFEASIBLE = "The solver claims that no point is feasible, and nothing proves it; do not prune: branch or tighten the bounds."
    UNBOUNDED = "The solver claims that the objective has no lower bound; give finite bounds to the variables."
    INFEASIBLE_OR_UNBOUNDED = "The solver claims that the program is infeasible or unbounded; solve it with zero cost to tell them apart."
    ABOVE_LIMIT = "The solver claims that the minimum lies above objective_limit and stopped; use safe_bound as proof."
    BELOW_LIMIT = "A point with an objective of at most objective_limit was found and the solver stopped; check x yourself."
    TIME_LIMIT = "The time limit ended the solve; use the point and the bounds reached, or solve again with more time."
    INTERRUPTED = "The interrupt callback ended the solve; use the point and the bounds reached, or solve again."
    ITERATION_LIMIT = "The solver's own limit of iterations or memory ended the solve; rescale the program or use another solver."
    NUMERICAL_TROUBLE = "The solver gave up or doubts its own result; rescale the program or use another solver; safe_bound still holds."

    @property
    def level(self) -> Level:
        """ANSWERED, STOPPED or FAILED."""
        if self in (Status.TIME_LIMIT, Status.INTERRUPTED, Status.ITERATION_LIMIT):
            return Level.STOPPED
        return Level.FAILED if self is Status.NUMERICAL_TROUBLE else Level.ANSWERED


@dataclass(frozen=True, eq=False, kw_only=True)
class Solution:
    """The outcome for `program`, the very data that were solved (later edits of the session do not change it).

    Claims of the solver, not to be trusted: x (n,), objective, claimed_bound (its lower bound of the minimum; -inf if none).
    Guesses that proofs start from: row_duals (m,), positive where the lower side of a row pushes the minimum up; cone_duals, one vector
    per cone with cost + Q x - matrix^T row_duals - sum E_k^T cone_duals_k = multipliers of the variable bounds; ray and cone_ray, the same
    for zero cost (Farkas). None where the solver has none (duals of programs with integer variables, for one).
    Proved: safe_bound, proves_infeasible, and status INFEASIBLE.
    """

    status: Status
    raw_status: str
    program: Program
    x: Array | None = None
    objective: float | None = None
    row_duals: Array | None = None
    cone_duals: tuple[Array, ...] | None = None
    ray: Array | None = None
    cone_ray: tuple[Array, ...] | None = None
    claimed_bound: float = -inf
    seconds: float = 0.0
    iterations: int = 0

    @cached_property
    def safe_bound(self) -> float:
        """A proven lower bound of the program's minimum: +inf if it is proved infeasible, -inf if nothing is proved.

        From the row duals (or none: the bound of the variable bounds alone). With integer variables it bounds the continuous
        relaxation only.
        """
        if self.proves_infeasible:
            return inf
        return safe_bound(self.program, self.row_duals, self.cone_duals)

    @cached_property
    def proves_infeasible(self) -> bool:
        """Whether the ray proves rigorously that no point is feasible."""
        return proves_infeasible(self.program, self.ray, self.cone_ray)

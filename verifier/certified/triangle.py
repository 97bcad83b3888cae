"""The convex outer polytope (Wong, Kolter 2018): every open ReLU replaced by its triangle, the differences of logits maximised exactly.

Linear programs for the norms 1 and inf, second-order cone programs for the norm 2. The triangles stand on CROWN's bounds of the hidden
neurons (the paper bounds these by a feasible dual solution, which is weaker). A program counts only through its safe dual bound.
"""

import time
from math import isfinite

import numpy as np

from solvers import SolverError, open_session
from verifier.bounds import Propagation
from verifier.certified.base import Question, Tested
from verifier.certified.crown import bounded, margins_above
from verifier.encode import encode
from verifier.leaf import able


class Triangle(Tested):
    """Rivals that CROWN has ruled out need no program; of the others the most dangerous is tried first, and one that fails ends it."""

    name = "triangle"
    title = "triangle LP"
    meaning = "the convex outer polytope: each ReLU's tightest convex shape, solved to the end (Wong and Kolter 2018)"

    def holds(self, question: Question, radius: float) -> bool:
        pieces = bounded(question, radius)
        above = margins_above(pieces, question.rows)
        left = [row for row in np.argsort(-above) if not above[row] < 0]
        return all(not question.late and _largest(question, pieces, question.rows[row], radius) < 0 for row in left)


def _largest(question: Question, pieces: Propagation, row: np.ndarray, radius: float) -> float:
    """A proven upper bound of row.z over the relaxation of the ball."""
    program = encode(pieces, question.ball(radius), row[None], np.zeros(1)).program.relaxed()
    left = question.deadline - time.monotonic()
    try:
        with open_session(program, solver=able(question.solver, program)) as session:
            solution = session.solve(time_limit=max(left, 0.01) if isfinite(left) else None)
    except SolverError:
        return np.inf
    if solution.objective is not None and solution.objective < 0:
        return np.inf  # a point of the relaxation with a margin above zero, whatever it is worth: no proof is to be had
    return -solution.safe_bound

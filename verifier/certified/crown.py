"""CROWN (Zhang et al. 2018): linear bounds pushed back to the input, with the slopes of smallest area."""

import numpy as np

from problems.maps import Array
from verifier.bounds import Propagation, backward, upper_bound, walk
from verifier.certified.base import Question, Tested, propagation


class Crown(Tested):
    """Every layer's neurons, then the differences of logits, by backward linear bounds on the ball. The slopes are not optimised."""

    name = "crown"
    title = "CROWN"
    patience = 4.0
    meaning = "linear bounds pushed back through the network to the ball (Zhang et al. 2018)"

    def holds(self, question: Question, radius: float) -> bool:
        return bool((margins_above(bounded(question, radius), question.rows) < 0).all())


def bounded(question: Question, radius: float) -> Propagation:
    """The ball's neurons, bounded by CROWN."""
    return walk(propagation(question.network, question.ball(radius)), crown=True)


def margins_above(pieces: Propagation, rows: Array) -> Array:
    """(S,): upper bounds of rows (S, K) times the logits on the ball."""
    return upper_bound(pieces, backward(pieces, len(pieces.network.nodes) - 1, np.ascontiguousarray(rows[None])))[0][0]

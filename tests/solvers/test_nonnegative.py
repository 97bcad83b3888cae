"""Non-negative least squares against scipy, dependent and zero rows included."""

import numpy as np
import pytest
from scipy.optimize import nnls

from solvers.nonnegative import least_squares_batch


@pytest.mark.parametrize(("rows", "columns"), [(1, 1), (5, 2), (10, 3), (33, 5), (64, 9)])
def test_residuals_are_the_least(rows, columns):
    generator = np.random.default_rng(rows)
    systems = generator.standard_normal((60, rows, columns))
    if rows > 4:
        systems[::3, 1] = 2 * systems[::3, 0]  # parallel
        systems[::4, 2] = -systems[::4, 0]  # opposite
        systems[::5, 3] = 0.0
        systems[::7, 4] = systems[::7, 0] + systems[::7, 1]
    lengths = np.linalg.norm(systems, axis=2, keepdims=True)
    systems /= np.where(lengths == 0, 1.0, lengths)
    targets = generator.standard_normal((60, columns))
    targets /= np.linalg.norm(targets, axis=1, keepdims=True)
    found = least_squares_batch(systems, targets)
    assert (found >= 0).all()
    for system, target, x in zip(systems, targets, found, strict=True):
        assert np.linalg.norm(target - x @ system) == pytest.approx(nnls(system.T, target)[1], abs=1e-11)
        assert (system @ (target - x @ system) <= 1e-10).all()


def test_nothing_to_do():
    assert least_squares_batch(np.zeros((1, 3, 2)), np.ones((1, 2))).tolist() == [[0.0, 0.0, 0.0]]
    assert least_squares_batch(np.array([[[1.0, 0.0]]]), np.array([[-1.0, 0.0]])).tolist() == [[0.0]]

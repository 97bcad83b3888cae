"""Projections and steepest directions of the attacks: against a solver and closed forms."""

from math import inf

import cvxpy
import numpy as np
import pytest
import torch

from tests.verifier.attack_cases import DUAL, NORMS, Array, tensor
from verifier.attacks.projections import onto_ball, onto_halfspace, steepest


@pytest.fixture(params=range(8))
def ball_case(request: pytest.FixtureRequest) -> tuple[Array, Array, Array, Array, float, Array]:
    """(center, lower, upper, point, radius, normal); some sides have width 0, some boxes are the whole space."""
    rng = np.random.default_rng(request.param)
    center = rng.normal(size=6)
    lower, upper = center - 0.6 * rng.exponential(size=6), center + 0.6 * rng.exponential(size=6)
    if request.param % 3 == 0:
        lower[:], upper[:] = -inf, inf
    if request.param % 3 == 1:
        upper[0], lower[1] = center[0], center[1]
    normal = rng.normal(size=6)
    normal[3] = 0
    return center, lower, upper, center + 2 * rng.normal(size=6), 1.5 * rng.exponential(), normal


@pytest.mark.parametrize("norm", NORMS)
def test_projection_onto_balls_agrees_with_a_solver(ball_case: tuple, norm: float) -> None:
    center, lower, upper, point, radius, _ = ball_case
    found = onto_ball(*(tensor([part]) for part in (point, center)), tensor([radius]), norm, tensor([lower]), tensor([upper]))[0].numpy()
    assert np.linalg.norm(found - center, norm) <= radius * (1 + 1e-12)
    assert ((lower <= found) & (found <= upper)).all()
    x = cvxpy.Variable(6)
    finite = np.isfinite(lower)
    inside = [cvxpy.norm(x - center, norm) <= radius, x[finite] >= lower[finite], x[finite] <= upper[finite]] if finite.any() else []
    problem = cvxpy.Problem(cvxpy.Minimize(cvxpy.sum_squares(x - point)), inside or [cvxpy.norm(x - center, norm) <= radius])
    problem.solve(solver="CLARABEL")
    assert ((found - point) ** 2).sum() <= problem.value + 1e-5


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("gap", [0.3, 1.0, 30.0])
def test_steps_onto_half_spaces_agree_with_a_solver(ball_case: tuple, norm: float, gap: float) -> None:
    center, lower, upper, _, _, normal = ball_case
    steps, feasible = onto_halfspace(tensor([normal]), tensor([gap]), norm, tensor([center - lower]), tensor([upper - center]))
    step = steps[0].numpy()
    assert ((lower - 1e-12 <= center + step) & (center + step <= upper + 1e-12)).all()
    room = np.where(normal > 0, upper - center, center - lower)
    reachable = sum(abs(normal[i]) * room[i] for i in range(6) if normal[i] != 0)
    assert bool(feasible[0]) == (reachable >= gap)
    if not feasible[0]:
        assert normal @ step == pytest.approx(reachable)  # as far as the box allows
        return
    assert normal @ step >= gap * (1 - 1e-12)
    x, finite = cvxpy.Variable(6), np.isfinite(lower)
    sides = [x[finite] >= (lower - center)[finite], x[finite] <= (upper - center)[finite]] if finite.any() else []
    problem = cvxpy.Problem(cvxpy.Minimize(cvxpy.norm(x, norm)), [normal @ x >= gap, *sides])
    problem.solve(solver="CLARABEL")
    assert np.linalg.norm(step, norm) <= problem.value * (1 + 1e-6)


@pytest.mark.parametrize("norm", NORMS)
def test_the_steepest_direction_attains_the_dual_norm_of_what_can_move(norm: float) -> None:
    gradient, blocked = tensor([[3.0, -1.0, 2.0, -4.0]]), tensor([[1.0, 1.0, 1.0, 0.0]])  # the last one cannot go down
    direction = steepest(gradient, norm, blocked, torch.ones_like(blocked))[0].numpy()
    assert np.linalg.norm(direction, norm) == pytest.approx(1)
    assert direction[3] == 0
    assert gradient[0].numpy() @ direction == pytest.approx(np.linalg.norm([3.0, -1.0, 2.0], DUAL[norm]))

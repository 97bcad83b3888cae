"""The support function of transport balls, in torch and compiled, against a linear program; flows and distances against POT."""

import numpy as np
import pytest
import scipy.sparse as sparse
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import linprog

from problems.errors import DataError, InputError, RegionError
from problems.regions import TransportBall
from problems.transport.curve import curve
from problems.transport.dyadic import settled
from problems.transport.flows import distance
from problems.transport.grid import Grid
from problems.transport.multipliers import cut_support
from problems.transport.support import support
from tests.problems.transport_oracles import functionals, grids, images, largest, program, shortest

RADII = st.sampled_from([0.0, 0.03, 0.3, 1.0, 10.0])


@settings(max_examples=60)
@given(st.data())
def test_support_against_a_linear_program(data: st.DataObject) -> None:
    grid = data.draw(grids())
    mu, c, radius = data.draw(images(grid)), data.draw(functionals(grid)), data.draw(RADII)
    expected = largest(grid, c, mu, radius)
    found = support(c[None], mu[None], radius, shape=grid)
    value, point = TransportBall(mu, radius, grid).support(c[None, None])
    for upper, nu in ((found.value[0].item(), found.nu[0].numpy()), (value[0, 0], point[0, 0])):
        assert expected - 1e-9 <= upper <= expected + 1e-8
        assert c @ nu == pytest.approx(expected, abs=1e-8)
        assert nu.min() >= 0.0
        assert float(np.abs(nu.reshape(grid.channels, -1).sum(1) - mu.reshape(grid.channels, -1).sum(1)).max()) < 1e-12
    assert found.cost[0].item() <= radius + 1e-12


@settings(max_examples=40)
@given(st.data())
def test_distance_to_a_half_space_against_a_linear_program(data: st.DataObject) -> None:
    grid = data.draw(grids())
    mu, a = data.draw(images(grid)), data.draw(functionals(grid))
    offset = -a @ mu - data.draw(st.sampled_from([-0.1, 0.0, 0.05, 0.4, 1.0]))
    expected = shortest(grid, a[None], np.array([offset]), mu)
    found, point = TransportBall(mu, np.inf, grid).closest(a[None, None], np.array([[offset]]))
    if expected == np.inf:
        assert found[0, 0] == np.inf or a @ point[0, 0] + offset < 1e-9  # out of reach, or by less than rounding
        return
    assert expected - 1e-7 <= found[0, 0] <= expected + 1e-9
    assert a @ point[0, 0] + offset >= -1e-9


@settings(max_examples=25)
@given(st.data())
def test_rows_that_follow_each_other_begin_where_the_last_one_ended(data: st.DataObject) -> None:
    grid = data.draw(grids())
    mu, radius = data.draw(images(grid)), data.draw(st.sampled_from([0.03, 0.3, 1.0]))
    rows = np.stack([data.draw(functionals(grid)) for _ in range(4)])
    rows = np.concatenate([rows, rows[1:2], 7.0 * rows[2:3], -rows[:1], rows[3:] + 1e-3])
    ball = TransportBall(mu, radius, grid)
    value, point = ball.support(rows[None])
    offsets = -rows @ mu - 0.2 * np.abs(rows).max(axis=1)
    distances, closest = ball.closest(rows[None], offsets[None])
    for index, row in enumerate(rows):
        assert value[0, index] == pytest.approx(largest(grid, row, mu, radius), abs=1e-8)
        assert row @ point[0, index] == pytest.approx(value[0, index], abs=1e-8)
        expected = shortest(grid, row[None], offsets[index : index + 1], mu)
        if expected < np.inf:
            assert expected - 1e-7 <= distances[0, index] <= expected + 1e-9
            assert row @ closest[0, index] + offsets[index] >= -1e-9
        else:
            assert distances[0, index] == np.inf


@settings(max_examples=25)
@given(st.data())
def test_capped_pixels_are_never_bounded_too_low(data: st.DataObject) -> None:
    grid = data.draw(grids(channels=1))
    mu, c, radius = data.draw(images(grid)), data.draw(functionals(grid)), data.draw(RADII)
    expected = largest(grid, c, mu, radius, cap=1.0)
    capped, _ = TransportBall(mu, radius, grid, "image").support(c[None, None])
    free, _ = TransportBall(mu, radius, grid).support(c[None, None])
    assert expected - 1e-9 <= capped[0, 0] <= free[0, 0] + 1e-12


def test_many_rows_at_once_and_their_gradients() -> None:
    grid, generator = Grid(1, 6, 5), np.random.default_rng(0)
    mu, c = generator.random(30), generator.normal(size=(4, 30))
    found = support(c, mu[None], torch.tensor([0.1, 0.2, 0.5, 1.0]), shape=grid)
    step = 1e-6
    for row, radius in enumerate((0.1, 0.2, 0.5, 1.0)):
        direction = generator.normal(size=30)
        ahead = largest(grid, c[row] + step * direction, mu, radius) - largest(grid, c[row], mu, radius)
        assert ahead / step == pytest.approx(direction @ found.nu[row].numpy(), abs=1e-4)
        ahead = largest(grid, c[row], mu, radius + step) - largest(grid, c[row], mu, radius)
        assert ahead / step == pytest.approx(found.multiplier[row].item(), abs=1e-4)


@settings(max_examples=40)
@given(st.data())
def test_bounding_boxes_hold_and_are_reached(data: st.DataObject) -> None:
    grid = data.draw(grids(side=3))
    mu, radius = data.draw(images(grid)), data.draw(RADII)
    lower, upper = TransportBall(mu, radius, grid).bounding_box()
    for pixel in range(grid.size):
        c = np.eye(grid.size)[pixel]
        assert upper[pixel] == pytest.approx(largest(grid, c, mu, radius), abs=1e-9)
        assert lower[pixel] <= -largest(grid, -c, mu, radius) + 1e-9


@settings(max_examples=60)
@given(st.data())
def test_distances_are_proved_at_both_ends(data: st.DataObject) -> None:
    import ot

    grid = data.draw(grids())
    mu, toward = data.draw(images(grid)), data.draw(images(grid))
    nu = settled(toward[None], mu, grid, np.inf)[0]
    assert grid.masses(nu) == grid.masses(mu)
    found = distance(mu, nu, grid)
    assert found.lower <= found.upper
    assert found.upper == found.lower or (grid.ground == "l2" and found.upper - found.lower < 1e-9)
    moved = [0] * grid.size
    for start, end, amount in found.moves:
        assert amount > 0
        moved[start] -= amount
        moved[end] += amount
    assert all(a + b == c for a, b, c in zip(map(_exact, mu), moved, map(_exact, nu), strict=True))
    expected = 0.0
    for channel in range(grid.channels):
        part = slice(channel * grid.pixels, (channel + 1) * grid.pixels)
        if mass := mu[part].sum():
            expected += mass * ot.emd2(mu[part] / mass, nu[part] / nu[part].sum(), grid.distances)
    assert float(found.upper) == pytest.approx(expected, abs=1e-8)


def _exact(value: float) -> object:
    from fractions import Fraction

    return Fraction(value)


@settings(max_examples=40)
@given(st.data())
def test_points_of_the_ball_are_of_the_ball(data: st.DataObject) -> None:
    grid = data.draw(grids(side=3))
    mu, radius = data.draw(images(grid)), data.draw(RADII)
    pixels = data.draw(st.sampled_from(["simplex", "image"]))
    ball = TransportBall(mu, radius, grid, pixels)
    assert ball.contains(mu)
    toward = data.draw(images(grid)) * 1.5 - 0.1
    inside = ball.clip(toward)
    assert ball.contains(inside)
    assert grid.masses(inside) == grid.masses(mu)
    assert ball.norm_lower(inside) <= ball.norm_upper(inside) <= radius
    out = ball.with_radius(np.inf).outward(toward[None], np.array([0.0, 0.1]))
    assert out.shape == (2, grid.size)
    assert all(ball.with_radius(np.inf).contains(image) for image in out)
    away = ball.norm_lower(out[0])
    assert not ball.with_radius(away * 0.99).contains(out[0]) or away == 0.0


def test_masses_that_float64_does_not_hold_are_kept_exactly() -> None:
    generator = np.random.default_rng(5)
    grid = Grid(1, 5, 5)
    for _ in range(50):
        mu = generator.random(25) * 10.0 ** generator.integers(-12, 1, 25)
        nu = settled((mu[::-1] + 0.01 * generator.random(25))[None], mu, grid, np.inf)[0]
        assert grid.masses(nu) == grid.masses(mu)
        assert np.abs(nu - mu[::-1]).max() < 0.5


def test_bad_input_is_named() -> None:
    grid = Grid(1, 2, 2)
    for bad in ([0.5, -0.1, 0.2, 0.1], [0.0] * 4, [0.1] * 5, [np.nan, 0.0, 1.0, 0.0]):
        with pytest.raises(DataError):
            TransportBall(np.array(bad), 1.0, grid)
    with pytest.raises(RegionError, match="radius"):
        TransportBall(np.full(4, 0.25), -1.0, grid)
    with pytest.raises(RegionError, match="pixel 0 is above 1"):
        TransportBall(np.array([2.0, 0.0, 0.0, 0.0]), 1.0, grid, "image")
    with pytest.raises(RegionError, match="pixels"):
        TransportBall(np.full(4, 0.25), 1.0, grid, "round")
    with pytest.raises(InputError, match="ground"):
        Grid(1, 2, 2, "l3")
    with pytest.raises(InputError):
        support(np.ones((1, 4)), -np.ones((1, 4)), 1.0, shape=grid)
    with pytest.raises(InputError):
        support(np.ones((1, 5)), np.ones((1, 4)), 1.0, shape=grid)
    with pytest.raises(DataError, match="masses differ"):
        distance(np.array([0.5, 0.5, 0.0, 0.0]), np.array([0.5, 0.25, 0.0, 0.0]), grid)


@settings(max_examples=40)
@given(st.data())
def test_the_whole_curve_and_its_inverse(data: st.DataObject) -> None:
    grid = data.draw(grids())
    mu, c = data.draw(images(grid)), data.draw(functionals(grid))
    whole = curve(c, mu, grid)
    for radius in (0.0, 0.02, 0.3, 2.0, 50.0):
        assert whole.gain(radius) == pytest.approx(largest(grid, c, mu, radius) - c @ mu, abs=1e-8)
    for gain in (0.05, 0.4):
        expected = shortest(grid, c[None], np.array([-gain - c @ mu]), mu)
        assert whole.cost(gain) == pytest.approx(expected, abs=1e-7)


@settings(max_examples=15)
@given(st.data())
def test_cuts_hold_and_gain(data: st.DataObject) -> None:
    grid = data.draw(grids(channels=1))
    mu, c, radius = data.draw(images(grid)), data.draw(functionals(grid)), data.draw(RADII)
    row = data.draw(functionals(grid))
    limit = row @ mu + 0.01
    found = cut_support(c[None], mu[None], radius, shape=grid, cap=1.0, rows=row[None], limits=[limit], steps=40)
    capped = cut_support(c[None], mu[None], radius, shape=grid, cap=1.0, steps=40)
    both, cost, rows, limits = program(grid, mu, 1.0)
    exact = linprog(
        -(both.T @ c), A_ub=sparse.vstack([rows, sparse.csr_matrix(cost), sparse.csr_matrix(both.T @ row)]),
        b_ub=np.concatenate([limits, [radius, 0.01]]), bounds=(0, None), method="highs",
    )  # fmt: skip
    free = largest(grid, c, mu, radius)
    assert c @ mu - exact.fun - 1e-9 <= found.value[0].item() <= free + 1e-8
    assert largest(grid, c, mu, radius, cap=1.0) - 1e-9 <= capped.value[0].item() <= free + 1e-8
    assert (found.caps >= 0).all()
    assert (found.rows >= 0).all()


def test_cuts_come_near_the_program() -> None:
    grid, generator = Grid(1, 5, 5), np.random.default_rng(3)
    mu, c = np.where(generator.random(25) < 0.5, 0.9, 0.2), generator.normal(size=(8, 25))
    found = cut_support(c, mu[None], 4.0, shape=grid, cap=1.0, steps=200).value.numpy()
    exact = np.array([largest(grid, row, mu, 4.0, cap=1.0) for row in c])
    free = np.array([largest(grid, row, mu, 4.0) for row in c])
    assert ((found - exact) <= 0.25 * (free - exact)).all()

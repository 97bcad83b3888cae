"""The outer problem on its own: mixtures against linear programs, envelopes of convex functions, few rates for many radii."""

from math import inf

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import linprog

from problems.data import Dataset
from problems.errors import DataError
from problems.regions import Box
from tests.verifier.tightness_oracles import random_network
from verifier.distributional import shells
from verifier.distributional.distribution import of_mixture, read, save
from verifier.distributional.inner import Setting, Task
from verifier.distributional.losses import Margin
from verifier.distributional.outer import Envelope, Front, Segments, dual_bound, stab


def fronts_of(seed: int, samples: int, *, concave: bool = True) -> tuple[list[Front], list[np.ndarray], list[np.ndarray]]:
    generator = np.random.default_rng(seed)
    fronts, losses, costs = [], [], []
    for i in range(samples):
        front = Front(np.zeros(2), i % 2, float(generator.normal()), concave=concave)
        more, price = generator.normal(size=6) + 1.0, generator.random(6) * 2
        front.add(generator.normal(size=(6, 2)), i % 2, more, price)
        fronts.append(front)
        losses.append(np.append(front.losses[0], more))
        costs.append(np.append(0.0, price))
    return fronts, losses, costs


@settings(max_examples=30)
@given(seed=st.integers(0, 100_000), samples=st.integers(1, 5), epsilon=st.floats(0.0, 3.0), order=st.sampled_from([1.0, 2.0]))
def test_mixtures_solve_the_linear_program(seed: int, samples: int, epsilon: float, order: float) -> None:
    fronts, losses, costs = fronts_of(seed, samples)
    mixture = Segments(fronts).mixture(epsilon, order)
    sizes = [len(part) for part in losses]
    rows = np.zeros((samples, sum(sizes)))
    for i in range(samples):
        rows[i, sum(sizes[:i]) : sum(sizes[: i + 1])] = 1.0
    found = linprog(
        -np.concatenate(losses) / samples,
        A_ub=np.concatenate(costs)[None] / samples,
        b_ub=[epsilon**order],
        A_eq=rows,
        b_eq=np.ones(samples),
    )
    assert mixture.value == pytest.approx(-found.fun, abs=1e-9)
    assert len(mixture.shares) <= samples + 1
    spent = sum(s * fronts[i].costs[k] for i, k, s in zip(mixture.samples, mixture.picks, mixture.shares, strict=True))
    assert spent <= samples * epsilon**order * (1 + 1e-12)
    # The rate is a dual solution: the lower model at it is the value.
    dual = mixture.rate * epsilon**order + np.mean([(part - mixture.rate * price).max() for part, price in zip(losses, costs, strict=True)])
    if mixture.rate < inf:
        assert dual == pytest.approx(mixture.value, abs=1e-9)


def test_infinite_order_takes_the_best_within_reach() -> None:
    fronts, losses, costs = fronts_of(7, 4, concave=False)
    for epsilon in (0.0, 0.4, 1.1, 5.0):
        truth = np.mean([part[price <= epsilon].max() for part, price in zip(losses, costs, strict=True)])
        assert Segments(fronts).mixture(epsilon, inf).value == pytest.approx(truth)


@settings(max_examples=30)
@given(seed=st.integers(0, 100_000))
def test_envelopes_lie_above_the_convex_function_they_are_told_of(seed: int) -> None:
    generator = np.random.default_rng(seed)
    losses, costs = np.append(0.0, generator.random(5) * 3), np.append(0.0, generator.random(5))

    def phi(rates: np.ndarray) -> np.ndarray:
        return (losses[:, None] - rates[None] * costs[:, None]).max(axis=0)

    envelope = Envelope(1.0, base=0.0, ceiling=4.0)
    rates = generator.random(4) * 5
    envelope.add(rates, phi(rates) + 1e-9)
    grid = np.linspace(0, 8, 400)
    assert (envelope.at(grid) >= phi(grid)).all()
    assert envelope.at(rates) == pytest.approx(phi(rates), abs=1e-8)
    assert not envelope.add(rates, phi(rates) + 1.0)  # no news


def test_what_a_slope_alone_gives() -> None:
    assert Envelope(1.0, base=1.0, slope=2.0).at(np.array([1.9, 2.0, 3.0])).tolist() == pytest.approx([inf, 1.0, 1.0])
    assert Envelope(2.0, base=1.0, slope=2.0).at(np.array([0.5])).tolist() == pytest.approx([3.0])
    assert Envelope(inf, base=1.0, slope=2.0).at(np.array([0.5])).tolist() == pytest.approx([2.0])


def test_dual_bounds_are_rounded_up() -> None:
    assert dual_bound(0.1, 0.3, 3, 0.1, 2) >= 0.1 * 0.1**2 + 0.3 / 3
    assert dual_bound(0.0, 3.0, 3, 5.0, 1) == pytest.approx(1.0)


def test_few_rates_serve_many_radii() -> None:
    chosen = stab([(1.0, 2.0), (1.5, 3.0), (4.0, 5.0)], [1.2, 2.9, 4.5])
    assert len(chosen) == 2
    assert 1.5 <= chosen[1] <= 2.0
    assert chosen[0] == 4.5


def test_distributions_are_written_and_read(tmp_path) -> None:
    fronts, _, _ = fronts_of(3, 3)
    data = Dataset(np.zeros((3, 2)), np.array([0, 1, 0]))
    segments = Segments(fronts)
    written = [of_mixture(segments.mixture(e, 1.0), fronts, data, epsilon=e, order=1.0, norm=2.0, loss="margin") for e in (0.1, 0.2)]
    file = tmp_path / "worst.npz"
    save(file, written)
    for before, after in zip(written, read(file), strict=True):
        assert np.array_equal(before.points, after.points)
        assert (before.epsilon, before.expected, before.cost, before.loss) == (after.epsilon, after.expected, after.cost, after.loss)
        assert after.weights @ after.losses == pytest.approx(after.expected, abs=1e-12)
        assert after.cost <= after.epsilon
    with pytest.raises(DataError, match="cannot be written"):
        save(tmp_path / "absent" / "worst.npz", written)
    (tmp_path / "other.npz").write_bytes(b"nothing")
    with pytest.raises(DataError, match="no file of distributions"):
        read(tmp_path / "other.npz")


@pytest.mark.parametrize("order", [1.0, 2.0])
def test_shells_bound_the_suprema_at_every_rate(order: float) -> None:
    network = random_network(4, 2, 6, 3)
    box = Box(np.zeros(2), np.ones(2))
    x = np.array([0.3, 0.6])
    setting = Setting(network, 2, order, box, Margin())
    radii = shells.radii_of([0.05], 0.95)
    answer = shells.bound(setting, Task(0, x, 1, radii, (0.0,) * len(radii), x[None]))
    rising = np.argsort(radii)
    found = shells.Shells(np.array(radii)[rising], answer.upper[rising], 100.0, order)
    grid = np.stack(np.meshgrid(*[np.linspace(0, 1, 101)] * 2), axis=-1).reshape(-1, 2)
    logits = network.forward(grid)
    losses = np.maximum(logits[:, 0], logits[:, 2]) - logits[:, 1]
    prices = np.linalg.norm(grid - x, axis=1) ** order
    rates = np.geomspace(1e-3, 1e3, 40)
    bounds = found.at(rates)
    assert (bounds >= (losses[None] - rates[:, None] * prices).max(axis=1)).all()
    at_sample = network.forward(x[None])[0]
    assert bounds[-1] == pytest.approx(max(at_sample[0], at_sample[2]) - at_sample[1], abs=0.1)  # dear moves are not worth it

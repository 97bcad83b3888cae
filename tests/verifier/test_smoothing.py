"""Wasserstein smoothing: both certificates against closed forms, the bound on the probability against scipy's, the noise, and seeds."""

from math import exp, log, sqrt

import numpy as np
import pytest
import torch
from scipy.stats import binom, binomtest

from problems.data import Dataset, load
from problems.errors import DataError, InputError
from problems.maps import Dense
from problems.network import sequential
from problems.transport.grid import Grid
from verifier.transport.smoothing import at_least, published_radius, smoothed_radii, tight_radius, votes


@pytest.mark.parametrize(("hits", "count"), [(0, 10), (1, 10), (7, 10), (10, 10), (9_990, 10_000)])
def test_lower_bound_of_a_probability(hits: int, count: int) -> None:
    bound = at_least(hits, count, 0.95)
    # The two-sided interval at twice the error has the same lower end.
    assert bound == pytest.approx(binomtest(hits, count).proportion_ci(0.9, method="exact").low, abs=1e-12)
    if hits:
        assert binom.sf(hits - 1, count, bound) == pytest.approx(0.05)


@pytest.mark.parametrize("p", [0.5, 0.6, 0.9, 0.9997])
def test_certificates(p: float) -> None:
    sigma = 0.01
    scale = sigma / sqrt(2)
    published, tight = published_radius(p, sigma), tight_radius(p, sigma)
    assert p * exp(-published / scale) == pytest.approx((1 - p) * exp(published / scale))
    assert tight >= published
    # The worst set of probability p, {z <= t}, has probability 1/2 after a shift by the tight radius.
    t = -scale * log(2 * (1 - p))
    assert t - tight == pytest.approx(0, abs=1e-15)
    assert tight_radius(0.4, sigma) == published_radius(0.4, sigma) == 0.0


def test_worst_case_classifier_attains_the_tight_certificate() -> None:
    """A linear classifier that looks at one edge: its smoothed class changes exactly at the tight radius."""
    sigma, shape = 0.05, (1, 2)
    # Mass 1 on the left pixel; noise z moves mass z to the right: class 1 iff right > threshold, so P(class 0) = P(z <= threshold).
    threshold = 0.04
    network = sequential([Dense(np.array([[0.0, 0.0], [0.0, 1.0]]))], [np.array([threshold, 0.0])])
    p = 1 - exp(-threshold / (sigma / sqrt(2))) / 2
    assert tight_radius(p, sigma) == pytest.approx(threshold)
    x = np.array([1.0, 0.0])
    counts = votes(network, x, Grid.of(shape), sigma, 40_000, torch.Generator().manual_seed(1))
    assert counts.sum() == 40_000
    assert counts[0] / 40_000 == pytest.approx(p, abs=0.006)
    beyond = votes(network, np.array([1 - threshold, threshold]), Grid.of(shape), sigma, 40_000, torch.Generator().manual_seed(2))
    assert beyond[0] / 40_000 == pytest.approx(0.5, abs=0.012)
    bound = tight_radius(at_least(int(counts[0]), 40_000, 0.95), sigma)
    assert 0.9 * threshold < bound < 1.01 * threshold
    # The mass of the image is the unit: five times the mass, five times the noise.
    heavy = sequential([Dense(np.array([[0.0, 0.0], [0.0, 0.2]]))], [np.array([threshold, 0.0])])
    again = votes(heavy, 5 * x, Grid.of(shape), sigma, 40_000, torch.Generator().manual_seed(1))
    assert again[0] == pytest.approx(counts[0], abs=5)


def test_seeds_and_wrong_labels() -> None:
    data = load("digits:test").select("3:7")
    options = {"sigma": 0.002, "choosing": 50, "bounding": 500}
    rows = smoothed_radii("digits-16x2", data, **options)
    assert [row.sample for row in rows] == [3, 4, 5, 6]
    assert rows == smoothed_radii("digits-16x2", data, **options)
    assert rows[1:2] == smoothed_radii("digits-16x2", data, samples="1:2", **options)
    assert rows != smoothed_radii("digits-16x2", data, seed=1, **options)
    assert any(row.tight > row.published > 0 for row in rows)
    wrong = smoothed_radii("digits-16x2", Dataset(data.x, (data.y + 1) % 10, image_shape=(1, 8, 8)), **options)
    assert all(row.tight == 0 for row in wrong if row.predicted != row.label)


@pytest.mark.parametrize(
    "options", [{"sigma": 0}, {"sigma": float("inf")}, {"sigma": 0.1, "confidence": 1.0}, {"sigma": 0.1, "bounding": 0}]
)
def test_bad_options(options: dict[str, float]) -> None:
    with pytest.raises(InputError):
        smoothed_radii("digits-16x2", "digits:test", samples="0:1", **options)


def test_images_without_mass_are_refused() -> None:
    with pytest.raises(DataError):
        smoothed_radii("digits-16x2", Dataset(np.zeros((1, 64)), np.zeros(1), image_shape=(1, 8, 8)), sigma=0.1)

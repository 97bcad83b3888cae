"""Certificates prove no more than is true: brute force in exact arithmetic, closed forms, and certified <= exact <= attack on digits."""

from fractions import Fraction
from math import inf

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from problems import data as datasets
from problems.data import Dataset
from problems.errors import DataError, InputError, RegionError
from problems.maps import Dense
from problems.network import Network, sequential
from problems.regions import Ball, Box
from tests.verifier.oracles import SEEDS, nearest_error, random_network
from verifier import attack, radius
from verifier.certified import METHODS, certified_at, certified_radii

NORMS = [1, 2, inf]


def drawn(seed: int) -> tuple[Network, Dataset]:
    """A network, and a sample in a box, of the class that the network sees."""
    generator = np.random.default_rng(seed)
    network = random_network(generator, most_neurons=6)
    lower = generator.integers(-8, 5, network.input_size) / 4.0
    upper = lower + generator.choice([0.0, 1.0, 2.0, 4.0, 4.0], network.input_size)
    x = lower + np.round(generator.random(network.input_size) * 16) / 16 * (upper - lower)
    return network, Dataset(x[None], np.array([int(network.forward(x).argmax())]), Box(lower, upper))


@settings(max_examples=20)
@given(SEEDS, st.sampled_from(NORMS))
def test_in_a_box_against_brute_force(seed: int, norm: float) -> None:
    network, data = drawn(seed)
    if network.output_size < 2:
        return
    assert isinstance(data.domain, Box)
    truth = nearest_error(network, data.x[0], int(data.y[0]), norm, data.domain.lower, data.domain.upper)
    (found,) = certified_radii(network, data, norm=norm, workers=1)
    power = 2 if norm == 2 else 1
    for name, value in found.radii.items():
        assert found.complete[name]
        assert value >= 0
        if truth is not None:
            assert Fraction(value) ** power <= truth, name
        # What is certified at a radius is certified at the number itself, which is included.
        half = value / 2 if value < inf else 1.0
        if truth is not None and certified_at(network, data, method=name, norm=norm, epsilon=half)[0]:
            assert Fraction(half) ** power < truth, name
    assert found.radii["triangle"] >= found.radii["crown"]


@pytest.mark.parametrize("norm", NORMS)
def test_one_layer_has_no_gap(norm: float) -> None:
    generator = np.random.default_rng(3)
    weights, bias, x = generator.normal(size=(4, 5)), generator.normal(size=4), generator.normal(size=5)
    network = sequential([Dense(weights)], [bias], name="linear")
    logits = network.forward(x)
    label = int(logits.argmax())
    dual = {1: inf, 2: 2, inf: 1}[norm]
    truth = min((logits[label] - logits[k]) / np.linalg.norm(weights[label] - weights[k], dual) for k in range(4) if k != label)
    (found,) = certified_radii(network, Dataset(x[None], np.array([label])), norm=norm, workers=1)  # in all of R^n
    for name, value in found.radii.items():
        assert 0.985 * truth <= value <= truth * (1 + 1e-12) or name == "local-lipschitz", name
    # One constant for the margin, not one per rival: as steep as the steepest of them.
    steepest = max(np.linalg.norm(weights[label] - weights[k], dual) for k in range(4) if k != label)
    least = min(logits[label] - logits[k] for k in range(4) if k != label)
    assert found.radii["local-lipschitz"] == pytest.approx(least / steepest, rel=0.06)


@pytest.mark.parametrize("norm", ["inf", "2"])
def test_certified_then_exact_then_attack(norm: str) -> None:
    data = datasets.load("digits:test").select(slice(1, 3))
    exact = {record.sample: record.bracket for record in radius("digits-16x2", data, norm=norm, workers=1)}
    reach = {sample: bracket.upper for sample, bracket in exact.items()}
    found = list(certified_radii("digits-16x2", data, norm=norm, reach=reach, workers=1))
    assert [record.sample for record in found] == [1, 2]
    for record in found:
        assert set(record.radii) == set(METHODS)
        assert all(0.0 < value <= exact[record.sample].lower * (1 + 1e-6) for value in record.radii.values())
    epsilon = float(np.median([bracket.upper for bracket in exact.values()]))
    broken = attack("digits-16x2", data, norm=norm, epsilon=epsilon, steps=20, restarts=1)
    for name in ("norm-product", "interval", "crown", "triangle"):
        proved = certified_at("digits-16x2", data, method=name, norm=norm, epsilon=epsilon)
        for row, sure in zip(broken.rows, proved, strict=True):
            assert not (sure and row.success), name
            assert not sure or exact[row.sample].upper > epsilon, name


def test_convolutions_and_no_box() -> None:
    data = datasets.load("digits:test").select(slice(1, 2))
    free = Dataset(data.x, data.y)
    (found,) = certified_radii("digits-conv", free, norm="inf", methods=("norm-product", "interval", "crown"), workers=1)
    (bounded,) = certified_radii("digits-conv", data, norm="inf", methods=("norm-product", "interval", "crown"), workers=1)
    for name, value in found.radii.items():
        assert 0 < value <= 1.02 * bounded.radii[name]


@pytest.mark.parametrize("scale", [1e6, 2.0**30])
@pytest.mark.parametrize("norm", NORMS)
def test_steep_networks_on_which_solvers_lie(scale: float, norm: float) -> None:
    """y_0 = scale relu(x - 1) against y_1 = 1/2: misclassified from x = 1 + 1/(2 scale) on."""
    maps = [Dense(np.ones((1, 1))), Dense(np.array([[scale], [0.0]]))]
    network = sequential(maps, [np.array([-1.0]), np.array([0.0, 0.5])], name="steep")
    data = Dataset(np.zeros((1, 1)), np.array([1]), Box(np.zeros(1), np.array([1.0 + 1.0 / scale])))
    (found,) = certified_radii(network, data, norm=norm, workers=1)
    assert all(value <= 1.0 + 0.5 / scale for value in found.radii.values())
    assert found.radii["crown"] > 0.9
    safe = Dataset(np.zeros((1, 1)), np.array([1]), Box(np.zeros(1), np.array([1.0 + 0.25 / scale])))
    (found,) = certified_radii(network, safe, norm=norm, workers=1)
    assert found.radii["triangle"] == inf or found.radii["triangle"] > 0.9


def test_wrong_samples_and_no_time() -> None:
    data = datasets.load("digits:test").select(slice(0, 2))
    wrong = Dataset(data.x, (data.y + 1) % 10, data.domain)
    for record in certified_radii("digits-16x2", wrong, norm=2, workers=1):
        assert set(record.radii.values()) == {0.0}
    assert not certified_at("digits-16x2", wrong, method="crown", norm=2, epsilon=0.0).any()
    for record in certified_radii("digits-16x2", data, norm=2, timeout=0.0, workers=1):
        assert not record.complete["crown"]
        assert record.radii["crown"] == 0.0
        assert record.radii["norm-product"] > 0  # takes no time
    assert [r.sample for r in certified_radii("digits-16x2", data, norm=2, methods=("interval",), skip={0}, workers=1)] == [1]


@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        ({"methods": ("magic",)}, InputError, "'magic' is not a certificate"),
        ({"methods": ()}, InputError, "none is given"),
        ({"norm": 3}, RegionError, "not supported"),
        ({"tolerance": 0.0}, InputError, "tolerance"),
        ({"timeout": -1.0}, InputError, "timeout"),
        ({"region": Ball(np.full(64, 0.5), 0.1, 2)}, RegionError, "certificates are about boxes"),
        ({"region": Box(np.zeros(64), np.full(64, 0.25))}, DataError, "sample"),
    ],
)
def test_bad_input_is_refused(options: dict[str, object], error: type[InputError], words: str) -> None:
    with pytest.raises(error, match=words):
        list(certified_radii(**({"network": "digits-16x2", "data": "digits:test", "samples": "0:1", "norm": 2} | options)))  # type: ignore[arg-type]


@pytest.mark.parametrize("epsilon", [-0.1, float("nan"), inf])
def test_bad_epsilons_are_refused(epsilon: float) -> None:
    with pytest.raises(InputError, match="epsilon"):
        certified_at("digits-16x2", "digits:test", samples="0:1", method="crown", norm=2, epsilon=epsilon)

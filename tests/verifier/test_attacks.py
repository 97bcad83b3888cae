"""One table that every attack passes, and bad input."""

from dataclasses import dataclass
from fractions import Fraction
from math import inf
from time import monotonic

import numpy as np
import pytest
import torch

import verifier
from problems.data import Dataset, load
from problems.errors import DataError, InputError
from problems.exact import evaluate
from problems.maps import Dense
from problems.network import sequential
from problems.regions.ball import Ball
from problems.regions.base import Region
from problems.regions.box import Box
from tests.verifier.attack_cases import NORMS, SMALL
from verifier.attacks.attack import METHODS
from verifier.attacks.radius import nearest
from verifier.attacks.witness import distance_up, exact_margin


@dataclass(frozen=True)
class Case:
    """A method in a setting; `region` None means the data's own."""

    method: str
    norm: float
    epsilon: float
    region: Region | None = None


REGIONS: tuple[Region | None, ...] = (
    None,
    Box.whole_space(64),
    Box.from_exact([Fraction(-1, 3)] * 64, [Fraction(31, 30)] * 64),
    Ball(np.full(64, 0.5), 4.5, 2),
)
CASES = [
    Case(method, norm, epsilon, region)
    for method in METHODS
    for norm, epsilon in ((1, 1.1), (2, 0.6), (inf, 0.1))
    for region in (REGIONS if norm == 2 else REGIONS[:1])
]


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.method}-{case.norm}-{type(case.region).__name__}")
def test_every_attack_keeps_its_word(case: Case) -> None:
    from problems.readers import load as load_network

    network, data = load_network("digits-16x2"), load("digits:test").select("10:30")
    options = {"method": case.method, "norm": case.norm, "epsilon": case.epsilon, "region": case.region, "restarts": 2, "steps": 20}
    report = verifier.attack(network, data, **options)
    region = data.domain if case.region is None else case.region
    assert [row.sample for row in report.rows] == list(range(10, 30))
    assert [row.label for row in report.rows] == data.y.tolist()
    for x, row, point in zip(data.x, report.rows, report.points, strict=True):
        assert region.contains(point)
        assert Ball(x, case.epsilon, case.norm).contains(point)
        margin = exact_margin(network, point, row.label)
        assert row.success == (margin >= 0)
        assert Fraction(row.margin) <= margin
        assert row.margin == pytest.approx(float(margin), abs=1e-9)
        assert row.distance == distance_up(point, x, case.norm)
    successes = [row for row in report.rows if row.success]
    assert report.accuracy == pytest.approx(1 - len(successes) / 20)
    assert report.budget_used == pytest.approx(sum(row.distance for row in successes) / 20)
    assert "point-wise" in report.threat_model
    assert str(case.epsilon) in report.threat_model
    wrong = network.forward(data.x).argmax(axis=1) != data.y
    assert all(row.success and row.distance == 0 for row, already in zip(report.rows, wrong, strict=True) if already)
    again = verifier.attack(network, data, **options)
    assert again.rows == report.rows
    assert np.array_equal(again.points, report.points)
    # As strong as it is honest: it finds what the radius attack finds within the same ball, but for a few samples.
    if isinstance(region, Box):
        _, distances = nearest(network, data.x, data.y, norm=case.norm, box=region)
        assert len(successes) >= (distances <= case.epsilon).sum() - 2
        assert len(successes) >= 3


@pytest.mark.parametrize("method", METHODS)
def test_every_attack_decides_linear_classifiers(method: str) -> None:
    rng = np.random.default_rng(8)
    network = sequential([Dense(rng.normal(size=(3, 8)))], [rng.normal(size=3)])
    x = rng.normal(size=(20, 8))
    data = Dataset(x, network.forward(x).argmax(axis=1))
    for norm in NORMS:
        _, radii = nearest(network, data.x, data.y, norm=norm)
        for epsilon in np.quantile(radii, [0.3, 0.7]):
            report = verifier.attack(network, data, method=method, norm=norm, epsilon=float(epsilon))
            clear = np.abs(radii - epsilon) > 0.01 * epsilon
            assert [row.success for row, sure in zip(report.rows, clear, strict=True) if sure] == (radii < epsilon)[clear].tolist()


@pytest.mark.parametrize("method", METHODS)
def test_every_attack_survives_epsilon_zero_and_no_time(method: str) -> None:
    report = verifier.attack("digits-16x2", "digits:test", samples="0:40", method=method, norm=inf, epsilon=0)
    assert {row.distance for row in report.rows} == {0.0}
    assert report.budget_used == 0
    begin = monotonic()
    report = verifier.attack("digits-16x2", "digits:test", method=method, norm=1, epsilon=1.0, restarts=10_000, timeout=0.3)
    assert monotonic() - begin < 5
    assert len(report.rows) == 400
    assert 0 < report.accuracy < 1


def test_exact_margins_agree_with_the_definition() -> None:
    logits = evaluate(SMALL, np.array([0.1, 0.2, 0.3]))
    assert exact_margin(SMALL, np.array([0.1, 0.2, 0.3]), 0) == logits[1] - logits[0]


# bad input

GOOD = {"network": "digits-16x2", "data": "digits:test", "norm": 2, "epsilon": 0.1, "samples": "0:2"}
BAD: list[tuple[dict, type[InputError], str]] = [
    ({"epsilon": -0.1}, InputError, "epsilon"),
    ({"epsilon": float("nan")}, InputError, "epsilon"),
    ({"epsilon": inf}, InputError, "epsilon"),
    ({"epsilon": "big"}, InputError, "epsilon"),
    ({"norm": 3}, InputError, "norm"),
    ({"norm": float("nan")}, InputError, "norm"),
    ({"method": "magic"}, InputError, "method"),
    ({"steps": -1}, InputError, "steps"),
    ({"steps": 2.5}, InputError, "steps"),
    ({"restarts": -1}, InputError, "restarts"),
    ({"seed": -1}, InputError, "seed"),
    ({"timeout": -1}, InputError, "timeout"),
    ({"timeout": float("nan")}, InputError, "timeout"),
    ({"timeout": "soon"}, InputError, "timeout"),
    ({"device": "abacus"}, InputError, "device"),
    ({"data": Dataset(np.full((1, 64), 0.5), np.array([10]))}, DataError, "label"),
    ({"data": Dataset(np.full((1, 63), 0.5), np.array([1]))}, DataError, "63"),
    ({"data": Dataset(np.full((1, 64), 1.5), np.array([1])), "region": Box(np.zeros(64), np.ones(64))}, DataError, "region"),
    ({"region": Box(np.zeros(63), np.ones(63))}, DataError, "63"),
]


@pytest.mark.parametrize(("change", "error", "word"), BAD)
def test_bad_input_is_named(change: dict, error: type[InputError], word: str) -> None:
    options = GOOD | change
    if isinstance(options["data"], Dataset):
        options.pop("samples")
    with pytest.raises(error) as raised:
        verifier.attack(options.pop("network"), options.pop("data"), **options)
    assert word in str(raised.value)


def test_a_missing_gpu_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(InputError, match="CUDA"):
        verifier.attack("digits-16x2", "digits:test", norm=2, epsilon=0.1, device="cuda")

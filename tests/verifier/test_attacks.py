"""One table that every attack passes, and bad input."""

from dataclasses import dataclass
from fractions import Fraction
from functools import cache
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
from problems.network import Network, sequential
from problems.readers import load as load_network
from problems.regions.ball import Ball
from problems.regions.base import Region
from problems.regions.box import Box
from tests.verifier.attack_cases import DISTRIBUTIONAL, NORMS, POINTWISE, SMALL, check_mixture
from verifier.attacks.attack import METHODS
from verifier.attacks.base import AttackReport
from verifier.attacks.radius import nearest
from verifier.attacks.witness import distance_up, exact_margin
from verifier.bracket import Status
from verifier.distributional.knapsack import worst_case_error


@dataclass(frozen=True)
class Case:
    """A method in a setting; `region` None means the data's own."""

    method: str
    norm: float
    epsilon: float
    region: Region | None = None
    order: float | None = None


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
    for order in (None,) + ((inf,) if method in DISTRIBUTIONAL else ()) + ((2,) if method in ("wda", "wda++") else ())
    for region in (REGIONS if norm == 2 and order is None else REGIONS[:1])
    if order is None or norm != 1
]


@cache
def digits() -> tuple[Network, Dataset]:
    return load_network("digits-16x2"), load("digits:test").select("10:30")


@cache
def distances(norm: float, place: int) -> np.ndarray:
    """What the radius attack finds in REGIONS[place]."""
    network, data = digits()
    box = REGIONS[place] or data.domain
    assert isinstance(box, Box)
    return nearest(network, data.x, data.y, norm=norm, box=box)[1]


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.method}-{case.order}-{case.norm}-{type(case.region).__name__}")
def test_every_attack_keeps_its_word(case: Case) -> None:
    network, data = digits()
    options = {"method": case.method, "norm": case.norm, "epsilon": case.epsilon, "region": case.region, "order": case.order}
    options |= {"restarts": 2, "steps": 20}
    report = verifier.attack(network, data, **options)
    assert [row.sample for row in report.rows] == list(range(10, 30))
    assert [row.label for row in report.rows] == data.y.tolist()
    assert str(case.epsilon) in report.threat_model
    assert report.judged_by.startswith("proof")
    wrong = network.forward(data.x).argmax(axis=1) != data.y
    assert all(row.success and row.distance == 0 for row, already in zip(report.rows, wrong, strict=True) if already)
    again = verifier.attack(network, data, **options)
    assert again.rows == report.rows
    assert np.array_equal(again.points, report.points)
    (check_pointwise if case.method in POINTWISE else check_distributional)(case, report)


def check_pointwise(case: Case, report: AttackReport) -> None:
    network, data = digits()
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
    assert report.mixture is None
    # As strong as it is honest: it finds what the radius attack finds within the same ball, but for a few samples.
    if isinstance(region, Box):
        assert len(successes) >= (distances(case.norm, REGIONS.index(case.region)) <= case.epsilon).sum() - 2
        assert len(successes) >= 3


def check_distributional(case: Case, report: AttackReport) -> None:
    network, data = digits()
    mixture = report.mixture
    assert mixture is not None
    order = case.order or {"w-pgd": 2}.get(case.method, 1)
    assert f"Omega_{order:g}({case.epsilon})" in report.threat_model
    check_mixture(mixture, network, data, case.norm, order, case.epsilon, data.domain if case.region is None else case.region)
    assert report.accuracy == mixture.accuracy
    assert report.budget_used == min(mixture.distance, case.epsilon)
    for place, row in enumerate(report.rows):
        atoms = mixture.samples == place
        mine = atoms & (mixture.points == report.points[place]).all(axis=1)
        assert row.weight in mixture.weights[mine]
        assert row.margin in mixture.margins[mine]
        assert row.distance in mixture.distances[mine]
        assert row.flipped == mixture.weights[atoms & (mixture.margins >= 0)].sum()
        assert row.success == (row.flipped > 0)
    if case.method == "wda++" and not isinstance(case.region, Ball):
        known = distances(case.norm, REGIONS.index(case.region))
        assert 1 - report.accuracy >= worst_case_error(known, known, case.epsilon, order)[0] - 0.03
    if case.method == "w-pgd":
        assert len(mixture.samples) == 20
    assert report.accuracy < 0.9


@pytest.mark.parametrize("method", METHODS)
def test_every_attack_decides_linear_classifiers(method: str) -> None:
    rng = np.random.default_rng(8)
    network = sequential([Dense(rng.normal(size=(3, 8)))], [rng.normal(size=3)])
    x = rng.normal(size=(20, 8))
    data = Dataset(x, network.forward(x).argmax(axis=1))
    for norm in NORMS:
        _, radii = nearest(network, data.x, data.y, norm=norm)
        if method in DISTRIBUTIONAL:
            found = verifier.attack(network, data, method=method, norm=norm, epsilon=float(np.median(radii)), order=inf, restarts=1)
            assert found.accuracy == pytest.approx((radii > np.median(radii)).mean(), abs=0.051)
            continue
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
    assert report.status is Status.TIMED_OUT
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
    ({"loss": "ce"}, InputError, "loss"),
    ({"method": "apgd", "loss": "zebra"}, InputError, "zebra"),
    ({"method": "apgd", "loss": "redlr"}, InputError, "redlr"),
    ({"method": "apgd", "order": 1}, InputError, "order"),
    ({"method": "wda", "order": 3}, InputError, "order"),
    ({"method": "w-pgd", "order": 1}, InputError, "order 1"),
    ({"method": "wda", "copies": 0}, InputError, "copies"),
    ({"method": "wda", "copies": 1.5}, InputError, "copies"),
    ({"method": "wda", "points": 0}, InputError, "points"),
    ({"method": "wda++", "copies": 2}, InputError, "copies"),
    ({"method": "wda++", "allocation": "best"}, InputError, "allocation"),
    ({"method": "wda", "allocation": "greedy"}, InputError, "allocation"),
    ({"method": "wda++", "epsilon": float("nan")}, InputError, "epsilon"),
    ({"method": "w-pgd", "data": Dataset(np.full((1, 64), 0.5), np.array([10]))}, DataError, "label"),
    ({"method": "wda++", "data": Dataset(np.full((1, 63), 0.5), np.array([1]))}, DataError, "63"),
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

"""The parts of an audit that come after the radii, around a solver of distributional problems that is known in closed form."""

import json
import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

import verifier.certified
import verifier.distributional.losses
import verifier.radii
from problems.data import Dataset
from problems.errors import InputError
from problems.maps import Dense
from problems.network import Network, sequential
from problems.regions import Box
from tests.verifier.test_audit import COUNT, SIZE, Search
from verifier.bracket import Status
from verifier.report import Audit
from verifier.report.audit import audit
from verifier.report.part_losses import loss_epsilons, shown_of


@pytest.fixture
def network() -> Network:
    """Two logits, 1/2 and relu(x_0): the margin of label 0 is relu(x_0) - 1/2."""
    first = np.zeros((1, SIZE))
    first[0, 0] = 1.0
    return sequential([Dense(first), Dense(np.array([[0.0], [1.0]]))], [np.zeros(1), np.array([0.5, 0.0])], name="step")


@pytest.fixture
def data() -> Dataset:
    """Samples of label 0 at x_0 = 0/32, 1/32, ..."""
    x = np.full((COUNT, SIZE), 0.25)
    x[:, 0] = np.arange(COUNT) / 32
    return Dataset(x, np.zeros(COUNT, dtype=int), Box(np.zeros(SIZE), np.ones(SIZE)), "line")


@dataclass
class Worst:
    """Stands in for `verifier.dro`: a rise costs what it brings, until all is at x_0 = 1. Moves the last sample as far as it can."""

    status: Status = Status.CLOSED
    refused: bool = False
    calls: list[tuple[str, float]] = field(default_factory=list)

    def dro(
        self, network: Network, data: Dataset, *, loss: str, norm: float, order: float, epsilon: tuple[float, ...], timeout: float, **_: Any
    ) -> list[Any]:
        if self.refused:
            raise InputError("region", "is not one that it takes.")
        assert order == 1
        self.calls.append((loss, norm))
        return [self._record(data, value) for value in epsilon]

    def _record(self, data: Dataset, epsilon: float) -> Any:
        clean = float(np.mean(data.x[:, 0])) - 0.5
        room = 1.0 - data.x[-1, 0]
        shift = min(epsilon * len(data), room)
        weights = np.full(len(data), 1 / len(data))
        points = data.x.copy()
        points[-1, 0] += shift
        losses = points[:, 0] - 0.5
        costs = np.where(np.arange(len(data)) == len(data) - 1, shift, 0.0)
        distribution = SimpleNamespace(
            points=points, weights=weights, samples=data.numbers, labels=data.y, losses=losses, costs=costs, epsilon=epsilon,
            expected=clean + shift / len(data), cost=shift / len(data), order=1.0, norm=2.0, loss="margin",
        )  # fmt: skip
        value = clean + min(epsilon, float(np.mean(1 - data.x[:, 0])))
        return SimpleNamespace(
            epsilon=epsilon, attack=clean + shift / len(data) / 2, lower=clean + shift / len(data), upper=value, seconds=1.0,
            status=self.status, lipschitz_bound=clean + 4 * epsilon, slope_bounds=(None, clean + epsilon), distribution=distribution,
            chain=None, clean=(clean, clean), reasons=("L by its upper end.",),
        )  # fmt: skip


@dataclass
class Certificates:
    """Stands in for `verifier.certified.certified_radii`: half of the exact radius. Can break off."""

    interrupt_after: int = 10**9
    asked: list[int] = field(default_factory=list)

    def radii(
        self, network: Network, data: Dataset, *, norm: float, reach: dict[int, float], skip: frozenset[int], **_: Any
    ) -> Iterator[Any]:
        names = list(verifier.certified.METHODS)
        for number in data.numbers.tolist():
            if number in skip:
                continue
            if len(self.asked) >= self.interrupt_after:
                raise KeyboardInterrupt
            self.asked.append(number)
            yield SimpleNamespace(
                sample=number, label=0, radii=dict.fromkeys(names, reach[number] / 2), seconds=dict.fromkeys(names, 0.1),
                complete=dict.fromkeys(names, True),
            )  # fmt: skip


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """No pictures, exact radii in closed form, inputs that are no images (moved mass has tests of its own)."""
    monkeypatch.setattr("verifier.report.audit.transportable", lambda ground: False)
    monkeypatch.setattr("verifier.report.plots.data_address", lambda draw, audit: "data:,")
    monkeypatch.setattr(verifier.radii, "radius", Search().radius)


@pytest.fixture
def worst(monkeypatch: pytest.MonkeyPatch) -> Worst:
    return use(monkeypatch, Worst(), Certificates())[0]


def use(monkeypatch: pytest.MonkeyPatch, worst: Worst, certificates: Certificates) -> tuple[Worst, Certificates]:
    monkeypatch.setattr(verifier, "dro", worst.dro, raising=False)
    monkeypatch.setattr(verifier.certified, "certified_radii", certificates.radii)
    return worst, certificates


def run(network: Network, data: Dataset, folder: Path, **options: Any) -> Audit:
    return audit(network, data, output=folder, **({"points": 20, "norms": ("2",), "budget": 40.0} | options))


def test_all_parts_are_there_and_go_to_json(network: Network, data: Dataset, worst: Worst, tmp_path: Path) -> None:
    told: list[tuple[str, int, int]] = []
    result = run(network, data, tmp_path, progress=lambda *step: told.append(step))
    assert result.complete
    assert worst.calls == [("margin", 2.0), ("cross-entropy", 2.0)]
    assert [(part, done) for part, done, _ in told if not part.startswith("radii")] == [
        (part, done)
        for part in (
            "certificates, norm 2", "tightness, norm 2", "worst expected margin loss, norm 2", "worst expected cross-entropy loss, norm 2",
        )
        for done in (0, 1)
    ]  # fmt: skip
    (certified,) = result.certified
    assert [method.radii for method in certified.methods] == [tuple(r.upper / 2 for r in result.norms[0].radii)] * 5
    curve = result.losses[0]
    clean = float(np.mean(data.x[:, 0])) - 0.5
    assert curve.clean == (clean, clean)
    assert curve.published[-1] == clean + 4 * curve.epsilon[-1]
    assert curve.flattest == (-math.inf,) * len(curve.epsilon)
    assert curve.notes == ("L by its upper end.",)
    assert all(a <= low <= up for a, low, up in zip(curve.attack, curve.lower, curve.upper, strict=True))
    (tight,) = result.tightness
    assert tight.reason is not None
    assert tight.exhaustive
    assert (tight.cells, tight.tight) == (2, 1)
    assert tight.lipschitz[1] == pytest.approx(1.0, abs=1e-9)
    assert tight.slope_at_infinity[0] == pytest.approx(1.0, abs=1e-6)
    assert Audit.from_json((tmp_path / "results.json").read_text(encoding="utf-8")) == result
    assert sum(count for _, count in result.sessions) == COUNT + 4


def test_moves_say_who_went_how_far_and_what_it_brought(network: Network, data: Dataset, worst: Worst, tmp_path: Path) -> None:
    curve = run(network, data, tmp_path).losses[0]
    assert [distribution.epsilon for distribution in curve.worst] == [curve.epsilon[i] for i in shown_of(curve.epsilon)]
    for distribution in curve.worst:
        (move,) = distribution.moves
        assert move.sample == COUNT - 1
        assert move.share == pytest.approx(1.0)
        assert move.before == pytest.approx(data.x[-1, 0] - 0.5, abs=1e-12)
        assert move.after - move.before == pytest.approx(move.distance, abs=1e-12)
        assert move.gain == pytest.approx(move.distance / COUNT, abs=1e-12)
    drawn = [distribution for distribution in curve.worst if distribution.moves[0].point is not None]
    assert drawn == [curve.worst[1]]
    assert drawn[0].moves[0].point == pytest.approx([data.x[-1, 0] + drawn[0].moves[0].distance, *data.x[-1, 1:]])


def test_running_again_computes_no_part_again(network: Network, data: Dataset, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    worst, certificates = use(monkeypatch, Worst(), Certificates())
    first = run(network, data, tmp_path)
    again = run(network, data, tmp_path)
    assert (len(worst.calls), len(certificates.asked)) == (2, COUNT)
    assert (again.losses, again.certified, again.tightness) == (first.losses, first.certified, first.tightness)
    assert again.sessions == first.sessions
    run(network, data, tmp_path, count=5)  # other samples, another question
    assert len(worst.calls) == 4
    run(network, data, tmp_path, budget=0)
    assert len(worst.calls) == 4


def test_parts_that_ran_out_of_time_are_repeated_with_more(
    network: Network, data: Dataset, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    worst, _ = use(monkeypatch, Worst(Status.TIMED_OUT), Certificates())
    run(network, data, tmp_path)
    run(network, data, tmp_path)
    run(network, data, tmp_path, budget=30.0)
    assert len(worst.calls) == 2
    worst.status = Status.CLOSED
    assert run(network, data, tmp_path, budget=60.0).losses[0].status[0] == "CLOSED"
    assert len(worst.calls) == 4


def test_an_interrupt_leaves_a_report_and_is_resumed(
    network: Network, data: Dataset, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    worst, certificates = use(monkeypatch, Worst(), Certificates(interrupt_after=4))
    half = run(network, data, tmp_path)
    assert not half.complete
    assert half.certified[0].methods[0].radii[4:] == (0.0,) * (COUNT - 4)
    assert half.certified[0].methods[0].done == 4
    assert half.losses == ()
    page = (tmp_path / "index.html").read_text(encoding="utf-8")
    assert "<b>Incomplete.</b> The audit was stopped before all its parts" in page
    assert "Other certificates" in page
    certificates.interrupt_after = 10**9
    worst.status = Status.INTERRUPTED
    more = run(network, data, tmp_path)
    assert certificates.asked == data.numbers.tolist()  # each once
    assert not more.complete
    assert len(more.losses) == 1
    assert "Worst expected loss" in (tmp_path / "index.html").read_text(encoding="utf-8")
    worst.status = Status.CLOSED
    whole = run(network, data, tmp_path)
    assert whole.complete
    assert worst.calls == [("margin", 2.0)] * 2 + [("cross-entropy", 2.0)]
    assert "Incomplete" not in (tmp_path / "index.html").read_text(encoding="utf-8")


def test_what_a_part_refuses_is_left_out_with_its_reason(
    network: Network, data: Dataset, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    use(monkeypatch, Worst(refused=True), Certificates())
    result = run(network, data, tmp_path)
    assert result.complete
    assert result.losses == ()
    assert result.notes == tuple(
        f"Left out: worst expected {loss} loss, norm 2. region: is not one that it takes." for loss in ("margin", "cross-entropy")
    )
    assert json.loads((tmp_path / "results.json").read_text(encoding="utf-8"))["complete"] is True


def test_budgets_of_losses_are_round_and_around_the_median() -> None:
    grid = loss_epsilons([0.1, 0.2, 0.4, 0.0, math.inf], 12)
    assert len(grid) == 12
    assert grid[0] == 0.004
    assert grid[-1] == 0.4
    assert all(float(f"{value:.1e}") == value for value in grid)
    assert list(grid) == sorted(set(grid))
    assert loss_epsilons([0.0, math.inf], 12, 0.2) == grid
    assert [shown_of(range(n)) for n in (1, 2, 14)] == [(0,), (0,), (4, 6, 10)]

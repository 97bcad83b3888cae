"""The audit around a radius search whose answers are known in closed form: resuming, interrupts, checks, bad input."""

import json
import math
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

import verifier.radii
from problems.data import Dataset
from problems.errors import InputError
from problems.maps import Dense
from problems.network import Network, sequential
from problems.regions import Box
from verifier.bracket import Bracket, Status
from verifier.report import Audit
from verifier.report.audit import STORE, audit
from verifier.report.radii import epsilon_grid

COUNT = 10
SIZE = 16


@pytest.fixture
def network() -> Network:
    """Two logits, 1/2 and relu(x_0): class 1 wins from x_0 = 1/2 on (where they tie)."""
    first = np.zeros((1, SIZE))
    first[0, 0] = 1.0
    return sequential([Dense(first), Dense(np.array([[0.0], [1.0]]))], [np.zeros(1), np.array([0.5, 0.0])], name="step")


@pytest.fixture
def data() -> Dataset:
    """Samples of label 0 at x_0 = 0/32, 1/32, ..., and the last one wrong; the radius of sample i is 1/2 - i/32 in every norm."""
    x = np.full((COUNT, SIZE), 0.25)
    x[:, 0] = np.arange(COUNT) / 32
    x[-1, 0] = 0.75
    return Dataset(x, np.zeros(COUNT, dtype=int), Box(np.zeros(SIZE), np.ones(SIZE)), "line")


def exact(x0: float) -> float:
    return max(0.0, 0.5 - x0)


@dataclass
class Search:
    """Stands in for `verifier.radius`: exact answers, the attack a quarter too far. Counts what it was asked, and can break off."""

    interrupt_after: int = sys.maxsize
    timed_out: frozenset[int] = frozenset()
    false_witness: frozenset[int] = frozenset()
    status: Status | None = None
    calls: list[tuple[float, int]] = field(default_factory=list)

    def radius(
        self, network: Network, data: Dataset, *, norm: float, skip: frozenset[int], timeout: float | None, **_: Any
    ) -> Iterator[Any]:
        for row, sample in reversed(list(enumerate(data.numbers.tolist()))):  # any order of completion
            if sample in skip:
                continue
            if len(self.calls) >= self.interrupt_after:
                if self.status is None:
                    raise KeyboardInterrupt
                yield SimpleNamespace(sample=sample, label=0, bracket=Bracket("min", 0.0, math.inf, self.status))
                return
            self.calls.append((norm, sample))
            yield SimpleNamespace(sample=sample, label=0, bracket=self._bracket(data.x[row], sample))

    def _bracket(self, x: np.ndarray, sample: int) -> Bracket:
        value = exact(x[0])
        witness = x.copy()
        witness[0] += value
        if sample in self.false_witness:
            witness[0] -= 2.0**-40
        late = sample in self.timed_out
        lower, status = (value / 2, Status.TIMED_OUT) if late else (value, Status.CLOSED)
        return Bracket("min", lower, value, status, witness, seconds=0.01, stats={"attack": 1.25 * value})


@pytest.fixture
def drawn() -> None:
    """Named by the test that wants the real pictures."""


@pytest.fixture(autouse=True)
def quick_pictures(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Empty pictures: drawing takes a second per report, and test_report.py is about it."""
    if "drawn" not in request.fixturenames:
        monkeypatch.setattr("verifier.report.plots.data_address", lambda draw, audit: "data:,")


@pytest.fixture
def search(monkeypatch: pytest.MonkeyPatch) -> Search:
    return use(monkeypatch, Search())


def use(monkeypatch: pytest.MonkeyPatch, search: Search) -> Search:
    monkeypatch.setattr(verifier.radii, "radius", search.radius)
    return search


def run(network: Network, data: Dataset, folder: Path, **options: Any) -> Audit:
    return audit(network, data, output=folder, **({"points": 20, "budget": 0} | options))


def test_radii_curves_and_files(network: Network, data: Dataset, search: Search, drawn: None, tmp_path: Path) -> None:
    result = run(network, data, tmp_path / "report")
    assert result.complete
    assert result.clean_error == 0.1
    assert result.machine["cores"] >= 1
    assert {"tightcert", "python", "numpy"} <= result.versions.keys()
    assert [norm.norm for norm in result.norms] == ["inf", "2"]
    for norm in result.norms:
        assert [radius.sample for radius in norm.radii] == list(range(COUNT))
        assert [radius.upper for radius in norm.radii] == [exact(x[0]) for x in data.x]
        assert all(radius.checked and radius.witness_label == 1 for radius in norm.radii)
    assert (tmp_path / "report" / "index.html").read_text(encoding="utf-8").count("data:image/svg+xml;base64,") == 2
    files = sorted(path.name for path in (tmp_path / "report").iterdir())
    assert [name for name in files if not name.startswith(STORE)] == ["index.html", "results.json"]
    assert Audit.from_json((tmp_path / "report" / "results.json").read_text(encoding="utf-8")) == result


def test_curves_are_the_knapsack_of_the_radii(network: Network, data: Dataset, search: Search, tmp_path: Path) -> None:
    curves = {curve.order: curve for curve in run(network, data, tmp_path).norms[0].curves}
    radii = sorted(exact(x[0]) for x in data.x)
    for i, epsilon in enumerate(curves[math.inf].epsilon):
        share = sum(radius <= epsilon for radius in radii) / COUNT
        assert curves[math.inf].lower[i] == pytest.approx(share, abs=1e-12)
        assert curves[math.inf].upper[i] == pytest.approx(share, abs=1e-12)
        flipped, budget = 0.0, COUNT * epsilon  # order 1: cheapest first, the last in part
        for radius in radii:
            flipped += 1.0 if radius <= budget else budget / radius
            budget = max(0.0, budget - radius)
        assert curves[1.0].upper[i] == pytest.approx(flipped / COUNT, abs=1e-12)
    for curve in curves.values():
        assert all(a <= low <= up for a, low, up in zip(curve.attack, curve.lower, curve.upper, strict=True))
        assert min(curve.attack) == pytest.approx(0.1, abs=1e-12)
    assert any(up - a > 0.05 for a, up in zip(curves[math.inf].attack, curves[math.inf].upper, strict=True))


def test_running_again_computes_nothing_again(network: Network, data: Dataset, search: Search, tmp_path: Path) -> None:
    first = run(network, data, tmp_path)
    assert len(search.calls) == 2 * COUNT
    second = run(network, data, tmp_path)
    assert len(search.calls) == 2 * COUNT
    assert second.norms == first.norms
    assert second.sessions == first.sessions  # a run that computed nothing leaves no trace in the times
    third = run(network, data, tmp_path, norms=("1", "inf"))
    assert len(search.calls) == 3 * COUNT
    assert third.norms[1].radii == first.norms[0].radii


def test_interrupt_leaves_a_report_and_is_resumed(network: Network, data: Dataset, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    broken = use(monkeypatch, Search(interrupt_after=13))
    half = run(network, data, tmp_path)
    assert not half.complete
    assert [len(norm.radii) for norm in half.norms] == [COUNT, 3]
    assert "<b>Incomplete.</b> 13 of 20 radii" in (tmp_path / "index.html").read_text(encoding="utf-8")
    assert json.loads((tmp_path / "results.json").read_text(encoding="utf-8"))["complete"] is False
    rest = use(monkeypatch, Search())
    whole = run(network, data, tmp_path)
    assert whole.complete
    assert set(broken.calls).isdisjoint(rest.calls)
    assert len(broken.calls) + len(rest.calls) == 2 * COUNT
    assert [count for _, count in whole.sessions] == [13, 7]
    assert "Incomplete" not in (tmp_path / "index.html").read_text(encoding="utf-8")


def test_missing_samples_widen_the_curves_and_break_nothing(
    network: Network, data: Dataset, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    use(monkeypatch, Search(interrupt_after=4))
    half = run(network, data, tmp_path / "half").norms[0]
    use(monkeypatch, Search())
    whole = run(network, data, tmp_path / "whole").norms[0]
    for narrow, wide in zip(whole.curves, half.curves, strict=True):
        for epsilon in set(narrow.epsilon) & set(wide.epsilon):
            i, j = narrow.epsilon.index(epsilon), wide.epsilon.index(epsilon)
            assert wide.lower[j] <= narrow.lower[i] <= narrow.upper[i] <= wide.upper[j]
        assert wide.upper[0] >= 0.6


def test_interrupted_status_ends_the_audit_too(network: Network, data: Dataset, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    use(monkeypatch, Search(interrupt_after=2, status=Status.INTERRUPTED))
    result = run(network, data, tmp_path)
    assert not result.complete
    assert [len(norm.radii) for norm in result.norms] == [2, 0]


def test_timed_out_samples_are_tried_again_with_more_time_only(
    network: Network, data: Dataset, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    use(monkeypatch, Search(timed_out=frozenset({3})))
    first = run(network, data, tmp_path, timeout=1.0, norms=("inf",))
    assert not first.norms[0].radii[3].closed
    assert first.complete
    again = use(monkeypatch, Search())
    run(network, data, tmp_path, timeout=1.0, norms=("inf",))
    assert again.calls == []
    better = run(network, data, tmp_path, timeout=2.0, norms=("inf",))
    assert again.calls == [(math.inf, 3)]
    assert better.norms[0].radii[3].closed


def test_results_are_reused_for_the_same_question_only(network: Network, data: Dataset, search: Search, tmp_path: Path) -> None:
    run(network, data, tmp_path, norms=("inf",), count=3)
    assert len(search.calls) == 3
    run(network, data, tmp_path, norms=("inf",), samples="1:6", workers=1)  # the same data and options: 1 and 2 are there
    assert len(search.calls) == 3 + 3
    other_weights = network.then(np.eye(2), np.array([0.0, 0.0]))
    other_data = Dataset(data.x, data.y, data.domain, "line2")
    shifted = data.x.copy()
    shifted[9, 5] += 0.125
    for what in (
        {"network": other_weights},
        {"data": other_data},
        {"data": Dataset(shifted, data.y, data.domain, "line")},
        {"tolerance": 1e-3},
        {"seed": 1},
        {"semantics": "float32"},
    ):
        before = len(search.calls)
        run(**({"network": network, "data": data, "folder": tmp_path, "norms": ("inf",), "count": 3} | what))  # type: ignore[arg-type]
        assert len(search.calls) == before + 3, what


def test_a_false_witness_is_dropped_and_named(network: Network, data: Dataset, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    use(monkeypatch, Search(false_witness=frozenset({2})))
    result = run(network, data, tmp_path, norms=("inf",))
    radius = result.norms[0].radii[2]
    assert (radius.upper, radius.witness, radius.checked, radius.closed) == (math.inf, None, False, False)
    assert len(result.notes) == 1
    assert "Sample 2" in result.notes[0]
    assert "failed the audit" in (tmp_path / "index.html").read_text(encoding="utf-8")


def test_progress_is_told(network: Network, data: Dataset, search: Search, tmp_path: Path) -> None:
    told: list[tuple[str, int, int]] = []
    run(network, data, tmp_path, norms=("2",), progress=lambda norm, done, wanted: told.append((norm, done, wanted)))
    assert told == [("radii, norm 2", done, COUNT) for done in range(COUNT + 1)]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"norms": ("3",)}, "norms: 3 given"),
        ({"norms": ()}, "norms: none given"),
        ({"norms": ("inf", math.inf)}, "each once"),
        ({"orders": ("2", "x")}, "orders"),
        ({"count": 0}, "count"),
        ({"points": 0}, "points"),
        ({"budget": -1.0}, "budget"),
        ({"budget": math.nan}, "budget"),
        ({"budget": math.inf}, "budget"),
        ({"samples": "5:99"}, "selects no rows"),
        ({"network": "no-such-network"}, "no-such-network"),
        ({"data": "no-such-data"}, "no-such-data"),
        ({"data": Dataset(np.zeros((2, 3)), np.zeros(2))}, "samples have 3 numbers"),
        ({"network": sequential([Dense(np.ones((1, SIZE)))], [np.zeros(1)], name="one")}, "one: has one output"),
    ],
)
def test_bad_input_is_refused(network: Network, data: Dataset, search: Search, tmp_path: Path, options: dict[str, Any], words: str) -> None:
    with pytest.raises(InputError, match=words):
        run(**({"network": network, "data": data, "folder": tmp_path / "report"} | options))
    assert search.calls == []
    assert not (tmp_path / "report").exists()


def test_bad_folders_are_refused(network: Network, data: Dataset, search: Search, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="cannot be made"):
        run(network, data, tmp_path / "file" / "report")
    (tmp_path / STORE).write_text("no database " * 100)
    with pytest.raises(InputError, match="damaged"):
        run(network, data, tmp_path)


@pytest.mark.parametrize("scale", [1e-7, 0.003, 0.04, 1.0, 7.7, 12345.0])
@pytest.mark.parametrize("points", [2, 25, 160])
def test_grids_are_round_and_reach_far_enough(scale: float, points: int) -> None:
    radii = [scale * (1 + i / 50) for i in range(50)] + [math.inf, 0.0]
    grid = epsilon_grid(radii, points)
    assert grid[0] == 0
    assert list(grid) == sorted(set(grid))
    assert points / 2.5 - 1 <= len(grid) <= points + 1
    assert grid[-1] >= 1.3 * np.quantile([radius for radius in radii if radius < math.inf], 0.9)
    assert all(len(f"{value:.4g}".replace("e", "").replace(".", "")) <= 8 and float(f"{value:.9g}") == value for value in grid)


def test_grid_of_nothing_is_empty() -> None:
    assert epsilon_grid([], 10) == ()
    assert epsilon_grid([0.0, math.inf], 10) == ()

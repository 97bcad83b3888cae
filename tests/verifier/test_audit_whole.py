"""A whole audit of a tiny network with nothing faked: every claim of the record is consistent with every other."""

import math
from pathlib import Path

import numpy as np
import pytest

from problems.data import Dataset
from problems.maps import Dense
from problems.network import Network, sequential
from problems.regions import Box
from verifier.report import Audit
from verifier.report.audit import audit
from verifier.report.cells import cells_in_data_plane


def tiny() -> tuple[Network, Dataset]:
    """Two inputs in the unit square, five neurons, three classes, six samples."""
    generator = np.random.default_rng(7)
    maps = [Dense(generator.normal(size=shape)) for shape in ((5, 2), (3, 5))]
    network = sequential(maps, [generator.normal(size=5), generator.normal(size=3)], name="tiny")
    x = generator.uniform(size=(6, 2))
    return network, Dataset(x, network.forward(x).argmax(axis=1), Box(np.zeros(2), np.ones(2)), "six")


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> tuple[Audit, Path]:
    network, data = tiny()
    folder = tmp_path_factory.mktemp("audit")
    return audit(network, data, output=folder, norms=("2",), points=10, budget=12.0, workers=1), folder


def test_everything_is_there(whole: tuple[Audit, Path]) -> None:
    record, folder = whole
    assert record.complete
    assert record.notes == ()
    assert (len(record.norms), len(record.losses), len(record.certified), len(record.tightness)) == (1, 2, 1, 1)
    assert Audit.from_json((folder / "results.json").read_text(encoding="utf-8")) == record
    page = (folder / "index.html").read_text(encoding="utf-8")
    for title in ("Worst expected loss", "Other certificates", "Who is moved", "Tightness", "Cells"):
        assert f"<h2>{title}</h2>" in page


def test_certified_is_at_most_exact_and_exact_at_most_attack(whole: tuple[Audit, Path]) -> None:
    record, _ = whole
    exact = {radius.sample: radius for radius in record.norms[0].radii}
    for method in record.certified[0].methods:
        assert method.done == len(record.samples)
        for sample, radius in zip(record.samples, method.radii, strict=True):
            assert radius <= exact[sample.sample].upper <= exact[sample.sample].attack
            assert radius > 0


def test_losses_keep_their_order_and_their_distributions(whole: tuple[Audit, Path]) -> None:
    record, _ = whole
    for curve in record.losses:
        clean = curve.clean
        assert clean[0] <= clean[1]
        for i in range(len(curve.epsilon)):
            assert clean[0] <= curve.attack[i] <= curve.lower[i] <= curve.upper[i] <= curve.published[i]
            assert curve.upper[i] >= curve.flattest[i]
        assert list(curve.lower) == sorted(curve.lower)
        for worst in curve.worst:
            assert worst.cost <= worst.epsilon
            place = curve.epsilon.index(worst.epsilon)
            assert worst.expected == pytest.approx(curve.lower[place], rel=1e-12)
            assert sum(move.gain for move in worst.moves) == pytest.approx(worst.expected - clean[0], abs=1e-9)
            assert sum(move.share * move.distance for move in worst.moves) / len(record.samples) <= worst.epsilon * (1 + 1e-12)


def test_slopes_of_all_space(whole: tuple[Audit, Path]) -> None:
    record, _ = whole
    (tight,) = record.tightness
    assert tight.exhaustive
    assert tight.tight <= tight.cells <= 2**5
    assert tight.tight_slope[0] <= tight.slope_at_infinity[1] <= tight.lipschitz[1] * (1 + 1e-6)
    assert math.isfinite(tight.lipschitz[1])
    assert tight.reason is not None


def test_a_plane_without_time_has_no_cells() -> None:
    network, data = tiny()
    assert cells_in_data_plane(network, data, Box.whole_space(2), "2", timeout=0.0) is None

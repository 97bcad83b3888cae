"""The audit's part on moved mass: radii of the first images that are right, stored without loss, told on the page."""

from math import inf
from pathlib import Path

import numpy as np
import pytest

import verifier
from problems import readers
from problems.data import Dataset, load
from problems.maps import Dense
from problems.network import Network, sequential
from verifier.bracket import Bracket, Status
from verifier.radii import Radius
from verifier.report.coding import decode, encode
from verifier.report.ground import Ground, Options
from verifier.report.part_transport import TransportPart, transportable
from verifier.report.record_transport import TransportRadii
from verifier.report.sections import moved
from verifier.search.store import Store

OPTIONS = Options(
    norms=("inf",), orders=("1",), points=4, timeout=None, budget=10.0, memory=None, workers=1, device="cpu", solver="auto",
    tolerance=1e-6, seed=0, semantics="real", executor=None,
)  # fmt: skip


def ground(network: Network, data: Dataset) -> Ground:
    return Ground(network, data, "fingerprint", OPTIONS)


def tiny() -> tuple[Network, Dataset]:
    """Images of 2 x 2 pixels with mass 1, the last pixel against 1/4: sample 0 is right, sample 1 wrong, sample 2 right and as far."""
    x = np.array([[1.0, 0.0, 0.0, 0.0], [0.0, 0.0, 0.0, 1.0], [0.0, 1.0, 0.0, 0.0]])
    layers = [Dense(np.array([[0.0, 0.0, 0.0, 1.0]])), Dense(np.array([[0.0], [1.0]]))]
    return sequential(layers, [np.ones(1), np.array([1.25, 0.0])], name="corner"), Dataset(x, np.zeros(3), None, "corner", (1, 2, 2))


def test_radii_are_found_stored_and_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data, network = load("digits:test").select("4:7"), readers.load("digits-16x2")  # sample 5 is misclassified
    asked: dict = {}

    def answers(_: object, data: Dataset, **options: object) -> list[Radius]:
        asked.update(options)
        kept = [i for i, number in enumerate(data.numbers) if int(number) not in options["skip"]]
        stats = {"bounds": 0.05, "attack": 0.3}
        ends = {
            4: Bracket("min", 0.1, 0.2, Status.TIMED_OUT, data.x[0][::-1].copy(), stats=stats),
            6: Bracket("min", inf, inf, Status.EMPTY),
        }
        return [Radius(int(data.numbers[i]), int(data.y[i]), ends[int(data.numbers[i])]) for i in kept]

    monkeypatch.setitem(verifier.__dict__, "radius", answers)
    part, where = TransportPart(), ground(network, data)
    with Store(tmp_path / "store.sqlite") as store:
        record = part.compute(where, 6.0, 5.0, store)
    assert asked["skip"] == [5]
    assert asked["timeout"] == pytest.approx(3.0)  # two images, one worker
    assert [image.sample for image in record.images] == [4, 6]
    assert (record.shape, record.wanted, record.timeout, record.complete) == ((1, 8, 8), 2, 5.0, True)
    assert not part.settled(record)
    again = decode(TransportRadii, encode(record))
    assert again == record
    assert (moved.row_of(again.images[0]).before == data.x[0]).all()
    text = moved.mass(again)
    assert "mass times distance" in text
    assert "pixels stay ≥ 0" in text
    assert "in time" not in text


def test_an_exact_radius_of_a_tiny_network(tmp_path: Path) -> None:
    network, data = tiny()
    with Store(tmp_path / "store.sqlite") as store:
        record = TransportPart().compute(ground(network, data), 240.0, 240.0, store)
    assert [image.sample for image in record.images] == [0, 2]
    assert [image.upper for image in record.images] == pytest.approx([0.5, 0.25], rel=1e-5)  # a quarter of the mass, two steps or one
    assert TransportPart().settled(record)


def test_an_interrupt_keeps_what_is_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    network, data = tiny()

    def interrupted(*_: object, **__: object) -> object:
        yield Radius(0, 0, Bracket("min", 0.4, 0.5, Status.TIMED_OUT, data.x[1]))
        raise KeyboardInterrupt

    monkeypatch.setitem(verifier.__dict__, "radius", interrupted)
    with Store(tmp_path / "store.sqlite") as store:
        record = TransportPart().compute(ground(network, data), 240.0, 240.0, store)
    assert (len(record.images), record.wanted, record.complete) == (1, 2, False)
    assert "1 of 2 images were reached in time" in moved.mass(record)


def test_what_has_no_mass_to_move_is_left_out() -> None:
    network, data = tiny()
    assert transportable(ground(network, data))
    assert not transportable(ground(network, Dataset(np.concatenate([data.x, np.zeros((1, 4))]), np.zeros(4), image_shape=(1, 2, 2))))
    line = sequential([Dense(np.ones((2, 3)))], [np.array([1.0, 0.0])])
    assert not transportable(ground(line, Dataset(np.ones((1, 3)), np.zeros(1))))
    pixels_first = sequential([Dense(np.eye(4)), Dense(np.eye(4)[:2])], [np.zeros(4), np.zeros(2)])
    assert not transportable(ground(pixels_first, data))
    assert not transportable(ground(network, Dataset(data.x[1:2], np.zeros(1), image_shape=(1, 2, 2))))  # nothing is right

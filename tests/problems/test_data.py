import gzip
from pathlib import Path

import numpy as np
import pytest

from problems.data import Dataset, digits_split, load
from problems.errors import DataError
from problems.maps import Dense
from problems.network import sequential
from problems.regions.box import Box


def small(**changes: object) -> Dataset:
    fields: dict = {"x": np.array([[0.0, 1.0], [0.5, 0.25], [1.0, 0.0]]), "y": np.array([0, 1, 2])}
    return Dataset(**(fields | changes))


def test_digits_are_split_once_and_for_all() -> None:
    train, test = load("digits:train"), load("digits:test")
    assert (len(train), len(test)) == (1397, 400)
    assert np.bincount(test.y).tolist() == [40] * 10
    assert test.x.dtype == np.float64
    assert test.y.dtype == np.int64
    assert test.image_shape == (1, 8, 8)
    assert set(np.unique(test.x * 16)) == set(range(17))  # exact dyadic pixels
    parts = (digits_split("train"), digits_split("test"))
    pairs = {(label, *pixels) for x, y in parts for pixels, label in zip(x.tolist(), y, strict=True)}
    from sklearn.datasets import load_digits

    whole = load_digits()
    assert pairs == {(label, *pixels) for pixels, label in zip((whole.data / 16).tolist(), whole.target, strict=True)}
    assert test.y[:10].tolist() == [*range(10)]


def test_digits_live_in_the_unit_box() -> None:
    lower, upper = load("digits:test").domain.bounding_box()
    assert (lower == 0).all()
    assert (upper == 1).all()


@pytest.mark.parametrize("samples", ["1:3", "1:", slice(1, None), slice(1, 3)])
def test_select(samples: str | slice) -> None:
    chosen = small().select(samples)
    assert chosen.rows.tolist() == [1, 2]
    assert chosen.y.tolist() == [1, 2]
    assert chosen.x.tolist() == [[0.5, 0.25], [1.0, 0.0]]
    assert chosen.select("1").rows.tolist() == [2]


def test_select_everything() -> None:
    assert small().select(None).rows.tolist() == small().select(":").rows.tolist() == small().select("0:3").rows.tolist() == [0, 1, 2]


@pytest.mark.parametrize("samples", ["", "a:b", "2:1", "1:1", "0:4", "3", "-1:2", "0:2:1", "1.5", "0x1", "²", slice(0, 3, 2), slice(-1, 2)])
def test_bad_selection(samples: str | slice) -> None:
    with pytest.raises(DataError):
        small().select(samples)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"x": np.zeros(3)}, "shape"),
        ({"x": np.zeros((0, 2)), "y": np.zeros(0)}, "at least one"),
        ({"x": np.array([[0.0, 1.0], [np.nan, 0.0], [0.0, 0.0]])}, "sample 1: holds NaN"),
        ({"x": np.array([[0.0, 1.0], [0.0, 0.0], [np.inf, 0.0]])}, "sample 2: holds NaN or infinite"),
        ({"x": np.array([["a", "b"]] * 3)}, "real numbers"),
        ({"x": np.zeros((3, 2), dtype=complex)}, "real numbers"),
        ({"x": np.full((3, 2), 2**53 + 1)}, "cannot hold"),
        ({"y": np.array([0, 1])}, "y has shape"),
        ({"y": np.array([[0], [1], [2]])}, "y has shape"),
        ({"y": np.array([0, 1, -1])}, "class numbers"),
        ({"y": np.array([0, 1, 0.5])}, "class numbers"),
        ({"y": np.array([0, 1, np.nan])}, "class numbers"),
        ({"y": np.array(["a", "b", "c"])}, "class numbers"),
        ({"image_shape": (1, 3, 3)}, "images"),
        ({"domain": Box(np.zeros(2), np.full(2, 0.5))}, "sample 0: lies outside the region"),
        ({"domain": Box(np.zeros(3), np.ones(3))}, "dimension 3"),
    ],
)
def test_bad_samples(changes: dict, message: str) -> None:
    with pytest.raises(DataError, match=message):
        small(**changes)


def test_whole_labels_in_floats_are_labels() -> None:
    assert small(y=np.array([0.0, 1.0, 2.0])).y.tolist() == [0, 1, 2]


def test_an_exact_box_is_asked_exactly() -> None:
    from fractions import Fraction

    tenth, one = [Fraction(1, 10)] * 2, [Fraction(1)] * 2
    box = Box(np.nextafter(np.full(2, 0.1), 0), np.ones(2), exact=(tenth, one))
    with pytest.raises(DataError, match="sample 1: lies outside"):  # the float below 1/10 is in the rounded box, not in the exact one
        Dataset(np.array([[0.5, 0.5], [np.nextafter(0.1, 0), 0.5]]), np.zeros(2)).check_inside(box)


def test_fits_the_network() -> None:
    network = sequential([Dense(np.eye(2))], [np.zeros(2)])
    small(y=np.array([0, 1, 1])).check_fits(network)
    with pytest.raises(DataError, match="sample 2: has label 2"):
        small().check_fits(network)
    with pytest.raises(DataError, match="takes 2"):
        Dataset(np.zeros((1, 3)), np.zeros(1)).check_fits(network)


def test_npz(tmp_path: Path) -> None:
    file = tmp_path / "points.npz"
    np.savez(file, x=np.array([[-3.0, 1e9]], dtype=np.float32), y=np.array([4], dtype=np.uint8))
    data = load(str(file))
    assert (data.x.tolist(), data.y.tolist(), data.domain, data.image_shape) == ([[-3.0, 1e9]], [4], None, None)
    assert data.x.dtype == np.float64
    np.savez(file, x=np.zeros((2, 4, 5)), y=np.zeros(2))
    assert load(file).image_shape == (1, 4, 5)
    assert load(file).x.shape == (2, 20)


@pytest.mark.parametrize("content", [b"", b"not an archive", b"PK\x03\x04broken"])
def test_npz_that_is_none(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "broken.npz"
    file.write_bytes(content)
    with pytest.raises(DataError, match=r"broken\.npz: cannot be read"):
        load(str(file))


def test_npz_without_the_arrays(tmp_path: Path) -> None:
    file = tmp_path / "points.npz"
    np.savez(file, X=np.zeros((2, 2)), y=np.zeros(2))
    with pytest.raises(DataError, match="no array x"):
        load(str(file))
    np.savez(file, x=np.array([{}, {}], dtype=object), y=np.zeros(2))  # pickled: never loaded
    with pytest.raises(DataError, match="cannot be read"):
        load(str(file))
    np.savez(file, x=np.float64(3), y=np.zeros(2))
    with pytest.raises(DataError, match="shape"):
        load(str(file))


@pytest.mark.parametrize("name", ["digits", "digits:all", "iris", "nowhere.npz", "mnist:/nowhere", "mnist:"])
def test_data_that_are_not_there(name: str) -> None:
    with pytest.raises(DataError):
        load(name)


def write_idx(folder: Path, images: np.ndarray, labels: np.ndarray) -> None:
    for name, array in (("images-idx3", images), ("labels-idx1", labels)):
        header = bytes((0, 0, 8, array.ndim)) + np.array(array.shape, dtype=">u4").tobytes()
        (folder / f"t10k-{name}-ubyte.gz").write_bytes(gzip.compress(header + array.astype(np.uint8).tobytes()))


def test_mnist_files(tmp_path: Path) -> None:
    images = np.arange(2 * 3 * 4).reshape(2, 3, 4) * 11
    write_idx(tmp_path, images, np.array([7, 1]))
    data = load(f"mnist:{tmp_path}")
    assert data.image_shape == (1, 3, 4)
    assert data.y.tolist() == [7, 1]
    # The float32 quotient, as networks see it; as a float64 it is not pixel / 255.
    assert (data.x == (images.reshape(2, 12).astype(np.float32) / np.float32(255)).astype(np.float64)).all()
    assert (data.domain.bounding_box()[1] == 1).all()


def test_mnist_files_cut_off(tmp_path: Path) -> None:
    write_idx(tmp_path, np.zeros((2, 3, 4)), np.zeros(2))
    file = tmp_path / "t10k-images-idx3-ubyte.gz"
    whole = file.read_bytes()
    for content in (whole[:-10], gzip.compress(gzip.decompress(whole)[:-1]), gzip.compress(b"\0\0\x08"), b"no gzip"):
        file.write_bytes(content)
        with pytest.raises(DataError, match="t10k-images"):
            load(f"mnist:{tmp_path}")


def test_the_mnist_test_set(shared_data: Path) -> None:
    data = load(f"mnist:{shared_data / 'mnist'}")
    assert data.x.shape == (10000, 784)
    assert data.image_shape == (1, 28, 28)
    assert data.y[:10].tolist() == [7, 2, 1, 0, 4, 1, 4, 9, 5, 9]
    assert data.x.max() == 1
    assert set(np.unique(data.x.astype(np.float32) * np.float32(255)).tolist()) <= {float(p) for p in range(256)}


def test_a_data_set_is_taken_as_it_is() -> None:
    data = small()
    assert load(data) is data

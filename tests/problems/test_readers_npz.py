"""NumPy archives: what they become, and every way in which they can be bad."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from problems.errors import NetworkError
from problems.readers import load

GENERATOR = np.random.default_rng(2)
GOOD: dict[str, Any] = {
    "L": np.array(2),
    "W0": GENERATOR.standard_normal((4, 3)),
    "b0": GENERATOR.standard_normal(4),
    "W1": GENERATOR.standard_normal((2, 4)),
    "b1": GENERATOR.standard_normal(2),
    "X": np.zeros((1, 3)),
}


def save(path: Path, **changes: Any) -> Path:
    np.savez(path, **{name: value for name, value in (GOOD | changes).items() if value is not None})
    return path


def test_layers(tmp_path: Path) -> None:
    network = load(save(tmp_path / "good.npz"))
    x = GENERATOR.standard_normal((5, 3))
    expected = np.maximum(x @ GOOD["W0"].T + GOOD["b0"], 0) @ GOOD["W1"].T + GOOD["b1"]
    np.testing.assert_allclose(network.forward(x), expected, rtol=1e-13)
    assert (network.name, network.precision, network.source, network.neurons) == ("good", "float64", tmp_path / "good.npz", 4)


def test_float32_weights_embed_exactly(tmp_path: Path) -> None:
    single = {name: value.astype(np.float32) for name, value in GOOD.items() if name[0] in "Wb"}
    network = load(save(tmp_path / "single.npz", **single))
    assert network.precision == "float32"
    np.testing.assert_array_equal(network.nodes[1].bias, single["b0"])  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"L": None}, r"has no array L \(it has W0, b0, W1, b1, X\)"),
        ({"L": np.array(0)}, "array L: is not a positive whole number"),
        ({"L": np.array(1.5)}, "array L: is not a positive whole number"),
        ({"L": np.array([1, 2])}, "array L: is not a positive whole number"),
        ({"L": np.array(3)}, "array W2: is missing"),
        ({"b1": None}, "array b1: is missing"),
        ({"W0": np.zeros((4, 3), dtype=int)}, "array W0: has element type int64"),
        ({"W0": np.zeros(3)}, r"array W0: has shape \(3,\)"),
        ({"W0": np.zeros((4, 0))}, r"array W0: has shape \(4, 0\)"),
        ({"b0": np.zeros(5)}, "array b0: has 5 entries for 4 rows of W0"),
        ({"W1": np.zeros((2, 5))}, "array W1: takes 5 inputs from a layer of 4"),
        ({"W1": np.full((2, 4), np.nan)}, "array W1: holds NaN or infinite"),
        ({"b1": np.array([np.inf, 0.0])}, "array b1: holds NaN or infinite"),
        ({"W0": np.array([object()])}, "is not a NumPy archive of plain arrays"),
    ],
)
def test_bad_arrays(changes: dict[str, Any], problem: str, tmp_path: Path) -> None:
    with pytest.raises(NetworkError, match=problem) as caught:
        load(save(tmp_path / "bad.npz", **changes))
    assert str(tmp_path / "bad.npz") in caught.value.place
    assert caught.value.advice


def test_bad_files(tmp_path: Path) -> None:
    with pytest.raises(NetworkError, match="does not exist"):
        load(tmp_path / "nowhere.npz")
    data = save(tmp_path / "whole.npz").read_bytes()
    path = tmp_path / "cut.npz"
    for length in (0, 1, 50, len(data) // 2, len(data) - 10):
        path.write_bytes(data[:length])
        with pytest.raises(NetworkError, match="is not a NumPy archive"):
            load(path)
    with path.open("wb") as file:
        np.save(file, np.zeros(3))
    with pytest.raises(NetworkError, match="holds one array"):
        load(path)

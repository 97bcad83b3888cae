"""Reads a feed-forward ReLU network from a NumPy archive: arrays L, W0, b0, W1, b1, ...

L is the number of affine layers, Wi (out, in) and bi (out,) are the weights and bias of layer i; ReLU between layers, none after
the last. Further arrays (such as data points X, y) are left alone.
"""

from pathlib import Path
from zipfile import BadZipFile
from zlib import error as ZlibError

import numpy as np

from problems.errors import NetworkError
from problems.maps import Array, Dense, LinearMap
from problems.network import Network, sequential


def read(path: str | Path) -> Network:
    """The network in an archive; NetworkError where an array is missing, of the wrong shape or type, or not finite."""
    path = Path(path)
    try:
        archive = np.load(path, allow_pickle=False)
        if not isinstance(archive, np.lib.npyio.NpzFile):
            raise NetworkError(str(path), "holds one array, not an archive of arrays.", "Save it with numpy.savez.")
        with archive:
            layers = _layer_count(archive["L"] if "L" in archive.files else None, archive.files, path)
            pairs = [(_array(archive, f"W{i}", 2, path), _array(archive, f"b{i}", 1, path)) for i in range(layers)]
    except FileNotFoundError as error:
        raise NetworkError(str(path), "does not exist.", "Check the path.") from error
    except NetworkError:
        raise
    except (OSError, ValueError, BadZipFile, ZlibError, EOFError, KeyError) as error:
        # Not an archive, cut short, or holding pickled objects.
        raise NetworkError(str(path), f"is not a NumPy archive of plain arrays: {error}.", "Save it again with numpy.savez.") from error
    stored = {array.dtype for pair in pairs for array in pair}
    for i, (weights, bias) in enumerate(pairs):
        if weights.shape[0] != len(bias):
            raise NetworkError(f"{path}, array b{i}", f"has {len(bias)} entries for {weights.shape[0]} rows of W{i}.", "Repair the file.")
        if i and weights.shape[1] != len(pairs[i - 1][1]):
            problem = f"takes {weights.shape[1]} inputs from a layer of {len(pairs[i - 1][1])}."
            raise NetworkError(f"{path}, array W{i}", problem, "Weights have shape (out, in).")
    maps: list[LinearMap] = [Dense(weights) for weights, _ in pairs]
    precision = "float32" if stored == {np.dtype(np.float32)} else "float64"
    return sequential(maps, [bias for _, bias in pairs], name=path.stem, precision=precision, source=path.absolute())


def _layer_count(stored: Array | None, names: list[str], path: Path) -> int:
    if stored is None:
        advice = "L is the number of affine layers W0, b0, W1, b1, ..."
        raise NetworkError(str(path), f"has no array L (it has {', '.join(names) or 'none'}).", advice)
    if stored.size != 1 or not np.issubdtype(stored.dtype, np.integer) or int(stored.reshape(-1)[0]) < 1:
        raise NetworkError(f"{path}, array L", "is not a positive whole number.", "L is the number of affine layers.")
    return int(stored.reshape(-1)[0])


def _array(archive: np.lib.npyio.NpzFile, name: str, axes: int, path: Path) -> Array:
    place = f"{path}, array {name}"
    if name not in archive.files:
        raise NetworkError(place, "is missing.", "The archive needs W0, b0, ... up to the number of layers in L.")
    array = archive[name]
    if array.dtype not in (np.float32, np.float64):
        raise NetworkError(place, f"has element type {array.dtype}.", "Weights are float32 or float64.")
    if array.ndim != axes or 0 in array.shape:
        raise NetworkError(place, f"has shape {array.shape}.", "Weights have shape (out, in), biases (out,), none of them empty.")
    if not np.isfinite(array).all():
        raise NetworkError(place, "holds NaN or infinite numbers.", "Retrain or repair the network: nothing can be proved about it.")
    return array

"""Labelled samples: the scikit-learn digits, MNIST from its own files, and .npz files.

A data set carries the box its inputs live in ([0, 1] for images, R^n for a file), because worst cases are sought there. Samples are exact
numbers like weights are: what is stored in float64 here is what is proved about.
"""

import gzip
import re
import zipfile
import zlib
from dataclasses import dataclass, replace
from functools import cache
from math import prod
from pathlib import Path
from typing import Protocol

import numpy as np

from problems.errors import DataError, NetworkError
from problems.regions.base import Region
from problems.regions.box import Box

Array = np.ndarray

SOURCES = "Data are digits:train, digits:test, mnist:FOLDER, a file FILE.npz with arrays x and y, or a problems.data.Dataset."
TEST_PER_CLASS = 40


class Classifier(Protocol):
    """Whatever takes samples and gives logits: a Network, or a torch module under attack."""

    @property
    def name(self) -> str: ...
    @property
    def input_size(self) -> int: ...
    @property
    def output_size(self) -> int: ...


@dataclass(frozen=True, eq=False)
class Dataset:
    """N labelled samples.

    x (N, n) float64, finite; y (N,) int64, not negative; `domain` the region the samples live in, None for R^n; `image_shape`
    (channels, height, width) where the samples are images; `rows` (N,) the number of each sample in the data it was selected from.
    Raises DataError where any of this does not hold.
    """

    x: Array
    y: Array
    domain: Region | None = None
    name: str = "data"
    image_shape: tuple[int, int, int] | None = None
    rows: Array | None = None

    def __post_init__(self) -> None:
        x, y = np.asarray(self.x), np.asarray(self.y)
        if x.ndim != 2 or not x.size:
            raise DataError(self.name, f"x has shape {x.shape}, not (N, n) with at least one sample.")
        if not np.issubdtype(x.dtype, np.number) or np.iscomplexobj(x):
            raise DataError(self.name, f"x holds {x.dtype}, not real numbers.")
        wide = x.astype(np.float64)
        if not np.isfinite(wide).all():
            row = int(np.flatnonzero(~np.isfinite(wide).all(axis=1))[0])
            raise DataError(f"{self.name}, sample {row}", "holds NaN or infinite values.", "Remove or repair it.")
        if (wide.astype(x.dtype) != x).any():  # integers past 2^53, long doubles
            raise DataError(self.name, f"x holds {x.dtype} values that float64 cannot hold.", "Round them to float64 first.")
        if y.shape != (len(x),):
            raise DataError(self.name, f"y has shape {y.shape} for {len(x)} samples.", "One label per sample is needed.")
        labels = _labels(y, self.name)
        if self.image_shape is not None and prod(self.image_shape) != x.shape[1]:
            raise DataError(self.name, f"samples of {x.shape[1]} numbers are not images of shape {self.image_shape}.")
        object.__setattr__(self, "x", np.ascontiguousarray(wide))
        object.__setattr__(self, "y", labels)
        object.__setattr__(self, "rows", np.arange(len(x)) if self.rows is None else np.asarray(self.rows, dtype=np.int64))
        if self.domain is not None:
            self.check_inside(self.domain)

    @property
    def numbers(self) -> Array:
        """`rows`, which is always an array once the data set is made."""
        return np.arange(len(self.x)) if self.rows is None else self.rows

    def __len__(self) -> int:
        return len(self.x)

    def select(self, samples: str | slice | None) -> "Dataset":
        """The samples "A:B" (A included, B not; either may be left out), or the one sample "I". None selects all of them."""
        if samples is None:
            return self
        start, stop = _bounds(samples, len(self), self.name)
        return replace(self, x=self.x[start:stop], y=self.y[start:stop], rows=self.numbers[start:stop])

    def check_inside(self, region: Region) -> None:
        """Raise DataError unless every sample belongs to the region, decided exactly."""
        if region.dimension != self.x.shape[1]:
            raise DataError(self.name, f"samples have {self.x.shape[1]} numbers, the region has dimension {region.dimension}.")
        for index, point in enumerate(self.x):
            if not region.contains(point):
                raise DataError(
                    f"{self.name}, sample {self.numbers[index]}",
                    "lies outside the region.",
                    "Scale the data as the network expects them (images to [0, 1]), or give the region they live in.",
                )

    def check_fits(self, network: Classifier) -> None:
        """Raise DataError unless the samples are inputs of the classifier and the labels among its outputs; NetworkError for one output."""
        if network.output_size < 2:
            raise NetworkError(network.name, "has one output, so nothing can be misclassified.", "Give a classifier: one logit per class.")
        if self.x.shape[1] != network.input_size:
            raise DataError(self.name, f"samples have {self.x.shape[1]} numbers, {network.name} takes {network.input_size}.")
        if self.y.max() >= network.output_size:
            row = int(self.y.argmax())
            raise DataError(
                f"{self.name}, sample {self.numbers[row]}",
                f"has label {self.y[row]}, and {network.name} has the classes 0 to {network.output_size - 1}.",
            )


def load(data: "str | Path | Dataset") -> Dataset:
    """The data set that `data` names: "digits:train", "digits:test", "mnist:FOLDER", "FILE.npz"; a Dataset is returned as it is.

    Raises DataError.
    """
    if isinstance(data, Dataset):
        return data
    kind, _, rest = str(data).partition(":")
    if kind == "digits":
        return _digits(rest)
    if kind == "mnist":
        return _mnist(rest)
    if str(data).endswith(".npz"):
        return _npz(Path(data))
    raise DataError(str(data), "is not a data set.", SOURCES)


def digits_split(part: str) -> tuple[Array, Array]:
    """(x (N, 64) in [0, 1], y (N,)) of the digits of scikit-learn, part "train" (N = 1397) or "test" (N = 400).

    Pixels 0..16 are divided by 16, which is exact. The split is fixed and stratified: of the m samples of a class, in the order of
    scikit-learn, those at positions floor(k m / 40), k = 0..39, are test samples; both parts keep the order of scikit-learn.
    """
    from sklearn.datasets import load_digits

    digits = load_digits()
    test = np.zeros(len(digits.target), dtype=bool)
    for label in range(10):
        members = np.flatnonzero(digits.target == label)
        test[members[np.arange(TEST_PER_CLASS) * len(members) // TEST_PER_CLASS]] = True
    chosen = test if part == "test" else ~test
    return digits.data[chosen] / 16.0, digits.target[chosen].astype(np.int64)


@cache
def _digits(part: str) -> Dataset:
    if part not in ("train", "test"):
        raise DataError(f"digits:{part}", "is not a data set.", "The parts are digits:train and digits:test.")
    x, y = digits_split(part)
    return Dataset(x, y, Box(np.zeros(64), np.ones(64)), f"digits:{part}", (1, 8, 8))


@cache
def _mnist(folder: str) -> Dataset:
    images = _idx(Path(folder).expanduser() / "t10k-images-idx3-ubyte", 3)
    labels = _idx(Path(folder).expanduser() / "t10k-labels-idx1-ubyte", 1)
    # Networks saw pixels divided by 255 in float32; those floats, taken as exact, are the samples.
    scaled = (images.reshape(len(images), -1).astype(np.float32) / np.float32(255)).astype(np.float64)
    height, width = images.shape[1:]
    box = Box(np.zeros(height * width), np.ones(height * width))
    return Dataset(scaled, labels.astype(np.int64), box, f"mnist:{folder}", (1, height, width))


def _idx(base: Path, axes: int) -> Array:
    """The unsigned bytes of an idx file with `axes` axes, compressed (.gz) or not."""
    packed = base.with_name(base.name + ".gz")
    file = packed if packed.exists() or not base.exists() else base
    try:
        content = gzip.decompress(file.read_bytes()) if file is packed else file.read_bytes()
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(str(file), f"cannot be read: {_reason(error)}.", "mnist:FOLDER needs the t10k files of MNIST.") from error
    shape = tuple(np.frombuffer(content[4 : 4 + 4 * axes], dtype=">u4").tolist()) if len(content) >= 4 + 4 * axes else ()
    if content[:4] != bytes((0, 0, 8, axes)) or len(content) != 4 + 4 * axes + prod(shape):
        raise DataError(str(file), f"is not an idx file of bytes with {axes} axes.", "It may be cut off: fetch it again.")
    return np.frombuffer(content, dtype=np.uint8, offset=4 + 4 * axes).reshape(shape)


def _npz(file: Path) -> Dataset:
    try:
        with np.load(file, allow_pickle=False) as archive:
            for name in ("x", "y"):
                if name not in archive:
                    raise DataError(str(file), f"has no array {name}.", f"It holds {', '.join(archive) or 'nothing'}; x and y are needed.")
            x, y = archive["x"], archive["y"]
    except (OSError, EOFError, ValueError, zipfile.BadZipFile) as error:
        if isinstance(error, DataError):
            raise
        raise DataError(str(file), f"cannot be read: {_reason(error)}.", "An .npz file with arrays x and y is needed.") from error
    image = x.shape[1:] if x.ndim == 4 else (1, *x.shape[1:]) if x.ndim == 3 else None
    return Dataset(x if image is None else x.reshape(len(x), -1), y, None, str(file), image)


def _labels(y: Array, name: str) -> Array:
    if not np.issubdtype(y.dtype, np.number) or np.iscomplexobj(y) or not np.isfinite(y).all() or (y != np.floor(y)).any() or y.min() < 0:
        raise DataError(name, "y holds something else than class numbers 0, 1, 2, ...")
    return y.astype(np.int64)


def _bounds(samples: str | slice, count: int, name: str) -> tuple[int, int]:
    """(first, one past the last) of the rows that `samples` names among `count`."""
    if isinstance(samples, slice):
        if samples.step not in (None, 1):
            raise DataError("samples", f"{samples} has a step.", "Consecutive samples A:B are selected.")
        start, stop = samples.start or 0, count if samples.stop is None else samples.stop
    else:
        head, colon, tail = samples.strip().partition(":")
        digits = [part.strip() for part in (head, tail)]
        if any(part and not re.fullmatch("[0-9]+", part) for part in digits) or not (colon or digits[0]):
            raise DataError("samples", f"{samples!r} is not A:B.", "Give two row numbers, as in 0:100; the first row is 0.")
        start = int(digits[0] or 0)
        stop = (int(digits[1]) if digits[1] else count) if colon else start + 1
    if not 0 <= start < stop <= count:
        raise DataError("samples", f"{start}:{stop} selects no rows or rows that are not there: {name} has {count}.")
    return start, stop


def _reason(error: BaseException) -> str:
    return getattr(error, "strerror", None) or str(error).splitlines()[0].rstrip(".") or type(error).__name__

"""Pooling windows as tables of flat indices, for every reader."""

from dataclasses import dataclass

import numpy as np
import scipy.sparse as sparse

from problems.maps import Array
from problems.readers.builder import Builder, Value


@dataclass(frozen=True)
class Window:
    """Two-dimensional pooling: kernel, stride, dilation (vertical, horizontal), padding (top, left, bottom, right)."""

    kernel: tuple[int, int]
    stride: tuple[int, int]
    padding: tuple[int, int, int, int] = (0, 0, 0, 0)
    dilation: tuple[int, int] = (1, 1)
    ceil_mode: bool = False

    def table(self, shape: tuple[int, ...]) -> tuple[Array, Array]:
        """(index, padded), both (channels, out height, out width, taps), for an image of shape (channels, height, width).

        index: flat index of each tap, -1 where it lies outside the image; padded: whether it lies in the image or its padding
        (with ceil_mode a window may stick out even of that).
        """
        rows, columns = (self._axis(shape[1 + axis], axis) for axis in (0, 1))
        row, column = rows[:, None, :, None], columns[None, :, None, :]  # (out height, out width, taps down, taps across)
        inside = (row >= 0) & (row < shape[1]) & (column >= 0) & (column < shape[2])
        padded = (row < shape[1] + self.padding[2]) & (column < shape[2] + self.padding[3])
        pixel = np.where(inside, row * shape[2] + column, -1)
        flat = (len(rows), len(columns), -1)
        pixel, padded = pixel.reshape(flat), np.broadcast_to(padded, pixel.shape).reshape(flat)
        channels = np.arange(shape[0])[:, None, None, None] * (shape[1] * shape[2])
        return np.where(pixel >= 0, channels + pixel, -1), np.broadcast_to(padded, (shape[0], *padded.shape))

    def _axis(self, size: int, axis: int) -> Array:
        """The coordinate of each tap along one axis: (outputs, taps)."""
        before, after = self.padding[axis], self.padding[axis + 2]
        room = size + before + after - (self.kernel[axis] - 1) * self.dilation[axis] - 1
        if room < 0:
            raise ValueError("the pooling window is larger than the padded image")
        count = room // self.stride[axis] + 1
        if self.ceil_mode and room % self.stride[axis]:
            # One window more, unless it would begin in the padding behind the image.
            count += count * self.stride[axis] < size + before
        starts = np.arange(count) * self.stride[axis] - before
        return starts[:, None] + np.arange(self.kernel[axis]) * self.dilation[axis]


def average_pool(builder: Builder, value: Value, window: Window, *, count_padding: bool) -> Value:
    """Mean over each window of a value (1, C, H, W); padding counts as zeros, or not at all. The division stays exact."""
    index, padded = window.table(value.shape[1:])
    counts = (padded if count_padding else index >= 0).sum(axis=-1)
    return averaged(builder, value, index, counts)


def averaged(builder: Builder, value: Value, index: Array, counts: Array) -> Value:
    """Sum of the entries index (..., taps; -1 for none) of value, divided by counts (...): a value of shape (1, ...)."""
    shape = (1, *index.shape[:-1])
    flat = index.reshape(-1, index.shape[-1])
    row, tap = np.nonzero(flat >= 0)
    ones = sparse.csr_matrix((np.ones(len(row)), (row, flat[row, tap])), shape=(len(flat), value.size))
    return builder.divide(builder.matrix(value, ones, shape), counts.reshape(shape))


def max_pool(builder: Builder, value: Value, window: Window) -> Value:
    """Maximum over each window of a value (1, C, H, W), as a knock-out tournament of max(a, b) = b + relu(a - b).

    Raises ValueError where a window lies wholly in the padding.
    """
    index, _ = window.table(value.shape[1:])
    if (index < 0).all(axis=-1).any():
        raise ValueError("a pooling window lies wholly in the padding")
    # A tap outside the image never wins: let a tap inside stand in for it.
    index = np.where(index >= 0, index, index.max(axis=-1, keepdims=True))
    contenders = [builder.select(value, index[None, ..., tap]) for tap in range(index.shape[-1])]
    while len(contenders) > 1:
        pairs = [builder.maximum(a, b) for a, b in zip(contenders[::2], contenders[1::2], strict=False)]
        contenders = pairs + contenders[2 * len(pairs) :]
    return contenders[0]


def reduced(builder: Builder, value: Value, axes: tuple[int, ...], *, keep: bool, mean: bool) -> Value:
    """Sum or mean over axes; they stay with size 1 if `keep`."""
    axes = tuple(sorted(axis % len(value.shape) for axis in axes))
    kept = tuple(axis for axis in range(len(value.shape)) if axis not in axes)
    index = np.arange(value.size).reshape(value.shape).transpose(*kept, *axes)
    left = index.shape[: len(kept)]
    index = index.reshape(*left, -1)
    shape = tuple(1 if axis in axes else size for axis, size in enumerate(value.shape)) if keep else left
    if mean:
        return builder.reshape(averaged(builder, value, index, np.full(left, index.shape[-1])), shape)
    flat = index.reshape(-1)
    rows = np.repeat(np.arange(len(flat) // index.shape[-1]), index.shape[-1])
    ones = sparse.csr_matrix((np.ones(len(flat)), (rows, flat)), shape=(rows[-1] + 1, value.size))
    return builder.matrix(value, ones, shape)

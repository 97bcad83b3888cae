"""Linear maps of the affine nodes: Dense, Conv and Sparse.

No other code knows an operator: a reader rewrites every operator into these three, and the engine uses only the methods of
`LinearMap`. All maps act on flattened vectors, with any number of leading batch axes.

The stored float64 numbers ARE the map (float32 weights embed exactly). The one exception is `Sparse(divisors=...)`, which
keeps a division by a constant exact: row i of the map is the rational row `matrix[i] / divisors[i]`.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from functools import cached_property
from math import prod

import numpy as np
import scipy.sparse as sparse

from problems.errors import NetworkError

Array = np.ndarray


class LinearMap(ABC):
    """A linear map R^in_size -> R^out_size.

    `terms` bounds the number of floating-point operations on the longest path into one entry of `forward` or of
    `transpose`: both are computed with a relative error of at most gamma(terms) times the same map on absolute values.
    """

    @property
    @abstractmethod
    def in_size(self) -> int:
        """The length of an input."""

    @property
    @abstractmethod
    def out_size(self) -> int:
        """The length of an output."""

    @property
    @abstractmethod
    def terms(self) -> int:
        """See the class."""

    @property
    @abstractmethod
    def products(self) -> int:
        """The number of multiplications of one `forward`."""

    @abstractmethod
    def forward(self, x: Array) -> Array:
        """x (..., in_size) -> (..., out_size)."""

    @abstractmethod
    def transpose(self, y: Array) -> Array:
        """y (..., out_size) -> (..., in_size): the transposed map."""

    @abstractmethod
    def absolute(self) -> "LinearMap":
        """The map with every entry replaced by its absolute value."""

    @abstractmethod
    def rows(self) -> tuple[sparse.csr_matrix, Array | None]:
        """(matrix (out_size, in_size), divisors (out_size,) or None): row i of the map is exactly matrix[i] / divisors[i]."""


def _finite(weights: Array, what: str) -> Array:
    weights = np.ascontiguousarray(weights, dtype=np.float64)
    if not np.isfinite(weights).all():
        raise NetworkError(what, "holds NaN or infinite weights.", "Retrain or repair the network: nothing can be proved about it.")
    return weights


def _product(x: Array, matrix: Array) -> Array:
    """x (..., m) @ matrix as one product: over more axes numpy would multiply row by row."""
    return (x.reshape(-1, x.shape[-1]) @ matrix).reshape(*x.shape[:-1], matrix.shape[1])


@dataclass(frozen=True, eq=False)
class Dense(LinearMap):
    """y = weights x, weights (out_size, in_size)."""

    weights: Array

    def __post_init__(self) -> None:
        object.__setattr__(self, "weights", _finite(self.weights, "dense layer"))
        if self.weights.ndim != 2:
            raise NetworkError("dense layer", f"weights have shape {self.weights.shape}, not (out, in).")

    @property
    def in_size(self) -> int:
        return int(self.weights.shape[1])

    @property
    def out_size(self) -> int:
        return int(self.weights.shape[0])

    @property
    def terms(self) -> int:
        return max(self.weights.shape) + 1

    @property
    def products(self) -> int:
        return int(self.weights.size)

    def forward(self, x: Array) -> Array:
        return _product(x, self.weights.T)

    def transpose(self, y: Array) -> Array:
        return _product(y, self.weights)

    def absolute(self) -> "Dense":
        return self._absolute

    @cached_property
    def _absolute(self) -> "Dense":
        return Dense(np.abs(self.weights))

    def rows(self) -> tuple[sparse.csr_matrix, None]:
        return sparse.csr_matrix(self.weights), None


@dataclass(frozen=True, eq=False)
class Conv(LinearMap):
    """A two-dimensional cross-correlation, as in ONNX Conv.

    kernel (out_channels, in_channels / groups, kh, kw), in_shape (in_channels, height, width),
    padding (top, left, bottom, right), stride and dilation (vertical, horizontal).
    """

    kernel: Array
    in_shape: tuple[int, int, int]
    stride: tuple[int, int] = (1, 1)
    padding: tuple[int, int, int, int] = (0, 0, 0, 0)
    dilation: tuple[int, int] = (1, 1)
    groups: int = 1

    def __post_init__(self) -> None:
        object.__setattr__(self, "kernel", _finite(self.kernel, "convolution"))
        out_channels, per_group = self.kernel.shape[:2]
        if self.kernel.ndim != 4 or per_group * self.groups != self.in_shape[0] or out_channels % self.groups:
            raise NetworkError(
                "convolution",
                f"a kernel of shape {self.kernel.shape} in {self.groups} groups does not fit an input of shape {self.in_shape}.",
            )
        if min(self.out_shape) < 1:
            raise NetworkError("convolution", f"the kernel {self.kernel.shape} is larger than the padded input {self.in_shape}.")

    @cached_property
    def out_shape(self) -> tuple[int, int, int]:
        """(out_channels, height, width)."""
        top, left, bottom, right = self.padding
        spans = [(k - 1) * d + 1 for k, d in zip(self.kernel.shape[2:], self.dilation, strict=True)]
        height = (self.in_shape[1] + top + bottom - spans[0]) // self.stride[0] + 1
        width = (self.in_shape[2] + left + right - spans[1]) // self.stride[1] + 1
        return int(self.kernel.shape[0]), height, width

    @property
    def in_size(self) -> int:
        return prod(self.in_shape)

    @property
    def out_size(self) -> int:
        return prod(self.out_shape)

    @property
    def terms(self) -> int:
        taps = prod(self.kernel.shape[2:])
        return taps * max(self.kernel.shape[0], self.kernel.shape[1]) + taps + 1

    @property
    def products(self) -> int:
        return self.out_size * prod(self.kernel.shape[1:])

    def _window(self, padded: Array, row: int, column: int) -> Array:
        """The strided view of padded (B, C, H, W) that kernel tap (row, column) multiplies: (B, C, out_h, out_w)."""
        _, height, width = self.out_shape
        top, left = row * self.dilation[0], column * self.dilation[1]
        bottom, right = top + self.stride[0] * (height - 1) + 1, left + self.stride[1] * (width - 1) + 1
        return padded[:, :, top : bottom : self.stride[0], left : right : self.stride[1]]

    def _padded_shape(self, batch: int) -> tuple[int, int, int, int]:
        top, left, bottom, right = self.padding
        return batch, self.in_shape[0], self.in_shape[1] + top + bottom, self.in_shape[2] + left + right

    @cached_property
    def _block(self) -> int:
        """Batch entries worked on at a time: their patches then stay in the processor's cache, which is worth a factor of three."""
        _, height, width = self.out_shape
        return max(1, 2**18 // (self.in_shape[0] * prod(self.kernel.shape[2:]) * height * width))

    def _grouped_kernel(self) -> Array:
        """(groups, out per group, in per group, kh, kw)."""
        return self.kernel.reshape(self.groups, self.kernel.shape[0] // self.groups, *self.kernel.shape[1:])

    def forward(self, x: Array) -> Array:
        flat = x.reshape(prod(x.shape[:-1]), self.in_size)
        result = np.empty((len(flat), self.out_size))
        for start in range(0, len(flat), self._block):
            result[start : start + self._block] = self._forward(flat[start : start + self._block])
        return result.reshape(*x.shape[:-1], self.out_size)

    def _forward(self, x: Array) -> Array:
        """One matrix product per group over the gathered patches (im2col); the patches come tap by tap as strided views."""
        batch = len(x)
        channels, height, width = self.in_shape
        padded = np.zeros(self._padded_shape(batch))
        top, left = self.padding[:2]
        padded[:, :, top : top + height, left : left + width] = x.reshape(batch, channels, height, width)
        _, out_height, out_width = self.out_shape
        kernel = self._grouped_kernel()
        taps = [
            self._window(padded, i, j).reshape(batch, self.groups, kernel.shape[2], out_height * out_width)
            for i in range(kernel.shape[3])
            for j in range(kernel.shape[4])
        ]
        patches = np.stack(taps, axis=3).reshape(batch, self.groups, kernel.shape[2] * len(taps), out_height * out_width)
        return (kernel.reshape(self.groups, kernel.shape[1], -1) @ patches).reshape(batch, self.out_size)

    def transpose(self, y: Array) -> Array:
        flat = y.reshape(prod(y.shape[:-1]), self.out_size)
        result = np.empty((len(flat), self.in_size))
        for start in range(0, len(flat), self._block):
            result[start : start + self._block] = self._transpose(flat[start : start + self._block])
        return result.reshape(*y.shape[:-1], self.in_size)

    def _transpose(self, y: Array) -> Array:
        """One matrix product per group, and each tap's share added back where the tap reads (col2im)."""
        batch = len(y)
        _, out_height, out_width = self.out_shape
        kernel = self._grouped_kernel()
        grouped = y.reshape(batch, self.groups, kernel.shape[1], out_height * out_width)
        spread = kernel.reshape(self.groups, kernel.shape[1], -1).transpose(0, 2, 1) @ grouped
        spread = spread.reshape(batch, self.groups, kernel.shape[2], kernel.shape[3], kernel.shape[4], out_height, out_width)
        padded = np.zeros(self._padded_shape(batch))
        for i in range(kernel.shape[3]):
            for j in range(kernel.shape[4]):
                self._window(padded, i, j)[...] += spread[:, :, :, i, j].reshape(batch, self.in_shape[0], out_height, out_width)
        top, left = self.padding[:2]
        inner = padded[:, :, top : top + self.in_shape[1], left : left + self.in_shape[2]]
        return inner.reshape(batch, self.in_size)

    def absolute(self) -> "Conv":
        return self._absolute

    @cached_property
    def _absolute(self) -> "Conv":
        return Conv(np.abs(self.kernel), self.in_shape, self.stride, self.padding, self.dilation, self.groups)

    def rows(self) -> tuple[sparse.csr_matrix, None]:
        return self._rows, None

    @cached_property
    def _rows(self) -> sparse.csr_matrix:
        out_channels, out_height, out_width = self.out_shape
        _, padded_channels, padded_height, padded_width = self._padded_shape(1)
        # Flat input index of each padded pixel; -1 marks padding.
        index = np.full((1, padded_channels, padded_height, padded_width), -1)
        top, left = self.padding[:2]
        index[0, :, top : top + self.in_shape[1], left : left + self.in_shape[2]] = np.arange(self.in_size).reshape(self.in_shape)
        per_group, outs = self.kernel.shape[1], out_channels // self.groups
        pixels = np.arange(out_height * out_width)
        entries: list[tuple[Array, Array, Array]] = []
        for i in range(self.kernel.shape[2]):
            for j in range(self.kernel.shape[3]):
                source = self._window(index, i, j).reshape(self.in_shape[0], -1)
                for out in range(out_channels):
                    group = out // outs
                    columns = source[group * per_group : (group + 1) * per_group]
                    weights = np.broadcast_to(self.kernel[out, :, i, j][:, None], columns.shape)
                    targets = np.broadcast_to(out * len(pixels) + pixels, columns.shape)
                    kept = (columns >= 0) & (weights != 0)
                    entries.append((weights[kept], targets[kept], columns[kept]))
        data, row, column = (np.concatenate(parts) for parts in zip(*entries, strict=True))
        # Each (row, column) occurs once: distinct taps read distinct pixels, so nothing is summed and the entries stay exact.
        return sparse.csr_matrix((data, (row, column)), shape=(self.out_size, self.in_size))


def _normalised(matrix: sparse.csr_matrix, divisors: Array) -> tuple[sparse.csr_matrix, Array]:
    """Rows and divisors divided by one power of two each, so that 1 <= |divisor| < 2: a product must not underflow before its division."""
    exponents = np.frexp(divisors)[1] - 1
    data = np.ldexp(matrix.data, -np.repeat(exponents, np.diff(matrix.indptr)))
    if not np.isfinite(data).all() or (np.ldexp(data, np.repeat(exponents, np.diff(matrix.indptr))) != matrix.data).any():
        raise NetworkError("division", "its quotients lie outside the range of float64.", "Rescale the network.")
    return sparse.csr_matrix((data, matrix.indices, matrix.indptr), shape=matrix.shape), np.ldexp(divisors, -exponents)


@dataclass(frozen=True, eq=False)
class Sparse(LinearMap):
    """y_i = (matrix[i] x) / divisors[i]: selections, permutations, scalings, poolings, and all that is not Dense or Conv.

    matrix: scipy CSR (out_size, in_size) without duplicate entries. divisors: (out_size,), nonzero, or None for ones.
    An affine node with a divided map has a zero bias (so that its rows, multiplied through, stay exact floats).
    """

    matrix: sparse.csr_matrix
    divisors: Array | None = None

    def __post_init__(self) -> None:
        matrix = sparse.csr_matrix(self.matrix, dtype=np.float64)
        _finite(matrix.data, "sparse layer")
        object.__setattr__(self, "matrix", matrix)
        if self.divisors is not None:
            divisors = _finite(self.divisors, "division")
            if (divisors == 0).any():
                raise NetworkError("division", "divides by zero.", "Repair the network.")
            matrix, divisors = _normalised(matrix, divisors)
            object.__setattr__(self, "matrix", matrix)
            object.__setattr__(self, "divisors", divisors)

    @property
    def in_size(self) -> int:
        return int(self.matrix.shape[1])

    @property
    def out_size(self) -> int:
        return int(self.matrix.shape[0])

    @cached_property
    def terms(self) -> int:
        longest_row = int(np.diff(self.matrix.indptr).max(initial=0))
        longest_column = int(np.bincount(self.matrix.indices, minlength=1).max(initial=0))
        return max(longest_row, longest_column) + 2

    @property
    def products(self) -> int:
        return int(self.matrix.nnz)

    @cached_property
    def _transposed(self) -> sparse.csr_matrix:
        return sparse.csr_matrix(self.matrix.T)

    def forward(self, x: Array) -> Array:
        flat = x.reshape(prod(x.shape[:-1]), self.in_size)
        y = (self.matrix @ flat.T).T
        if self.divisors is not None:
            y = y / self.divisors
        return np.ascontiguousarray(y).reshape(*x.shape[:-1], self.out_size)

    def transpose(self, y: Array) -> Array:
        flat = y.reshape(prod(y.shape[:-1]), self.out_size)
        if self.divisors is not None:
            flat = flat / self.divisors
        return np.ascontiguousarray((self._transposed @ flat.T).T).reshape(*y.shape[:-1], self.in_size)

    def absolute(self) -> "Sparse":
        return self._absolute

    @cached_property
    def _absolute(self) -> "Sparse":
        return Sparse(abs(self.matrix), None if self.divisors is None else np.abs(self.divisors))

    def rows(self) -> tuple[sparse.csr_matrix, Array | None]:
        return self.matrix, self.divisors


def identity(size: int) -> Sparse:
    """The identity map on R^size."""
    return Sparse(sparse.identity(size, format="csr"))

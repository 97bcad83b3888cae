"""A `Network` as a torch module, for gradients.

The module evaluates in floating point what `problems.exact` evaluates without rounding: it searches, it never decides.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from copy import deepcopy
from weakref import WeakKeyDictionary

import numpy as np
import torch
from torch.nn import functional

from problems.errors import InputError, NetworkError
from problems.maps import Conv, Dense, LinearMap, Sparse
from problems.network import Input, Network, Relu

# Above this many entries a sparse map is not spelled out as a dense matrix.
DENSE_ENTRIES = 1 << 20
# From this many multiplications per forward pass on, attacks search in float32.
SINGLE_PRECISION_OPERATIONS = 1 << 16

_modules: WeakKeyDictionary[Network, dict[tuple[str, torch.dtype], torch.nn.Module]] = WeakKeyDictionary()


def as_module(
    network: Network | torch.nn.Module,
    device: str = "cpu",
    dtype: torch.dtype = torch.float64,
    input_shape: tuple[int, ...] | None = None,
) -> torch.nn.Module:
    """A module x (B, n) -> logits (B, K) in `dtype` on `device` ("cpu" or "cuda"), without trainable parameters.

    A torch module is copied and wrapped: its input is reshaped to (B, *input_shape) and its output flattened. The module of
    a `Network` is built once per device and precision. Raises InputError where the device is absent.
    """
    check_device(device)
    if isinstance(network, torch.nn.Module):
        return _Wrapped(network, input_shape).to(device=device, dtype=dtype)
    built = _modules.setdefault(network, {})
    if (device, dtype) not in built:
        built[device, dtype] = _Graph(network).to(device=device, dtype=dtype)
    return built[device, dtype]


def check_device(device: str) -> None:
    """Raises InputError unless torch can compute on `device`."""
    kind = str(device).split(":")[0]
    if kind not in ("cpu", "cuda"):
        raise InputError("device", f"{device!r} is not a device of this tool.", 'Choose "cpu" or "cuda".')
    if kind == "cuda" and not torch.cuda.is_available():
        raise InputError("device", "torch finds no CUDA device here.", 'Choose "cpu", or install a CUDA build of torch and its driver.')


@contextmanager
def one_thread() -> Iterator[None]:
    """torch computes on one CPU thread while inside, on the caller's number of threads afterwards.

    A step on these networks lasts a millisecond, less than it takes threads to meet on busy cores: two threads beside other work were
    measured 10 to 1000 times slower than one, and at best 1.5 times faster on an idle machine.
    """
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def search_precision(network: Network) -> torch.dtype:
    """float32 for networks large enough to gain from it (convolutions: 3 to 6 times faster), float64 for the others."""
    return torch.float32 if operations(network) >= SINGLE_PRECISION_OPERATIONS else torch.float64


def operations(network: Network) -> int:
    """Multiplications of one forward pass: what decides how many points fit into a time slice."""
    total = 0
    for node in network.nodes:
        for linear in getattr(node, "maps", ()):
            if isinstance(linear, Dense):
                total += linear.weights.size
            elif isinstance(linear, Conv):
                total += linear.out_size * linear.kernel[0].size
            else:
                total += linear.rows()[0].nnz
    return total


class _Wrapped(torch.nn.Module):
    """A torch classifier on flattened inputs."""

    def __init__(self, module: torch.nn.Module, input_shape: tuple[int, ...] | None) -> None:
        super().__init__()
        self.inner = deepcopy(module).eval().requires_grad_(False)
        self.input_shape = input_shape

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        shaped = x if self.input_shape is None else x.reshape(len(x), *self.input_shape)
        return self.inner(shaped).flatten(1)


class _Graph(torch.nn.Module):
    """The nodes of a Network. It holds copies only, so that the cache can let the Network go."""

    def __init__(self, network: Network) -> None:
        super().__init__()
        self.steps: list[tuple[str, tuple[int, ...]]] = []
        self.layers = torch.nn.ModuleList()
        for node in network.nodes:
            if isinstance(node, Input):
                self.steps.append(("input", ()))
            elif isinstance(node, Relu):
                self.steps.append(("relu", (node.parent,)))
            else:
                self.steps.append(("affine", node.parents))
            affine = not isinstance(node, Input | Relu)
            self.layers.append(_Affine(node.maps, node.bias) if affine else torch.nn.Identity())  # type: ignore[union-attr]

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        values: list[torch.Tensor] = []
        for (kind, parents), layer in zip(self.steps, self.layers, strict=True):
            if kind == "input":
                values.append(x)
            elif kind == "relu":
                values.append(values[parents[0]].relu())
            else:
                values.append(layer(*(values[parent] for parent in parents)))
        return values[-1]


class _Affine(torch.nn.Module):
    def __init__(self, maps: tuple[LinearMap, ...], bias: np.ndarray) -> None:
        super().__init__()
        self.register_buffer("bias", _tensor(bias))
        self.maps = torch.nn.ModuleList(_LAYERS[type(linear)](linear) for linear in maps)

    def forward(self, *inputs: torch.Tensor) -> torch.Tensor:
        if len(self.maps) == 1 and isinstance(self.maps[0], _Dense):
            return functional.linear(inputs[0], self.maps[0].weights, self.bias)
        total = self.bias
        for x, linear in zip(inputs, self.maps, strict=True):
            total = total + linear(x)
        return total


class _Dense(torch.nn.Module):
    weights: torch.Tensor

    def __init__(self, linear: Dense) -> None:
        super().__init__()
        self.register_buffer("weights", _tensor(linear.weights))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return functional.linear(x, self.weights)


class _Conv(torch.nn.Module):
    kernel: torch.Tensor

    def __init__(self, linear: Conv) -> None:
        super().__init__()
        self.register_buffer("kernel", _tensor(linear.kernel))
        top, left, bottom, right = linear.padding
        self.in_shape, self.stride, self.dilation, self.groups = linear.in_shape, linear.stride, linear.dilation, linear.groups
        self.symmetric = (top, left) if (top, left) == (bottom, right) else None
        self.sides = (left, right, top, bottom)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        images = x.reshape(len(x), *self.in_shape)
        if self.symmetric is None:
            images = functional.pad(images, self.sides)
        return functional.conv2d(images, self.kernel, None, self.stride, self.symmetric or (0, 0), self.dilation, self.groups).flatten(1)


class _Selection(torch.nn.Module):
    """A map with at most one entry per row: a permutation, a slice, a scaling."""

    index: torch.Tensor
    scale: torch.Tensor

    def __init__(self, index: np.ndarray, scale: np.ndarray, in_size: int) -> None:
        super().__init__()
        self.in_order = np.array_equal(index, np.arange(in_size))
        self.unscaled = bool((scale == 1).all())
        self.register_buffer("index", torch.from_numpy(index))
        self.register_buffer("scale", _tensor(scale))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        selected = x if self.in_order else x.index_select(1, self.index)
        return selected if self.unscaled else selected * self.scale


class _Coordinates(torch.nn.Module):
    """A large sparse matrix."""

    matrix: torch.Tensor

    def __init__(self, matrix: torch.Tensor) -> None:
        super().__init__()
        self.register_buffer("matrix", matrix)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.sparse.mm(self.matrix, x.T).T


def _sparse(linear: Sparse) -> torch.nn.Module:
    matrix, divisors = linear.rows()
    matrix = matrix.copy()
    counts = np.diff(matrix.indptr)
    if divisors is not None:
        matrix.data /= np.repeat(divisors, counts)
    if counts.max(initial=0) <= 1:
        index, scale = np.zeros(matrix.shape[0], dtype=np.int64), np.zeros(matrix.shape[0])
        index[counts == 1], scale[counts == 1] = matrix.indices, matrix.data
        return _Selection(index, scale, matrix.shape[1])
    if matrix.shape[0] * matrix.shape[1] <= DENSE_ENTRIES:
        return _Dense(Dense(matrix.toarray()))
    coordinates = matrix.tocoo()
    places = torch.from_numpy(np.stack([coordinates.row, coordinates.col]).astype(np.int64))
    return _Coordinates(torch.sparse_coo_tensor(places, _tensor(coordinates.data), matrix.shape, check_invariants=False).coalesce())


def _tensor(values: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(np.array(values, dtype=np.float64))


class _Layers(dict[type[LinearMap], Callable[..., torch.nn.Module]]):
    def __missing__(self, kind: type[LinearMap]) -> Callable[..., torch.nn.Module]:
        raise NetworkError("network", f"holds a map of type {kind.__name__}, which the attacks cannot evaluate.")


_LAYERS = _Layers({Dense: _Dense, Conv: _Conv, Sparse: _sparse})

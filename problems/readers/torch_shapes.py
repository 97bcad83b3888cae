"""Layers, functions and methods of torch that pool, or only move numbers about. Handlers as in `torch_operators`."""

import operator
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from problems.errors import UnsupportedOperatorError
from problems.maps import Array
from problems.readers.builder import Value
from problems.readers.pooling import Window, average_pool, max_pool, reduced
from problems.readers.torch_scope import Scope, function_handler, layer_handler, pair

# Pooling


def _window(value: Value, kernel: Any, stride: Any, padding: Any, dilation: Any, ceil_mode: bool) -> Window:
    if len(value.shape) != 4:
        raise ValueError(f"an input of shape {value.shape} where (1, channels, height, width) is expected")
    pads = pair(padding)
    return Window(pair(kernel), pair(kernel if stride is None else stride), (*pads, *pads), pair(dilation), ceil_mode)  # type: ignore[arg-type]


@function_handler(functional.max_pool2d, torch.max_pool2d)
def max_pool2d(
    scope: Scope,
    input: Value,
    kernel_size: Any,
    stride: Any = None,
    padding: Any = 0,
    dilation: Any = 1,
    ceil_mode: bool = False,
    **other: Any,
) -> Value:
    if other.get("return_indices"):
        raise ValueError("return_indices")
    return max_pool(scope.builder, input, _window(input, kernel_size, stride, padding, dilation, ceil_mode))


@layer_handler(nn.MaxPool2d)
def max_pool_layer(scope: Scope, layer: nn.MaxPool2d, value: Value) -> Value:
    return max_pool2d(
        scope, value, layer.kernel_size, layer.stride, layer.padding, layer.dilation, layer.ceil_mode, return_indices=layer.return_indices
    )


@layer_handler(nn.AvgPool2d)
def average_pool_layer(scope: Scope, layer: nn.AvgPool2d, value: Value) -> Value:
    if layer.divisor_override is not None:
        raise ValueError("divisor_override")
    window = _window(value, layer.kernel_size, layer.stride, layer.padding, 1, layer.ceil_mode)
    return average_pool(scope.builder, value, window, count_padding=layer.count_include_pad)


@layer_handler(nn.AdaptiveAvgPool2d)
def adaptive_average_pool_layer(scope: Scope, layer: nn.AdaptiveAvgPool2d, value: Value) -> Value:
    if pair(layer.output_size) != (1, 1):
        raise ValueError(f"output_size {layer.output_size}; supported: 1")
    return mean(scope, value, (2, 3), True)


@function_handler(torch.mean, "mean")
def mean(scope: Scope, value: Value, dim: int | Sequence[int], keepdim: bool = False) -> Value:
    return reduced(scope.builder, value, pair(dim, 1), keep=keepdim, mean=True)


# Shapes


def _moved(scope: Scope, operand: Any, function: Callable[[Array], Array]) -> Any:
    if not isinstance(operand, Value):
        return function(operand)
    return scope.builder.select(operand, function(np.arange(operand.size).reshape(operand.shape)))


@layer_handler(nn.Identity, nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.AlphaDropout)
def identity_layer(scope: Scope, layer: nn.Module, value: Value) -> Value:
    return value


@function_handler("contiguous", "clone", "detach")
def identity(scope: Scope, value: Any) -> Any:
    return value


@function_handler(functional.dropout, torch.dropout)
def dropout(scope: Scope, input: Value, p: float = 0.5, training: bool = True, inplace: bool = False) -> Value:
    if training:
        raise UnsupportedOperatorError(
            scope.place, "dropout is applied at inference.", "Write functional.dropout(..., training=self.training)."
        )
    return input


@function_handler(torch.flatten, "flatten")
def flatten(scope: Scope, value: Value, start_dim: int = 0, end_dim: int = -1) -> Value:
    rank = len(value.shape)
    start, end = start_dim % rank, end_dim % rank
    return _moved(scope, value, lambda a: a.reshape(*a.shape[:start], -1, *a.shape[end + 1 :]))


@layer_handler(nn.Flatten)
def flatten_layer(scope: Scope, layer: nn.Flatten, value: Value) -> Value:
    return flatten(scope, value, layer.start_dim, layer.end_dim)


def _sizes(sizes: tuple[Any, ...]) -> tuple[int, ...]:
    return tuple(sizes[0]) if len(sizes) == 1 and isinstance(sizes[0], Sequence) else tuple(sizes)


@function_handler(torch.reshape, "reshape", "view")
def reshape(scope: Scope, value: Value, *sizes: Any) -> Value:
    return _moved(scope, value, lambda a: a.reshape(_sizes(sizes)))


@layer_handler(nn.Unflatten)
def unflatten_layer(scope: Scope, layer: nn.Unflatten, value: Value) -> Value:
    axis = int(layer.dim) % len(value.shape)
    return _moved(scope, value, lambda a: a.reshape(*a.shape[:axis], *layer.unflattened_size, *a.shape[axis + 1 :]))


@function_handler(torch.permute, "permute")
def permute(scope: Scope, value: Value, *order: Any) -> Value:
    return _moved(scope, value, lambda a: a.transpose(_sizes(order)))


@function_handler(torch.transpose, "transpose")
def transpose(scope: Scope, value: Value, dim0: int, dim1: int) -> Value:
    return _moved(scope, value, lambda a: a.swapaxes(dim0, dim1))


@function_handler(torch.squeeze, "squeeze")
def squeeze(scope: Scope, value: Value, dim: int | None = None) -> Value:
    """torch leaves an axis alone that is not of size 1."""
    return _moved(scope, value, lambda a: a if dim is not None and a.shape[dim] != 1 else a.squeeze(dim))


@function_handler(torch.unsqueeze, "unsqueeze")
def unsqueeze(scope: Scope, value: Value, dim: int) -> Value:
    return _moved(scope, value, lambda a: np.expand_dims(a, dim))


@function_handler(torch.cat, torch.concat)
def concatenate(scope: Scope, tensors: Sequence[Any], dim: int = 0) -> Value:
    return scope.builder.concatenate([scope.value(tensor) for tensor in tensors], dim)


@function_handler("size")
def size(scope: Scope, value: Value, dim: int | None = None) -> Any:
    return value.shape if dim is None else value.shape[dim]


@function_handler(getattr)
def attribute(scope: Scope, value: Any, name: str) -> Any:
    if name != "shape":
        raise ValueError(f"attribute {name}")
    return tuple(value.shape)


@function_handler(operator.getitem)
def item(scope: Scope, operand: Any, index: Any) -> Any:
    return operand[index] if isinstance(operand, tuple | list) else _moved(scope, operand, lambda a: a[index])

"""Layers, functions and methods of torch that compute, rewritten into affine and ReLU nodes through the builder.

Handlers are named after what they stand for and documented there; `torch_scope` says what they get. They raise UnsupportedOperatorError
for a use that is not piecewise affine, ValueError for shapes that do not fit (the reader names the place).
"""

import operator
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from problems.errors import UnsupportedOperatorError
from problems.maps import Array
from problems.readers.builder import Value
from problems.readers.normalisation import normalise
from problems.readers.rewrites import clip, leaky, times
from problems.readers.torch_scope import Scope, function_handler, layer_handler, pair, parameter

# Linear layers


@function_handler(functional.linear)
def linear(scope: Scope, value: Value, weight: Array, bias: Array | None = None) -> Value:
    result = times(scope.builder, value, scope.array(weight).T)
    return result if bias is None else scope.builder.shift(result, scope.array(bias))


@layer_handler(nn.Linear)
def linear_layer(scope: Scope, layer: nn.Linear, value: Value) -> Value:
    return linear(scope, value, parameter(layer.weight), parameter(layer.bias))


@function_handler(torch.matmul, operator.matmul, "matmul")
def matmul(scope: Scope, first: Any, second: Any) -> Value:
    if isinstance(first, Value) and isinstance(second, Value):
        raise UnsupportedOperatorError(
            scope.place, "it multiplies two values that depend on the input.", "Supported: a constant on either side."
        )
    left = isinstance(second, Value)
    return times(scope.builder, second if left else first, scope.array(first if left else second), left=left)


@function_handler(torch.conv1d, torch.conv2d, functional.conv1d, functional.conv2d)
def conv(
    scope: Scope,
    value: Value,
    weight: Array,
    bias: Array | None = None,
    stride: int | Sequence[int] = 1,
    padding: int | str | Sequence[int] = 0,
    dilation: int | Sequence[int] = 1,
    groups: int = 1,
) -> Value:
    axes = np.ndim(weight) - 2
    strides, dilations, kernel = pair(stride, axes), pair(dilation, axes), scope.array(weight)
    if isinstance(padding, str):
        totals = [d * (k - 1) for d, k in zip(dilations, kernel.shape[2:], strict=True)] if padding == "same" else [0] * axes
        before, after = tuple(t // 2 for t in totals), tuple(t - t // 2 for t in totals)
    else:
        before = after = pair(padding, axes)
    if len(value.shape) != axes + 2 or value.shape[0] != 1:
        raise ValueError(f"an input of shape {value.shape} where (1, channels, {'height, width' if axes == 2 else 'length'}) is expected")
    one = (1,) * (2 - axes)  # a sequence is an image of height 1
    image = scope.builder.reshape(value, (*value.shape[:2], *one, *value.shape[2:]))
    zero = (0,) * (2 - axes)
    result = scope.builder.convolve(
        image,
        kernel.reshape(*kernel.shape[:2], *one, *kernel.shape[2:]),
        stride=(*one, *strides),
        padding=(*zero, *before, *zero, *after),
        dilation=(*one, *dilations),
        groups=groups,
    )
    if bias is not None:
        result = scope.builder.shift(result, scope.array(bias).reshape(-1, 1, 1))
    return scope.builder.reshape(result, (*result.shape[:2], *result.shape[4 - axes :]))


@layer_handler(nn.Conv1d, nn.Conv2d)
def conv_layer(scope: Scope, layer: nn.Conv2d, value: Value) -> Value:
    if layer.padding_mode != "zeros":
        raise UnsupportedOperatorError(scope.place, f"it pads in mode {layer.padding_mode}.", "Supported: padding_mode='zeros'.")
    weight, bias = parameter(layer.weight), parameter(layer.bias)
    return conv(scope, value, weight, bias, layer.stride, layer.padding, layer.dilation, layer.groups)


@layer_handler(nn.BatchNorm1d, nn.BatchNorm2d)
def batch_norm(scope: Scope, layer: nn.BatchNorm2d, value: Value) -> Value:
    mean, variance = parameter(layer.running_mean), parameter(layer.running_var)
    if mean is None or variance is None:
        raise UnsupportedOperatorError(
            scope.place, "it normalises by the batch at hand.", "Supported: running statistics, in evaluation mode."
        )
    if len(value.shape) < 2 or value.shape[1] != len(mean):
        raise ValueError(f"an input of shape {value.shape} for {len(mean)} channels")
    scale, shift = parameter(layer.weight), parameter(layer.bias)
    return normalise(
        scope.builder,
        value,
        scale=np.ones_like(mean) if scale is None else scale,
        shift=np.zeros_like(mean) if shift is None else shift,
        mean=mean,
        variance=variance,
        epsilon=layer.eps,
        name=scope.name,
        place=scope.place,
    )


# Element-wise


@function_handler(torch.add, operator.add, operator.iadd, "add", "add_")
def add(scope: Scope, first: Any, second: Any) -> Any:
    if not isinstance(first, Value) and not isinstance(second, Value):
        return first + second  # sizes
    return scope.builder.add(scope.value(first), scope.value(second))


@function_handler(torch.sub, operator.sub, operator.isub, "sub", "sub_")
def subtract(scope: Scope, first: Any, second: Any) -> Any:
    if not isinstance(first, Value) and not isinstance(second, Value):
        return first - second
    return scope.builder.add(scope.value(first), scope.builder.negate(scope.value(second)))


@function_handler(torch.mul, operator.mul, operator.imul, "mul", "mul_")
def multiply(scope: Scope, first: Any, second: Any) -> Any:
    if not isinstance(first, Value) and not isinstance(second, Value):
        return first * second
    if isinstance(first, Value) and isinstance(second, Value):
        raise UnsupportedOperatorError(scope.place, "it multiplies two values that depend on the input.", "Supported: * by a constant.")
    value, factor = (first, scope.array(second)) if isinstance(first, Value) else (second, scope.array(first))
    return scope.builder.scale(scope.builder.expand(value, np.broadcast_shapes(value.shape, factor.shape)), factor)


@function_handler(torch.div, operator.truediv, operator.itruediv, "div", "div_")
def divide(scope: Scope, value: Any, divisor: Any) -> Any:
    if isinstance(divisor, Value):
        raise UnsupportedOperatorError(scope.place, "it divides by a value that depends on the input.", "Supported: / by a constant.")
    if not isinstance(value, Value):
        return value / divisor
    wide = scope.array(divisor)
    return scope.builder.divide(scope.builder.expand(value, np.broadcast_shapes(value.shape, wide.shape)), wide)


@function_handler(operator.floordiv)
def floor_divide(scope: Scope, first: int, second: int) -> int:
    if isinstance(first, Value) or isinstance(second, Value):
        raise UnsupportedOperatorError(
            scope.place, "it rounds a value that depends on the input.", "Only piecewise-affine operations are supported."
        )
    return first // second


@function_handler(torch.neg, operator.neg, "neg")
def negate(scope: Scope, value: Any) -> Any:
    return scope.builder.negate(value) if isinstance(value, Value) else -value


@function_handler(torch.relu, functional.relu, "relu", "relu_")
def relu(scope: Scope, value: Value, inplace: bool = False) -> Value:
    return scope.builder.relu(value)


@layer_handler(nn.ReLU)
def relu_layer(scope: Scope, layer: nn.ReLU, value: Value) -> Value:
    return scope.builder.relu(value)


@function_handler(functional.leaky_relu)
def leaky_relu(scope: Scope, value: Value, negative_slope: float = 0.01, inplace: bool = False) -> Value:
    return leaky(scope.builder, value, scope.array(negative_slope))


@layer_handler(nn.LeakyReLU)
def leaky_relu_layer(scope: Scope, layer: nn.LeakyReLU, value: Value) -> Value:
    return leaky_relu(scope, value, layer.negative_slope)


@function_handler(torch.clamp, torch.clip, functional.hardtanh, "clamp", "clip")
def clamp(scope: Scope, value: Value, min: float | None = None, max: float | None = None) -> Value:
    return clip(scope.builder, value, *(None if bound is None else float(scope.array(bound)) for bound in (min, max)))


@layer_handler(nn.ReLU6, nn.Hardtanh)
def hard_tanh(scope: Scope, layer: nn.Hardtanh, value: Value) -> Value:
    return clamp(scope, value, layer.min_val, layer.max_val)


@function_handler(torch.abs, operator.abs, "abs")
def absolute(scope: Scope, value: Value) -> Value:
    value = scope.builder.settled(value)
    return scope.builder.add(scope.builder.scale(scope.builder.relu(value), np.array(2.0)), scope.builder.negate(value))


@function_handler(torch.maximum, torch.max)
def maximum(scope: Scope, first: Any, second: Any) -> Value:
    return scope.builder.maximum(scope.value(first), scope.value(second))


@function_handler(torch.minimum, torch.min)
def minimum(scope: Scope, first: Any, second: Any) -> Value:
    negate = scope.builder.negate
    return negate(scope.builder.maximum(negate(scope.value(first)), negate(scope.value(second))))

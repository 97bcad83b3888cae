"""ONNX operators that compute: each is rewritten into affine and ReLU nodes through the builder.

A handler stands under the ONNX names in its decorator, takes the call and returns what it computes, an array or a value. It raises
UnsupportedOperatorError for a use that is not piecewise affine, NetworkError for a call that ONNX does not allow.
"""

from collections.abc import Callable

import numpy as np

from problems.maps import Array
from problems.readers import exactly
from problems.readers.builder import Value
from problems.readers.normalisation import normalise
from problems.readers.onnx_call import Call, Handler, Operand
from problems.readers.onnx_shapes import shape_of
from problems.readers.rewrites import times

OPERATORS: dict[str, Handler] = {}


def _operator(*names: str) -> Callable[[Handler], Handler]:
    def register(handler: Handler) -> Handler:
        OPERATORS.update(dict.fromkeys(names, handler))
        return handler

    return register


# Element-wise arithmetic


def _constants(call: Call) -> tuple[Array, Array] | None:
    """Both inputs where neither depends on the network's input: shapes, or weights that the file computes from others."""
    if len(call.inputs) != 2:
        return None
    first, second = call.operand(0), call.operand(1)
    return None if isinstance(first, Value) or isinstance(second, Value) else (first, second)


def _whole(pair: tuple[Array, Array]) -> bool:
    return all(np.issubdtype(array.dtype, np.integer) for array in pair)


@_operator("Add", "Sum")
def add(call: Call) -> Operand:
    if pair := _constants(call):
        total = pair[0] + pair[1] if _whole(pair) else exactly.total(*pair)
        if total is not None:
            return total
    value = call.value(0)
    for i in range(1, len(call.inputs)):
        value = call.builder.add(value, call.value(i))
    return value


@_operator("Sub")
def subtract(call: Call) -> Operand:
    if pair := _constants(call):
        difference = pair[0] - pair[1] if _whole(pair) else exactly.total(pair[0], -pair[1])
        if difference is not None:
            return difference
    return call.builder.add(call.value(0), call.builder.negate(call.value(1)))


@_operator("Mul")
def multiply(call: Call) -> Operand:
    if pair := _constants(call):
        product = pair[0] * pair[1] if _whole(pair) else exactly.product(*pair)
        if product is not None:
            return product
    first, second = call.operand(0), call.operand(1)
    if isinstance(first, Value) and isinstance(second, Value):
        call.unsupported("it multiplies two values that depend on the input.", "Supported: Mul by a constant.")
    value, factor = (
        (call.value(1), call.constant(0, "factor")) if isinstance(second, Value) else (call.value(0), call.constant(1, "factor"))
    )
    shape = np.broadcast_shapes(value.shape, factor.shape)
    return call.builder.scale(call.builder.expand(value, shape), factor)


@_operator("Div")
def divide(call: Call) -> Operand:
    if pair := _constants(call):
        first, second = pair
        if _whole(pair):
            return np.sign(first) * np.sign(second) * (np.abs(first) // np.abs(second))  # ONNX rounds towards zero
        inverse = exactly.reciprocal(second)
        quotient = None if inverse is None else exactly.product(first, inverse)
        if quotient is not None:
            return quotient
    divisor = call.constant(1, "divisor")
    value = call.value(0)
    shape = np.broadcast_shapes(value.shape, divisor.shape)
    return call.builder.divide(call.builder.expand(value, shape), divisor)


@_operator("Neg")
def negate(call: Call) -> Operand:
    operand = call.operand(0)
    return call.builder.negate(operand) if isinstance(operand, Value) else -operand


# Linear layers


@_operator("MatMul")
def matmul(call: Call) -> Operand:
    first, second = call.operand(0), call.operand(1)
    if isinstance(first, Value) and isinstance(second, Value):
        call.unsupported("it multiplies two values that depend on the input.", "Supported: MatMul with a constant on either side.")
    left = isinstance(second, Value)
    weights = call.constant(0 if left else 1, "matrix")
    while weights.ndim > 2 and weights.shape[0] == 1:
        weights = weights[0]
    if weights.ndim > 2 or weights.ndim == 0:
        call.unsupported(f"its constant has shape {weights.shape}.", "Supported: MatMul by one constant matrix or vector.")
    return times(call.builder, call.value(1 if left else 0), weights, left=left)


@_operator("Gemm")
def gemm(call: Call) -> Operand:
    alpha, beta = call.number("alpha", 1.0), call.number("beta", 1.0)
    sides = [call.operand(0), call.operand(1)]
    for i, attribute in enumerate(("transA", "transB")):
        if call.integer(attribute, 0):
            side = sides[i]
            if isinstance(side, Value):
                sides[i] = call.builder.select(side, np.arange(side.size).reshape(side.shape).T)
            else:
                sides[i] = side.T
    product = matmul(Call(call.builder, "Gemm", call.place, call.opset, [*sides], {}))
    assert isinstance(product, Value)
    scaled = call.builder.scale(product, np.array(alpha))
    if not call.given(2):
        return scaled
    return call.builder.add(scaled, call.builder.scale(call.value(2), np.array(beta)))


Sizes = tuple[int, ...]


def paddings(call: Call, spatial: Sizes, kernel: Sizes, strides: Sizes, dilations: Sizes) -> Sizes:
    """(all begins, all ends), from pads or auto_pad."""
    mode = call.attributes.get("auto_pad", "NOTSET")
    mode = mode.decode() if isinstance(mode, bytes) else mode
    if mode in ("NOTSET", ""):
        return call.integers("pads") or (0,) * (2 * len(spatial))
    if mode == "VALID":
        return (0,) * (2 * len(spatial))
    if mode not in ("SAME_UPPER", "SAME_LOWER"):
        call.malformed(f"auto_pad {mode!r} is not known.")
    totals = [
        max((-(-size // stride) - 1) * stride + (taps - 1) * dilation + 1 - size, 0)
        for size, taps, stride, dilation in zip(spatial, kernel, strides, dilations, strict=True)
    ]
    small, large = [t // 2 for t in totals], [t - t // 2 for t in totals]
    return (*small, *large) if mode == "SAME_UPPER" else (*large, *small)


def image_shape(call: Call) -> tuple[int, ...]:
    """The shape of input 0, which must be (1, channels, one or two spatial axes)."""
    shape = shape_of(call.operand(0))
    if len(shape) not in (3, 4) or shape[0] != 1:
        call.unsupported(f"its input has shape {shape}.", f"Supported: {call.operator} on one image, shape (1, channels, height, width).")
    return shape


@_operator("Conv")
def conv(call: Call) -> Operand:
    kernel, shape = call.constant(1, "kernel"), image_shape(call)
    if kernel.ndim != len(shape):
        call.malformed(f"a kernel of shape {kernel.shape} does not fit an input of shape {shape}.")
    axes = len(shape) - 2
    strides, dilations = call.integers("strides") or (1,) * axes, call.integers("dilations") or (1,) * axes
    pads = paddings(call, shape[2:], kernel.shape[2:], strides, dilations)
    value = call.value(0)
    if axes == 1:  # a sequence is an image of height 1
        value = call.builder.reshape(value, (1, shape[1], 1, shape[2]))
        kernel, strides, dilations, pads = kernel[:, :, None], (1, *strides), (1, *dilations), (0, pads[0], 0, pads[1])
    if min(pads) < 0:
        call.unsupported("its pads are negative.", "Supported: Conv with pads of zero or more.")
    result = call.builder.convolve(value, kernel, stride=strides, padding=pads, dilation=dilations, groups=call.integer("group", 1))
    if call.given(2):
        result = call.builder.shift(result, call.constant(2, "bias").reshape(-1, 1, 1))
    return call.builder.reshape(result, (result.shape[0], result.shape[1], *result.shape[4 - axes :]))


@_operator("BatchNormalization")
def batch_normalization(call: Call) -> Operand:
    """factor x + offset with factor = scale / sqrt(variance + epsilon) and offset = shift - mean factor, each rounded once to float64."""
    if call.integer("training_mode", 0) or call.outputs > 1:
        call.unsupported("it is in training mode.", "Supported: BatchNormalization at inference; export the network in evaluation mode.")
    if not call.integer("spatial", 1):
        call.unsupported("it normalises every pixel by itself (spatial=0).", "Supported: BatchNormalization with spatial=1.")
    scale, shift, mean, variance = (call.constant(i, what) for i, what in enumerate(("scale", "shift", "mean", "variance"), start=1))
    value = call.value(0)
    if len(value.shape) < 2 or any(part.shape != (value.shape[1],) for part in (scale, shift, mean, variance)):
        call.malformed(f"its parameters do not fit an input of shape {value.shape}.")
    # onnxruntime reads epsilon as the float32 that the file stores.
    epsilon = float(np.float32(call.number("epsilon", 1e-5)))
    return normalise(
        call.builder, value, scale=scale, shift=shift, mean=mean, variance=variance, epsilon=epsilon, name=call.name, place=call.place
    )

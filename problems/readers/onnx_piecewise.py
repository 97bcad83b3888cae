"""ONNX operators with kinks, rewritten into ReLU nodes, and the averages that go with them. Handlers as in `onnx_operators`."""

from collections.abc import Callable

import numpy as np

from problems.readers.builder import Value
from problems.readers.onnx_call import Call, Handler, Operand
from problems.readers.onnx_operators import image_shape, paddings
from problems.readers.pooling import Window, average_pool, max_pool, reduced
from problems.readers.rewrites import clip, leaky

PIECEWISE: dict[str, Handler] = {}

_FLOAT32_LARGEST = float(np.finfo(np.float32).max)


def _operator(*names: str) -> Callable[[Handler], Handler]:
    def register(handler: Handler) -> Handler:
        PIECEWISE.update(dict.fromkeys(names, handler))
        return handler

    return register


@_operator("Relu")
def relu(call: Call) -> Operand:
    return call.builder.relu(call.value(0))


@_operator("LeakyRelu")
def leaky_relu(call: Call) -> Operand:
    return leaky(call.builder, call.value(0), np.array(call.number("alpha", float(np.float32(0.01)))))


@_operator("PRelu")
def p_relu(call: Call) -> Operand:
    return leaky(call.builder, call.value(0), call.constant(1, "slope"))


@_operator("Abs")
def absolute(call: Call) -> Operand:
    """|x| = 2 relu(x) - x."""
    value = call.builder.settled(call.value(0))
    return call.builder.add(call.builder.scale(call.builder.relu(value), np.array(2.0)), call.builder.negate(value))


@_operator("Clip")
def clip_operator(call: Call) -> Operand:
    bounds: list[float | None] = []
    for index, attribute in ((1, "min"), (2, "max")):
        bound: float | None = call.attributes.get(attribute)
        if call.given(index):
            operand = call.operand(index)
            if isinstance(operand, Value):
                call.unsupported(f"its {attribute} depends on the input.", "Supported: Clip with constant min and max.")
            bound = float(np.asarray(operand).reshape(()))
        if bound is not None and np.isnan(bound):
            call.malformed(f"its {attribute} is NaN.")
        # Exporters write the largest float32 for "no bound".
        bounds.append(None if bound is None or abs(bound) >= _FLOAT32_LARGEST else bound)
    return clip(call.builder, call.value(0), *bounds)


@_operator("Max")
def maximum(call: Call) -> Operand:
    result = call.value(0)
    for i in range(1, len(call.inputs)):
        result = call.builder.maximum(result, call.value(i))
    return result


@_operator("Min")
def minimum(call: Call) -> Operand:
    """min(a, b) = -max(-a, -b)."""
    result = call.builder.negate(call.value(0))
    for i in range(1, len(call.inputs)):
        result = call.builder.maximum(result, call.builder.negate(call.value(i)))
    return call.builder.negate(result)


def _pooling(call: Call) -> tuple[Value, Window, int]:
    """(the input as an image (1, C, H, W), its window, number of spatial axes)."""
    shape = image_shape(call)
    axes = len(shape) - 2
    kernel = call.integers("kernel_shape")
    if kernel is None or len(kernel) != axes:
        call.malformed(f"its kernel_shape {kernel} does not fit an input of shape {shape}.")
    strides, dilations = call.integers("strides") or (1,) * axes, call.integers("dilations") or (1,) * axes
    pads = paddings(call, shape[2:], kernel, strides, dilations)
    value = call.value(0)
    if axes == 1:
        value = call.builder.reshape(value, (1, shape[1], 1, shape[2]))
        kernel, strides, dilations, pads = (1, *kernel), (1, *strides), (1, *dilations), (0, pads[0], 0, pads[1])
    window = Window(
        (kernel[0], kernel[1]),
        (strides[0], strides[1]),
        (pads[0], pads[1], pads[2], pads[3]),
        (dilations[0], dilations[1]),
        bool(call.integer("ceil_mode", 0)),
    )
    return value, window, axes


@_operator("AveragePool")
def average_pool_operator(call: Call) -> Operand:
    value, window, axes = _pooling(call)
    result = average_pool(call.builder, value, window, count_padding=bool(call.integer("count_include_pad", 0)))
    return call.builder.reshape(result, (*result.shape[:2], *result.shape[4 - axes :]))


@_operator("MaxPool")
def max_pool_operator(call: Call) -> Operand:
    if call.outputs > 1:
        call.unsupported("it also returns indices.", "Supported: MaxPool with one output.")
    value, window, axes = _pooling(call)
    result = max_pool(call.builder, value, window)
    return call.builder.reshape(result, (*result.shape[:2], *result.shape[4 - axes :]))


@_operator("GlobalAveragePool")
def global_average_pool(call: Call) -> Operand:
    value = call.value(0)
    return reduced(call.builder, value, tuple(range(2, len(value.shape))), keep=True, mean=True)


@_operator("ReduceMean", "ReduceSum")
def reduce(call: Call) -> Operand:
    axes = call.integers("axes", 1)
    value = call.value(0)
    if not axes:
        if call.integer("noop_with_empty_axes", 0):
            return value
        axes = tuple(range(len(value.shape)))
    return reduced(call.builder, value, axes, keep=bool(call.integer("keepdims", 1)), mean=call.operator == "ReduceMean")

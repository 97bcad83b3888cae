"""ONNX operators that only move numbers about, or compute shapes.

Each is a function on arrays; on a value of the builder it is applied to the flat indices instead, and becomes a selection. Handlers as in
`onnx_operators`.
"""

from collections.abc import Callable
from functools import partial
from math import prod

import numpy as np

from problems.maps import Array
from problems.readers.builder import Value
from problems.readers.onnx_call import Call, Handler, Operand

SHAPES: dict[str, Handler] = {}


def _operator(*names: str) -> Callable[[Handler], Handler]:
    def register(handler: Handler) -> Handler:
        SHAPES.update(dict.fromkeys(names, handler))
        return handler

    return register


def moved(call: Call, function: Callable[[Array], Array], index: int = 0) -> Operand:
    """function(input): it must only copy entries (or write -1, which stands for zero)."""
    operand = call.operand(index)
    if not isinstance(operand, Value):
        return function(operand)
    return call.builder.select(operand, function(np.arange(operand.size).reshape(operand.shape)))


def shape_of(operand: Operand) -> tuple[int, ...]:
    return tuple(int(s) for s in operand.shape)


@_operator("Identity")
def identity(call: Call) -> Operand:
    return call.operand(0)


@_operator("Dropout")
def dropout(call: Call) -> Operand:
    """The identity: dropout does nothing at inference."""
    if call.given(2) and any(call.integers("training_mode", 2) or ()):
        call.unsupported("it is in training mode.", "Supported: Dropout at inference; export the network in evaluation mode.")
    return call.operand(0)


@_operator("Cast")
def cast(call: Call) -> Operand:
    from onnx import TensorProto, helper

    target = call.integer("to", TensorProto.FLOAT)
    operand = call.operand(0)
    if not isinstance(operand, Value):
        return operand.astype(helper.tensor_dtype_to_np_dtype(target))
    if target not in (TensorProto.FLOAT, TensorProto.DOUBLE):
        call.unsupported("it casts to a type that is not float.", "Supported: casts between float32 and float64.")
    return operand


@_operator("Flatten")
def flatten(call: Call) -> Operand:
    shape = shape_of(call.operand(0))
    axis = call.integer("axis", 1)
    axis += len(shape) if axis < 0 else 0
    return moved(call, lambda a: a.reshape(prod(shape[:axis]), prod(shape[axis:])))


@_operator("Reshape")
def reshape(call: Call) -> Operand:
    target = call.integers("shape", 1)
    if target is None:
        call.malformed("it has no target shape.")
    shape = shape_of(call.operand(0))
    if not call.integer("allowzero", 0):
        target = tuple(shape[i] if size == 0 else size for i, size in enumerate(target))
    if prod(target) != prod(shape) and (target.count(-1) != 1 or prod(shape) % prod(s for s in target if s != -1)):
        call.malformed(
            f"cannot reshape {shape} to {target}.", "A batch axis must be the first axis, with size 1 or dynamic, all the way through."
        )
    return moved(call, lambda a: a.reshape(target))


@_operator("Transpose")
def transpose(call: Call) -> Operand:
    order = call.integers("perm")
    return moved(call, lambda a: a.transpose(order))


@_operator("Squeeze")
def squeeze(call: Call) -> Operand:
    axes = call.integers("axes", 1)
    return moved(call, lambda a: a.squeeze(axes))


@_operator("Unsqueeze")
def unsqueeze(call: Call) -> Operand:
    axes = call.integers("axes", 1)
    if axes is None:
        call.malformed("it has no axes.")
    return moved(call, lambda a: np.expand_dims(a, axes))


@_operator("Expand")
def expand(call: Call) -> Operand:
    target = call.integers("shape", 1) or ()
    return moved(call, lambda a: np.broadcast_to(a, np.broadcast_shapes(a.shape, target)))


@_operator("Gather")
def gather(call: Call) -> Operand:
    indices = call.operand(1)
    if isinstance(indices, Value):
        call.unsupported("its indices depend on the input.", "Supported: Gather with constant indices.")
    axis = call.integer("axis", 0)
    return moved(call, lambda a: np.take(a, indices.astype(np.int64), axis=axis))


@_operator("Slice")
def slice_(call: Call) -> Operand:
    starts, ends = call.integers("starts", 1), call.integers("ends", 2)
    if starts is None or ends is None:
        call.malformed("it has no starts or ends.")
    axes = call.integers("axes", 3) or tuple(range(len(starts)))
    steps = call.integers("steps", 4) or (1,) * len(starts)
    shape = shape_of(call.operand(0))
    cut = [slice(None)] * len(shape)
    for axis, start, end, step in zip(axes, starts, ends, steps, strict=True):
        # A negative step may run past the first entry: ONNX writes that end as a number below -size, Python as None.
        stop = None if step < 0 and end < -shape[axis] else end
        cut[axis] = slice(start, stop, step)
    return moved(call, lambda a: a[tuple(cut)])


@_operator("Split")
def split(call: Call) -> list[Operand]:
    axis = call.integer("axis", 0)
    size = shape_of(call.operand(0))[axis]
    sizes = call.integers("split", 1)
    if sizes is None:
        part = -(-size // call.outputs)
        sizes = tuple(min(part, size - part * i) for i in range(call.outputs))
    ends = np.cumsum(sizes)
    return [moved(call, partial(np.take, indices=np.arange(end - length, end), axis=axis)) for length, end in zip(sizes, ends, strict=True)]


@_operator("Pad")
def pad(call: Call) -> Operand:
    if call.attributes.get("mode", b"constant") not in (b"constant", "constant"):
        call.unsupported("it pads by copying.", "Supported: Pad in mode constant with value 0.")
    fill = call.constant(2, "value").reshape(-1)[0] if call.given(2) else call.number("value", 0.0)
    if fill != 0:
        call.unsupported(f"it pads with {fill}.", "Supported: Pad in mode constant with value 0.")
    pads = call.integers("pads", 1)
    if pads is None:
        call.malformed("it has no pads.")
    rank = len(shape_of(call.operand(0)))
    axes = call.integers("axes", 3) or tuple(range(rank))
    widths = [(0, 0)] * rank
    for i, axis in enumerate(axes):
        widths[axis] = (pads[i], pads[i + len(axes)])

    def padded(a: Array, outside: int) -> Array:
        grown = np.pad(a, [(max(before, 0), max(after, 0)) for before, after in widths], constant_values=outside)
        # Negative pads cut off.
        return grown[tuple(slice(max(-before, 0), grown.shape[i] - max(-after, 0)) for i, (before, after) in enumerate(widths))]

    outside = -1 if isinstance(call.operand(0), Value) else 0
    return moved(call, lambda a: padded(a, outside))


@_operator("Concat")
def concat(call: Call) -> Operand:
    operands = [call.operand(i) for i in range(len(call.inputs))]
    axis = call.integer("axis", 0)
    constants = [operand for operand in operands if not isinstance(operand, Value)]
    if len(constants) == len(operands):
        return np.concatenate(constants, axis=axis)
    return call.builder.concatenate([call.value(i) for i in range(len(operands))], axis)


@_operator("Shape")
def shape(call: Call) -> Operand:
    sizes = np.array(shape_of(call.operand(0)), dtype=np.int64)
    return sizes[slice(call.integer("start", 0), call.attributes.get("end"))]


@_operator("Constant")
def constant(call: Call) -> Operand:
    kinds = {"value": None, "value_float": np.float32, "value_floats": np.float32, "value_int": np.int64, "value_ints": np.int64}
    for name, kind in kinds.items():
        if name in call.attributes:
            return np.asarray(call.attributes[name], dtype=kind)
    call.unsupported("it holds no dense tensor.", "Supported: Constant with a tensor, number or list of numbers.")


@_operator("ConstantOfShape")
def constant_of_shape(call: Call) -> Operand:
    target = call.integers("shape", 0) or ()
    fill = np.asarray(call.attributes.get("value", np.zeros(1, dtype=np.float32)))
    return np.full(target, fill.reshape(-1)[0], dtype=fill.dtype)

"""Data movement with numpy. None from a function: this case is left to a runtime."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from graphopt.ir.constants import node_constant
from graphopt.ir.evaluate.call import Array, Call, Compute

LARGEST_INT32, LARGEST_INT64 = 2**31 - 1, 2**63 - 1


def _identity(call: Call) -> list[Array]:
    return [call.array(0)]


def _constant(call: Call) -> list[Array] | None:
    tensor = node_constant(call.node)
    if tensor is None or tensor.dtype is ir.DataType.STRING:
        return None
    return [tensor.numpy()]


def _shape(call: Call) -> list[Array]:
    dims = np.array(call.array(0).shape, np.int64)
    end = call.int_attr("end", LARGEST_INT64)
    return [dims[call.int_attr("start", 0) : end]]


def _size(call: Call) -> list[Array]:
    return [np.array(call.array(0).size, np.int64)]


def _reshape(call: Call) -> list[Array]:
    data, target = call.array(0), call.integers(1, "shape")
    if target is None:
        raise call.refusal("there is no target shape")
    if not call.int_attr("allowzero", 0):
        if any(size == 0 and axis >= data.ndim for axis, size in enumerate(target)):
            raise call.refusal(f"target {target} copies a dim that is not there")
        target = [data.shape[axis] if size == 0 else size for axis, size in enumerate(target)]
    try:
        return [data.reshape(target)]
    except ValueError:
        raise call.refusal(f"{list(data.shape)} can't be reshaped to {target}") from None


def _transpose(call: Call) -> list[Array]:
    order = call.attr("perm", None)
    return [np.transpose(call.array(0), order if isinstance(order, tuple) else None)]  # type: ignore[arg-type]


def _flatten(call: Call) -> list[Array]:
    data, axis = call.array(0), call.int_attr("axis", 1)
    axis = axis + data.ndim if axis < 0 else axis
    rows = int(np.prod(data.shape[:axis], dtype=np.int64))
    return [data.reshape(rows, int(np.prod(data.shape[axis:], dtype=np.int64)))]


def _squeeze(call: Call) -> list[Array]:
    data, axes = call.array(0), call.integers(1, "axes")
    try:
        return [np.squeeze(data, None if axes is None else tuple(axes))]
    except ValueError:
        raise call.refusal(f"axes {axes} of {list(data.shape)} are not all 1") from None


def _unsqueeze(call: Call) -> list[Array] | None:
    axes = call.integers(1, "axes")
    return None if axes is None else [np.expand_dims(call.array(0), tuple(axes))]


def _expand(call: Call) -> list[Array]:
    data, target = call.array(0), call.integers(1) or []
    try:
        return [np.broadcast_to(data, np.broadcast_shapes(data.shape, tuple(target))).copy()]
    except ValueError:
        raise call.refusal(f"{list(data.shape)} does not broadcast with {target}") from None


def _tile(call: Call) -> list[Array] | None:
    data, repeats = call.array(0), call.integers(1)
    if call.version < 6 or repeats is None or len(repeats) != data.ndim:
        return None
    return [np.tile(data, repeats)]


def _concat(call: Call) -> list[Array]:
    parts = [call.array(index) for index in range(len(call.arrays))]
    try:
        return [np.concatenate(parts, call.int_attr("axis", 1 if call.version < 4 else 0))]
    except ValueError:
        raise call.refusal("the parts' shapes do not fit") from None


def _split(call: Call) -> list[Array] | None:
    data, axis, count = call.array(0), call.int_attr("axis", 0), len(call.node.outputs)
    sizes = call.integers(1, "split")
    if sizes is None:
        part = -(-data.shape[axis] // count)
        whole = data.shape[axis]
        sizes = [max(0, min(part, whole - place * part)) for place in range(count)]
        if call.version < 18 and len(set(sizes)) > 1:
            return None
    if sum(sizes) != data.shape[axis] or len(sizes) != count:
        raise call.refusal(f"sizes {sizes} do not add up to {data.shape[axis]}")
    return np.split(data, np.cumsum(sizes)[:-1].tolist(), axis)


def _slice(call: Call) -> list[Array] | None:
    data, starts, ends = call.array(0), call.integers(1, "starts"), call.integers(2, "ends")
    if starts is None or ends is None:
        return None
    axes = call.integers(3, "axes")
    axes = list(range(len(starts))) if axes is None else axes
    steps = call.integers(4) or [1] * len(starts)
    if not len(starts) == len(ends) == len(axes) == len(steps):
        raise call.refusal("starts, ends, axes and steps differ in length")
    index = [slice(None)] * data.ndim
    for axis, start, end, step in zip(axes, starts, ends, steps, strict=True):
        if step == 0 or not -data.ndim <= axis < data.ndim:
            raise call.refusal(f"axis {axis} with step {step} can't be sliced")
        if step < 0 and end >= LARGEST_INT32:
            # onnxruntime reads "to the end" here, and goes down to the first element.
            return None
        if step < 0 and start < -data.shape[axis]:
            # ONNX cuts such a start to the first element, numpy to the place before it.
            index[axis] = slice(0, end, step)
            continue
        index[axis] = slice(start, end, step)
    return [data[tuple(index)]]


def _gather(call: Call) -> list[Array]:
    data, indices, axis = call.array(0), call.array(1), call.int_attr("axis", 0)
    size = data.shape[axis]
    if indices.size and not (-size <= int(indices.min()) and int(indices.max()) < size):
        raise call.refusal(f"an index is outside of a dim of {size}")
    return [np.take(data, indices.astype(np.int64), axis)]


def _gather_elements(call: Call) -> list[Array] | None:
    data, indices, axis = call.array(0), call.array(1), call.int_attr("axis", 0)
    size = data.shape[axis]
    if data.ndim != indices.ndim or any(
        found > there
        for place, (found, there) in enumerate(zip(indices.shape, data.shape, strict=True))
        if place != axis % data.ndim
    ):
        return None
    if indices.size and not (-size <= int(indices.min()) and int(indices.max()) < size):
        raise call.refusal(f"an index is outside of a dim of {size}")
    grid: list[Array] = list(np.indices(indices.shape, sparse=True))
    grid[axis] = indices.astype(np.int64)
    return [data[tuple(grid)]]


def _where(call: Call) -> list[Array] | None:
    condition, left, right = call.array(0), call.array(1), call.array(2)
    return [np.where(condition, left, right)] if left.dtype == right.dtype else None


def _pad(call: Call) -> list[Array] | None:
    data = call.array(0)
    pads = call.integers(1, "pads")
    mode = call.attr("mode", "constant")
    if call.version < 11 or pads is None or mode != "constant" or min(pads, default=0) < 0:
        return None
    axes = call.integers(3) or list(range(data.ndim))
    if len(pads) != 2 * len(axes):
        raise call.refusal(f"{len(pads)} pads for {len(axes)} axes")
    widths = [(0, 0)] * data.ndim
    for place, axis in enumerate(axes):
        widths[axis] = (pads[place], pads[place + len(axes)])
    value = call.array(2).reshape(())[()] if call.has(2) else np.zeros((), data.dtype)[()]
    return [np.pad(data, widths, constant_values=value)]


def _constant_of_shape(call: Call) -> list[Array]:
    value = call.attr("value", None)
    fill = value.numpy().reshape(()) if isinstance(value, ir.TensorProtocol) else np.zeros((), np.float32)
    sizes = call.integers(0) or []
    if min(sizes, default=0) < 0:
        raise call.refusal(f"a dim of {sizes} is negative")
    return [np.full(sizes, fill, fill.dtype)]


def _range(call: Call) -> list[Array] | None:
    start, limit, delta = (call.array(index).reshape(()) for index in range(3))
    # Runtimes differ in how they add up floating-point steps.
    if start.dtype.kind not in "iu" or int(delta) == 0:
        return None
    return [np.arange(int(start), int(limit), int(delta), dtype=start.dtype)]


def _non_zero(call: Call) -> list[Array] | None:
    data = call.array(0)
    return [np.array(np.nonzero(data), np.int64)] if data.ndim else None


OPERATORS: dict[str, Compute] = {
    "Identity": _identity,
    "Constant": _constant,
    "Shape": _shape,
    "Size": _size,
    "Reshape": _reshape,
    "Transpose": _transpose,
    "Flatten": _flatten,
    "Squeeze": _squeeze,
    "Unsqueeze": _unsqueeze,
    "Expand": _expand,
    "Tile": _tile,
    "Concat": _concat,
    "Split": _split,
    "Slice": _slice,
    "Gather": _gather,
    "GatherElements": _gather_elements,
    "Where": _where,
    "Pad": _pad,
    "ConstantOfShape": _constant_of_shape,
    "Range": _range,
    "NonZero": _non_zero,
}

"""Operators that pick, place or find elements by index: Gather*, Scatter*, OneHot, TopK, NonZero..."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from graphopt.ir.dims import Dim, high, product
from graphopt.ir.fact import Element, TensorFact
from graphopt.ir.facts.axes import moved_elements, normalized, positions
from graphopt.ir.facts.registry import InferenceContext, Results, operator
from graphopt.ir.facts.results import scalar

__all__: list[str] = []

INT64 = ir.DataType.INT64


@operator("Gather", movement=True, can_fail=True)
def gather(ctx: InferenceContext) -> Results:
    """Data's dims with `axis` replaced by all dims of the indices."""
    data, indices = ctx.tensor_input(0), ctx.tensor_input(1)
    if data is None or data.dims is None or indices is None or indices.dims is None:
        return [ctx.tensor(ctx.dtype(0), None)]
    axis = ctx.int_attr("axis", 0)
    axis = axis + len(data.dims) if axis < 0 else axis
    dims = data.dims[:axis] + indices.dims + data.dims[axis + 1 :]
    if data.elements is None or indices.elements is None:
        return [TensorFact(data.dtype, dims, None)]
    return [ctx.tensor(data.dtype, dims, _gathered(data, indices, axis))]


def _gathered(data: TensorFact, indices: TensorFact, axis: int) -> list[Element] | None:
    """Contents of Gather; unknown where the index is."""
    assert data.elements is not None and data.dims is not None and indices.elements is not None
    size = data.dims[axis]
    if type(size) is not int:
        return None
    picked = [i if type(i) is int and -size <= i < size else None for i in indices.elements]
    if len(data.dims) == 1:
        return [None if i is None else data.elements[i] for i in picked]
    if None in picked:
        return None
    places = positions(data.dims)
    assert places is not None, "contents are kept of static shapes only"
    return moved_elements(data.elements, np.take(places, np.array(picked, np.int64), axis))


@operator("GatherElements", movement=True, can_fail=True)
def gather_elements(ctx: InferenceContext) -> Results:
    """The shape of the indices."""
    dims = ctx.dims(1)
    if dims is None and ctx.rank(0) is not None:
        dims = ctx.fresh_dims("gathered", ctx.rank(0) or 0)
    return [ctx.tensor(ctx.dtype(0), dims)]


@operator("GatherND", movement=True, can_fail=True)
def gather_nd(ctx: InferenceContext) -> Results:
    """The last dim of the indices counts the axes of data that an index names, after `batch_dims`."""
    data, indices = ctx.dims(0), ctx.dims(1)
    if data is None or indices is None or type(indices[-1]) is not int:
        return [ctx.tensor(ctx.dtype(0), None)]
    batch = ctx.int_attr("batch_dims", 0)
    return [ctx.tensor(ctx.dtype(0), indices[:-1] + data[batch + indices[-1] :])]


@operator("Scatter", "ScatterElements", "ScatterND", "TensorScatter", movement=True, can_fail=True)
def scatter(ctx: InferenceContext) -> Results:
    """The shape of the data; contents where a small vector is written at known places."""
    data = ctx.tensor_input(0)
    if data is None or data.elements is None:
        return [data]
    return [ctx.tensor(data.dtype, data.dims, _scattered(ctx, data))]


def _scattered(ctx: InferenceContext, data: TensorFact) -> list[Element] | None:
    indices, updates = ctx.integers(1), ctx.elements(2)
    if (
        data.dims is None
        or len(data.dims) != 1
        or indices is None
        or updates is None
        or data.elements is None
    ):
        return None
    if ctx.node.op_type == "TensorScatter" or ctx.attr("reduction", "none") != "none":
        return None
    if len(indices) != len(updates):
        return None
    elements = list(data.elements)
    for i, update in zip(indices, updates, strict=True):
        elements[i] = update
    return elements


@operator("OneHot", shape_inputs=(1,), can_fail=True)
def one_hot(ctx: InferenceContext) -> Results:
    """The indices' dims with `depth` inserted at `axis`; the dtype is that of the two values."""
    dims = ctx.dims(0)
    if dims is None:
        return [ctx.tensor(ctx.dtype(2), None)]
    axis = normalized((ctx.int_attr("axis", -1),), len(dims) + 1)[0]
    depth = scalar(ctx, 1)
    return [
        ctx.tensor(ctx.dtype(2), (*dims[:axis], ctx.fresh("depth") if depth is None else depth, *dims[axis:]))
    ]


@operator("TopK", shape_inputs=(1,), can_fail=True)
def top_k(ctx: InferenceContext) -> Results:
    """Values and indices, `k` (an attribute before opset 10) along `axis`."""
    dims = ctx.dims(0)
    if dims is None:
        return [ctx.tensor(ctx.dtype(0), None), ctx.tensor(INT64, None)]
    axis = normalized((ctx.int_attr("axis", -1),), len(dims))[0]
    k: Dim | None = ctx.int_attr("k", 0) if ctx.opset < 10 else scalar(ctx, 1)
    found = (*dims[:axis], ctx.fresh("k", 0, high(dims[axis])) if k is None else k, *dims[axis + 1 :])
    return [ctx.tensor(ctx.dtype(0), found), ctx.tensor(INT64, found)]


@operator("Compress", movement=True, can_fail=True)
def compress(ctx: InferenceContext) -> Results:
    """As many as the condition has true values: along `axis`, or of the flattened data without it."""
    dims = ctx.dims(0)
    axis = ctx.attr("axis", None)
    if not isinstance(axis, int):
        bound = None if dims is None else high(product(dims))
        return [ctx.tensor(ctx.dtype(0), (ctx.fresh("kept", 0, bound),))]
    if dims is None:
        return [ctx.tensor(ctx.dtype(0), None)]
    axis = normalized((axis,), len(dims))[0]
    kept: Dim
    conditions = ctx.elements(1)
    if conditions is not None and all(isinstance(condition, bool) for condition in conditions):
        kept = sum(1 for condition in conditions if condition)
    else:
        kept = ctx.fresh("kept", 0, high(dims[axis]))
    return [ctx.tensor(ctx.dtype(0), (*dims[:axis], kept, *dims[axis + 1 :]))]


@operator("NonZero")
def non_zero(ctx: InferenceContext) -> Results:
    """A column of indices an element that is not zero; int64."""
    dims = ctx.dims(0)
    if not dims:
        # Of a scalar, the specification leaves the number of rows open.
        return [ctx.tensor(INT64, ctx.fresh_dims("nonzero", 2))]
    return [ctx.tensor(INT64, (len(dims), ctx.fresh("nonzero", 0, high(product(dims)))))]


@operator("Unique")
def unique(ctx: InferenceContext) -> Results:
    """Unique elements (or slices along `axis`), first places, the way back, and counts."""
    dims = ctx.dims(0)
    axis = ctx.attr("axis", None)
    length: Dim | None = None
    found: tuple[Dim, ...] | None = None
    if not isinstance(axis, int):
        length = None if dims is None else product(dims)
        count = ctx.fresh("unique", 0, None if length is None else high(length))
        found = (count,)
    else:
        at = None if dims is None else normalized((axis,), len(dims))[0]
        length = None if dims is None or at is None else dims[at]
        count = ctx.fresh("unique", 0, None if length is None else high(length))
        if dims is not None and at is not None:
            found = (*dims[:at], count, *dims[at + 1 :])
    way_back = ctx.fresh("inverse") if length is None else length
    vector = ctx.tensor(INT64, (count,))
    return [ctx.tensor(ctx.dtype(0), found), vector, ctx.tensor(INT64, (way_back,)), vector]

"""Shapes as tensors, constants, and tensors made from a shape: the start of all shape arithmetic."""

from __future__ import annotations

import math

import numpy as np
import onnx_ir as ir

from graphopt.ir.constants import node_constant
from graphopt.ir.contents import tensor_fact
from graphopt.ir.dims import Dim, floordiv, maximum, product
from graphopt.ir.fact import MAX_ELEMENTS, Element, Fact, TensorFact
from graphopt.ir.facts.registry import InferenceContext, Results, operator
from graphopt.ir.facts.results import output_dtype
from graphopt.ir.partial_values import FLOATS, as_dim

__all__ = ["dims_of_contents"]

INT64 = ir.DataType.INT64


@operator("Shape")
def shape(ctx: InferenceContext) -> Results:
    """The dims as int64; from opset 15 those from `start` to `end`, counted and cut as Python's slices."""
    dims = ctx.dims(0)
    if dims is None:
        return [ctx.tensor(INT64, (ctx.fresh("rank"),))]
    attributes = ctx.node.attributes.data
    if attributes:
        dims = dims[slice(ctx.int_attr("start", 0), ctx.int_attr("end", len(dims)))]
    return [ctx.tensor(INT64, (len(dims),), dims)]


@operator("Size")
def size(ctx: InferenceContext) -> Results:
    """The number of elements as int64."""
    dims = ctx.dims(0)
    return [ctx.tensor(INT64, (), None if dims is None else (product(dims),))]


@operator("Constant")
def constant(ctx: InferenceContext) -> Results:
    """The tensor itself; inside functions its attribute may be one of the call's."""
    tensor = node_constant(ctx.node)
    if tensor is not None:
        return [tensor_fact(tensor)]
    return [_bound_constant(ctx)]


def _bound_constant(ctx: InferenceContext) -> Fact | None:
    for name, attr in ctx.node.attributes.data.items():
        value = ctx.attr(name, None)
        if attr.ref_attr_name is None or value is None:
            continue
        if (tensor := ctx.tensor_attr(name)) is not None:
            return tensor_fact(tensor)
        floats = "float" in name
        values = value if isinstance(value, tuple) else (value,)
        dims = (len(values),) if isinstance(value, tuple) else ()
        if "string" in name:
            return ctx.tensor(ir.DataType.STRING, dims, values)  # type: ignore[arg-type]
        if floats:
            values = tuple(float(np.float32(number)) for number in values)  # type: ignore[arg-type]
        return ctx.tensor(ir.DataType.FLOAT if floats else INT64, dims, values)  # type: ignore[arg-type]
    return None


def dims_of_contents(ctx: InferenceContext, i: int, hint: str) -> tuple[Dim, ...] | None:
    """Input `i` read as a shape: unknown elements become new symbols; None where its length is unknown."""
    elements = ctx.elements(i)
    if elements is None:
        length = ctx.dims(i)
        if length is None or len(length) != 1 or type(length[0]) is not int:
            return None
        return ctx.fresh_dims(hint, length[0])
    dims = [as_dim(element) for element in elements]
    return tuple([ctx.fresh(hint) if dim is None else dim for dim in dims])


@operator("ConstantOfShape", can_fail=True, shape_inputs=(0,), movement=True)
def constant_of_shape(ctx: InferenceContext) -> Results:
    """One value everywhere, 0.0 unless `value` says otherwise."""
    fill = ctx.tensor_attr("value")
    dtype, element = ir.DataType.FLOAT, 0.0  # type: tuple[ir.DataType, Element]
    if fill is not None:
        fact = tensor_fact(fill)
        dtype = fact.dtype or dtype
        element = fact.elements[0] if fact.elements else None
    dims = dims_of_contents(ctx, 0, "filled")
    return [filled(ctx, dtype, dims, element)]


def filled(
    ctx: InferenceContext, dtype: ir.DataType | None, dims: tuple[Dim, ...] | None, element: Element
) -> TensorFact:
    """A tensor with one element everywhere."""
    if dims is None or element is None:
        return ctx.tensor(dtype, dims)
    count = product(dims)
    if type(count) is int and 0 <= count <= MAX_ELEMENTS:
        return ctx.tensor(dtype, dims, (element,) * count)
    return ctx.tensor(dtype, dims)


@operator("Range", can_fail=True)
def numbers(ctx: InferenceContext) -> Results:
    """max(ceil((limit - start) / delta), 0) numbers from `start`."""
    dtype = ctx.dtype(0) or ctx.dtype(1) or ctx.dtype(2)
    given = [(ctx.elements(i) or (None,))[0] for i in range(3)]
    start, limit, delta = (as_dim(element) for element in given)
    count: Dim
    if start is None or limit is None or type(delta) is not int or delta == 0:
        count = _float_count(given) if dtype in FLOATS else None  # type: ignore[assignment]
        return [ctx.tensor(dtype, (ctx.fresh("range") if count is None else count,))]
    distance = limit - start if delta > 0 else start - limit
    count = maximum(floordiv(distance + (abs(delta) - 1), abs(delta)), 0)
    elements: list[Element] | None = None
    if type(count) is int and count <= MAX_ELEMENTS:
        elements = [start + i * delta for i in range(count)]
        if dtype in FLOATS:
            elements = [float(element) if type(element) is int else element for element in elements]
    return [ctx.tensor(dtype, (count,), elements)]


def _float_count(given: list[Element]) -> int | None:
    if not all(type(element) is float for element in given):
        return None
    start, limit, delta = (float(element) for element in given)  # type: ignore[arg-type]
    # Far from a whole number, rounding in the one or the other precision tells the same.
    steps = (limit - start) / delta if delta else math.nan
    if not math.isfinite(steps) or abs(steps - round(steps)) < 1e-3:
        return None
    return max(math.ceil(steps), 0)


@operator("EyeLike")
def eye_like(ctx: InferenceContext) -> Results:
    """The shape of input 0, its dtype unless `dtype` says otherwise."""
    return [ctx.tensor(output_dtype(ctx, "dtype", ctx.dtype(0)), ctx.dims(0))]

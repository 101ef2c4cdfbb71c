"""Facts of reductions (Reduce*, ArgMax, ArgMin) and of running sums (CumSum, CumProd).

Axes are an attribute or an input, by operator and opset (ReduceSum from 13, the others from 18): they are
read wherever they stand. Contents of small integer tensors are followed: a product of dims stays known.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import reduce
from itertools import product as places_of
from math import prod

import onnx_ir as ir

from graphopt.ir.dims import Dim, Expr, maximum, minimum, product
from graphopt.ir.fact import Element
from graphopt.ir.facts.normalization import flops_an_element
from graphopt.ir.facts.registry import InferenceContext, Results, operator
from graphopt.ir.facts.results import Dims, like, normalized_axes, normalized_axis

INT64_LIMIT = 2**63
_INTEGERS = (ir.DataType.INT64, ir.DataType.INT32)


def reduced_axes(ctx: InferenceContext, rank: int) -> tuple[int, ...] | None:
    """The axes that a reduction runs over; None where only a run can tell.

    None given means all of them, or none at all under `noop_with_empty_axes`.
    """
    axes: tuple[int, ...] | None = ctx.ints_attr("axes") or ()
    if not axes and ctx.has(1):
        axes = (ctx.integers(1) or ()) if ctx.dims(1) == (0,) else ctx.integers(1)
    if axes is None:
        return None
    if not axes:
        return () if ctx.int_attr("noop_with_empty_axes", 0) else tuple(range(rank))
    return normalized_axes(axes, rank)


def reduced_dims(dims: Dims, axes: tuple[int, ...], keepdims: bool) -> Dims:
    """The shape without `axes`, or with 1 in their place."""
    if keepdims:
        return tuple(1 if axis in axes else dim for axis, dim in enumerate(dims))
    return tuple(dim for axis, dim in enumerate(dims) if axis not in axes)


def reduction_dims(ctx: InferenceContext) -> tuple[Dims | None, tuple[int, ...] | None]:
    """The shape of a reduction and its axes; None where unknown."""
    dims = ctx.dims(0)
    keepdims = bool(ctx.int_attr("keepdims", 1))
    if dims is None:
        return (() if _reduces_all(ctx) and not keepdims else None), None
    axes = reduced_axes(ctx, len(dims))
    if axes is not None:
        return reduced_dims(dims, axes, keepdims), axes
    if keepdims:
        return tuple(dim if dim == 1 else ctx.fresh("reduced") for dim in dims), None
    count = ctx.dims(1)
    if not count or not isinstance(count[0], int) or not 0 < count[0] <= len(dims):
        return None, None
    return ctx.fresh_dims("kept", len(dims) - count[0]), None


def _reduces_all(ctx: InferenceContext) -> bool:
    return not ctx.has(1) and not ctx.ints_attr("axes") and not ctx.int_attr("noop_with_empty_axes", 0)


def _addition(values: list[Dim]) -> Dim:
    total: Dim = 0
    for value in values:
        total = total + value
    return total


def _multiplication(values: list[Dim]) -> Dim:
    return product(tuple(values))


def _largest(values: list[Dim]) -> Dim | None:
    return reduce(maximum, values) if values else None


def _smallest(values: list[Dim]) -> Dim | None:
    return reduce(minimum, values) if values else None


_FOLLOWED: dict[str, Callable[[list[Dim]], Dim | None]] = {
    "ReduceSum": _addition,
    "ReduceProd": _multiplication,
    "ReduceMax": _largest,
    "ReduceMin": _smallest,
}


@operator(
    "ReduceSum",
    "ReduceProd",
    "ReduceMax",
    "ReduceMin",
    shape_inputs=(1,),
    can_fail=True,
    flops=flops_an_element(1),
)
def _followed_reduction(ctx: InferenceContext) -> Results:
    dims, axes = reduction_dims(ctx)
    contents = None if axes is None else reduced_elements(ctx, axes, _FOLLOWED[ctx.node.op_type])
    return [ctx.tensor(ctx.dtype(0), dims, contents)]


@operator("ReduceMean", "ReduceL1", shape_inputs=(1,), can_fail=True, flops=flops_an_element(1))
@operator(
    "ReduceL2", "ReduceSumSquare", "ReduceLogSum", shape_inputs=(1,), can_fail=True, flops=flops_an_element(2)
)
@operator("ReduceLogSumExp", shape_inputs=(1,), can_fail=True, flops=flops_an_element(3))
def _reduction(ctx: InferenceContext) -> Results:
    return [ctx.tensor(ctx.dtype(0), reduction_dims(ctx)[0])]


def reduced_elements(
    ctx: InferenceContext, axes: tuple[int, ...], combine: Callable[[list[Dim]], Dim | None]
) -> list[Element] | None:
    """The contents of a reduction of a small integer tensor, None where nothing of them is known."""
    values, dims = ctx.elements(0), ctx.dims(0)
    if values is None or dims is None or ctx.dtype(0) not in _INTEGERS:
        return None
    sizes = [dim for dim in dims if isinstance(dim, int)]
    if len(sizes) != len(dims) or prod(sizes) != len(values):
        return None
    groups: dict[tuple[int, ...], list[Element]] = {}
    kept = [range(1) if axis in axes else range(size) for axis, size in enumerate(sizes)]
    for place in places_of(*kept):
        groups[place] = []
    for place, value in zip(places_of(*map(range, sizes)), values, strict=True):
        groups[tuple(0 if axis in axes else index for axis, index in enumerate(place))].append(value)
    return [_combined(group, combine, ctx.dtype(0)) for group in groups.values()]


def _combined(
    values: list[Element], combine: Callable[[list[Dim]], Dim | None], dtype: ir.DataType | None
) -> Dim | None:
    """None where an element is unknown or the machine's integers would overflow."""
    known = [value for value in values if isinstance(value, (int, Expr)) and not isinstance(value, bool)]
    if len(known) != len(values):
        return None
    result = combine(known)
    limit = 2**31 if dtype is ir.DataType.INT32 else INT64_LIMIT
    return None if isinstance(result, int) and not -limit <= result < limit else result


@operator("ArgMax", "ArgMin", flops=flops_an_element(1))
def _arg(ctx: InferenceContext) -> Results:
    dims = ctx.dims(0)
    if dims is None:
        return [ctx.tensor(ir.DataType.INT64, None)]
    axis = normalized_axis(ctx.int_attr("axis", 0), len(dims))
    if axis is None:
        return [ctx.tensor(ir.DataType.INT64, None)]
    return [ctx.tensor(ir.DataType.INT64, reduced_dims(dims, (axis,), bool(ctx.int_attr("keepdims", 1))))]


@operator("CumSum", "CumProd", shape_inputs=(1,), can_fail=True, flops=flops_an_element(1))
def _running(ctx: InferenceContext) -> Results:
    return [like(ctx)]

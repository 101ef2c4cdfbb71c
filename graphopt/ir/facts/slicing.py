"""Slice and Split."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from graphopt.ir.dims import Dim, exact_quotient, floordiv, high, is_nonnegative, maximum, minimum
from graphopt.ir.fact import Element, TensorFact
from graphopt.ir.facts.axes import moved_elements, normalized, positions
from graphopt.ir.facts.registry import InferenceContext, Results, operator
from graphopt.ir.partial_values import as_dim

__all__ = ["cut_bounds", "slice_length"]

# Exporters write "to the end" as one of the largest integers, or as 10^9; no dim gets there.
UNBOUNDED = 10**9

# As the end of a slice that goes backwards, these lie behind the last element by the specification (and
# leave nothing), and before the first by onnxruntime.
DISPUTED_ENDS = (2**31 - 1, 2**63 - 1)


@operator("Slice", movement=True, shape_inputs=(1, 2, 3, 4), can_fail=True)
def slice_(ctx: InferenceContext) -> Results:
    """Bounds are attributes before opset 10; axes are all in order, steps are 1, unless given."""
    fact = ctx.tensor_input(0)
    if fact is None or fact.dims is None:
        return [ctx.tensor(ctx.dtype(0), None)]
    bounds = _bounds(ctx, len(fact.dims))
    dims = list(fact.dims)
    if bounds is None:
        return [ctx.tensor(fact.dtype, [ctx.fresh("sliced", 0, high(dim)) for dim in dims])]
    axes, starts, ends, steps = bounds
    for axis, start, end, step in zip(axes, starts, ends, steps, strict=True):
        length = slice_length(dims[axis], start, end, step, ctx.is_nonnegative)
        dims[axis] = ctx.fresh("sliced", 0, high(dims[axis])) if length is None else length
    return [TensorFact(fact.dtype, tuple(dims), _sliced_elements(fact, bounds))]


Bounds = tuple[list[int], list[Dim | None], list[Dim | None], list[Dim | None]]


def _bounds(ctx: InferenceContext, rank: int) -> Bounds | None:
    """Axes, starts, ends, steps, all of one length; None where the axes are unknown."""
    if ctx.opset < 10:
        first, last = ctx.ints_attr("starts"), ctx.ints_attr("ends")
        if first is None or last is None:
            return None
        axes = ctx.ints_attr("axes") or tuple(range(len(first)))
        return normalized(axes, rank), list(first), list(last), [1] * len(axes)
    starts, ends = _dims_input(ctx, 1), _dims_input(ctx, 2)
    known = (starts, ends)
    count = next((len(bound) for bound in known if bound is not None), None)
    given = ctx.integers(3) if ctx.has(3) else None
    if count is None:
        count = None if given is None else len(given)
    if count is None or (ctx.has(3) and given is None):
        return None
    axes = tuple(range(count)) if given is None else given
    steps: list[Dim | None] = [1] * count
    if ctx.has(4):
        steps = _dims_input(ctx, 4) or [None] * count
    return normalized(axes, rank), starts or [None] * count, ends or [None] * count, steps


def _dims_input(ctx: InferenceContext, i: int) -> list[Dim | None] | None:
    elements = ctx.elements(i)
    return None if elements is None else [as_dim(element) for element in elements]


def slice_length(
    dim: Dim,
    start: Dim | None,
    end: Dim | None,
    step: Dim | None,
    is_nonnegative: Callable[[Dim], bool] = is_nonnegative,
) -> Dim | None:
    """How many elements a slice has, bounds cut as numpy cuts them; None where only a run can tell."""
    if type(step) is not int or step == 0 or start is None or end is None:
        return None
    cut = cut_bounds(dim, start, end, step, is_nonnegative)
    if cut is None:
        return None
    distance = cut[1] - cut[0] if step > 0 else cut[0] - cut[1]
    return maximum(floordiv(distance + (abs(step) - 1), abs(step)), 0)


def cut_bounds(
    dim: Dim, start: Dim, end: Dim, step: int, is_nonnegative: Callable[[Dim], bool]
) -> tuple[Dim, Dim] | None:
    """Start and end counted from the front and within the axis; backwards, the end may be -1."""
    if step < 0 and end in DISPUTED_ENDS:
        return None
    most = dim if step > 0 else dim - 1
    first = _cut(start, dim, 0, most, is_nonnegative)
    last = _cut(end, dim, 0 if step > 0 else -1, most, is_nonnegative)
    return None if first is None or last is None else (first, last)


def _cut(bound: Dim, dim: Dim, least: Dim, most: Dim, is_nonnegative: Callable[[Dim], bool]) -> Dim | None:
    """A bound counted from the front, within least and most; None where its sign is unknown."""
    if type(bound) is int:
        if bound >= UNBOUNDED:
            return most
        if bound <= -UNBOUNDED:
            return minimum(least, most)
    if is_nonnegative(bound):
        return minimum(bound, most)
    # Where dim + bound is 0, it does not matter whether a bound of 0 is counted from the front or the end.
    if is_nonnegative(-bound - 1) or (bound + dim == 0 and is_nonnegative(-bound)):
        return minimum(maximum(bound + dim, least), most)
    return None


def _sliced_elements(fact: TensorFact, bounds: Bounds) -> tuple[Element, ...] | None:
    """The contents of a slice with known bounds."""
    if fact.elements is None or fact.dims is None:
        return None
    picked = [range(size) if type(size) is int else range(0) for size in fact.dims]
    for axis, start, end, step in zip(*bounds, strict=True):
        if type(start) is not int or type(end) is not int or type(step) is not int or step == 0:
            return None
        cut = cut_bounds(fact.dims[axis], start, end, step, is_nonnegative)
        if cut is None:
            return None
        picked[axis] = range(cut[0], cut[1], step)  # type: ignore[arg-type]
    if len(picked) == 1:
        return tuple([fact.elements[i] for i in picked[0]])
    places = positions(fact.dims)
    assert places is not None, "contents are kept of static shapes only"
    return tuple(moved_elements(fact.elements, places[np.ix_(*picked)]))


@operator("Split", movement=True, shape_inputs=(1,), can_fail=True)
def split(ctx: InferenceContext) -> Results:
    """Sizes are an attribute before opset 13; without them parts are equal (the last smaller, from 18)."""
    fact = ctx.tensor_input(0)
    count = len(ctx.node.outputs)
    if fact is None or fact.dims is None:
        return [ctx.tensor(ctx.dtype(0), None)] * count
    axis = normalized((ctx.int_attr("axis", 0),), len(fact.dims))[0]
    sizes = _part_sizes(ctx, fact.dims[axis], count)
    results = []
    start: Dim = 0
    for size in sizes:
        dims = (*fact.dims[:axis], size, *fact.dims[axis + 1 :])
        elements = _sliced_elements(fact, ([axis], [start], [start + size], [1]))
        results.append(ctx.tensor(fact.dtype, dims, elements))
        start = start + size
    return results


def _part_sizes(ctx: InferenceContext, dim: Dim, count: int) -> list[Dim]:
    sizes: list[Dim | None] | None = None
    if ctx.has(1):
        sizes = _dims_input(ctx, 1)
    elif (given := ctx.ints_attr("split")) is not None:
        sizes = list(given)
    else:
        parts = ctx.int_attr("num_outputs", count)
        whole = exact_quotient(dim, parts)
        if whole is not None or ctx.opset < 18:
            return [floordiv(dim, parts) if whole is None else whole] * count
        size = floordiv(dim + (parts - 1), parts)
        return [size] * (count - 1) + [dim - size * (parts - 1)]
    if sizes is None or len(sizes) != count:
        return [ctx.fresh("part") for _ in range(count)]
    if sizes.count(None) == 1:
        # The sizes sum up to the dim.
        rest = dim
        for given_size in sizes:
            rest = rest - given_size if given_size is not None else rest
        sizes = [rest if given_size is None else given_size for given_size in sizes]
    return [ctx.fresh("part") if part is None else part for part in sizes]

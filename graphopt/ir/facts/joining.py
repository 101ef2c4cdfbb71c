"""Operators whose result holds its inputs side by side or several times: Concat, Expand, Tile, Pad."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from graphopt.ir.dims import Dim, product
from graphopt.ir.fact import MAX_ELEMENTS, Element, TensorFact
from graphopt.ir.facts.axes import moved_elements, normalized, positions
from graphopt.ir.facts.elementwise import broadcast_all, broadcast_elements
from graphopt.ir.facts.registry import InferenceContext, Results, operator
from graphopt.ir.facts.shapes import dims_of_contents
from graphopt.ir.partial_values import as_dim

__all__ = ["concatenated"]


@operator("Concat", movement=True)
def concat(ctx: InferenceContext) -> Results:
    """Dims add up along `axis` and are equal elsewhere."""
    facts = [ctx.tensor_input(i) for i in range(ctx.count)]
    return [concatenated(ctx, [fact for fact in facts if fact is not None], ctx.int_attr("axis", 1))]


def concatenated(ctx: InferenceContext, facts: list[TensorFact], axis: int) -> TensorFact:
    """Several tensors along an existing axis."""
    dtype = next((fact.dtype for fact in facts if fact.dtype is not None), None)
    shapes = [fact.dims for fact in facts if fact.dims is not None]
    if not shapes:
        return TensorFact(dtype, None, None)
    rank = len(shapes[0])
    axis = normalized((axis,), rank)[0]
    dims = list(shapes[0])
    total = dims[axis]
    for shape in shapes[1:]:
        for i, dim in enumerate(shape):
            # Equal wherever the program is legal; the number, if there is one, says most.
            if type(dim) is int and i != axis:
                dims[i] = dim
        total = total + shape[axis]
    dims[axis] = total if len(shapes) == len(facts) else ctx.fresh("concatenated")
    return ctx.tensor(dtype, dims, _joined_elements(facts, axis, dims))


def _joined_elements(facts: list[TensorFact], axis: int, dims: list[Dim]) -> list[Element] | None:
    """Contents of all parts; those of a part of which only the dims are known are unknown."""
    if all(fact.elements is None for fact in facts):
        return None
    count = product(tuple(dims))
    if type(count) is not int or count > MAX_ELEMENTS:
        return None
    joined: list[Element] = []
    grids = []
    for fact in facts:
        grid = None if fact.dims is None else positions(fact.dims)
        if grid is None:
            return None
        grids.append(grid + len(joined))
        joined.extend(fact.elements or [None] * grid.size)
    return joined if len(dims) == 1 else moved_elements(joined, np.concatenate(grids, axis))


@operator("Expand", movement=True, shape_inputs=(1,), can_fail=True)
def expand(ctx: InferenceContext) -> Results:
    """Broadcast both ways with the shape of input 1."""
    fact = ctx.tensor_input(0)
    target = dims_of_contents(ctx, 1, "expanded")
    if fact is None or fact.dims is None or target is None:
        return [ctx.tensor(ctx.dtype(0), None)]
    if any(type(dim) is int and dim < 0 for dim in target):
        # Not in the specification; onnxruntime takes -1 for "as it is", others refuse.
        target = tuple([ctx.fresh("expanded") if type(d) is int and d < 0 else d for d in target])
    dims = broadcast_all((fact.dims, target))
    if fact.elements is None or dims is None:
        return [TensorFact(fact.dtype, dims, None)]
    count = product(dims)
    if type(count) is not int or count > MAX_ELEMENTS:
        return [TensorFact(fact.dtype, dims, None)]
    return [ctx.tensor(fact.dtype, dims, broadcast_elements(fact.elements, fact.dims, dims))]


@operator("Tile", movement=True, shape_inputs=(1, 2), can_fail=True)
def tile(ctx: InferenceContext) -> Results:
    """Each dim `repeats` times; before opset 6 one axis, `tiles` times."""
    fact = ctx.tensor_input(0)
    repeats = None if ctx.opset < 6 else dims_of_contents(ctx, 1, "repeats")
    if fact is None or fact.dims is None:
        return [ctx.tensor(ctx.dtype(0), None if repeats is None else ctx.fresh_dims("tiled", len(repeats)))]
    if repeats is None:
        return [ctx.tensor(fact.dtype, ctx.fresh_dims("tiled", len(fact.dims)))]
    dims = tuple([dim * count for dim, count in zip(fact.dims, repeats, strict=True)])
    total = product(dims)
    if fact.elements is None or type(total) is not int or total > MAX_ELEMENTS:
        return [TensorFact(fact.dtype, dims, None)]
    places = positions(fact.dims)
    assert places is not None, "contents are kept of static shapes only"
    return [ctx.tensor(fact.dtype, dims, moved_elements(fact.elements, np.tile(places, repeats)))]  # type: ignore[arg-type]


@operator("Pad", movement=True, shape_inputs=(1, 3), can_fail=True)
def pad(ctx: InferenceContext) -> Results:
    """`pads` are all beginnings, then all ends (of `axes`, from opset 18); attributes before opset 11."""
    fact = ctx.tensor_input(0)
    if fact is None or fact.dims is None:
        return [ctx.tensor(ctx.dtype(0), None)]
    rank = len(fact.dims)
    pads: Sequence[Element] | None = ctx.elements(1) if ctx.opset >= 11 else ctx.ints_attr("pads")
    if ctx.opset < 2:
        pads = ctx.ints_attr("paddings")
    axes: Sequence[int] | None = range(rank)
    if ctx.has(3):
        axes = ctx.integers(3)
    if pads is None or axes is None:
        return [ctx.tensor(fact.dtype, ctx.fresh_dims("padded", rank))]
    axes = normalized(axes, rank)
    dims = list(fact.dims)
    for place, axis in enumerate(axes):
        begin, end = as_dim(pads[place]), as_dim(pads[place + len(axes)])
        known = begin is not None and end is not None
        dims[axis] = dims[axis] + begin + end if known else ctx.fresh("padded")  # type: ignore[operator]
    return [ctx.tensor(fact.dtype, dims, _padded_elements(ctx, fact, dims, pads))]


def _padded_elements(
    ctx: InferenceContext, fact: TensorFact, dims: list[Dim], pads: Sequence[Element]
) -> list[Element] | None:
    """Contents of a vector padded with a constant."""
    if fact.elements is None or len(dims) != 1 or type(dims[0]) is not int:
        return None
    begin, end = pads[0], pads[1]
    if ctx.attr("mode", "constant") != "constant" or type(begin) is not int or type(end) is not int:
        return None
    if begin < 0 or end < 0:
        return None
    zero: Element = 0 if all(type(element) is not float for element in fact.elements) else 0.0
    fill: Element = (ctx.elements(2) or (None,))[0] if ctx.has(2) else zero
    return [fill] * begin + list(fact.elements) + [fill] * end

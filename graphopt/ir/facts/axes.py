"""Operators that change axes and keep the order of elements; and Transpose, which changes it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from graphopt.ir.dims import Dim, high, low, product
from graphopt.ir.fact import Element, TensorFact
from graphopt.ir.facts.registry import InferenceContext, Results, operator

__all__ = ["moved_elements", "positions"]


def positions(dims: Sequence[Dim]) -> np.ndarray | None:
    """0, 1, 2, ... in the shape of a tensor of known dims: what is done to it tells where elements go."""
    sizes = [dim for dim in dims if type(dim) is int]
    if len(sizes) != len(dims):
        return None
    return np.arange(int(np.prod(sizes, dtype=np.int64))).reshape(sizes)


def moved_elements(elements: Sequence[Element], places: np.ndarray) -> list[Element]:
    """The elements at places (in row-major order), for places counted in the source."""
    return [elements[place] for place in places.reshape(-1).tolist()]


def normalized(axes: Sequence[int], rank: int) -> list[int]:
    """Axes counted from the front.

    Raises:
        ValueError: One lies outside the rank.
    """
    if any(not -rank <= axis < rank for axis in axes):
        raise ValueError(f"axes {tuple(axes)} do not fit rank {rank}")
    return [axis + rank if axis < 0 else axis for axis in axes]


@operator("Transpose", movement=True)
def transpose(ctx: InferenceContext) -> Results:
    """Axes in the order `perm`, reversed without it."""
    fact = ctx.tensor_input(0)
    if fact is None:
        return [None]
    perm = ctx.ints_attr("perm")
    if fact.dims is None:
        return [ctx.tensor(fact.dtype, None if perm is None else ctx.fresh_dims("transposed", len(perm)))]
    dims = fact.dims
    order = list(perm) if perm is not None else list(range(len(dims)))[::-1]
    moved = tuple([dims[axis] for axis in order])
    if fact.elements is None:
        return [TensorFact(fact.dtype, moved, None)]
    places = positions(dims)
    assert places is not None, "contents are kept of static shapes only"
    return [TensorFact(fact.dtype, moved, tuple(moved_elements(fact.elements, places.transpose(order))))]


def axes_input(ctx: InferenceContext) -> tuple[int, ...] | None:
    """The axes of Squeeze and Unsqueeze (an attribute before opset 13); None: absent or unknown."""
    return ctx.ints_attr("axes") if ctx.opset < 13 else ctx.integers(1)


@operator("Unsqueeze", movement=True, shape_inputs=(1,), can_fail=True)
def unsqueeze(ctx: InferenceContext) -> Results:
    """Dims of 1 at `axes`, which are counted in the result."""
    fact, axes = ctx.tensor_input(0), axes_input(ctx)
    if fact is None or fact.dims is None:
        return [ctx.tensor(ctx.dtype(0), None)]
    if axes is None:
        count = ctx.dims(1)
        if not count or type(count[0]) is not int:
            return [ctx.tensor(fact.dtype, None)]
        return [ctx.tensor(fact.dtype, ctx.fresh_dims("unsqueezed", len(fact.dims) + count[0]))]
    inserted = normalized(axes, len(fact.dims) + len(axes))
    dims = list(fact.dims)
    for axis in sorted(inserted):
        dims.insert(axis, 1)
    return [TensorFact(fact.dtype, tuple(dims), fact.elements)]


@operator("Squeeze", movement=True, shape_inputs=(1,), can_fail=True)
def squeeze(ctx: InferenceContext) -> Results:
    """Without the dims at `axes`; without `axes`, without all dims of 1."""
    fact, axes = ctx.tensor_input(0), axes_input(ctx)
    if fact is None or fact.dims is None:
        return [ctx.tensor(ctx.dtype(0), None)]
    dims = fact.dims
    if axes is None and ctx.opset >= 13 and ctx.has(1):
        count = ctx.dims(1)
        removes = count[0] if count and isinstance(count[0], int) else 0
        kept = len(dims) - removes if removes > 0 else -1
        return [ctx.tensor(fact.dtype, ctx.fresh_dims("squeezed", kept) if kept >= 0 else None)]
    if not axes:
        if any(dim != 1 and (low(dim) or 0) <= 1 and high(dim) != 0 for dim in dims if type(dim) is not int):
            return [ctx.tensor(fact.dtype, None)]
        return [TensorFact(fact.dtype, tuple([dim for dim in dims if dim != 1]), fact.elements)]
    removed = normalized(axes, len(dims))
    return [TensorFact(fact.dtype, tuple([d for i, d in enumerate(dims) if i not in removed]), fact.elements)]


@operator("Flatten", movement=True)
def flatten(ctx: InferenceContext) -> Results:
    """A matrix: the dims before `axis`, and those from it on."""
    fact = ctx.tensor_input(0)
    if fact is None or fact.dims is None:
        return [ctx.tensor(ctx.dtype(0), ctx.fresh_dims("flattened", 2))]
    axis = ctx.int_attr("axis", 1)
    axis = axis + len(fact.dims) if axis < 0 else axis
    return [TensorFact(fact.dtype, (product(fact.dims[:axis]), product(fact.dims[axis:])), fact.elements)]


@operator("Trilu", movement=True, shape_inputs=(1,))
@operator("ReverseSequence", movement=True, shape_inputs=(1,), can_fail=True)
def same_shape(ctx: InferenceContext) -> Results:
    """The shape of input 0."""
    return [ctx.tensor(ctx.dtype(0), ctx.dims(0))]

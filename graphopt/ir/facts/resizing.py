"""Resize and Upsample; DepthToSpace and SpaceToDepth."""

from __future__ import annotations

import math

import numpy as np

from graphopt.ir.dims import Dim, exact_quotient, floordiv
from graphopt.ir.fact import Element
from graphopt.ir.facts.axes import normalized
from graphopt.ir.facts.registry import InferenceContext, Results, operator
from graphopt.ir.partial_values import MAX_DENOMINATOR, as_dim

__all__ = ["scaled_dim"]


@operator("Resize", shape_inputs=(2, 3), can_fail=True)
def resize(ctx: InferenceContext) -> Results:
    """Sizes as given, or floor(dim * scale); only `axes` of them, from opset 18."""
    dims = ctx.dims(0)
    scales_at, sizes_at = (1, 99) if ctx.opset < 11 else (2, 3)
    sizes, scales = ctx.elements(sizes_at), ctx.elements(scales_at)
    if dims is None:
        count = len(sizes or scales or ())
        whole = count and ctx.ints_attr("axes") is None
        return [ctx.tensor(ctx.dtype(0), ctx.fresh_dims("resized", count) if whole else None)]
    axes = normalized(ctx.ints_attr("axes") or tuple(range(len(dims))), len(dims))
    result = list(dims)
    fitted = ctx.attr("keep_aspect_ratio_policy", "stretch") != "stretch"
    cropped = ctx.attr("coordinate_transformation_mode", "") == "tf_crop_and_resize"
    for place, axis in enumerate(axes):
        size: Dim | None = None
        if sizes and not fitted:
            size = as_dim(sizes[place])
        elif scales and not cropped:
            size = scaled_dim(dims[axis], scales[place])
        result[axis] = ctx.fresh("resized") if size is None else size
    return [ctx.tensor(ctx.dtype(0), result)]


@operator("Upsample", shape_inputs=(1,), can_fail=True)
def upsample(ctx: InferenceContext) -> Results:
    """floor(dim * scale); scales are an attribute before opset 9 (opset 1: height and width)."""
    dims = ctx.dims(0)
    scales: tuple[Element, ...] | None = ctx.elements(1)
    if ctx.opset < 9:
        given = ctx.attr("scales", None)
        if ctx.has_attr("height_scale"):
            given = (1.0, 1.0, ctx.attr("height_scale", 1.0), ctx.attr("width_scale", 1.0))  # type: ignore[assignment]
        scales = given if isinstance(given, tuple) else None
    if dims is None:
        return [ctx.tensor(ctx.dtype(0), None if scales is None else ctx.fresh_dims("resized", len(scales)))]
    if scales is None:
        return [ctx.tensor(ctx.dtype(0), ctx.fresh_dims("resized", len(dims)))]
    result = [scaled_dim(dim, scale) for dim, scale in zip(dims, scales, strict=True)]
    return [ctx.tensor(ctx.dtype(0), [ctx.fresh("resized") if dim is None else dim for dim in result])]


def scaled_dim(dim: Dim, scale: Element) -> Dim | None:
    """floor(dim * scale), in float32 as runtimes compute it; None where that can't be said exactly."""
    whole = as_dim(scale)
    if whole is not None:
        return dim * whole
    if type(scale) is not float or not math.isfinite(scale):
        return None
    if type(dim) is int:
        return math.floor(np.float32(dim) * np.float32(scale))
    numerator, denominator = scale.as_integer_ratio()
    return floordiv(dim * numerator, denominator) if denominator <= MAX_DENOMINATOR else None


@operator("DepthToSpace", movement=True)
def depth_to_space(ctx: InferenceContext) -> Results:
    """(N, C, H, W) to (N, C / b^2, H * b, W * b)."""
    dims, block = ctx.dims(0), ctx.int_attr("blocksize", 1)
    if dims is None:
        return [ctx.tensor(ctx.dtype(0), ctx.fresh_dims("depth", 4))]
    batch, channels, height, width = dims
    return [
        ctx.tensor(ctx.dtype(0), (batch, _exactly(channels, block * block), height * block, width * block))
    ]


@operator("SpaceToDepth", movement=True)
def space_to_depth(ctx: InferenceContext) -> Results:
    """(N, C, H, W) to (N, C * b^2, H / b, W / b)."""
    dims, block = ctx.dims(0), ctx.int_attr("blocksize", 1)
    if dims is None:
        return [ctx.tensor(ctx.dtype(0), ctx.fresh_dims("space", 4))]
    batch, channels, height, width = dims
    found = (batch, channels * (block * block), _exactly(height, block), _exactly(width, block))
    return [ctx.tensor(ctx.dtype(0), found)]


def _exactly(dim: Dim, divisor: int) -> Dim:
    whole = exact_quotient(dim, divisor)
    return floordiv(dim, divisor) if whole is None else whole

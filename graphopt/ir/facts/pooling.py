"""Facts of poolings: sliding windows, global ones, and those over regions of interest."""

from __future__ import annotations

from collections.abc import Sequence

import onnx_ir as ir

from graphopt.ir.dims import Dim, exact_quotient, product
from graphopt.ir.facts.convolution import kernel_of
from graphopt.ir.facts.registry import InferenceContext, Results, operator
from graphopt.ir.facts.results import Dims, integers, known
from graphopt.ir.facts.windows import positions, read_windows


def pool_dims(ctx: InferenceContext, *, channels_last: bool = False) -> Dims | None:
    """The shape of a pooling of input 0 (N, C, spatial...) or (N, spatial..., C); None: rank unknown."""
    dims, kernel = ctx.dims(0), kernel_of(ctx, None)
    if dims is None and kernel is None:
        return None
    rank = len(dims) if dims is not None else len(kernel or ()) + 2
    if rank < 3:
        return None
    if dims is None:
        return ctx.fresh_dims("spatial", rank)
    sizes = dims[1:-1] if channels_last else dims[2:]
    windows = read_windows(ctx, kernel) if kernel is not None and len(kernel) == rank - 2 else None
    ceil_mode = bool(ctx.attr("ceil_mode", 0))
    found: Sequence[Dim | None] = (None,) * (rank - 2)
    if windows is not None:
        found = [
            positions(size, window, ceil_mode=ceil_mode) for size, window in zip(sizes, windows, strict=True)
        ]
    spatial = tuple(ctx.fresh("spatial") if size is None else size for size in found)
    return (dims[0], *spatial, dims[-1]) if channels_last else (*dims[:2], *spatial)


def pool_flops(ctx: InferenceContext) -> Dim:
    """One operation an element of each window."""
    return product(known(ctx.output_dims())) * product(known(kernel_of(ctx, None)))


@operator("AveragePool", "LpPool", flops=pool_flops)
def _pool(ctx: InferenceContext) -> Results:
    return [ctx.tensor(ctx.dtype(0), pool_dims(ctx))]


@operator("MaxPool", flops=pool_flops)
def _max_pool(ctx: InferenceContext) -> Results:
    dims = pool_dims(ctx)
    return [ctx.tensor(ctx.dtype(0), dims), ctx.tensor(ir.DataType.INT64, dims)]


def global_pool_dims(dims: Dims | None, *, channels_last: bool = False) -> Dims | None:
    """Every spatial dim becomes 1."""
    if dims is None or len(dims) < 2:
        return None
    ones = (1,) * (len(dims) - 2)
    return (dims[0], *ones, dims[-1]) if channels_last else (*dims[:2], *ones)


def input_sized_flops(ctx: InferenceContext) -> Dim:
    """One operation an element of input 0."""
    return product(known(ctx.dims(0)))


@operator("GlobalAveragePool", "GlobalMaxPool", "GlobalLpPool", flops=input_sized_flops)
def _global_pool(ctx: InferenceContext) -> Results:
    return [ctx.tensor(ctx.dtype(0), global_pool_dims(ctx.dims(0)))]


@operator("MaxUnpool", can_fail=True, shape_inputs=(2,))
def _max_unpool(ctx: InferenceContext) -> Results:
    dims, kernel = ctx.dims(0), kernel_of(ctx, None)
    if ctx.has(2):
        asked = integers(ctx, 2)
        if asked is not None:
            return [ctx.tensor(ctx.dtype(0), tuple(ctx.fresh("size") if a is None else a for a in asked))]
        return [ctx.tensor(ctx.dtype(0), None if dims is None else ctx.fresh_dims("size", len(dims)))]
    windows = None if kernel is None else read_windows(ctx, kernel)
    if dims is None or windows is None or len(windows) != len(dims) - 2:
        return [ctx.tensor(ctx.dtype(0), None)]
    spatial = [
        (size - 1) * window.stride + window.kernel - window.begin - window.end
        for size, window in zip(dims[2:], windows, strict=True)
    ]
    return [ctx.tensor(ctx.dtype(0), (*dims[:2], *spatial))]


@operator("RoiAlign", can_fail=True)
def _roi_align(ctx: InferenceContext) -> Results:
    """(number of rois, C, height, width); fails on a batch index out of range."""
    return [
        ctx.tensor(
            ctx.dtype(0), _rois(ctx, ctx.int_attr("output_height", 1), ctx.int_attr("output_width", 1))
        )
    ]


@operator("MaxRoiPool", can_fail=True)
def _max_roi_pool(ctx: InferenceContext) -> Results:
    return [ctx.tensor(ctx.dtype(0), _rois(ctx, *(ctx.ints_attr("pooled_shape") or (None, None))))]


def _rois(ctx: InferenceContext, *sizes: int | None) -> Dims:
    dims, rois = ctx.dims(0), ctx.dims(1)
    count = rois[0] if rois else ctx.fresh("rois")
    channels = dims[1] if dims is not None and len(dims) > 1 else ctx.fresh("channels")
    return (count, channels, *(ctx.fresh("size") if size is None else size for size in sizes))


@operator("Col2Im", shape_inputs=(1, 2), can_fail=True)
def _col2im(ctx: InferenceContext) -> Results:
    """(N, C * blocks, L) back to (N, C, image...)."""
    dims, image, block = ctx.dims(0), integers(ctx, 1), ctx.integers(2)
    if image is None:
        sizes = ctx.dims(1)
        if not sizes or not isinstance(sizes[0], int):
            return [ctx.tensor(ctx.dtype(0), None)]
        image = (None,) * sizes[0]
    batch = dims[0] if dims else ctx.fresh("batch")
    channels: Dim | None = None
    if dims is not None and len(dims) == 3 and block:
        channels = exact_quotient(dims[1], product(block))
    spatial = (ctx.fresh("size") if size is None else size for size in image)
    return [
        ctx.tensor(ctx.dtype(0), (batch, ctx.fresh("channels") if channels is None else channels, *spatial))
    ]

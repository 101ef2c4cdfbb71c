"""Facts of image and detection operators."""

from __future__ import annotations

import onnx_ir as ir

from graphopt.ir.dims import Dim
from graphopt.ir.facts.registry import InferenceContext, Results, operator
from graphopt.ir.facts.results import integers, normalized_axes


@operator("NonMaxSuppression")
def _non_max_suppression(ctx: InferenceContext) -> Results:
    """One row (batch, class, box) a box that stays: how many, only a run can tell."""
    return [ctx.tensor(ir.DataType.INT64, (ctx.fresh("selected"), 3))]


@operator("GridSample")
@operator("GridSample", domain="com.microsoft")
def _grid_sample(ctx: InferenceContext) -> Results:
    """(N, C, grid...) of data (N, C, spatial...) and a grid (N, grid..., coordinates)."""
    dims, grid = ctx.dims(0), ctx.dims(1)
    rank = len(dims or grid or ())
    if rank < 3:
        return [ctx.tensor(ctx.dtype(0), None)]
    front = dims[:2] if dims is not None else (grid[0] if grid else ctx.fresh("batch"), ctx.fresh("channels"))
    places = grid[1:-1] if grid is not None and len(grid) == rank else ctx.fresh_dims("grid", rank - 2)
    return [ctx.tensor(ctx.dtype(0), (*front, *places))]


@operator("AffineGrid", shape_inputs=(1,), can_fail=True)
def _affine_grid(ctx: InferenceContext) -> Results:
    """(N, H, W, 2) or (N, D, H, W, 3), for a size (N, C, H, W) or (N, C, D, H, W)."""
    theta, size = ctx.dims(0), integers(ctx, 1)
    if size is None:
        count = ctx.dims(1)
        if not count or not isinstance(count[0], int):
            return [ctx.tensor(ctx.dtype(0), None)]
        size = (theta[0] if theta else None, *(None,) * (count[0] - 1))
    spatial: tuple[Dim, ...] = tuple(ctx.fresh("grid") if dim is None else dim for dim in size[2:])
    batch = ctx.fresh("batch") if size[0] is None else size[0]
    return [ctx.tensor(ctx.dtype(0), (batch, *spatial, len(spatial)))]


@operator("CenterCropPad", movement=True, shape_inputs=(1,), can_fail=True)
def _center_crop_pad(ctx: InferenceContext) -> Results:
    """The axes named take the sizes given: cropped or padded with zeros around the center."""
    dims, sizes = ctx.dims(0), integers(ctx, 1)
    if dims is None:
        return [ctx.tensor(ctx.dtype(0), None)]
    axes = normalized_axes(ctx.ints_attr("axes") or tuple(range(len(dims))), len(dims))
    if axes is None or (sizes is not None and len(sizes) != len(axes)):
        return [ctx.tensor(ctx.dtype(0), ctx.fresh_dims("size", len(dims)))]
    changed = list(dims)
    for place, axis in enumerate(axes):
        size = None if sizes is None else sizes[place]
        changed[axis] = ctx.fresh("size") if size is None else size
    return [ctx.tensor(ctx.dtype(0), changed)]


@operator("ImageDecoder", can_fail=True)
def _image_decoder(ctx: InferenceContext) -> Results:
    channels = 1 if ctx.attr("pixel_format", "RGB") == "Grayscale" else 3
    return [ctx.tensor(ir.DataType.UINT8, (ctx.fresh("height"), ctx.fresh("width"), channels))]

"""Facts of signal processing: DFT, STFT, windows, MelWeightMatrix."""

from __future__ import annotations

import onnx_ir as ir

from graphopt.ir.dims import Dim, floordiv, low
from graphopt.ir.facts.registry import InferenceContext, Results, operator
from graphopt.ir.facts.results import Dims, normalized_axis, output_dtype, scalar


@operator("DFT", shape_inputs=(1, 2), can_fail=True)
def _dft(ctx: InferenceContext) -> Results:
    """Axis: an attribute before opset 20 (default 1), input 2 from then on (default -2)."""
    dims = ctx.dims(0)
    if dims is None or not dims:
        return [ctx.tensor(ctx.dtype(0), None)]
    onesided, inverse = bool(ctx.int_attr("onesided", 0)), bool(ctx.int_attr("inverse", 0))
    default = ctx.int_attr("axis", 1) if ctx.opset < 20 else -2
    axis = normalized_axis(scalar(ctx, 2) if ctx.has(2) else default, len(dims))
    real = onesided and inverse
    last: Dim = 1 if real else 2
    if axis is None:
        return [ctx.tensor(ctx.dtype(0), (*ctx.fresh_dims("signal", len(dims) - 1), last))]
    length: Dim | None = dims[axis]
    if ctx.has(1):
        length = scalar(ctx, 1)
    elif real and length is not None:
        length = 2 * (length - 1)
    if length is not None and onesided and not inverse:
        length = floordiv(length, 2) + 1
    changed: Dims = tuple(
        ctx.or_fresh(length, "signal") if place == axis else dim for place, dim in enumerate(dims[:-1])
    )
    return [ctx.tensor(ctx.dtype(0), (*changed, last))]


@operator("STFT", shape_inputs=(1, 3), can_fail=True)
def _stft(ctx: InferenceContext) -> Results:
    """(batch, frames, bins, 2) of a signal (batch, samples, 1 or 2)."""
    dims, window = ctx.dims(0), ctx.dims(2)
    step = scalar(ctx, 1)
    length: Dim | None = None
    if window:
        length = window[0]
    elif ctx.has(3):
        length = scalar(ctx, 3)
    elif not ctx.has(2) and dims is not None and len(dims) > 1:
        length = dims[1]
    frames: Dim | None = None
    if (
        dims is not None
        and len(dims) > 1
        and length is not None
        and step is not None
        and (low(step) or 0) > 0
    ):
        frames = floordiv(dims[1] - length, step) + 1
    bins = length
    if length is not None and ctx.int_attr("onesided", 1):
        bins = floordiv(length, 2) + 1
    batch = dims[0] if dims else None
    shape = (
        ctx.or_fresh(batch, "batch"),
        ctx.or_fresh(frames, "frames"),
        ctx.or_fresh(bins, "bins"),
        2,
    )
    return [ctx.tensor(ctx.dtype(0), shape)]


@operator("HannWindow", "HammingWindow", "BlackmanWindow", shape_inputs=(0,), can_fail=True)
def _window(ctx: InferenceContext) -> Results:
    size = ctx.or_fresh(scalar(ctx, 0), "window")
    return [ctx.tensor(output_dtype(ctx, "output_datatype", ir.DataType.FLOAT), (size,))]


@operator("MelWeightMatrix", shape_inputs=(0, 1), can_fail=True)
def _mel_weight_matrix(ctx: InferenceContext) -> Results:
    """(dft_length // 2 + 1, number of bins)."""
    bins, length = scalar(ctx, 0), scalar(ctx, 1)
    rows = ctx.fresh("bins") if length is None else floordiv(length, 2) + 1
    dims = (rows, ctx.or_fresh(bins, "bins"))
    return [ctx.tensor(output_dtype(ctx, "output_datatype", ir.DataType.FLOAT), dims)]

"""Facts of normalizations: every one keeps the shape of its input."""

from __future__ import annotations

import onnx_ir as ir

from graphopt.ir.dims import Dim, product
from graphopt.ir.facts.registry import FlopsFunction, InferenceContext, Results, operator
from graphopt.ir.facts.results import Dims, known, like, normalized_axis, output_dtype


def flops_an_element(count: int) -> FlopsFunction:
    """FLOPs that grow with input 0: `count` an element, as the operator's formula is written."""

    def flops(ctx: InferenceContext) -> Dim:
        return count * product(known(ctx.dims(0)))

    return flops


# x - mean, square, two sums, multiply by the inverse deviation, scale and shift.
NORMALIZATION = 8


@operator("BatchNormalization", flops=flops_an_element(4))
def _batch_normalization(ctx: InferenceContext) -> Results:
    """Y and, when training, statistics: two from opset 14, before that two more, saved copies."""
    channels = ctx.dims(1)
    dtype = ctx.dtype(3) if ctx.opset >= 14 else ctx.dtype(0)
    statistics = [ctx.tensor(dtype, channels) for _ in ctx.node.outputs[1:]]
    return [like(ctx), *statistics]


@operator(
    "InstanceNormalization",
    "GroupNormalization",
    "MeanVarianceNormalization",
    flops=flops_an_element(NORMALIZATION),
)
def _keeps_shape(ctx: InferenceContext) -> Results:
    return [like(ctx)]


@operator("LRN", flops=flops_an_element(NORMALIZATION))
@operator("LpNormalization", flops=flops_an_element(3))
def _keeps_shape_too(ctx: InferenceContext) -> Results:
    return [like(ctx)]


def reduced_from(dims: Dims | None, axis: int) -> Dims | None:
    """`dims` with 1 from `axis` on; None where the rank is unknown or the axis outside it."""
    if dims is None:
        return None
    first = normalized_axis(axis, len(dims))
    return None if first is None else (*dims[:first], *(1,) * (len(dims) - first))


@operator("LayerNormalization", flops=flops_an_element(NORMALIZATION))
def _layer_normalization(ctx: InferenceContext) -> Results:
    """Y, mean and inverse deviation; the latter two in the precision that the stages are computed in."""
    reduced = reduced_from(ctx.dims(0), ctx.int_attr("axis", -1))
    stage = ctx.tensor(output_dtype(ctx, "stash_type", ir.DataType.FLOAT), reduced)
    return [like(ctx), stage, stage]


@operator("RMSNormalization", flops=flops_an_element(5))
def _rms_normalization(ctx: InferenceContext) -> Results:
    return [ctx.tensor(ctx.dtype(1), ctx.dims(0))]


@operator("SimplifiedLayerNormalization", flops=flops_an_element(5))
def _simplified_layer_normalization(ctx: InferenceContext) -> Results:
    """onnxruntime's RMSNormalization, written into the standard domain by its fusions."""
    reduced = reduced_from(ctx.dims(0), ctx.int_attr("axis", -1))
    stage = ctx.tensor(output_dtype(ctx, "stash_type", ir.DataType.FLOAT), reduced)
    return [ctx.tensor(ctx.dtype(1), ctx.dims(0)), stage]

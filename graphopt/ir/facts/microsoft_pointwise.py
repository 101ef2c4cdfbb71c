"""Facts of onnxruntime's activations, normalizations and quantized element-wise operators (com.microsoft)."""

from __future__ import annotations

import onnx_ir as ir

from graphopt.ir.dims import Dim, exact_quotient
from graphopt.ir.facts.elementwise import broadcast_all
from graphopt.ir.facts.normalization import NORMALIZATION, flops_an_element
from graphopt.ir.facts.pooling import global_pool_dims, input_sized_flops, pool_dims, pool_flops
from graphopt.ir.facts.reductions import reduced_dims, reduction_dims
from graphopt.ir.facts.registry import InferenceContext, Results, operator
from graphopt.ir.facts.results import like, normalized_axes, normalized_axis

DOMAIN = "com.microsoft"


@operator("Gelu", "QuickGelu", domain=DOMAIN, elementwise=True)
@operator("BiasGelu", "FastGelu", "ScaledSiLU", domain=DOMAIN, elementwise=True)
@operator("QLinearSigmoid", "QLinearLeakyRelu", domain=DOMAIN, elementwise=True)
@operator("ScaledTanh", "ParametricSoftplus", "Affine", "SwiGLU", elementwise=True)
@operator("BiasAdd", domain=DOMAIN, elementwise=True)
def _activation(ctx: InferenceContext) -> Results:
    return [like(ctx)]


@operator("BiasSoftmax", "QLinearSoftmax", domain=DOMAIN, flops=flops_an_element(6))
@operator("GroupNorm", "GatedRMSNorm", domain=DOMAIN, flops=flops_an_element(NORMALIZATION))
def _keeps_shape(ctx: InferenceContext) -> Results:
    return [like(ctx)]


@operator("SkipGroupNorm", domain=DOMAIN, flops=flops_an_element(NORMALIZATION + 1))
def _skip_group_norm(ctx: InferenceContext) -> Results:
    return [like(ctx), like(ctx)]


@operator(
    "SkipLayerNormalization",
    "SkipSimplifiedLayerNormalization",
    domain=DOMAIN,
    flops=flops_an_element(NORMALIZATION + 1),
)
def _skip_layer_normalization(ctx: InferenceContext) -> Results:
    """The result, mean and inverse deviation (B, S, 1), and the sum that was normalized."""
    dims = ctx.dims(0)
    stage = ctx.tensor(ir.DataType.FLOAT, (*dims[:-1], 1) if dims else None)
    return [like(ctx), stage, stage, like(ctx)]


@operator("BiasSplitGelu", domain=DOMAIN)
def _bias_split_gelu(ctx: InferenceContext) -> Results:
    """(N, S, D) to (N, S, D / 2)."""
    dims = ctx.dims(0)
    if not dims:
        return [ctx.tensor(ctx.dtype(0), None)]
    half = exact_quotient(dims[-1], 2)
    return [ctx.tensor(ctx.dtype(0), (*dims[:-1], ctx.fresh("half") if half is None else half))]


@operator("BiasDropout", domain=DOMAIN, random=True)
def _bias_dropout(ctx: InferenceContext) -> Results:
    return [like(ctx), ctx.tensor(ir.DataType.BOOL, ctx.dims(0))]


@operator("BitmaskDropout", "BitmaskBiasDropout", domain=DOMAIN, random=True)
def _bitmask_dropout(ctx: InferenceContext) -> Results:
    """The mask is packed into words of 32 bits."""
    return [like(ctx), ctx.tensor(ir.DataType.UINT32, (ctx.fresh("words"),))]


@operator("QLinearAdd", "QLinearMul", domain=DOMAIN, elementwise=True)
def _quantized_binary(ctx: InferenceContext) -> Results:
    """Operands 0 and 3, each followed by its scale and zero point."""
    return [ctx.tensor(ctx.dtype(0), broadcast_all((ctx.dims(0), ctx.dims(3))))]


@operator("MulInteger", domain=DOMAIN, elementwise=True)
def _multiply_integers(ctx: InferenceContext) -> Results:
    return [ctx.tensor(ir.DataType.INT32, broadcast_all((ctx.dims(0), ctx.dims(2))))]


@operator("QLinearWhere", domain=DOMAIN, elementwise=True)
def _quantized_where(ctx: InferenceContext) -> Results:
    return [ctx.tensor(ctx.dtype(1), broadcast_all((ctx.dims(0), ctx.dims(1), ctx.dims(4))))]


@operator("QLinearConcat", domain=DOMAIN)
def _quantized_concat(ctx: InferenceContext) -> Results:
    """Scale and zero point of the result, then a tensor, its scale and its zero point each."""
    shapes = [ctx.dims(index) for index in range(2, ctx.count, 3)]
    known = [shape for shape in shapes if shape is not None]
    if not known or len(known) < len(shapes) or len({len(shape) for shape in known}) != 1:
        return [ctx.tensor(ctx.dtype(1), None)]
    axis = normalized_axis(ctx.int_attr("axis", 0), len(known[0]))
    if axis is None:
        return [ctx.tensor(ctx.dtype(1), None)]
    total: Dim = 0
    for shape in known:
        total = total + shape[axis]
    return [ctx.tensor(ctx.dtype(1), (*known[0][:axis], total, *known[0][axis + 1 :]))]


@operator("QLinearReduceMean", domain=DOMAIN, flops=flops_an_element(1))
def _quantized_mean(ctx: InferenceContext) -> Results:
    """Axes are an attribute: input 1 is a scale."""
    dims = ctx.dims(0)
    if dims is None:
        return [ctx.tensor(ctx.dtype(0), None)]
    axes = normalized_axes(ctx.ints_attr("axes") or tuple(range(len(dims))), len(dims))
    if axes is None:
        return [ctx.tensor(ctx.dtype(0), None)]
    return [ctx.tensor(ctx.dtype(0), reduced_dims(dims, axes, bool(ctx.int_attr("keepdims", 1))))]


@operator("ReduceSumInteger", domain=DOMAIN, flops=flops_an_element(1))
def _integer_sum(ctx: InferenceContext) -> Results:
    dtype = ir.DataType.UINT32 if ctx.dtype(0) is ir.DataType.UINT8 else ir.DataType.INT32
    return [ctx.tensor(dtype, reduction_dims(ctx)[0])]


@operator("QLinearAveragePool", domain=DOMAIN, flops=pool_flops)
def _quantized_pool(ctx: InferenceContext) -> Results:
    return [ctx.tensor(ctx.dtype(0), pool_dims(ctx, channels_last=bool(ctx.int_attr("channels_last", 0))))]


@operator("NhwcMaxPool", domain=DOMAIN, flops=pool_flops)
def _nhwc_max_pool(ctx: InferenceContext) -> Results:
    return [ctx.tensor(ctx.dtype(0), pool_dims(ctx, channels_last=True))]


@operator("MaxpoolWithMask", domain=DOMAIN, flops=pool_flops)
def _masked_pool(ctx: InferenceContext) -> Results:
    return [ctx.tensor(ctx.dtype(0), pool_dims(ctx))]


@operator("QLinearGlobalAveragePool", domain=DOMAIN, flops=input_sized_flops)
def _quantized_global_pool(ctx: InferenceContext) -> Results:
    channels_last = bool(ctx.int_attr("channels_last", 0))
    return [ctx.tensor(ctx.dtype(0), global_pool_dims(ctx.dims(0), channels_last=channels_last))]


@operator("ComplexMul", "ComplexMulConj", domain=DOMAIN)
def _complex_product(ctx: InferenceContext) -> Results:
    return [ctx.tensor(ctx.dtype(0), broadcast_all((ctx.dims(0), ctx.dims(1))))]


@operator("IsAllFinite", domain=DOMAIN)
def _is_all_finite(ctx: InferenceContext) -> Results:
    return [ctx.tensor(ir.DataType.BOOL, ())]


@operator("SwiGLU", domain=DOMAIN)
def _swiglu(ctx: InferenceContext) -> Results:
    """Gate and value apart, or side by side in the last dim of one tensor."""
    dims = ctx.dims(0)
    if ctx.has(1) or not dims:
        return [ctx.tensor(ctx.dtype(0), dims if ctx.has(1) else None)]
    half = exact_quotient(dims[-1], 2)
    return [ctx.tensor(ctx.dtype(0), (*dims[:-1], ctx.fresh("half") if half is None else half))]


# Routing decides what is computed: FLOPs are not known.
@operator("MoE", "QMoE", domain=DOMAIN)
def _mixture_of_experts(ctx: InferenceContext) -> Results:
    return [like(ctx)]

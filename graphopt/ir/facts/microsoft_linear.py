"""Facts of onnxruntime's matrix products and convolutions (domain com.microsoft)."""

from __future__ import annotations

import onnx_ir as ir

from graphopt.ir.dims import Dim, product
from graphopt.ir.facts.convolution import conv_dims, conv_flops_of
from graphopt.ir.facts.linear import gemm_dims, gemm_flops, matmul_dims, matmul_flops, matmul_flops_of
from graphopt.ir.facts.registry import InferenceContext, Results, operator
from graphopt.ir.facts.results import Dims, known

DOMAIN = "com.microsoft"


def _turned(dims: Dims | None, transposed: int, batch_last: int) -> Dims | None:
    """`dims` as FusedMatMul multiplies it; a vector stays as it is.

    `batch_last`: the matrix' first axis stands before the batch axes, (M, B..., K).
    """
    if dims is None or len(dims) < 2:
        return dims
    if batch_last:
        dims = (*dims[1:-1], dims[0], dims[-1])
    return (*dims[:-2], dims[-1], dims[-2]) if transposed else dims


def _operands(ctx: InferenceContext) -> tuple[Dims | None, Dims | None]:
    left = _turned(ctx.dims(0), ctx.int_attr("transA", 0), ctx.int_attr("transBatchA", 0))
    right = _turned(ctx.dims(1), ctx.int_attr("transB", 0), ctx.int_attr("transBatchB", 0))
    return left, right


def fused_matmul_flops(ctx: InferenceContext) -> Dim:
    """2 a multiply-add."""
    return matmul_flops_of(*_operands(ctx))


@operator("FusedMatMul", "TransposeMatMul", "FusedMatMulActivation", domain=DOMAIN, flops=fused_matmul_flops)
def _fused_matmul(ctx: InferenceContext) -> Results:
    return [ctx.tensor(ctx.dtype(0), matmul_dims(*_operands(ctx)))]


@operator("SparseToDenseMatMul", domain=DOMAIN)
def _sparse_matmul(ctx: InferenceContext) -> Results:
    """The first operand is a sparse tensor."""
    return [ctx.tensor(ctx.dtype(1), None)]


@operator("GemmFastGelu", "DynamicQuantizeMatMul", domain=DOMAIN, flops=matmul_flops)
def _matmul(ctx: InferenceContext) -> Results:
    return [ctx.tensor(ctx.dtype(0), matmul_dims(ctx.dims(0), ctx.dims(1)))]


@operator("MatMulIntegerToFloat", domain=DOMAIN, flops=matmul_flops)
def _matmul_integer_to_float(ctx: InferenceContext) -> Results:
    return [ctx.tensor(ctx.dtype(2), matmul_dims(ctx.dims(0), ctx.dims(1)))]


@operator("MatMulInteger16", domain=DOMAIN, flops=matmul_flops)
def _matmul_integer16(ctx: InferenceContext) -> Results:
    dtype = ir.DataType.UINT32 if ctx.dtype(0) is ctx.dtype(1) is ir.DataType.UINT16 else ir.DataType.INT32
    return [ctx.tensor(dtype, matmul_dims(ctx.dims(0), ctx.dims(1)))]


@operator("FusedGemm", domain=DOMAIN, flops=gemm_flops)
def _fused_gemm(ctx: InferenceContext) -> Results:
    found = gemm_dims(ctx, ctx.dims(0), ctx.dims(1))
    return [ctx.tensor(ctx.dtype(0), found[0] if found else ctx.fresh_dims("gemm", 2))]


def quantized_gemm_flops(ctx: InferenceContext) -> Dim:
    """2 a multiply-add."""
    dims, inner = known(gemm_dims(ctx, ctx.dims(0), ctx.dims(3)))
    return 2 * product(dims) * inner


@operator("QGemm", domain=DOMAIN, flops=quantized_gemm_flops)
def _quantized_gemm(ctx: InferenceContext) -> Results:
    """Quantized like the output's zero point; float where none is given."""
    found = gemm_dims(ctx, ctx.dims(0), ctx.dims(3))
    dtype = ctx.dtype(8) if ctx.has(8) else ctx.dtype(1)
    return [ctx.tensor(dtype, found[0] if found else ctx.fresh_dims("gemm", 2))]


def packed_weight_flops(ctx: InferenceContext) -> Dim:
    """2 a multiply-add of a (.., K) by K x N, both written in attributes."""
    return 2 * product(known(ctx.dims(0))[:-1]) * ctx.int_attr("K", 0) * ctx.int_attr("N", 0)


@operator("MatMulNBits", "MatMulNBitsQLoRA", domain=DOMAIN, flops=packed_weight_flops)
def _matmul_packed_weight(ctx: InferenceContext) -> Results:
    """(..., K) by packed weights of K x N."""
    dims, columns = ctx.dims(0), ctx.int_attr("N", 0)
    if dims is None or not dims or not columns:
        return [ctx.tensor(ctx.dtype(0), None)]
    return [ctx.tensor(ctx.dtype(0), (*dims[:-1], columns))]


@operator("MatMulBnb4", domain=DOMAIN, flops=packed_weight_flops)
def _matmul_bnb4(ctx: InferenceContext) -> Results:
    """The same; without `transB` the product is with the weights' other side."""
    dims = ctx.dims(0)
    columns = ctx.int_attr("N" if ctx.int_attr("transB", 1) else "K", 0)
    if dims is None or not dims or not columns:
        return [ctx.tensor(ctx.dtype(0), None)]
    return [ctx.tensor(ctx.dtype(0), (*dims[:-1], columns))]


@operator("MatMulFpQ4", domain=DOMAIN)
def _matmul_fpq4(ctx: InferenceContext) -> Results:
    """The shape of the packed weights stands in input 2."""
    dims, shape = ctx.dims(0), ctx.integers(2)
    if dims is None or not dims or shape is None or len(shape) != 2:
        return [ctx.tensor(ctx.dtype(0), None)]
    return [ctx.tensor(ctx.dtype(0), (*dims[:-1], shape[1]))]


@operator("FusedConv", domain=DOMAIN, flops=conv_flops_of())
def _fused_conv(ctx: InferenceContext) -> Results:
    return [ctx.tensor(ctx.dtype(0), conv_dims(ctx))]


@operator("NhwcConv", "NhwcFusedConv", domain=DOMAIN, flops=conv_flops_of())
def _nhwc_conv(ctx: InferenceContext) -> Results:
    return [ctx.tensor(ctx.dtype(0), conv_dims(ctx, channels_last=True))]


@operator("QLinearConv", domain=DOMAIN, flops=conv_flops_of(3, 8))
def _quantized_conv(ctx: InferenceContext) -> Results:
    channels_last = bool(ctx.int_attr("channels_last", 0))
    return [ctx.tensor(ctx.dtype(7), conv_dims(ctx, 0, 3, channels_last=channels_last))]


@operator("CDist", domain=DOMAIN)
def _pairwise_distance(ctx: InferenceContext) -> Results:
    """(M, K) and (N, K): (M, N)."""
    left, right = ctx.dims(0), ctx.dims(1)
    if not left or not right:
        return [ctx.tensor(ctx.dtype(0), ctx.fresh_dims("pairs", 2))]
    return [ctx.tensor(ctx.dtype(0), (left[0], right[0]))]


@operator("Inverse", domain=DOMAIN)
def _inverse(ctx: InferenceContext) -> Results:
    return [ctx.tensor(ctx.dtype(0), ctx.dims(0))]

"""Facts of the standard quantization operators."""

from __future__ import annotations

import onnx_ir as ir

from graphopt.ir.facts.normalization import flops_an_element
from graphopt.ir.facts.registry import InferenceContext, Results, operator
from graphopt.ir.facts.results import output_dtype

# Not element-wise: a scale may run along one axis or over blocks, which is no broadcast.


@operator("QuantizeLinear", flops=flops_an_element(3))
@operator("QuantizeLinear", domain="com.microsoft", flops=flops_an_element(3))
def _quantize(ctx: InferenceContext) -> Results:
    """The dtype is the zero point's, else what `output_dtype` says (opset 21), else uint8."""
    dtype = ctx.dtype(2) if ctx.has(2) else output_dtype(ctx, "output_dtype", ir.DataType.UINT8)
    return [ctx.tensor(dtype, ctx.dims(0))]


@operator("DequantizeLinear", flops=flops_an_element(2))
@operator("DequantizeLinear", domain="com.microsoft", flops=flops_an_element(2))
def _dequantize(ctx: InferenceContext) -> Results:
    """The dtype is what `output_dtype` says (opset 23), else the scale's."""
    return [ctx.tensor(output_dtype(ctx, "output_dtype", ctx.dtype(1)), ctx.dims(0))]


@operator("DynamicQuantizeLinear", flops=flops_an_element(5))
def _dynamic_quantize(ctx: InferenceContext) -> Results:
    """Values as uint8, their scale and their zero point."""
    scale, zero_point = ctx.tensor(ir.DataType.FLOAT, ()), ctx.tensor(ir.DataType.UINT8, ())
    return [ctx.tensor(ir.DataType.UINT8, ctx.dims(0)), scale, zero_point]

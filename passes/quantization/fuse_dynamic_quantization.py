"""Products of dynamically quantized activations as one operator.

    before   DynamicQuantizeLinear(x) -> MatMulInteger(.., w) -> Cast -> Mul(scales) -> Add(bias)
    after    DynamicQuantizeMatMul(x, w, scale, zero point, bias)

Where several products share the quantized activation, DynamicQuantizeLinear stays, and each of them becomes a
MatMulIntegerToFloat. onnxruntime does this at load as well: the time is the same.
"""

from __future__ import annotations

from dataclasses import dataclass

import onnx_ir as ir

from graphopt.rewriting import Match, Pass, Rejection, ms, op, rule

NOT_DYNAMIC = "scale and zero point are not those of a DynamicQuantizeLinear"
NO_WEIGHT = "the weight is not a constant matrix with constant scales by column, or one"
NO_BIAS = "what is added is not a vector over the columns"
HAS_BIAS = "it adds something already"
IS_SHARED = "the quantized values are used elsewhere"


@rule
def scaled_product(x, w, x_zero, w_zero, x_scale, w_scale):
    """Cast(MatMulInteger(x, w)) * (scale of x * scale of w) -> MatMulIntegerToFloat(x, w, scales)."""
    product = op.Cast(op.MatMulInteger(x, w, x_zero, w_zero), to=int(ir.DataType.FLOAT))
    return op.Mul(product, op.Mul(x_scale, w_scale).shared())


@scaled_product.when
def of_dynamic(m: Match) -> tuple[ir.Value, ir.Value] | Rejection:
    """The scales of x and of w: they come in either order."""
    source = m["x"].producer()
    scales = m["x_scale"], m["w_scale"]
    if source is None or source.op_type != "DynamicQuantizeLinear" or m["x"] is not source.outputs[0]:
        return Rejection(NOT_DYNAMIC, m["x"])
    if source.outputs[1] not in scales or m["x_zero"] is not source.outputs[2]:
        return Rejection(NOT_DYNAMIC, m["x"])
    w_scale = scales[0] if scales[1] is source.outputs[1] else scales[1]
    dims, scaled = m.dims(m["w"]), m.dims(w_scale)
    if m.tensor(m["w"]) is None or m.tensor(w_scale) is None or dims is None or len(dims) != 2:
        return Rejection(NO_WEIGHT, m["w"])
    fits = scaled in ((), (1,), dims[1:])
    zeros = m.dims(m["w_zero"])
    if not fits or m.tensor(m["w_zero"]) is None or zeros not in ((), (1,), scaled):
        return Rejection(NO_WEIGHT, w_scale)
    return source.outputs[1], w_scale


@scaled_product.rewrite
def as_product(m: Match, scales: tuple[ir.Value, ir.Value]) -> ir.Value:
    return ms.MatMulIntegerToFloat(m["x"], m["w"], *scales, m["x_zero"], m["w_zero"])


@rule
def biased_product(bias):
    """MatMulIntegerToFloat(x, w, scales) + bias -> MatMulIntegerToFloat(x, w, scales, bias)."""
    return op.Add(ms.MatMulIntegerToFloat(...).named("product"), bias)


@biased_product.when
def over_columns(m: Match) -> Rejection | None:
    inputs = m.node("product").inputs
    if len(inputs) > 6 and inputs[6] is not None:
        return Rejection(HAS_BIAS, m["product"])
    weight, bias = inputs[1], m.dims(m["bias"])
    columns = m.dims(weight) if weight is not None else None
    fits = columns is not None and bias is not None and len(bias) == 1 and bias == columns[1:]
    return None if fits and m.tensor(m["bias"]) is not None else Rejection(NO_BIAS, m["bias"])


@biased_product.rewrite
def with_bias(m: Match) -> ir.Value:
    return ms.MatMulIntegerToFloat(*m.node("product").inputs[:6], m["bias"])


@rule
def quantized_for_one(x, w, w_scale, w_zero):
    """MatMulIntegerToFloat(DynamicQuantizeLinear(x), w) -> DynamicQuantizeMatMul(x, w)."""
    integers, scale, zero = op.DynamicQuantizeLinear(x, outputs=3)
    return ms.MatMulIntegerToFloat(integers, w, scale, w_scale, zero, w_zero, ...)


@quantized_for_one.rewrite
def as_dynamic_product(m: Match) -> ir.Value:
    bias = m.root.inputs[6] if len(m.root.inputs) > 6 else None
    return ms.DynamicQuantizeMatMul(m["x"], m["w"], m["w_scale"], m["w_zero"], bias)


@dataclass(frozen=True)
class FuseDynamicQuantization(Pass):
    """Fuse products of dynamically quantized activations into onnxruntime's operators."""

    name = "fuse-dynamic-quantization"
    family = "quantization"
    stage = "target"
    level = 2
    targets = ("onnxruntime",)
    bound = "float32 within a few units in the last place of the largest term"
    rules = (scaled_product, biased_product, quantized_for_one)

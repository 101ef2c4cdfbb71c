"""Products of bytes that give floats, as onnxruntime's operator for them.

    before   MatMul(DequantizeLinear(q), DequantizeLinear(w)) -> Add(b)
    after    com.microsoft.MatMulIntegerToFloat(q, w, scales, zero points, b)

onnxruntime makes such products itself when it loads a model, but not everywhere: before it comes to them it
makes a float Gemm of a MatMul and an Add of two dims or known ones, and a Sum hides the bias. What is
quantized at once becomes QLinearMatMul or QGemm instead.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from graphopt.ir import constants
from graphopt.ir.quantization import BYTES, is_dequantize, is_quantize, quantization
from graphopt.rewriting import Match, Pass, Rejection, constant, ms, op, rule, rule_on
from graphopt.rewriting.stored_matrices import OTHER_WEIGHT, floats_of_bias, stored_matrix

OTHER_INPUT = "the left side is not quantized by one float32 scale"
IS_SIGNED = "products of signed bytes are slower than of floats"
OTHER_FORM = "the Gemm scales, or reads its first operand transposed"
OTHER_BIAS = "what is added is no constant vector over the columns"
GIVES_CODES = "the product is quantized at once"


@rule_on("MatMul", "Gemm", depth=2)
def product_of_bytes(m: Match) -> ir.Value | Rejection | None:
    """MatMul(DequantizeLinear(q), DequantizeLinear(w)) -> MatMulIntegerToFloat(q, w, scales)."""
    x, w, *rest = m.root.inputs
    left, right = (value.producer() if value is not None else None for value in (x, w))
    if x is None or left is None or right is None or not (is_dequantize(left) and is_dequantize(right)):
        return None
    if m.root.op_type == "Gemm" and (
        m.attribute(m.root, "transA") or m.attribute(m.root, "alpha") != 1 or m.attribute(m.root, "beta") != 1
    ):
        return Rejection(OTHER_FORM, m.output)
    users = [use.node for use in m.output.uses()]
    if len(users) == 1 and is_quantize(users[0]) and not m.output.is_graph_output():
        return Rejection(GIVES_CODES, m.output)
    found, codes = quantization(left, m.facts), left.inputs[0]
    if found is None or codes is None or found.axis is not None or found.wide is not ir.DataType.FLOAT:
        return Rejection(OTHER_INPUT, x)
    if found.dtype not in BYTES:
        return Rejection(OTHER_INPUT, x)
    if found.dtype is not ir.DataType.UINT8:
        return Rejection(IS_SIGNED, x)
    stored = stored_matrix(m, right, is_transposed=bool(m.attribute(m.root, "transB", 0)))
    if isinstance(stored, Rejection):
        return stored
    if not stored.is_plain:
        return Rejection(OTHER_WEIGHT, w)
    bias, columns = rest[0] if rest else None, m.dims(stored.codes)
    if bias is not None and (m.tensor(bias) is None or columns is None or m.dims(bias) != columns[1:]):
        bias = floats_of_bias(m, bias, columns[1] if columns is not None else None)
        if bias is None:
            return Rejection(OTHER_BIAS, m.root.inputs[2])
    zero = left.inputs[2] if len(left.inputs) > 2 else None
    zero = constant(np.zeros((), np.uint8)) if zero is None else zero
    return ms.MatMulIntegerToFloat(codes, stored.codes, left.inputs[1], stored.scale, zero, None, bias)


@rule
def bias_of_product(bias):
    """Add(MatMulIntegerToFloat(q, w, scales), b) -> MatMulIntegerToFloat(q, w, scales, b)."""
    return op.Add(ms.MatMulIntegerToFloat(...).named("product"), bias)


@bias_of_product.when
def over_columns(m: Match) -> Rejection | None:
    node, tensor = m.node("product"), m.tensor(m["bias"])
    weight = node.inputs[1]
    columns = m.dims(weight) if weight is not None else None
    if (len(node.inputs) > 6 and node.inputs[6] is not None) or tensor is None or columns is None:
        return Rejection(OTHER_BIAS, m["bias"])
    shape, rank = constants.shape_of(tensor), m.rank(m["product"])
    if not shape or shape[-1] != columns[1] or tensor.size != columns[1] or rank is None or len(shape) > rank:
        return Rejection(OTHER_BIAS, m["bias"])
    return None


@bias_of_product.rewrite
def with_bias(m: Match) -> ir.Value:
    inputs = [*m.node("product").inputs, None, None][:6]
    array = m.array("bias")
    assert array is not None, "the bias is a constant"
    return ms.MatMulIntegerToFloat(*inputs, m["bias"] if array.ndim == 1 else constant(array.reshape(-1)))


@dataclass(frozen=True)
class FuseIntegerProducts(Pass):
    """Fuse products of dequantized bytes into onnxruntime's operator for them."""

    name = "fuse-integer-products"
    family = "quantization"
    stage = "fuse"
    level = 2
    targets = ("onnxruntime",)
    bound = "float32 within a few units in the last place of the largest term: bytes are summed exactly"
    rules = (product_of_bytes, bias_of_product)

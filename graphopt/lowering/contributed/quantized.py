"""Operators of quantized tensors: what onnxruntime's quantizer writes in its operator-oriented form."""

from __future__ import annotations

import numpy as np

from graphopt.ir.attributes import attribute_float, attribute_int
from graphopt.lowering.contributed.body import Body, writes

__all__: list[str] = []

# Before this version the axes from `axis` on were one.
_SOFTMAX_ALONG_ONE_AXIS = 13


@writes("QLinearAdd", "QLinearMul")
def _binary(body: Body) -> list[str]:
    """a, scale, zero point, b, scale, zero point, scale, zero point."""
    result = body(body.node.op_type.removeprefix("QLinear"), body.floats(0), body.floats(3))
    return [body.bytes(result, 6, 0)]


@writes("QLinearSigmoid")
def _sigmoid(body: Body) -> list[str]:
    """x, scale, zero point, scale, zero point."""
    return [body.bytes(body("Sigmoid", body.floats(0)), 3, 0)]


@writes("QLinearLeakyRelu")
def _leaky_relu(body: Body) -> list[str]:
    alpha = attribute_float(body.node, "alpha", 0.01)
    return [body.bytes(body("LeakyRelu", body.floats(0), alpha=alpha), 3, 0)]


@writes("QLinearSoftmax")
def _softmax(body: Body) -> list[str]:
    """The attribute `opset` says which Softmax of the standard it is."""
    if attribute_int(body.node, "opset", _SOFTMAX_ALONG_ONE_AXIS) < _SOFTMAX_ALONG_ONE_AXIS:
        body.opset = _SOFTMAX_ALONG_ONE_AXIS - 1
    axis = attribute_int(body.node, "axis", -1)
    return [body.bytes(body("Softmax", body.floats(0), axis=axis), 3, 0)]


@writes("QLinearReduceMean")
def _reduce_mean(body: Body) -> list[str]:
    given = body.attributes("axes", "keepdims")
    return [body.bytes(body("ReduceMean", body.floats(0), **given), 3, 0)]


@writes("QLinearAveragePool", "QLinearGlobalAveragePool")
def _average_pool(body: Body) -> list[str] | None:
    rank = body.rank(0)
    last = bool(attribute_int(body.node, "channels_last"))
    if rank is None:
        return None
    x = body.floats(0)
    if last:
        x = body("Transpose", x, perm=[0, rank - 1, *range(1, rank - 1)])
    op_type = body.node.op_type.removeprefix("QLinear")
    names = ("auto_pad", "ceil_mode", "count_include_pad", "kernel_shape", "pads", "strides")
    x = body(op_type, x, **(body.attributes(*names) if op_type == "AveragePool" else {}))
    if last:
        x = body("Transpose", x, perm=[0, *range(2, rank), 1])
    return [body.bytes(x, 3, 0)]


@writes("QLinearConcat")
def _concat(body: Body) -> list[str]:
    """scale, zero point, then the parts, each with scale and zero point."""
    parts = [body.floats(place) for place in range(2, len(body.node.inputs), 3)]
    joined = body("Concat", *parts, axis=attribute_int(body.node, "axis"))
    return [body.bytes(joined, 0, 2)]


@writes("QLinearWhere")
def _where(body: Body) -> list[str]:
    """condition, then both choices, each with scale and zero point, then the result's."""
    return [body.bytes(body("Where", body.operand(0), body.floats(1), body.floats(4)), 7, 1)]


@writes("QGemm")
def _gemm(body: Body) -> list[str]:
    """a, scale, zero point, b, scale, zero point, c in steps of alpha and both scales, scale, zero point."""
    turned = {name: attribute_int(body.node, name) for name in ("transA", "transB")}
    alpha = body.constant(np.array(attribute_float(body.node, "alpha", 1.0), np.float32))
    columns = body("DequantizeLinear", *map(body.operand, (3, 4, 5)), axis=0 if turned["transB"] else 1)
    product = body("Mul", body("Gemm", body.floats(0), columns, **turned), alpha)
    if body.operand(6):
        step = body("Mul", body("Mul", body.operand(1), body.operand(4)), alpha)
        product = body("Add", product, body("Mul", body("Cast", body.operand(6), to=1), step))
    return [body.bytes(product, 7, 0) if body.operand(7) else product]

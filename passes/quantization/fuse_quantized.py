"""Operators between DequantizeLinear and QuantizeLinear on the integers themselves.

    before   QuantizeLinear(Conv(DequantizeLinear(x), DequantizeLinear(w), DequantizeLinear(b)))
    after    QLinearConv(x, w, b)

onnxruntime does this at load as well, with the same operators: the time and, with its optimizations on, every
bit of the answers stay. Against the floats that the model says, a value that lies within the rounding of half
a step may be quantized to its neighbour. For our own engine only products with constant weights are fused,
into the standard's operators: what is between them are element-wise programs.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from graphopt.ir import constants
from graphopt.ir.quantization import BYTES, Quantization, is_dequantize, quantization
from graphopt.rewriting import HAS_OTHER_CONSUMERS, Match, Pass, Rejection, constant, ms, op, rule_on

NOT_QUANTIZED = "an operand is not dequantized from bytes by one float32 scale"
TYPES_DIFFER = "there is no kernel for these integer types together"
NOT_CONSTANT = "the weight is not a constant"
BIAS_SCALE = "the bias is no multiple of the products' scale"
HAS_PARAMETERS = "an attribute has no counterpart"

# Products of two float32 scales, rounded once by whoever quantized the bias and once here.
ROUNDING = 1e-6

# A bias beyond this leaves no room for the products in an accumulator of 32 bits.
MOST_STEPS = 2.0**30


@dataclass(frozen=True)
class Quantized:
    """Integers with their scale and zero point, as values of the graph."""

    value: ir.Value
    scale: ir.Value
    zero_point: ir.Value
    map: Quantization

    @property
    def parts(self) -> tuple[ir.Value, ir.Value, ir.Value]:
        return self.value, self.scale, self.zero_point

    @property
    def dtype(self) -> ir.DataType:
        return self.map.dtype


Result = ir.Value | Rejection | None
Writer = Callable[[Match, ir.Node, Quantized], Result]


@rule_on("QuantizeLinear", depth=3)
def quantized_operator(m: Match) -> Result:
    """QuantizeLinear(Op(DequantizeLinear(x), ...)) -> QLinearOp(x, ...)."""
    source = m.root.inputs[0]
    node = source.producer() if source is not None else None
    if source is None or node is None or node.domain != "" or node.graph is not m.root.graph:
        return None
    write = WRITERS.get(node.op_type)
    if write is None or (_is_ours(m) and node.op_type not in OURS):
        return None
    if not m.has_one_consumer(source):
        return Rejection(HAS_OTHER_CONSUMERS, source)
    result = _described(m, m.root, m.output)
    if result is None or result.map.axis is not None:
        return Rejection(NOT_QUANTIZED, m.output)
    return write(m, node, result)


def _is_ours(m: Match) -> bool:
    return m.editor.target.name == "graphopt"


def _described(m: Match, node: ir.Node, integers: ir.Value) -> Quantized | None:
    """What a QuantizeLinear or DequantizeLinear says of the integers."""
    found = quantization(node, m.facts)
    if found is None or found.wide is not ir.DataType.FLOAT or found.dtype not in BYTES:
        return None
    scale = node.inputs[1]
    zero_point = node.inputs[2] if len(node.inputs) > 2 else None
    assert scale is not None, "the scale is not optional"
    if zero_point is None:
        zero_point = constant(np.zeros(found.scale.shape, found.dtype.numpy()))
    return Quantized(integers, scale, zero_point, found)


def _operand(m: Match, value: ir.Value | None) -> Quantized | None:
    node = value.producer() if value is not None else None
    if node is None or not is_dequantize(node) or node.inputs[0] is None:
        return None
    return _described(m, node, node.inputs[0])


def _operands(m: Match, node: ir.Node, result: Quantized) -> list[Quantized] | Rejection:
    """All inputs, quantized with one scale each, in the type of the result."""
    found: list[Quantized] = []
    for value in node.inputs:
        operand = _operand(m, value)
        if operand is None or operand.map.axis is not None:
            return Rejection(NOT_QUANTIZED, value)
        if operand.dtype is not result.dtype:
            return Rejection(TYPES_DIFFER, value)
        found.append(operand)
    return found


def _factors(
    m: Match, node: ir.Node, result: Quantized, channels: int
) -> tuple[Quantized, Quantized] | Rejection:
    """Activation and weight of a product; the weight may have a scale for each position along one axis."""
    x, w = _operand(m, node.inputs[0]), _operand(m, node.inputs[1])
    if x is None or x.map.axis is not None:
        return Rejection(NOT_QUANTIZED, node.inputs[0])
    if w is None or w.map.axis not in (None, channels):
        return Rejection(NOT_QUANTIZED, node.inputs[1])
    if _is_ours(m):
        if m.tensor(w.value) is None:
            return Rejection(NOT_CONSTANT, w.value)
    # Products of signed activations are ten times as slow as of unsigned ones, and slower than in float.
    elif x.dtype is not result.dtype or x.dtype is ir.DataType.INT8:
        return Rejection(TYPES_DIFFER, node.inputs[1])
    if w.map.axis is not None:
        if m.tensor(w.value) is None:
            return Rejection(NOT_CONSTANT, w.value)
        # Kernels take one zero point for all channels.
        if np.unique(w.map.zero_point).size > 1:
            return Rejection(NOT_QUANTIZED, w.value)
    return x, w


def _bias(m: Match, node: ir.Node, x: Quantized, w: Quantized) -> ir.Value | Rejection | None:
    """The bias as int32 integers in steps of the products; None where there is no bias."""
    value = node.inputs[2] if len(node.inputs) > 2 else None
    if value is None:
        return None
    source = value.producer()
    if source is None or not is_dequantize(source) or source.inputs[0] is None:
        return Rejection(NOT_QUANTIZED, value)
    integers = source.inputs[0]
    scale = constants.array(source.inputs[1])
    zero_point = constants.array(source.inputs[2]) if len(source.inputs) > 2 else np.zeros(1)
    if m.dtype(integers) is not ir.DataType.INT32 or scale is None or m.rank(integers) != 1:
        return Rejection(NOT_QUANTIZED, value)
    if source.inputs[2:] and source.inputs[2] is not None and (zero_point is None or zero_point.any()):
        return Rejection(NOT_QUANTIZED, value)
    products = x.map.scale.astype(np.float64).reshape(-1) * w.map.scale.astype(np.float64).reshape(-1)
    scales = scale.astype(np.float64).reshape(-1)
    if scales.size in (1, products.size) and np.allclose(scales, products, rtol=ROUNDING, atol=0.0):
        return integers
    array = m.array(integers)
    if array is None or not {scales.size, products.size} <= {1, array.size}:
        return Rejection(BIAS_SCALE, value)
    # Rounded to the products' steps, the bias is off by half a step of the accumulator at most.
    steps = np.rint(array * scales / products)
    if not np.isfinite(steps).all() or np.abs(steps).max(initial=0.0) > MOST_STEPS:
        return Rejection(BIAS_SCALE, value)
    return constant(steps.astype(np.int32))


def _convolution(m: Match, node: ir.Node, y: Quantized) -> Result:
    factors = _factors(m, node, y, channels=0)
    if isinstance(factors, Rejection):
        return factors
    x, w = factors
    bias = _bias(m, node, x, w)
    if isinstance(bias, Rejection):
        return bias
    return op.QLinearConv(*x.parts, *w.parts, y.scale, y.zero_point, bias, **node.attributes)


def _product(m: Match, node: ir.Node, y: Quantized) -> Result:
    rank = m.rank(node.inputs[1]) if node.inputs[1] is not None else None
    factors = _factors(m, node, y, channels=1 if rank == 2 else -1)
    if isinstance(factors, Rejection):
        return factors
    x, w = factors
    return op.QLinearMatMul(*x.parts, *w.parts, y.scale, y.zero_point)


def _gemm(m: Match, node: ir.Node, y: Quantized) -> Result:
    alpha, beta = m.attribute(node, "alpha"), m.attribute(node, "beta")
    turned = m.attribute(node, "transB")
    if alpha != 1.0 or (len(node.inputs) > 2 and beta != 1.0):
        return Rejection(HAS_PARAMETERS, node.outputs[0])
    factors = _factors(m, node, y, channels=0 if turned else 1)
    if isinstance(factors, Rejection):
        return factors
    x, w = factors
    bias = _bias(m, node, x, w)
    if isinstance(bias, Rejection):
        return bias
    kept = {name: node.attributes[name] for name in ("transA", "transB") if name in node.attributes}
    return ms.QGemm(*x.parts, *w.parts, bias, y.scale, y.zero_point, **kept)


def _pairwise(m: Match, node: ir.Node, y: Quantized) -> Result:
    operands = _operands(m, node, y)
    if isinstance(operands, Rejection):
        return operands
    first, second = operands
    write = ms.QLinearAdd if node.op_type == "Add" else ms.QLinearMul
    return write(*first.parts, *second.parts, y.scale, y.zero_point)


def _unary(m: Match, node: ir.Node, y: Quantized) -> Result:
    operands = _operands(m, node, y)
    if isinstance(operands, Rejection):
        return operands
    kept: dict[str, object] = dict(node.attributes)
    if node.op_type == "Softmax":
        # Before opset 13 a Softmax is over all axes from `axis` on: the operator asks for the opset.
        kept = {"axis": m.attribute(node, "axis"), "opset": m.opset}
    elif node.op_type == "GlobalAveragePool":
        kept = {"channels_last": 0}
    return getattr(ms, f"QLinear{node.op_type}")(*operands[0].parts, y.scale, y.zero_point, **kept)


def _concat(m: Match, node: ir.Node, y: Quantized) -> Result:
    operands = _operands(m, node, y)
    if isinstance(operands, Rejection):
        return operands
    parts = [part for operand in operands for part in operand.parts]
    return ms.QLinearConcat(y.scale, y.zero_point, *parts, **node.attributes)


def _where(m: Match, node: ir.Node, y: Quantized) -> Result:
    condition, *values = node.inputs
    found: list[ir.Value] = []
    for value in values:
        operand = _operand(m, value)
        if operand is None or operand.map.axis is not None:
            return Rejection(NOT_QUANTIZED, value)
        if operand.dtype is not y.dtype:
            return Rejection(TYPES_DIFFER, value)
        found += operand.parts
    return ms.QLinearWhere(condition, *found, y.scale, y.zero_point)


def _average_pool(m: Match, node: ir.Node, y: Quantized) -> Result:
    operands = _operands(m, node, y)
    if isinstance(operands, Rejection):
        return operands
    if set(node.attributes) - POOLED:
        return Rejection(HAS_PARAMETERS, node.outputs[0])
    return ms.QLinearAveragePool(*operands[0].parts, y.scale, y.zero_point, **node.attributes)


WRITERS: dict[str, Writer] = {
    "AveragePool": _average_pool,
    "Concat": _concat,
    "Where": _where,
    "Conv": _convolution,
    "MatMul": _product,
    "Gemm": _gemm,
    "Add": _pairwise,
    "Mul": _pairwise,
    "GlobalAveragePool": _unary,
    "LeakyRelu": _unary,
    "Sigmoid": _unary,
    "Softmax": _unary,
}

# Attributes of the pool on integers.
POOLED = frozenset({"auto_pad", "ceil_mode", "count_include_pad", "kernel_shape", "pads", "strides"})

# What the standard has operators for.
OURS = ("Conv", "MatMul")


@dataclass(frozen=True)
class FuseQuantized(Pass):
    """Fuse DequantizeLinear, an operator and QuantizeLinear into an operator on integers."""

    name = "fuse-quantized"
    family = "quantization"
    stage = "target"
    level = 2
    targets = ("graphopt", "onnxruntime")
    bound = "a quantized value within float32 rounding of half a step may become its neighbour"
    rules = (quantized_operator,)

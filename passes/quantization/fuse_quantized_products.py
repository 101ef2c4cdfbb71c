"""Products with quantized weights as one operator of graphopt's own engine.

    before   QuantizeLinear(x) -> DequantizeLinear -> MatMul(., DequantizeLinear(w)) -> Add(b) -> Relu
    after    ai.graphopt.QuantizedFullyConnectedRelu(x, x_scale, x_zero, w, w_scale, b)

    before   MatMul(x, DequantizeLinear(w)) -> Add(r)
    after    ai.graphopt.CompressedMatMulAdd(x, w, w_scale, r)

    before   DynamicQuantizeLinear(x) -> MatMulInteger(., w) -> Cast -> Mul(scales) -> Add(b)
    after    ai.graphopt.DynamicFullyConnected(x, w, w_scale, b)

The operator is a model-local function of the standard's operators: bytes are multiplied and summed exactly,
and scaled once. Where several products take one quantized value each of them quantizes it again, which the
engine does once. An x that is bytes already is taken as such (`Integer...`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import onnx_ir as ir

from graphopt.ir import constants
from graphopt.ir.own_operators import (
    ACTIVATIONS,
    ACTIVATIONS_SINCE,
    DOMAIN,
    PRODUCTS,
    Form,
    Product,
    define_product,
)
from graphopt.ir.quantization import BYTES, is_dequantize, is_quantize, quantization
from graphopt.rewriting import HAS_OTHER_CONSUMERS, Match, Pass, Rejection, constant, gopt, op, rule, rule_on
from graphopt.rewriting.stored_matrices import (
    MIDDLE,
    OTHER_WEIGHT,
    floats_of_bias,
    shortened,
    signed_codes,
    stored_matrix,
)

OTHER_INPUT = "the left side is not quantized by one float32 scale"
OTHER_FORM = "the Gemm scales, or reads its first operand transposed"
OTHER_BIAS = "what is added is no constant vector over the columns"
OTHER_SHAPE = "what is added may have another shape than the product"
NOT_STANDARD = "the opset is too old for the activation"
GIVES_CODES = "the product is quantized at once"


@rule_on("MatMul", "Gemm", depth=3)
def product_of_stored_weights(m: Match) -> ir.Value | Rejection | None:
    """MatMul(x, DequantizeLinear(w)) -> QuantizedMatMul or CompressedMatMul."""
    x, w, *rest = m.root.inputs
    source = w.producer() if w is not None else None
    if x is None or source is None or not is_dequantize(source) or source.domain != "":
        return None
    if m.root.op_type == "Gemm" and (
        m.attribute(m.root, "transA") or m.attribute(m.root, "alpha") != 1 or m.attribute(m.root, "beta") != 1
    ):
        return Rejection(OTHER_FORM, m.output)
    # There is no Gemm of codes in the standard.
    if m.root.op_type == "MatMul" and _gives_codes(m):
        return Rejection(GIVES_CODES, m.output)
    stored = stored_matrix(m, source, is_transposed=bool(m.attribute(m.root, "transB", 0)))
    if isinstance(stored, Rejection):
        return stored
    left = _left(m, x) if stored.is_plain else None
    if isinstance(left, Rejection):
        return left
    bias = rest[0] if rest else None
    columns = m.dims(stored.codes)
    if bias is not None and (m.tensor(bias) is None or columns is None or m.dims(bias) != columns[1:]):
        bias = floats_of_bias(m, bias, columns[1] if columns is not None else None)
        if bias is None:
            return Rejection(OTHER_BIAS, m.root.inputs[2])
    form: Form = left[0] if left is not None else "Compressed"
    operands = left[1] if left is not None else (x,)
    kept: dict[str, object] = {}
    if form == "Compressed":
        kept = {"axis": stored.axis}
        if stored.block_size:
            kept["block_size"] = stored.block_size
    biases = (bias,) if bias is not None else ()
    scale = shortened(m, stored.scale)
    return _made(m, Product(form, bool(biases)), (*operands, stored.codes, scale, *biases), kept)


def _gives_codes(m: Match) -> bool:
    """Whether only a QuantizeLinear takes the result: there is an operator for that."""
    users = [use.node for use in m.output.uses()]
    return len(users) == 1 and is_quantize(users[0]) and not m.output.is_graph_output()


def _left(m: Match, x: ir.Value) -> tuple[Form, tuple[ir.Value, ...]] | Rejection | None:
    """How the left side is quantized, and its three operands; None where it is floats."""
    node = x.producer()
    if node is None or not is_dequantize(node) or node.domain != "":
        return None
    found, codes = quantization(node, m.facts), node.inputs[0]
    if found is None or codes is None or found.axis is not None:
        return Rejection(OTHER_INPUT, x)
    if found.wide is not ir.DataType.FLOAT or found.dtype not in BYTES:
        return Rejection(OTHER_INPUT, x)
    scale = node.inputs[1]
    assert scale is not None, "the scale is not optional"
    zero: ir.Value | None = node.inputs[2] if len(node.inputs) > 2 else None
    zero = constant(np.zeros((), found.dtype.numpy())) if zero is None else zero
    quantize = codes.producer()
    if quantize is not None and is_quantize(quantize) and quantize.graph is m.root.graph:
        same = quantization(quantize, m.facts)
        others = [use.node for use in codes.uses() if not is_dequantize(use.node)]
        if same is not None and same.same_as(found) and not others and not codes.is_graph_output():
            floats = quantize.inputs[0]
            assert floats is not None, "what is quantized is not optional"
            return "Quantized", (floats, scale, zero)
    return "Integer", (codes, scale, zero)


@rule
def dynamic_product(x, w, x_zero, w_zero, x_scale, w_scale):
    """Cast(MatMulInteger(DynamicQuantizeLinear(x), w)) * scales -> DynamicMatMul(x, w)."""
    product = op.Cast(op.MatMulInteger(x, w, x_zero, w_zero), to=int(ir.DataType.FLOAT))
    return op.Mul(product, op.Mul(x_scale, w_scale).shared())


@dynamic_product.when
def of_dynamic(m: Match) -> tuple[ir.Value, ir.Value] | Rejection:
    """What is quantized, and the scale of the weight: the scales come in either order."""
    source, scales = m["x"].producer(), (m["x_scale"], m["w_scale"])
    if source is None or source.op_type != "DynamicQuantizeLinear" or m["x"] is not source.outputs[0]:
        return Rejection(OTHER_INPUT, m["x"])
    if source.outputs[1] not in scales or m["x_zero"] is not source.outputs[2] or source.inputs[0] is None:
        return Rejection(OTHER_INPUT, m["x"])
    w_scale = scales[0] if scales[1] is source.outputs[1] else scales[1]
    tensor, dims, zero = m.tensor(m["w"]), m.dims(m["w"]), m.array("w_zero")
    if tensor is None or dims is None or len(dims) != 2 or m.tensor(w_scale) is None or zero is None:
        return Rejection(OTHER_WEIGHT, m["w"])
    is_signed = tensor.dtype is ir.DataType.INT8 and not zero.any()
    is_around_128 = tensor.dtype is ir.DataType.UINT8 and bool((zero == MIDDLE).all())
    if not (is_signed or is_around_128) or m.dims(w_scale) not in ((), (1,), dims[1:]):
        return Rejection(OTHER_WEIGHT, m["w"])
    return source.inputs[0], w_scale


@dynamic_product.rewrite
def as_dynamic_product(m: Match, found: tuple[ir.Value, ir.Value]) -> ir.Value:
    floats, scale = found
    tensor = m.tensor(m["w"])
    codes = m["w"] if tensor is not None and tensor.dtype is ir.DataType.INT8 else signed_codes(m["w"])
    return _made(m, Product("Dynamic"), (floats, codes, shortened(m, scale)), {})


def _made(
    m: Match, product: Product, operands: Sequence[ir.Value | None], attributes: dict[str, object]
) -> ir.Value:
    name = define_product(m.editor.model, product)
    result: ir.Value = gopt[name](*operands, **attributes)
    return result


def _own(value: ir.Value | None) -> tuple[ir.Node, Product] | None:
    """The product of ours that makes a value."""
    node = value.producer() if value is not None else None
    if node is None or node.domain != DOMAIN or node.op_type not in PRODUCTS:
        return None
    return node, PRODUCTS[node.op_type]


def _kept(node: ir.Node) -> dict[str, object]:
    return dict(node.attributes.items())


@rule_on("Add", depth=2)
def sum_of_product(m: Match) -> ir.Value | Rejection | None:
    """Add(QuantizedMatMul(x, w), b) -> QuantizedFullyConnected(x, w, b), or QuantizedMatMulAdd."""
    problem: Rejection | None = None
    for value, other in (m.root.inputs, m.root.inputs[::-1]):
        found = _own(value)
        if found is None or value is None or other is None or found[0].graph is not m.root.graph:
            continue
        node, product = found
        if product.adds or product.activation:
            continue
        if not m.has_one_consumer(value):
            problem = Rejection(HAS_OTHER_CONSUMERS, value)
            continue
        is_bias = m.tensor(other) is not None
        if is_bias:
            columns = (m.dims(value) or (None,))[-1]
            bias = None if product.has_bias else _vector(m, other, columns, m.rank(value))
            if bias is None:
                problem = Rejection(OTHER_BIAS, other)
                continue
            return _made(m, replace(product, has_bias=True), (*node.inputs, bias), _kept(node))
        if not m.facts.same_shape(value, other) or m.dtype(other) is not ir.DataType.FLOAT:
            problem = Rejection(OTHER_SHAPE, other)
            continue
        return _made(m, replace(product, adds=True), (*node.inputs, other), _kept(node))
    return problem


def _vector(m: Match, bias: ir.Value, columns: object, rank: int | None) -> ir.Value | None:
    """A constant as a vector over the columns; None if it is none, or the sum is larger than the product."""
    tensor = m.tensor(bias)
    if tensor is None or tensor.dtype != ir.DataType.FLOAT or tensor.size != columns or rank is None:
        return None
    shape = constants.shape_of(tensor)
    if not shape or shape[-1] != columns or len(shape) > rank:
        return None
    return bias if len(shape) == 1 else constant(np.asarray(tensor.numpy()).reshape(-1))


@rule_on(*ACTIVATIONS, depth=2)
def activation_of_product(m: Match) -> ir.Value | Rejection | None:
    """Relu(QuantizedFullyConnected(x, w, b)) -> QuantizedFullyConnectedRelu(x, w, b)."""
    value = m.root.inputs[0]
    found = _own(value)
    if found is None or value is None or found[0].graph is not m.root.graph:
        return None
    node, product = found
    if product.adds or product.activation or not product.has_bias:
        return None
    if not m.has_one_consumer(value):
        return Rejection(HAS_OTHER_CONSUMERS, value)
    kind = m.root.op_type
    if m.opset < ACTIVATIONS_SINCE.get(kind, 7):
        return Rejection(NOT_STANDARD, m.output)
    kept = _kept(node) | {name: m.attribute(m.root, name) for name in ACTIVATIONS[kind]}
    return _made(m, replace(product, activation=kind), node.inputs, kept)


@dataclass(frozen=True)
class FuseQuantizedProducts(Pass):
    """Fuse products with quantized weights, biases, activations and sums, for graphopt's own engine."""

    name = "fuse-quantized-products"
    family = "quantization"
    stage = "target"
    level = 2
    targets = ("graphopt",)
    bound = "float32 within a few units in the last place of the largest term: bytes are summed exactly"
    rules = (product_of_stored_weights, dynamic_product, sum_of_product, activation_of_product)

"""Transposes and factors around a MatMul as onnxruntime's FusedMatMul.

    before   MatMul(q, Transpose(k)) * 0.125
    after    FusedMatMul(q, k, transB=1, alpha=0.125)

onnxruntime does this at load as well: the time is the same. There are kernels for float32 only.
"""

from __future__ import annotations

from dataclasses import dataclass

import onnx_ir as ir

from graphopt.ir.attributes import attribute_float, attribute_int
from graphopt.ir.constants import uniform
from graphopt.rewriting import Match, Pass, Rejection, ms, rule_on

NO_KERNEL = "there is a kernel for float32 only"
HAS_OTHER_CONSUMERS = "the transposed or scaled value has another consumer"

_PRODUCTS = ("MatMul", "FusedMatMul")


def _is_product(node: ir.Node | None) -> bool:
    return node is not None and (node.domain, node.op_type) in (
        ("", "MatMul"),
        ("com.microsoft", "FusedMatMul"),
    )


def _flags(node: ir.Node) -> dict[str, object]:
    return dict(node.attributes) if node.op_type == "FusedMatMul" else {}


def _swapped(m: Match, value: ir.Value | None) -> ir.Value | None:
    """What a value is the transpose of, if only its last two axes are exchanged."""
    node = None if value is None else value.producer()
    if node is None or node.op_type != "Transpose" or node.domain != "":
        return None
    source = node.inputs[0]
    rank = None if source is None else m.rank(source)
    if source is None or rank is None or rank < 2:
        return None
    perm = m.attribute(node, "perm", tuple(range(rank))[::-1])
    return source if perm == (*range(rank - 2), rank - 1, rank - 2) else None


def _factor(m: Match, value: ir.Value | None) -> tuple[ir.Value, float] | None:
    """x and c where the value is x * c or x / c for a number c that makes nothing larger."""
    node = None if value is None else value.producer()
    if node is None or node.domain != "" or node.op_type not in ("Mul", "Div") or value is None:
        return None
    for source, given in (node.inputs, node.inputs[::-1]):
        number = uniform(given)
        if number is None or source is None or not m.facts.same_shape(source, value):
            continue
        if node.op_type == "Mul":
            return source, float(number)
        return (source, 1 / float(number)) if number != 0 and given is node.inputs[1] else None
    return None


@rule_on("MatMul", depth=2)
def operands_of_matmul(m: Match) -> ir.Value | Rejection | None:
    """MatMul(x, Transpose(y)) -> FusedMatMul(x, y, transB=1)."""
    return _operands(m)


@rule_on("FusedMatMul", domain="com.microsoft", depth=2)
def operands_of_fused_matmul(m: Match) -> ir.Value | Rejection | None:
    """FusedMatMul(x, y * 2) -> FusedMatMul(x, y, alpha=2)."""
    return _operands(m)


def _operands(m: Match) -> ir.Value | Rejection | None:
    attributes, operands = _flags(m.root), list(m.root.inputs)
    for i, (value, flag) in enumerate(zip(operands, ("transA", "transB"), strict=True)):
        swapped, scaled = _swapped(m, value), _factor(m, value)
        if value is None or (swapped is None and scaled is None):
            continue
        if m.dtype(value) is not ir.DataType.FLOAT:
            return Rejection(NO_KERNEL, value)
        # A vector has no last two axes, on neither side.
        if any(v is None or (m.rank(v) or 0) < 2 for v in operands):
            return Rejection(NO_KERNEL, value)
        if not m.has_one_consumer(value):
            return Rejection(HAS_OTHER_CONSUMERS, value)
        if swapped is not None:
            operands[i] = swapped
            attributes[flag] = 1 - attribute_int(m.root, flag)
        elif scaled is not None:
            operands[i] = scaled[0]
            attributes["alpha"] = attribute_float(m.root, "alpha", 1.0) * scaled[1]
        result: ir.Value = ms.FusedMatMul(*operands, **attributes)
        return result
    return None


@rule_on("Mul", "Div", depth=2)
def factor_after_matmul(m: Match) -> ir.Value | Rejection | None:
    """Mul(MatMul(x, y), 2) -> FusedMatMul(x, y, alpha=2)."""
    scaled = _factor(m, m.output)
    node = None if scaled is None else scaled[0].producer()
    if scaled is None or node is None or not _is_product(node):
        return None
    value, number = scaled
    if m.dtype(value) is not ir.DataType.FLOAT or any(
        (m.rank(v) or 0) < 2 for v in node.inputs if v is not None
    ):
        return Rejection(NO_KERNEL, value)
    if not m.has_one_consumer(value):
        return Rejection(HAS_OTHER_CONSUMERS, value)
    attributes = _flags(node)
    alpha = number * attribute_float(node, "alpha", 1.0)
    result: ir.Value = ms.FusedMatMul(*node.inputs, **{**attributes, "alpha": alpha})
    return result


@dataclass(frozen=True)
class FuseTransposesIntoMatmul(Pass):
    """Fuse transposes and factors around MatMul into onnxruntime's FusedMatMul."""

    name = "fuse-transposes-into-matmul"
    family = "algebra"
    stage = "target"
    level = 2
    targets = ("onnxruntime",)
    bound = "float32 within a few units in the last place: the factor is applied to the sums"
    rules = (operands_of_matmul, operands_of_fused_matmul, factor_after_matmul)

"""Transposes and a scale around a MatMul as attributes of onnxruntime's FusedMatMul.

    before   MatMul(x, Transpose(y)) * 0.125
    after    FusedMatMul(x, y, transB=1, alpha=0.125)

onnxruntime does this at load as well: the time is the same.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import onnx_ir as ir

from graphopt.rewriting import Match, Pass, Rejection, any_of, const, ms, op, rule, rule_on

NO_KERNEL = "there is no kernel for this element type"
OTHER_AXES = "the transpose moves other axes than the last two"
WIDENS = "the scale has more axes than the product"


def _has_kernel(m: Match, value: ir.Value) -> bool:
    return m.editor.target.runs("com.microsoft", "FusedMatMul", m.dtype(value))


def _turned(m: Match, value: ir.Value) -> ir.Value | Rejection | None:
    """The source of a Transpose of the last two axes that nothing else needs."""
    node = value.producer()
    if node is None or node.op_type != "Transpose" or node.domain != "" or node.graph is not m.root.graph:
        return None
    rank = m.rank(value)
    if not m.has_one_consumer(value) or rank is None or rank < 2:
        return None
    order = m.attribute(node, "perm") or tuple(range(rank))[::-1]
    wanted = (*range(rank - 2), rank - 1, rank - 2)
    return node.inputs[0] if order == wanted else Rejection(OTHER_AXES, value)


def _with_turned(m: Match, **attributes: object) -> ir.Value | Rejection | None:
    """The product at the root on untransposed operands."""
    operands: list[ir.Value] = []
    rejected: Rejection | None = None
    found = False
    for value, name in zip(m.root.inputs[:2], ("transA", "transB"), strict=True):
        assert value is not None, "factors are not optional"
        source = _turned(m, value)
        if isinstance(source, ir.Value):
            attributes[name] = 1 - int(attributes.get(name) or 0)  # type: ignore[call-overload]
            found = True
        elif source is not None:
            rejected = source
        operands.append(source if isinstance(source, ir.Value) else value)
    if not found:
        return rejected
    if not _has_kernel(m, m.output):
        return Rejection(NO_KERNEL, m.output)
    return ms.FusedMatMul(*operands, **attributes)


@rule_on("MatMul", depth=2)
def transposed_factor(m: Match) -> ir.Value | Rejection | None:
    """MatMul(Transpose(x), y) -> FusedMatMul(x, y, transA=1)."""
    return _with_turned(m)


@rule_on("FusedMatMul", domain="com.microsoft", depth=2)
def transposed_fused_factor(m: Match) -> ir.Value | Rejection | None:
    """FusedMatMul(Transpose(x), y) -> FusedMatMul(x, y, transA=1)."""
    return _with_turned(m, **m.root.attributes) if _is_plain(m.root) else None


def _is_plain(node: ir.Node) -> bool:
    return not {"transA", "transB", "transBatchA", "transBatchB"} & set(node.attributes)


@rule
def scaled_product(a, b):
    """MatMul(a, b) * s -> FusedMatMul(a, b, alpha=s)."""
    product = any_of(op.MatMul(a, b).named("product"), ms.FusedMatMul(a, b).named("product"))
    scale = const("scale", math.isfinite)
    return any_of(op.Mul(product, scale), op.Div(product, scale))


@scaled_product.when
def factor(m: Match) -> float | Rejection:
    if not _has_kernel(m, m["product"]):
        return Rejection(NO_KERNEL, m["product"])
    rank, scale_rank = m.rank(m["product"]), m.rank(m["scale"])
    if rank is None or scale_rank is None or scale_rank > rank:
        return Rejection(WIDENS, m["scale"])
    number = m.scalar("scale") or 0.0
    if m.root.op_type == "Div":
        return 1.0 / number if number else Rejection(WIDENS, m["scale"])
    return number


@scaled_product.rewrite
def with_alpha(m: Match, number: float) -> ir.Value:
    attributes: dict[str, object] = dict(m.node("product").attributes)
    attributes["alpha"] = number * float(m.attribute(m.node("product"), "alpha", 1.0))  # type: ignore[arg-type]
    return ms.FusedMatMul(m["a"], m["b"], **attributes)


@dataclass(frozen=True)
class FuseFactorsIntoMatmul(Pass):
    """Fuse transposes and scales around MatMul into onnxruntime's FusedMatMul."""

    name = "fuse-factors-into-matmul"
    family = "fusion"
    stage = "target"
    level = 2
    targets = ("onnxruntime",)
    bound = "float32 within a few units in the last place of the largest term"
    rules = (transposed_factor, transposed_fused_factor, scaled_product)

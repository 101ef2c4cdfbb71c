"""Transposes of matrices into the Gemm (or MatMul) that takes them.

before   Transpose(x) -> Gemm(x, w, b)
after    Gemm(x, w, b, transA = 1)
"""

from __future__ import annotations

from dataclasses import dataclass

import onnx_ir as ir

from graphopt.ir.element_types import FLOATS
from graphopt.rewriting import Match, Pass, Rejection, op, rule_on

HAS_OTHER_CONSUMERS = "the transposed matrix has another consumer"
NO_MATRICES = "the factors are not known to be matrices of floats"


def _transpose_of_matrix(m: Match, value: ir.Value | None) -> ir.Value | None:
    """The matrix that a value is the transpose of; None if it is none."""
    node = None if value is None else value.producer()
    if node is None or node.op_type != "Transpose" or node.domain != "":
        return None
    source = node.inputs[0]
    return source if source is not None and m.attribute(node, "perm", (1, 0)) == (1, 0) else None


@rule_on("Gemm", "MatMul", depth=2)
def transposes_into_gemm(m: Match) -> ir.Value | Rejection | None:
    """Gemm(Transpose(x), w, b) -> Gemm(x, w, b, transA=1), and the same for the other side and for MatMul."""
    factors = list(m.root.inputs[:2])
    matrices = [_transpose_of_matrix(m, value) for value in factors]
    if matrices == [None, None]:
        return None
    if any(v is not None and m.rank(v) != 2 for v in factors) or m.dtype(m.output) not in FLOATS:
        return Rejection(NO_MATRICES, m.output)
    if m.opset < 7:
        return None
    flags = [m.attribute(m.root, name) if m.root.op_type == "Gemm" else 0 for name in ("transA", "transB")]
    for i, (value, matrix) in enumerate(zip(factors, matrices, strict=True)):
        assert value is not None
        if matrix is None:
            continue
        if not m.has_one_consumer(value):
            return Rejection(HAS_OTHER_CONSUMERS, value)
        factors[i], flags[i] = matrix, 0 if flags[i] else 1
    rest = list(m.root.inputs[2:])
    # Before opset 11 Gemm can't do without something to add.
    if m.opset < 11 and not any(rest):
        rest = [None]
    scales = {n: m.root.attributes[n] for n in ("alpha", "beta") if n in m.root.attributes}
    addend = 0.0 if rest == [None] and m.opset < 11 else (rest[0] if rest else None)
    result: ir.Value = op.Gemm(
        factors[0], factors[1], addend, **scales, transA=flags[0] or None, transB=flags[1] or None
    )
    return result


@dataclass(frozen=True)
class FoldTransposesIntoGemm(Pass):
    """Let Gemm read matrices transposed, instead of transposing them."""

    name = "fold-transposes-into-gemm"
    family = "algebra"
    stage = "target"
    level = 2
    bound = "float32 within a few units in the last place: the products are summed in another order"
    rules = (transposes_into_gemm,)

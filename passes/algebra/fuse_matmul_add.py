"""MatMul and Add of matrices into Gemm.

    before   MatMul(x[M,K], w[K,N]) -> Add(b[N])
    after    Gemm(x, w, b)

Only for two matrices: with more axes MatMul and Add stay, a Gemm would need a Reshape on both sides.
"""

from __future__ import annotations

from dataclasses import dataclass

import onnx_ir as ir

from graphopt.ir.element_types import FLOATS
from graphopt.rewriting import Match, Pass, Rejection, op, rule

NO_MATRICES = "the factors are not known to be matrices of floats"
MAY_BE_EMPTY = "the summed axis may be of size 0"
NO_BIAS = "what is added is not known to broadcast over the product"
HAS_ADDEND = "it adds something already"


@rule
def matmul_add(x, w, b):
    """Add(MatMul(x, w), b) -> Gemm(x, w, b)."""
    return op.Add(op.MatMul(x, w).named("product"), b)


@matmul_add.when
def of_matrices(m: Match) -> Rejection | None:
    x, w = m.dims(m["x"]), m.dims(m["w"])
    # Before opset 7 Gemm broadcasts by an attribute.
    if x is None or w is None or len(x) != 2 or len(w) != 2 or m.opset < 7:
        return Rejection(NO_MATRICES, m["product"])
    if m.dtype(m["x"]) not in FLOATS:
        return Rejection(NO_MATRICES, m["product"])
    # Runtimes have disagreed on a Gemm that sums over nothing.
    if not any(isinstance(size, int) and size > 0 for size in (x[1], w[0])):
        return Rejection(MAY_BE_EMPTY, m["product"])
    return None if _fits(m, m["b"], m["product"]) else Rejection(NO_BIAS, m["b"])


def _fits(m: Match, bias: ir.Value, product: ir.Value) -> bool:
    rank = m.rank(bias)
    return rank is not None and rank <= 2 and m.facts.broadcasts_to(bias, product)


@matmul_add.rewrite
def as_gemm(m: Match) -> ir.Value:
    return op.Gemm(m["x"], m["w"], m["b"])


@rule
def gemm_add(b):
    """Add(Gemm(x, w), b) -> Gemm(x, w, b)."""
    return op.Add(op.Gemm(...).named("product"), b)


@gemm_add.when
def without_addend(m: Match) -> Rejection | None:
    gemm = m.node("product")
    if len(gemm.inputs) > 2 and gemm.inputs[2] is not None and m.attribute(gemm, "beta") != 0:
        return Rejection(HAS_ADDEND, m["product"])
    return None if _fits(m, m["b"], m["product"]) else Rejection(NO_BIAS, m["b"])


@gemm_add.rewrite
def with_bias(m: Match) -> ir.Value:
    gemm = m.node("product")
    kept = {n: gemm.attributes[n] for n in ("alpha", "transA", "transB") if n in gemm.attributes}
    return op.Gemm(gemm.inputs[0], gemm.inputs[1], m["b"], **kept)


@dataclass(frozen=True)
class FuseMatmulAdd(Pass):
    """Fuse MatMul and Add of matrices into Gemm."""

    name = "fuse-matmul-add"
    family = "algebra"
    stage = "target"
    level = 2
    bound = "float32 within a few units in the last place: a runtime may add the bias before the products"
    rules = (matmul_add, gemm_add)

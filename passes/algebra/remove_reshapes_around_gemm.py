"""Matrix products of more axes without going through a matrix.

    before   x[B,S,K] -> Reshape[B*S,K] -> Gemm(w, b) -> Reshape[B,S,N]
    after    x[B,S,K] -> MatMul(w) -> Add(b)

Also for MatMul (with or without Add) in the middle.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from graphopt.rewriting import Match, Pass, Rejection, any_of, op, rule
from graphopt.rewriting.weights import scaled, transposed

OTHER_SHAPE = "the Reshapes do more than join the leading axes and part them again"
OTHER_FORM = "the Gemm has a form that MatMul and Add can't take over"


@rule
def product_between_reshapes(x, w, b):
    """Reshape(Gemm(Reshape(x), w, b)) -> Add(MatMul(x, w), b)."""
    matrix = op.Reshape(x, ...).named("matrix")
    product = op.MatMul(matrix, w).named("product")
    return op.Reshape(
        any_of(
            op.Gemm(matrix, w, ...).named("gemm"),
            op.Add(product, b).named("result_sum"),
            product,
        ).named("result"),
        ...,
    )


@product_between_reshapes.when
def same_leading_dims(m: Match) -> Rejection | None:
    given, matrix, w, made = m.dims(m["x"]), m.dims(m["matrix"]), m.dims(m["w"]), m.dims(m.output)
    if given is None or matrix is None or made is None or w is None or len(matrix) != 2 or len(w) != 2:
        return Rejection(OTHER_SHAPE, m["x"])
    result = m.dims(m["result"])
    if len(given) < 2 or given[-1] != matrix[1] or result is None or len(result) != 2:
        return Rejection(OTHER_SHAPE, m["x"])
    if made != (*given[:-1], result[1]):
        return Rejection(OTHER_SHAPE, m.output)
    # A Reshape with -1 says how many rows there are; with a summed axis of size 0 nothing does.
    if not isinstance(given[-1], int) or given[-1] == 0 or made[-1] == 0:
        return Rejection(OTHER_SHAPE, m["x"])
    return _same_form(m)


def _addend(m: Match) -> ir.Value | None:
    if "gemm" in m:
        gemm = m.node("gemm")
        return gemm.inputs[2] if len(gemm.inputs) > 2 else None
    return m["b"] if "result_sum" in m else None


def _same_form(m: Match) -> Rejection | None:
    """What is added is a vector over the columns, and a Gemm's flags can be written into its constants."""
    addend = _addend(m)
    if "gemm" in m:
        gemm = m.node("gemm")
        if m.attribute(gemm, "transA") or (addend is not None and m.attribute(gemm, "beta") != 1):
            return Rejection(OTHER_FORM, m["gemm"])
        if (m.attribute(gemm, "transB") or m.attribute(gemm, "alpha") != 1) and m.tensor("w") is None:
            return Rejection(OTHER_FORM, m["w"])
    if addend is not None:
        dims = m.dims(addend)
        rows = m.dims(m["result"])
        assert rows is not None
        if dims is None or len(dims) > 2 or (len(dims) == 2 and dims[0] != 1):
            return Rejection(OTHER_FORM, addend)
        if dims and dims[-1] not in (1, rows[1]):
            return Rejection(OTHER_FORM, addend)
    return None


@product_between_reshapes.rewrite
def without_reshapes(m: Match) -> ir.Value:
    w, addend = m["w"], _addend(m)
    if "gemm" in m:
        gemm = m.node("gemm")
        w = transposed(w) if m.attribute(gemm, "transB") else w
        alpha = m.attribute(gemm, "alpha")
        assert isinstance(alpha, float)
        w = scaled(w, np.array(alpha)) if alpha != 1 else w
    product = op.MatMul(m["x"], w)
    return product if addend is None else op.Add(product, addend)


@dataclass(frozen=True)
class RemoveReshapesAroundGemm(Pass):
    """Write matrix products of more axes as MatMul and Add, without the Reshapes that made them a Gemm."""

    name = "remove-reshapes-around-gemm"
    family = "algebra"
    stage = "fuse"
    level = 2
    bound = "float32 within a few units in the last place: the bias is added after the products"
    rules = (product_between_reshapes,)

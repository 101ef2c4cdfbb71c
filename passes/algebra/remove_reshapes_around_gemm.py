"""Matrix products of more axes without going through a matrix.

    before   x[B,S,K] -> Reshape[B*S,K] -> Gemm(w, b) -> Reshape[B,S,N]
    after    x[B,S,K] -> MatMul(w) -> Add(b)

Also for MatMul (with or without Add) in the middle. Where the last Reshape parts the columns too, it stays,
and only a product without bias gains by it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import onnx_ir as ir

from graphopt.ir.dims import Dim
from graphopt.ir.operands import input_of
from graphopt.rewriting import Match, Pass, Rejection, any_of, op, rule
from graphopt.rewriting.weights import copy_of, parameter, scaled, transposed

OTHER_SHAPE = "the Reshapes do more than join the leading axes and part them again"
OTHER_FORM = "the Gemm has a form that MatMul and Add can't take over"


@rule
def product_between_reshapes(x, w, b):
    """Reshape(Gemm(Reshape(x), w, b)) -> Add(MatMul(x, w), b)."""
    matrix = op.Reshape(x, ...).named("matrix").shared()
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
def leading_dims(m: Match) -> Literal["all", "first"] | Rejection:
    """Which of the Reshapes can go."""
    given, matrix, made, rows = m.dims(m["x"]), m.dims(m["matrix"]), m.dims(m.output), m.dims(m["result"])
    if given is None or matrix is None or made is None or rows is None or len(matrix) != 2 or len(rows) != 2:
        return Rejection(OTHER_SHAPE, m["x"])
    if len(given) < 3 or given[-1] != matrix[1]:
        return Rejection(OTHER_SHAPE, m["x"])
    # A Reshape with -1 says how many rows there are; with a summed axis of size 0 nothing does.
    if not isinstance(given[-1], int) or 0 in (given[-1], rows[1]):
        return Rejection(OTHER_SHAPE, m["x"])
    rejection = _other_form(m)
    if rejection is not None:
        return rejection
    if made == (*given[:-1], rows[1]):
        return "all"
    return "first" if _addend(m) is None and _target_holds(m, given) else Rejection(OTHER_SHAPE, m.output)


def _target_holds(m: Match, given: tuple[Dim, ...]) -> bool:
    """Whether the last Reshape's target says the same of a value with all axes as of the matrix.

    A 0 in it copies a dim of its input, and a symbolic entry may be 0: then both inputs must have it there.
    """
    elements = m.facts.elements(m.root.inputs[1]) if m.root.inputs[1] is not None else None
    if elements is None or m.attribute(m.root, "allowzero"):
        return False
    return all(e == given[i] or (isinstance(e, int) and e != 0) for i, e in enumerate(elements[:2]))


def _addend(m: Match) -> ir.Value | None:
    if "gemm" in m:
        gemm = m.node("gemm")
        return input_of(gemm, 2) if m.attribute(gemm, "beta") != 0 else None
    return m["b"] if "result_sum" in m else None


def _other_form(m: Match) -> Rejection | None:
    """What is added is a vector over the columns, and a Gemm's flags can be written into its constants."""
    addend = _addend(m)
    if "gemm" in m:
        gemm = m.node("gemm")
        if m.attribute(gemm, "transA") or (addend is not None and m.attribute(gemm, "beta") != 1):
            return Rejection(OTHER_FORM, m["gemm"])
        if (m.attribute(gemm, "transB") or m.attribute(gemm, "alpha") != 1) and parameter(m["w"]) is None:
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
def without_reshapes(m: Match, which: Literal["all", "first"]) -> ir.Value:
    w, addend = m["w"], _addend(m)
    if "gemm" in m:
        gemm = m.node("gemm")
        w = transposed(w) if m.attribute(gemm, "transB") else w
        alpha = m.attribute(gemm, "alpha")
        assert isinstance(alpha, float)
        w = scaled(w, np.array(alpha)) if alpha != 1 else w
    product = op.MatMul(m["x"], w)
    if which == "first":
        return copy_of(m.root, [product, m.root.inputs[1]])
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

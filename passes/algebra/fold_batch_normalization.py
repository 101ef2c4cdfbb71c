"""BatchNormalization into the weights above it.

    before   Conv(x, w, b) -> BatchNormalization(scale, bias, mean, variance)
    after    Conv(x, w * f, b * f + bias - mean * f)      with f = scale / sqrt(variance + epsilon)

Any operator with constant parameters along the channels takes it in: Conv, ConvTranspose, Gemm, MatMul (then
an Add stays), another normalization. Between the two there may be data movement.
"""

from __future__ import annotations

from dataclasses import dataclass

import onnx_ir as ir

from graphopt.ir.affine import affine_of
from graphopt.rewriting import Match, Pass, Rejection, constant, op, rule_on
from graphopt.rewriting.absorption import MOST_CROSSED, above

NOT_CONSTANT = "it is in training mode, or a parameter is no constant vector of one type"
NOT_TAKEN = "what makes its input has no constant weights to take it in"


@rule_on("BatchNormalization", depth=MOST_CROSSED + 1)
def normalization_into_weights(m: Match) -> ir.Value | Rejection:
    """BatchNormalization(f(x, w)) -> f(x, w')."""
    found = affine_of(m.root, m.facts)
    if found is None:
        return Rejection(NOT_CONSTANT, m.output)
    value, affine = found
    whole = above(m.editor, value, affine, m.root)
    if whole is not None:
        return whole()
    scaled = above(m.editor, value, affine.only_scale, m.root)
    rank, dtype = m.rank(value), m.dtype(value)
    if scaled is None or rank is None or dtype is None:
        return Rejection(NOT_TAKEN, value)
    shift = affine.shaped(affine.shift, rank).astype(dtype.numpy())
    result: ir.Value = op.Add(scaled(), constant(shift))
    return result


@dataclass(frozen=True)
class FoldBatchNormalization(Pass):
    """Fold BatchNormalization into the weights of what stands above it."""

    name = "fold-batch-normalization"
    family = "algebra"
    stage = "fuse"
    level = 2
    bound = "float32 within a few units in the last place of the products: the weights are rounded once more"
    rules = (normalization_into_weights,)

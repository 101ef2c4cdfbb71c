"""A constant that is added or multiplied after a Reshape, before it: where the weights are.

    before   MatMul(x, w) -> Reshape[B,S,H,D] -> Add(b[H,D])
    after    MatMul(x, w) -> Add(b[H*D]) -> Reshape[B,S,H,D]

What comes next can then be a Gemm, a bias that is merged, or an attention that takes the heads apart itself.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from graphopt.ir import constants
from graphopt.ir.affine import MOST_CHANNELS
from graphopt.ir.dims import product
from graphopt.ir.element_types import FLOATS
from graphopt.rewriting import Match, Pass, Rejection, op, rule
from graphopt.rewriting.weights import copy_of

NOT_OVER_COLUMNS = "the constant does not cover whole columns of the value above the Reshape"


@rule
def bias_after_reshape(bias):
    """Add(Reshape(MatMul(x, w)), b) -> Reshape(Add(MatMul(x, w), b))."""
    product_of = op["MatMul", "Gemm"](...).named("product")
    parted = op["Reshape", "Squeeze", "Unsqueeze"](product_of, ...).named("parted")
    return op["Add", "Mul"](parted, bias)


@bias_after_reshape.when
def over_columns(m: Match) -> np.ndarray | Rejection:
    """The constant as a vector over the last axis of the product."""
    tensor = m.tensor("bias")
    above, made = m.dims(m["product"]), m.dims(m["parted"])
    if tensor is None or tensor.dtype not in FLOATS or not 1 < tensor.size <= MOST_CHANNELS:
        return Rejection(NOT_OVER_COLUMNS, m["bias"])
    columns = above[-1] if above else None
    if made is None or not isinstance(columns, int) or len(tensor.shape) > len(made):
        return Rejection(NOT_OVER_COLUMNS, m["parted"])
    # The axes that the last one became: those whose product it is.
    first = len(made)
    while first > 0 and product(made[first:]) != columns:
        first -= 1
    covered = made[first:]
    shape = constants.shape_of(tensor)
    if product(covered) != columns or not all(isinstance(dim, int) for dim in covered):
        return Rejection(NOT_OVER_COLUMNS, m["parted"])
    inner = shape[max(len(shape) - len(covered), 0) :]
    outer = shape[: max(len(shape) - len(covered), 0)]
    array = m.array("bias")
    if any(size != 1 for size in outer) or array is None:
        return Rejection(NOT_OVER_COLUMNS, m["bias"])
    if any(size not in (1, dim) for size, dim in zip(inner[::-1], covered[::-1], strict=False)):
        return Rejection(NOT_OVER_COLUMNS, m["bias"])
    return np.ascontiguousarray(np.broadcast_to(array.reshape(inner), covered).reshape(-1))  # type: ignore[arg-type]


@bias_after_reshape.rewrite
def bias_before(m: Match, vector: np.ndarray) -> ir.Value:
    parted = m.node("parted")
    added = copy_of(m.root, [m["product"], vector])
    return copy_of(parted, [added, *parted.inputs[1:]])


@dataclass(frozen=True)
class MoveBiasesAboveReshapes(Pass):
    """Add or multiply by a constant before a Reshape, where the weights are, not after it."""

    name = "move-biases-above-reshapes"
    family = "algebra"
    stage = "fuse"
    rules = (bias_after_reshape,)

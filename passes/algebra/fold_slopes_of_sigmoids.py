"""The slope of x * sigmoid(slope * x) into the weights above and below it.

    before   x = MatMul(a, v) + b;   MatMul(x * Sigmoid(1.702 * x), w)
    after    x = MatMul(a, 1.702 v) + 1.702 b;   MatMul(x * Sigmoid(x), w / 1.702)

An approximation of GELU has that slope. Where there is an operator for it (onnxruntime's QuickGelu), that one
has been fused before.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from graphopt.ir.affine import Affine
from graphopt.ir.element_types import FLOATS
from graphopt.rewriting import Match, Pass, Rejection, const, op, rule
from graphopt.rewriting.absorption import above
from graphopt.rewriting.descent import below

NOT_TAKEN = "the weights above or below it can't take the slope"

# Beyond this the weights on both sides would be far from each other in size.
STEEPEST = 16.0


@rule
def sigmoid_with_slope(x):
    """Mul(x, Sigmoid(Mul(x, slope))) -> Mul(x, Sigmoid(x)), of a larger x."""
    slope = const("slope", lambda v: 1 / STEEPEST <= v <= STEEPEST)
    return op.Mul(x, op.Sigmoid(op.Mul(x, slope)))


@sigmoid_with_slope.rewrite
def without_slope(m: Match) -> dict[ir.Value, ir.Value] | Rejection:
    x, slope = m["x"], m.scalar("slope")
    if slope is None or m.dtype(x) not in FLOATS:
        return Rejection(NOT_TAKEN, x)
    upper = above(m.editor, x, Affine(np.array(slope), np.zeros(()), None), m.root, uses=2)
    lower = below(m.editor, m.output, Affine(np.array(1 / slope), np.zeros(()), None), m.root.graph)
    if upper is None or lower is None:
        return Rejection(NOT_TAKEN, x)
    steep = upper()
    return lower(op.Mul(steep, op.Sigmoid(steep)))


@dataclass(frozen=True)
class FoldSlopesOfSigmoids(Pass):
    """Fold the slope of x * sigmoid(slope * x) into the weights around it."""

    name = "fold-slopes-of-sigmoids"
    family = "algebra"
    stage = "target"
    level = 2
    bound = "float32 within a few units in the last place of the products: the weights are rounded once more"
    rules = (sigmoid_with_slope,)

"""Mul, Div, Add, Sub with a number, and Neg, into the weights above them.

    before   MatMul(x, w) -> Add(b) -> Reshape -> Transpose -> Div(8.0) -> MatMul(..., k)
    after    MatMul(x, w / 8) -> Add(b / 8) -> Reshape -> Transpose -> MatMul(..., k)

It runs when the activations and attentions have been fused: their patterns have numbers in them.
"""

from __future__ import annotations

from dataclasses import dataclass

import onnx_ir as ir

from graphopt.ir.affine import affine_of
from graphopt.rewriting import Match, Pass, Rejection, rule_on
from graphopt.rewriting.absorption import MOST_CROSSED, above

NOT_TAKEN = "what makes its input has no constants to take it in"


@rule_on("Mul", "Div", "Add", "Sub", "Neg", depth=MOST_CROSSED + 1)
def number_into_weights(m: Match) -> ir.Value | Rejection | None:
    """Mul(f(x, w), 2) -> f(x, w * 2), and the same for Div, Add, Sub and Neg."""
    found = affine_of(m.root, m.facts)
    if found is None or found[1].axis is not None:
        return None
    plan = above(m.editor, *found, m.root)
    return plan() if plan is not None else Rejection(NOT_TAKEN, found[0])


@dataclass(frozen=True)
class FoldNumbersIntoWeights(Pass):
    """Fold scales and shifts by a number into the weights above them."""

    name = "fold-numbers-into-weights"
    family = "algebra"
    stage = "target"
    level = 2
    bound = "float32 within a few units in the last place of the products: the weights are rounded once more"
    rules = (number_into_weights,)

"""Mul, Div, Add and Sub with one constant a channel into the weights above them.

    before   Conv(x, w, b) -> Mul(scale[C,1,1]) -> Add(shift[C,1,1])
    after    Conv(x, w * scale, b * scale + shift)

Numbers (one for all channels) are parts of activations as often as not: those wait until the activations
have been fused (`fold-numbers-into-weights`).
"""

from __future__ import annotations

from dataclasses import dataclass

import onnx_ir as ir

from graphopt.ir.affine import affine_of
from graphopt.rewriting import Match, Pass, Rejection, rule_on
from graphopt.rewriting.absorption import MOST_CROSSED, above

NOT_TAKEN = "what makes its input has no constants to take it in"


@rule_on("Mul", "Div", "Add", "Sub", depth=MOST_CROSSED + 1)
def channel_constant_into_weights(m: Match) -> ir.Value | Rejection | None:
    """Mul(f(x, w), scale) -> f(x, w * scale), and the same for Div, Add and Sub."""
    found = affine_of(m.root, m.facts)
    if found is None or found[1].axis is None:
        return None
    plan = above(m.editor, *found, m.root)
    return plan() if plan is not None else Rejection(NOT_TAKEN, found[0])


@dataclass(frozen=True)
class FoldChannelConstants(Pass):
    """Fold scales and shifts that are constant for each channel into the weights above them."""

    name = "fold-channel-constants"
    family = "algebra"
    stage = "fuse"
    level = 2
    bound = "float32 within a few units in the last place of the products: the weights are rounded once more"
    rules = (channel_constant_into_weights,)

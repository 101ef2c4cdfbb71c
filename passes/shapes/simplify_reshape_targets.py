"""Write a Reshape's target as constants wherever they hold for every size.

    before   x[batch,seq,256] -> Reshape(Concat(Shape(x)[0], Shape(x)[1], 4, 64))
    after    x[batch,seq,256] -> Reshape([0, 0, 4, 64])

What a dim of the result is comes from the facts, not from the nodes that compute the target: a dim that the
input has at the same place is copied (0), a known one is written out, and one unknown dim may be inferred
(-1), if no other dim can be 0 beside it. Where no such target says it, an Unsqueeze or a Flatten may.
"""

from __future__ import annotations

from dataclasses import dataclass

import onnx_ir as ir

from graphopt.ir.relabelling import Relabelling, constant_target, positive_atoms, relabelling
from graphopt.rewriting import Match, Pass, Rejection, op, rule
from graphopt.rewriting.relabels import written

NEEDS_RUN = "more than one dim of the target depends on the run, or the inferred one might stand beside a 0"
CONSTANT = "the target is a constant already"
UNKNOWN_RANK = "the rank of the input or of the result is not known"


@rule
def constant_reshape_target(x, target):
    """Reshape(x, computed) -> Reshape(x, constant)."""
    return op.Reshape(x, target)


@constant_reshape_target.when
def numbers(m: Match) -> Relabelling | Rejection:
    if m.tensor("target") is not None:
        return Rejection(CONSTANT, m["target"])
    source, result = m.dims(m["x"]), m.dims(m.output)
    if source is None or result is None:
        return Rejection(UNKNOWN_RANK, m["x"])
    positive = positive_atoms(m.facts.elements(m["target"]) or (), result)
    found = constant_target(source, result, m.opset, positive) or relabelling(source, result, m.opset)
    return Rejection(NEEDS_RUN, m["target"]) if found is None else found


@constant_reshape_target.rewrite
def with_constant_target(m: Match, found: Relabelling) -> ir.Value:
    return written(m["x"], found)


@dataclass(frozen=True)
class SimplifyReshapeTargets(Pass):
    """Write Reshape targets as constants: known dims, copies (0) and at most one inferred dim (-1)."""

    name = "simplify-reshape-targets"
    family = "shapes"
    rules = (constant_reshape_target,)

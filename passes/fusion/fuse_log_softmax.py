"""LogSoftmax of Log(Softmax(x)).

Where a softmax is too small for its type its logarithm is -infinity, and LogSoftmax gives the number: the
better answer, but another one. So this is done at the highest level only.
"""

from __future__ import annotations

from dataclasses import dataclass

import onnx_ir as ir

from graphopt.rewriting import Match, Pass, attr, op, rule


@rule
def logarithm_of_softmax(x):
    """Log(Softmax(x)) -> LogSoftmax(x)."""
    return op.Log(op.Softmax(x, axis=attr("axis")))


@logarithm_of_softmax.rewrite
def logarithms(m: Match) -> ir.Value:
    return op.LogSoftmax(m["x"], axis=m.captured("axis"))


@dataclass(frozen=True)
class FuseLogSoftmax(Pass):
    """Fuse the logarithm of a softmax into LogSoftmax."""

    name = "fuse-log-softmax"
    family = "fusion"
    stage = "fuse"
    level = 3
    bound = "finite where the softmax itself vanishes and its logarithm is -infinity"
    rules = (logarithm_of_softmax,)

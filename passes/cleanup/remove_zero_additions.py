"""Remove additions of zero.

    before   x + 0.0, x - (-0.0)
    after    x

Not bit-exact, so apart from `remove-no-op-arithmetic`: -0.0 + 0.0 is +0.0, and x alone stays -0.0. Only the
sign of a zero can differ.
"""

from __future__ import annotations

from dataclasses import dataclass

import onnx_ir as ir

from graphopt.ir.constants import constant, uniform
from graphopt.rewriting import Match, Pass, Rejection, rule_on

WIDENS = "the zeros may widen the value by broadcasting"


@rule_on("Add", "Sub", depth=1)
def zero(m: Match) -> ir.Value | Rejection | None:
    """x + 0.0 -> x."""
    first, second = m.root.inputs
    assert first is not None and second is not None
    pairs = [(first, second), (second, first)] if m.root.op_type == "Add" else [(first, second)]
    for x, other in pairs:
        if uniform(other) == 0:
            tensor = constant(other)
            is_scalar = tensor is not None and tensor.shape.rank() == 0
            return x if is_scalar or m.facts.broadcasts_to(other, x) else Rejection(WIDENS, other)
    return None


@dataclass(frozen=True)
class RemoveZeroAdditions(Pass):
    """Remove additions of zero; a negative zero may stay one."""

    name = "remove-zero-additions"
    family = "cleanup"
    level = 2
    bound = "the sign of a zero"
    rules = (zero,)

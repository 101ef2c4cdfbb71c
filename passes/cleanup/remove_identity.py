"""Remove operators that hand one input through: Identity, and variadic ones with a single input."""

from __future__ import annotations

from dataclasses import dataclass

import onnx_ir as ir

from graphopt.rewriting import Match, Pass, rule_on


@rule_on("Identity", depth=1)
def identity(m: Match) -> ir.Value | None:
    """Identity(x) -> x."""
    return m.root.inputs[0]


@rule_on("Concat", "Sum", "Max", "Min", "Mean", depth=1)
def only_input(m: Match) -> ir.Value | None:
    """Concat(x), Sum(x), Max(x), Min(x), Mean(x) -> x."""
    return m.root.inputs[0] if len(m.root.inputs) == 1 else None


@dataclass(frozen=True)
class RemoveIdentity(Pass):
    """Remove operators that hand their only input through."""

    name = "remove-identity"
    family = "cleanup"
    rules = (identity, only_input)

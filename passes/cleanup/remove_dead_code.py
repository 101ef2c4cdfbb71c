"""Remove nodes whose values nothing needs.

    before   a = Exp(x); b = Neg(a); y = Abs(x)          y is the only output
    after    y = Abs(x)

Random, stateful and unknown operators stay: only a run could tell what they are for.
"""

from __future__ import annotations

from dataclasses import dataclass

from graphopt.ir import facts
from graphopt.rewriting import Pass, Scope


@dataclass(frozen=True)
class RemoveDeadCode(Pass):
    """Remove nodes that no output needs."""

    name = "remove-dead-code"
    family = "cleanup"

    def run(self, scope: Scope) -> None:
        """Backwards, so that what a removed node needed goes in the same walk."""
        for node in reversed(scope.nodes()):
            unused = not any(v.uses() or v.is_graph_output() for v in node.outputs)
            if unused and node.graph is not None and facts.is_pure(node):
                scope.remove(node)

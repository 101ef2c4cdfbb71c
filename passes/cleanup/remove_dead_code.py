"""Remove nodes, and initializers, whose values nothing needs."""

from __future__ import annotations

from dataclasses import dataclass

from graphopt.ir import facts
from graphopt.rewriting import Editor, Pass, Scope


@dataclass(frozen=True)
class RemoveDeadCode(Pass):
    """Remove nodes and initializers that no output needs."""

    name = "remove-dead-code"
    family = "cleanup"
    stage = "finish"

    def run(self, scope: Scope) -> None:
        """Backwards, so that what a removed node needed goes in the same walk."""
        for node in reversed(scope.nodes()):
            unused = not any(v.uses() or v.is_graph_output() for v in node.outputs)
            if unused and node.graph is not None and facts.is_pure(node):
                scope.remove(node)

    def run_model(self, editor: Editor) -> None:
        """Initializers that are inputs too are part of the signature and stay."""
        for region in editor.inner_first():
            for name, value in list(region.graph.initializers.items()):
                if not value.uses() and not value.is_graph_output() and not value.is_graph_input():
                    del region.graph.initializers[name]

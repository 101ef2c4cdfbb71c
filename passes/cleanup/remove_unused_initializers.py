"""Remove initializers that nothing uses; those that are inputs too are part of the signature and stay."""

from __future__ import annotations

from dataclasses import dataclass

from graphopt.rewriting import Editor, Pass


@dataclass(frozen=True)
class RemoveUnusedInitializers(Pass):
    """Remove initializers that nothing uses."""

    name = "remove-unused-initializers"
    family = "cleanup"
    stage = "finish"

    def run_model(self, editor: Editor) -> None:
        for region in editor.where.inner_first():
            for name, value in list(region.graph.initializers.items()):
                if not value.uses() and not value.is_graph_output() and not value.is_graph_input():
                    del region.graph.initializers[name]

"""Remove the imports of operator domains that no node of the model is from; the default one stays."""

from __future__ import annotations

from dataclasses import dataclass

import onnx_ir as ir

from graphopt.ir.scopes import nested
from graphopt.rewriting import Editor, Pass


@dataclass(frozen=True)
class RemoveUnusedOpsets(Pass):
    """Remove imports of domains that nothing uses."""

    name = "remove-unused-opsets"
    family = "cleanup"
    stage = "finish"

    def run_model(self, editor: Editor) -> None:
        roots: list[ir.Graph | ir.Function] = [editor.model.graph, *editor.model.functions.values()]
        for root in roots:
            imports = root.opset_imports
            extra = [domain for domain in imports if domain not in ("", "ai.onnx")]
            if extra:
                used = {node.domain for graph in nested(root) for node in graph}
                for domain in extra:
                    if domain not in used:
                        del imports[domain]

"""Remove model-local functions that nothing calls any more."""

from __future__ import annotations

from dataclasses import dataclass

import onnx_ir as ir

from graphopt.ir.scopes import nested
from graphopt.rewriting import Editor, Pass


@dataclass(frozen=True)
class RemoveUnusedFunctions(Pass):
    """Remove functions that nothing calls."""

    name = "remove-unused-functions"
    family = "cleanup"
    stage = "open"

    def run_model(self, editor: Editor) -> None:
        functions = editor.model.functions
        called: set[ir.OperatorIdentifier] = set()
        pending: list[ir.Graph | ir.Function] = [editor.model.graph] if functions else []
        while pending:
            for graph in nested(pending.pop()):
                for node in graph:
                    identifier = node.op_identifier()
                    if identifier in functions and identifier not in called:
                        called.add(identifier)
                        pending.append(functions[identifier])
        for identifier in [i for i in functions if i not in called]:
            editor.remove_function(identifier)

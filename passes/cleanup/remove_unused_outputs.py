"""Do not compute optional outputs that nothing uses.

    before   y, indices = MaxPool(x)          indices unused
    after    y = MaxPool(x)

BatchNormalization is not among the operators: before opset 14 its further outputs mean that it trains.
"""

from __future__ import annotations

from dataclasses import dataclass

import onnx_ir as ir

from graphopt.rewriting import Pass, Scope

# Operators whose outputs after the first are optional; of recurrent ones the first is, too.
FIRST_IS_NEEDED = ("MaxPool", "Dropout", "LayerNormalization", "Unique")
ALL_OPTIONAL = ("LSTM", "GRU", "RNN")


@dataclass(frozen=True)
class RemoveUnusedOutputs(Pass):
    """Drop optional outputs that nothing uses."""

    name = "remove-unused-outputs"
    family = "cleanup"
    stage = "finish"
    marks_steps = True

    def run(self, scope: Scope) -> None:
        for node in scope.nodes(*FIRST_IS_NEEDED, *ALL_OPTIONAL):
            first = 0 if node.op_type in ALL_OPTIONAL else 1
            unused = [v for v in node.outputs[first:] if v.name and not v.uses() and not v.is_graph_output()]
            if unused and scope.fire(node, "unused-output"):
                self._drop(scope, node, unused)

    def _drop(self, scope: Scope, node: ir.Node, unused: list[ir.Value]) -> None:
        count = len(node.outputs)
        while count > 1 and (node.outputs[count - 1] in unused or not node.outputs[count - 1].name):
            count -= 1
        node.resize_outputs(count)
        for value in node.outputs:
            if value in unused:
                value.name = ""
        scope.editor.touch(node)

"""Turn Constant nodes into initializers, and bring those of bodies to the main graph.

    before   y = Add(x, Constant(value=c))
    after    y = Add(x, c)

An initializer can be stored outside of the model file, is loaded without a copy and is no node that every
later pass walks over; in the main graph it meets its equals from other scopes. A Constant that is itself an
output of its graph stays, and so do those of functions, which can't hold initializers. Codes of a weight, and
their scales, stay in the body that turns them into numbers: onnxruntime (1.27 to 1.32) refuses products by
codes that a body captures.
"""

from __future__ import annotations

from dataclasses import dataclass

import onnx_ir as ir

from graphopt.ir.constants import node_constant, shape_of
from graphopt.rewriting import Pass, Scope


@dataclass(frozen=True)
class LiftConstants(Pass):
    """Turn Constant nodes, and initializers of bodies, into initializers of the main graph."""

    name = "lift-constants"
    family = "cleanup"
    stage = "open"

    def run(self, scope: Scope) -> None:
        if scope.region.function is not None:
            return
        main = scope.editor.model.graph
        for node in scope.nodes("Constant"):
            tensor, value = node_constant(node), node.outputs[0]
            if tensor is None or value.is_graph_output():
                continue
            name, value.name = value.name, scope.editor.names.unique(f"{value.name}_was")
            kind, shape = ir.TensorType(tensor.dtype), ir.Shape(shape_of(tensor))
            lifted = ir.Value(name=name, const_value=tensor, type=kind, shape=shape)
            main.register_initializer(lifted)
            scope.replace(value, lifted)
            scope.remove(node)
        if scope.graph is not main:
            self._lift_initializers(scope, main)

    def _lift_initializers(self, scope: Scope, main: ir.Graph) -> None:
        """Names are one space over all scopes, so the values themselves can move."""
        for name, value in list(scope.graph.initializers.items()):
            if not (value.is_graph_input() or value.is_graph_output() or _is_of_codes(value)):
                del scope.graph.initializers[name]
                main.register_initializer(value)
                for use in value.uses():
                    scope.editor.touch(use.node)


def _is_of_codes(value: ir.Value) -> bool:
    """Whether a DequantizeLinear of the same body makes numbers of stored codes by it."""
    users = [use.node for use in value.uses()]
    return any(
        user.op_type == "DequantizeLinear"
        and user.graph is value.graph
        and user.inputs[0] is not None
        and user.inputs[0].graph is value.graph
        and user.inputs[0].is_initializer()
        for user in users
    )

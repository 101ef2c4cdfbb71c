"""Turn Constant nodes into initializers.

    before   y = Add(x, Constant(value=c))
    after    y = Add(x, c)

An initializer can be stored outside of the model file, is loaded without a copy and is no node that every
later pass walks over. Those of bodies go to the main graph, where equal ones meet. A Constant that is itself
an output of its graph stays, and so do those of functions, which can't hold initializers.
"""

from __future__ import annotations

from dataclasses import dataclass

import onnx_ir as ir

from graphopt.ir.constants import node_constant, shape_of
from graphopt.rewriting import Pass, Scope


@dataclass(frozen=True)
class LiftConstants(Pass):
    """Turn Constant nodes into initializers."""

    name = "lift-constants"
    family = "cleanup"
    stage = "open"

    def run(self, scope: Scope) -> None:
        if scope.region.function is not None:
            return
        initializers = scope.editor.model.graph
        for node in scope.nodes("Constant"):
            tensor, value = node_constant(node), node.outputs[0]
            if tensor is None or value.is_graph_output():
                continue
            lifted = ir.Value(
                name=value.name,
                const_value=tensor,
                type=ir.TensorType(tensor.dtype),
                shape=ir.Shape(shape_of(tensor)),
            )
            value.name = scope.editor.names.unique(f"{value.name}_was")
            initializers.register_initializer(lifted)
            scope.replace(value, lifted)
            scope.remove(node)

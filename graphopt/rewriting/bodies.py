"""Moving nodes between a body and the graph around it."""

from __future__ import annotations

import onnx_ir as ir

from graphopt.rewriting.draft import Draft
from graphopt.rewriting.editor import Editor
from graphopt.rewriting.operators import building, op


def lift_initializers(editor: Editor, body: ir.Graph) -> None:
    """Register a body's initializers in the main graph, so that nodes which use them can leave the body."""
    for name, value in list(body.initializers.items()):
        if not value.is_graph_input():
            del body.initializers[name]
            editor.model.graph.register_initializer(value)


def inline_body(editor: Editor, body: ir.Graph, before: ir.Node) -> list[ir.Value]:
    """Move all nodes of a body in front of a node; the body is empty afterwards.

    The caller has replaced the body's inputs by values of the graph around it.

    Returns:
        What the body's outputs were.
    """
    outputs = list(body.outputs)
    body.outputs.clear()
    lift_initializers(editor, body)
    for node in list(body):
        editor.move(node, before)
    return outputs


def as_own_value(editor: Editor, value: ir.Value, before: ir.Node) -> ir.Value:
    """The value, behind an Identity if it could not take the name of a graph output otherwise."""
    draft = Draft(editor, before)
    with building(draft):
        copy = op.Identity(value)
    [node] = draft.nodes
    copy.name = editor.names.unique(f"{value.name}_copy")
    editor.insert(node, before)
    return copy

"""Writing the body of a model-local function in the place of its call."""

from __future__ import annotations

import onnx_ir as ir

from graphopt.ir import schemas
from graphopt.ir.calls import body_of_call
from graphopt.ir.scopes import nested
from graphopt.rewriting.editor import Editor

__all__ = ["can_inline", "inline_call"]


def can_inline(editor: Editor, call: ir.Node, function: ir.Function) -> bool:
    """Whether the body says the same in the place of a call outside of functions.

    It does not where the function imports another version of a domain in which one of its operators is
    another, or gives an input back that the call leaves out.
    """
    region = editor.regions.get(call.graph) if call.graph is not None else None
    if region is None or region.function is not None:
        return False
    if any(value in function.outputs for value in _absent(function, call)):
        return False
    return _fits(function, editor.model.graph.opset_imports)


def inline_call(editor: Editor, call: ir.Node, function: ir.Function) -> list[ir.Node]:
    """Put the body in the place of its call; returns the nodes that came."""
    nodes, outputs = body_of_call(function, call, editor.names)
    imports = editor.model.graph.opset_imports
    for domain, version in function.opset_imports.items():
        imports.setdefault(domain, version)
    for node in nodes:
        editor.insert(node, call)
    fresh = {value for node in nodes for value in node.outputs}
    taken: set[ir.Value] = set()
    for old, new in zip(call.outputs, outputs, strict=False):
        is_fresh = new in fresh and new not in taken
        if old.is_graph_output() and not is_fresh:
            # An input that is handed through, or one value under two names.
            identity = ir.Node("", "Identity", [new], num_outputs=1)
            editor.insert(identity, call)
            new, is_fresh = identity.outputs[0], True
        taken.add(new)
        editor.take_over(old, new, is_fresh=is_fresh)
    editor.remove(call)
    return nodes


def _fits(function: ir.Function, imports: dict[str, int]) -> bool:
    """Whether every operator of the function is the same one in the versions that the model imports."""
    for domain, version in function.opset_imports.items():
        if imports.get(domain, version) == version:
            continue
        for graph in nested(function):
            for node in graph:
                if node.domain == domain and not _same(node, version, imports[domain]):
                    return False
    return True


def _same(node: ir.Node, version: int, other: int) -> bool:
    first = schemas.schema(node.domain, node.op_type, version)
    second = schemas.schema(node.domain, node.op_type, other)
    return first is not None and second is not None and first.since == second.since


def _absent(function: ir.Function, call: ir.Node) -> list[ir.Value]:
    """The function's inputs that a call leaves out."""
    given = len(call.inputs)
    return [v for i, v in enumerate(function.inputs) if i >= given or call.inputs[i] is None]

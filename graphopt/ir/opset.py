"""Which version of an operator set holds where."""

from __future__ import annotations

import onnx_ir as ir

from graphopt.ir.graphs import bodies

__all__ = ["propagate", "version"]


def version(where: ir.Model | ir.Graph | ir.Function | ir.Node, domain: str = "") -> int:
    """The imported version of `domain`; for a node, of the node's own domain unless one is given.

    0 where it is not imported. ONNX bodies import nothing themselves: a body, and a node in one,
    knows its version only after `propagate` (or ask the model).
    """
    if isinstance(where, ir.Model):
        return where.graph.opset_imports.get(domain, 0)
    if isinstance(where, ir.Node):
        domain = domain or where.domain
        if where.version is not None:
            return where.version
        graph = where.graph
        return 0 if graph is None else graph.opset_imports.get(domain, 0)
    return where.opset_imports.get(domain, 0)


def propagate(model: ir.Model) -> None:
    """Write the model's (and each function's) imports onto all bodies below.

    They are not saved: a GraphProto has no place for them.
    """
    pending: list[ir.Graph | ir.Function] = [model.graph, *model.functions.values()]
    while pending:
        graph = pending.pop()
        for node in graph:
            for body in bodies(node):
                body.opset_imports.update(graph.opset_imports)
                pending.append(body)

"""Names that hold over all scopes of a model: `loop_node:body/value`.

A value or node of a body is named by the nodes and attributes that lead there; a deeper one is
`loop_node:body/if_node:then_branch/value`. `:` and `%` within a node's name are written `%3A` and `%25`.
"""

from __future__ import annotations

from collections.abc import Iterator

import onnx_ir as ir

from graphopt.ir.graphs import named_bodies
from graphopt.ir.names import Names

__all__ = ["name_nodes", "scopes", "scopes_by_graph", "values_by_name"]


def scopes(main: ir.Graph) -> Iterator[tuple[str, ir.Graph]]:
    """A graph and every body inside it, outer before inner, each with what stands before its names."""
    pending = [("", main)]
    while pending:
        scope, graph = pending.pop()
        yield scope, graph
        found = [
            (f"{scope}{_escaped(node.name or '')}:{name}/", body)
            for node in graph
            for name, body in named_bodies(node)
        ]
        pending += reversed(found)


def scopes_by_graph(model: ir.Model) -> dict[ir.Graph, str]:
    """What stands before the names of each graph's values and nodes; functions are left out."""
    return {graph: scope for scope, graph in scopes(model.graph)}


def values_by_name(model: ir.Model) -> dict[str, ir.Value]:
    """Every value of the main graph and its bodies by its scoped name."""
    found: dict[str, ir.Value] = {}
    for scope, graph in scopes(model.graph):
        values = [*graph.inputs, *graph.initializers.values()]
        values += [output for node in graph for output in node.outputs]
        for value in values:
            if value.name:
                found.setdefault(f"{scope}{value.name}", value)
    return found


def name_nodes(model: ir.Model) -> None:
    """Give every node without a name, or with that of an earlier node of its graph, one of its own."""
    names: Names | None = None
    for _, graph in scopes(model.graph):
        seen: set[str] = set()
        for node in graph:
            if not node.name or node.name in seen:
                names = names or Names(model)
                node.name = names.unique(node.name or node.op_type)
            seen.add(node.name)


def _escaped(name: str) -> str:
    return name.replace("%", "%25").replace(":", "%3A")

"""Bodies of operators: the graphs that a node has as attributes."""

from __future__ import annotations

from collections.abc import Iterator

import onnx_ir as ir

__all__ = ["bodies", "named_bodies", "nodes_in"]


def bodies(node: ir.Node) -> tuple[ir.Graph, ...]:
    """The graphs among the node's attributes (then, else, body), in the order of attributes."""
    found: tuple[ir.Graph, ...] = ()
    for attr in node.attributes.data.values():
        if attr.type is ir.AttributeType.GRAPH and attr.value is not None:
            found = (*found, attr.value)
        elif attr.type is ir.AttributeType.GRAPHS and attr.value is not None:
            found = (*found, *attr.value)
    return found


def named_bodies(node: ir.Node) -> list[tuple[str, ir.Graph]]:
    """The same graphs, each with the attribute's name; those of a list of graphs are numbered."""
    found: list[tuple[str, ir.Graph]] = []
    for attr in node.attributes.data.values():
        if attr.type is ir.AttributeType.GRAPH and attr.value is not None:
            found.append((attr.name, attr.value))
        elif attr.type is ir.AttributeType.GRAPHS and attr.value is not None:
            found += [(f"{attr.name}{i}", graph) for i, graph in enumerate(attr.value)]
    return found


def nodes_in(graph: ir.Graph) -> Iterator[ir.Node]:
    """The graph's nodes in their order, each followed by those in its bodies."""
    for node in graph:
        yield node
        for body in bodies(node):
            yield from nodes_in(body)

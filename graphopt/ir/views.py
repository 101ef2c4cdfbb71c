"""A graph as networkx sees it, for algorithms on graphs that need not be written again."""

from __future__ import annotations

from typing import TYPE_CHECKING

import onnx_ir as ir

from graphopt.ir import scopes
from graphopt.ir.graphs import bodies

if TYPE_CHECKING:
    import networkx as nx


def to_networkx(graph: ir.Graph, *, subgraphs: bool = False) -> nx.MultiDiGraph:
    """A picture of the graph in which both nodes and values are vertices: value -> node -> value.

    The vertices are the `ir.Node` and `ir.Value` objects themselves. Attributes of a vertex: `kind` ("node",
    "input", "initializer", "value"), `name`; of a node also `op_type` and `domain`; of any vertex in a body
    `owner`, the node that has the body. Attributes of an edge: `kind` ("input" and "output" with their
    `index`; "captured", a value that bodies of the node use; "body", from the output of a body to the node
    that has it). A later change of the graph does not show.

    Args:
        graph: The graph, or a body.
        subgraphs: Whether bodies are drawn in detail, with "body" edges; else each node with bodies gets
            "captured" edges. Either way a path means dependence and there are no cycles.
    """
    import networkx as nx

    painter = _Painter(nx.MultiDiGraph(name=graph.name), subgraphs)
    painter.draw(graph, None)
    return painter.picture


class _Painter:
    def __init__(self, picture: nx.MultiDiGraph, subgraphs: bool) -> None:
        self.picture = picture
        self._subgraphs = subgraphs

    def draw(self, graph: ir.Graph, owner: ir.Node | None) -> None:
        for value in graph.inputs:
            self._value(value, "input", owner)
        for value in graph.initializers.values():
            if not value.is_graph_input():
                self._value(value, "initializer", owner)
        for node in graph:
            self._node(node, owner)
            for body in bodies(node):
                self._body(node, body)

    def _value(self, value: ir.Value, kind: str, owner: ir.Node | None) -> None:
        if value not in self.picture:
            self.picture.add_node(value, kind=kind, name=value.name)
            self._note_owner(value, owner)

    def _note_owner(self, vertex: ir.Value | ir.Node, owner: ir.Node | None) -> None:
        if owner is not None:
            self.picture.nodes[vertex]["owner"] = owner

    def _node(self, node: ir.Node, owner: ir.Node | None) -> None:
        self.picture.add_node(node, kind="node", name=node.name, op_type=node.op_type, domain=node.domain)
        self._note_owner(node, owner)
        for index, used in enumerate(node.inputs):
            if used is not None:
                self._value(used, "value", None)  # captured, where its own graph was not asked for
                self.picture.add_edge(used, node, kind="input", index=index)
        for index, made in enumerate(node.outputs):
            if made.name:
                self._value(made, "value", owner)
                self.picture.add_edge(node, made, kind="output", index=index)

    def _body(self, node: ir.Node, body: ir.Graph) -> None:
        if self._subgraphs:
            self.draw(body, node)
            for output in body.outputs:
                self.picture.add_edge(output, node, kind="body")
            return
        for value in scopes.captured(body):
            self._value(value, "value", None)
            self.picture.add_edge(value, node, kind="captured")

"""Where things are in a model: its graphs with the versions that hold there, and its nodes by operator."""

from __future__ import annotations

from collections.abc import Iterator

import onnx_ir as ir

from graphopt.ir.graphs import bodies, named_bodies

OpKey = tuple[str, str]


class Region:
    """Where a graph is: its path from the root, and the versions that hold there.

    Attributes:
        graph: The graph.
        path: "" for the main graph, else the nodes and attributes that lead here, "loop/body".
        owner: The node that has the graph as an attribute; None for the main graph and functions.
        function: The function that the graph is in, if it is in one.
        opsets: Opset imports that hold here (the live mapping).
    """

    __slots__ = ("function", "graph", "opsets", "owner", "path")

    def __init__(
        self,
        graph: ir.Graph,
        path: str,
        owner: ir.Node | None,
        function: ir.Function | None,
        opsets: dict[str, int],
    ) -> None:
        self.graph = graph
        self.path = path
        self.owner = owner
        self.function = function
        self.opsets = opsets


class ModelIndex:
    """Graphs and nodes of a model, kept up to date by the editor.

    Attributes:
        regions: Every graph; a graph stands before the bodies in it.
        nodes: Every node by (domain, operator), in the order of coming.
    """

    def __init__(self, model: ir.Model) -> None:
        self.regions: dict[ir.Graph, Region] = {}
        self.nodes: dict[OpKey, dict[ir.Node, None]] = {}
        self._imports = model.graph.opset_imports
        self._enter_region(Region(model.graph, "", None, None, model.graph.opset_imports))
        for function in model.functions.values():
            path = f"{function.domain}:{function.name}"
            self._enter_region(Region(function.graph, path, None, function, function.opset_imports))

    @property
    def count(self) -> int:
        """How many nodes there are, Constants included."""
        return sum(len(nodes) for nodes in self.nodes.values())

    def region_of(self, node: ir.Node) -> Region | None:
        """The region of the graph that a node is in; None for a node that is in none."""
        return self.regions.get(node.graph) if node.graph is not None else None

    def holds(self, node: ir.Node) -> bool:
        """Whether a node is in the model: one may be left in the body of a node that went."""
        return self.region_of(node) is not None

    def is_open(self, node: ir.Node) -> bool:
        """Whether rules may look at a node: it is in the model, and no call decides what its attributes are.

        In a function that takes attributes every default that a rule assumes could be another at a call.
        """
        region = self.region_of(node)
        return region is not None and (region.function is None or not region.function.attributes)

    def opset_at(self, node: ir.Node) -> int:
        """The default domain's version where a node stands."""
        region = self.region_of(node)
        return (region.opsets if region else self._imports).get("", 1)

    def inner_first(self) -> list[Region]:
        """Every graph, bodies before the graphs that hold them."""
        return list(self.regions.values())[::-1]

    def in_order(self) -> Iterator[ir.Node]:
        """Every node: a node, then its bodies' nodes; functions last."""
        for region in list(self.regions.values()):
            if region.owner is None:
                yield from walk(region.graph)

    def enter(self, node: ir.Node) -> None:
        """A node, with its bodies, has come into a graph."""
        self.nodes.setdefault((node.domain, node.op_type), {})[node] = None
        region = self.region_of(node)
        if node.domain:
            # Runtimes look for a domain among the model's imports, checkers among a function's own.
            for opsets in (self._imports, region.opsets if region is not None else self._imports):
                opsets.setdefault(node.domain, 1)
        if region is not None:
            self._enter_bodies(node, region)

    def leave(self, node: ir.Node) -> None:
        """A node, with its bodies, goes."""
        self.nodes.get((node.domain, node.op_type), {}).pop(node, None)
        for body in bodies(node):
            self.regions.pop(body, None)
            for inner in body:
                self.leave(inner)

    def _enter_region(self, region: Region) -> None:
        self.regions[region.graph] = region
        for node in region.graph:
            self.nodes.setdefault((node.domain, node.op_type), {})[node] = None
            self._enter_bodies(node, region)

    def _enter_bodies(self, node: ir.Node, region: Region) -> None:
        for name, body in named_bodies(node):
            prefix = f"{region.path}/" if region.path else ""
            path = f"{prefix}{node.name or node.outputs[0].name}/{name}"
            self._enter_region(Region(body, path, node, region.function, region.opsets))


def walk(graph: ir.Graph) -> Iterator[ir.Node]:
    """Every node of a graph: a node, then its bodies' nodes."""
    for node in graph:
        yield node
        for body in bodies(node):
            yield from walk(body)

"""Walk every scope of a model: main graph, function bodies, and the bodies of If, Loop, Scan inside them."""

from __future__ import annotations

from collections.abc import Iterator

import onnx_ir as ir

from graphopt.ir.graphs import bodies


def nested(graph: ir.Graph | ir.Function) -> Iterator[ir.Graph]:
    """The graph itself (of a function: its body), then every graph inside it, outer before inner."""
    pending: list[ir.Graph] = [graph.graph if isinstance(graph, ir.Function) else graph]
    while pending:
        current = pending.pop()
        yield current
        pending += [body for node in reversed(current) for body in reversed(bodies(node))]


def all_graphs(model: ir.Model) -> Iterator[ir.Graph]:
    """Every graph of a model: the main graph with its bodies, then each function's body with its bodies."""
    yield from nested(model.graph)
    for function in model.functions.values():
        yield from nested(function)


def describe_node(node: ir.Node) -> str:
    """How a message names a node: "node 'attn/Reshape_3' (Reshape)"."""
    operator = f"{node.domain}.{node.op_type}" if node.domain else node.op_type
    name = node.name or next((output.name for output in node.outputs if output.name), None)
    return f"node '{name}' ({operator})" if name else f"a node without a name ({operator})"


def captured(body: ir.Graph) -> list[ir.Value]:
    """The values of outer scopes that a body or any body inside it uses, each once, in the order of use."""
    own: set[ir.Value] = set()
    used: dict[ir.Value, None] = {}
    for graph in nested(body):
        own.update(graph.inputs)
        own.update(graph.initializers.values())
        for node in graph:
            own.update(node.outputs)
            used.update((value, None) for value in node.inputs if value is not None)
        used.update((value, None) for value in graph.outputs)
    return [value for value in used if value not in own]


def defined_values(graph: ir.Graph) -> Iterator[ir.Value]:
    """The values that a graph itself defines."""
    yield from graph.inputs
    yield from graph.initializers.values()
    for node in graph:
        yield from node.outputs

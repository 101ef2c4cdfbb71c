"""Topological order of nodes, seen through the bodies of If, Loop and Scan."""

from __future__ import annotations

import heapq

import onnx_ir as ir

from graphopt.errors import ModelError
from graphopt.ir import scopes
from graphopt.ir.graphs import bodies


def sort(graph: ir.Graph) -> bool:
    """Bring the nodes of a graph and of all bodies in it into topological order, as near to theirs as can be.

    Returns:
        Whether any node moved.

    Raises:
        ModelError: There is a cycle; the message names a node on it.
    """
    moved = False
    for scope in scopes.nested(graph):
        before = _dependencies(scope)
        done: set[ir.Node] = set()
        for node, needed in before.items():
            if not done.issuperset(needed):
                _reorder(scope, before)
                moved = True
                break
            done.add(node)
    return moved


def _dependencies(graph: ir.Graph) -> dict[ir.Node, list[ir.Node]]:
    """For each node of a graph, the nodes of the same graph whose values it or its bodies use."""
    found: dict[ir.Node, list[ir.Node]] = {}
    for node in graph:
        used = list(node.inputs)
        for body in bodies(node):
            for inner in scopes.nested(body):
                used.extend(inner.outputs)
                for inner_node in inner:
                    used += inner_node.inputs
        producers = {value.producer(): None for value in used if value is not None}
        found[node] = [node for node in producers if node is not None and node.graph is graph]
    return found


def _reorder(graph: ir.Graph, before: dict[ir.Node, list[ir.Node]]) -> None:
    position = {node: place for place, node in enumerate(before)}
    waiting = {node: len(needed) for node, needed in before.items()}
    after: dict[ir.Node, list[ir.Node]] = {node: [] for node in before}
    for node, needed in before.items():
        for producer in needed:
            after[producer].append(node)
    ready = [(position[node], node) for node, count in waiting.items() if not count]
    heapq.heapify(ready)
    order: list[ir.Node] = []
    while ready:
        _, node = heapq.heappop(ready)
        order.append(node)
        for consumer in after[node]:
            waiting[consumer] -= 1
            if not waiting[consumer]:
                heapq.heappush(ready, (position[consumer], consumer))
    if len(order) != len(before):
        node = _on_cycle(before, waiting)
        raise ModelError(f"the graph has a cycle through {scopes.describe_node(node)}", node=node.name)
    graph.extend(order)  # a graph holds each node once: extending by a node that is in it moves it


def _on_cycle(before: dict[ir.Node, list[ir.Node]], waiting: dict[ir.Node, int]) -> ir.Node:
    """Go from a node that never became ready to what it waits for, until one comes again."""
    node = next(node for node, count in waiting.items() if count)
    seen: set[ir.Node] = set()
    while node not in seen:
        seen.add(node)
        node = next(producer for producer in before[node] if waiting[producer])
    return node

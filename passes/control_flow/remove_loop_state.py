"""Remove what a Loop carries along without changing it, or without using it.

    before   Loop(n, c, x, w) { x' = MatMul(x, w); yield x', w }
    after    Loop(n, c, x) { x' = MatMul(x, w); yield x' }

A state whose output is its own input is a captured value of the graph around the loop. A state that only
feeds itself, and whose last value nobody reads, is dead.
"""

from __future__ import annotations

from dataclasses import dataclass

import onnx_ir as ir

from graphopt.ir import facts
from graphopt.ir.graphs import bodies
from graphopt.rewriting import Pass, Scope


@dataclass(frozen=True)
class RemoveLoopState(Pass):
    """Remove unchanged and dead loop-carried values."""

    name = "remove-loop-state"
    family = "control_flow"
    marks_steps = True

    def run(self, scope: Scope) -> None:
        for node in scope.nodes("Loop"):
            body = node.attributes["body"].as_graph()
            for index in reversed(range(len(body.inputs) - 2)):
                if _is_unchanged(body, index) and _may_forward(node, index) and scope.fire(node, "unchanged"):
                    node = _without_unchanged(scope, node, body, index)
                elif _is_dead(node, body, index) and scope.fire(node, "dead"):
                    node = _without(scope, node, body, index)


def _is_unchanged(body: ir.Graph, index: int) -> bool:
    return body.outputs[1 + index] is body.inputs[2 + index]


def _may_forward(node: ir.Node, index: int) -> bool:
    """The loop's output becomes the initial value: not where a graph output needs a value of its own."""
    return not node.outputs[index].is_graph_output()


def _is_dead(node: ir.Node, body: ir.Graph, index: int) -> bool:
    """Nobody reads the last value, and in the body it only makes its own next one, purely."""
    last, carried, following = node.outputs[index], body.inputs[2 + index], body.outputs[1 + index]
    if last.uses() or last.is_graph_output():
        return False
    if sum(v is following for v in body.outputs) > 1:
        return False
    seen: set[ir.Node] = set()
    front = [carried]
    while front:
        value = front.pop()
        if value.is_graph_output() and value is not following:
            return False
        for use in value.uses():
            if use.node.graph is not body or not facts.is_pure(use.node) or bodies(use.node):
                return False
            if use.node not in seen:
                seen.add(use.node)
                front.extend(use.node.outputs)
    # What follows from the state must be the next state alone; anything else makes it live.
    return all(v is following or not v.is_graph_output() for n in seen for v in n.outputs)


def _without_unchanged(scope: Scope, node: ir.Node, body: ir.Graph, index: int) -> ir.Node:
    initial, carried, last = node.inputs[2 + index], body.inputs[2 + index], node.outputs[index]
    assert initial is not None
    body.outputs[1 + index] = body.inputs[1]  # a place holder, for the carried value to be free
    carried.replace_all_uses_with(initial)
    last.replace_all_uses_with(initial)
    return _without(scope, node, body, index)


def _without(scope: Scope, node: ir.Node, body: ir.Graph, index: int) -> ir.Node:
    """A Loop with one state less takes the place of `node`."""
    following = body.outputs[1 + index]
    body.outputs.pop(1 + index)  # `del` would leave the value marked as an output
    body.inputs.pop(2 + index)
    producer = following.producer()
    if producer is not None and producer.graph is body and not following.uses():
        scope.remove(producer)
    return scope.editor.rebuild(
        node,
        inputs=[v for i, v in enumerate(node.inputs) if i != 2 + index],
        outputs=[v for i, v in enumerate(node.outputs) if i != index],
    )

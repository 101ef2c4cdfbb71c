"""Constants behind operators that only move or decode them: what is packed has to be there before.

    before   d = DequantizeLinear(w, scale)     t = Transpose(d)      y = MatMul(x, t)
    after    y = MatMul(x, t)                   with t a constant

Models that the optimizer has seen have few of these left: it keeps weights in their narrow type, since a file
is smaller so; the engine wants its own form of them anyway.
"""

from __future__ import annotations

import onnx_ir as ir

from graphopt.ir.constants import constant
from graphopt.ir.evaluate import CannotEvaluate, evaluate
from graphopt.ir.scopes import nested

__all__ = ["fold_constants", "fold_nodes"]

_FOLDED = frozenset(
    {"Cast", "DequantizeLinear", "Flatten", "Identity", "Reshape", "Squeeze", "Transpose", "Unsqueeze"}
)


def fold_constants(model: ir.Model) -> int:
    """Fold what can be folded in a model, in place; returns how many nodes went away."""
    done = 0
    for graph in nested(model.graph):
        for node in list(graph):
            if node.op_type in _FOLDED and node.domain == "" and _fold(model, graph, node):
                done += 1
    return done


def fold_nodes(model: ir.Model, nodes: list[ir.Node]) -> list[ir.Node]:
    """Fold what can be folded of the nodes that stand for another one; returns those that are left."""
    return [
        node
        for node in nodes
        if node.op_type not in _FOLDED
        or node.domain != ""
        or not isinstance(node.graph, ir.Graph)
        or not _fold(model, node.graph, node)
    ]


def _fold(model: ir.Model, graph: ir.Graph, node: ir.Node) -> bool:
    (output, *_) = node.outputs
    given = [None if value is None else constant(value) for value in node.inputs]
    if output.is_graph_output() or any(
        tensor is None and value is not None for tensor, value in zip(given, node.inputs, strict=True)
    ):
        return False
    try:
        (result,) = evaluate(
            node,
            [None if t is None else t.numpy() for t in given],
            graph.opset_imports or model.opset_imports,
        )
    except CannotEvaluate:
        return False
    attribute = ir.AttrTensor("value", ir.tensor(result))
    made = ir.Node("", "Constant", [], [attribute], num_outputs=1, version=13, name=node.name)
    graph.insert_before(node, made)
    name = output.name
    output.replace_all_uses_with(made.outputs[0])
    output.name, made.outputs[0].name = None, name
    graph.remove(node, safe=True)
    return True

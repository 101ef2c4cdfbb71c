"""Write out a Loop whose number of iterations is known and small.

    before   y = Loop(2, true, x) { y' = MatMul(x', w) }
    after    y = MatMul(MatMul(x, w), w)

No iteration: the initial values are the results. One: always better than a loop. More: as many as
`most-trips` allows, which by default is one, since operators become more.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from graphopt.ir import constants
from graphopt.ir.graphs import bodies
from graphopt.ir.operands import input_of
from graphopt.rewriting import Pass, Scope, op
from graphopt.rewriting.bodies import as_own_value, inline_body
from graphopt.rewriting.editor import Editor


@dataclass(frozen=True)
class UnrollLoops(Pass):
    """Unroll Loops with few, known iterations."""

    name = "unroll-loops"
    family = "control_flow"
    marks_steps = True
    most_trips: int = 1

    def run(self, scope: Scope) -> None:
        for node in scope.nodes("Loop"):
            trips = _trips(node)
            if trips is None or trips > self.most_trips:
                continue
            if trips == 0 and len(node.outputs) > len(node.inputs) - 2:
                continue  # scan outputs without rows: their other dims are not always known
            if scope.fire(node, "unroll"):
                _unroll(scope, node, trips)


def _trips(loop: ir.Node) -> int | None:
    """How often the body runs: the trip count, if no condition ends the loop earlier; 0: it never starts."""
    count, condition = loop.inputs[0], input_of(loop, 1)
    trips = constants.array(count) if count is not None else None
    start = constants.array(condition) if condition is not None else np.array(True)
    if (start is not None and not start.any()) or (trips is not None and trips.item() <= 0):
        return 0
    body = loop.attributes["body"].as_graph()
    again = constants.array(body.outputs[0])
    goes_on = (again is not None and bool(again.all())) or body.outputs[0] is body.inputs[1]
    if trips is None or start is None or not (goes_on or trips.item() == 1):
        return None
    return int(trips.item())


def _unroll(scope: Scope, loop: ir.Node, trips: int) -> None:
    editor = scope.editor
    body = loop.attributes["body"].as_graph()
    carried: list[ir.Value] = [v for v in loop.inputs[2:] if v is not None]
    count = len(carried)
    rows: list[list[ir.Value]] = [[] for _ in body.outputs[1 + count :]]
    for trip in range(trips):
        results = _iteration(editor, body, loop, trip, carried)
        carried = results[1 : 1 + count]
        for row, value in zip(rows, results[1 + count :], strict=True):
            row.append(value)
    results = carried + [_stacked(scope, loop, row) for row in rows if row]
    taken: set[ir.Value] = set()
    for old, new in zip(loop.outputs, results, strict=True):
        free = new.producer() is not None and new.graph is loop.graph and not new.is_graph_output()
        if old.is_graph_output() and (not free or new in taken):
            new = as_own_value(editor, new, loop)
        taken.add(new)
        scope.replace(old, new)
    scope.remove(loop)


def _iteration(
    editor: Editor, body: ir.Graph, loop: ir.Node, trip: int, carried: list[ir.Value]
) -> list[ir.Value]:
    """One copy of the body in front of the loop; returns its outputs."""
    copy = body.clone(allow_outer_scope_values=True)
    _rename(editor, copy)
    number = editor.constant(np.asarray(trip, np.int64), loop)
    condition = editor.constant(np.asarray(True), loop)
    for inner, outer in zip(list(copy.inputs), [number, condition, *carried], strict=True):
        inner.replace_all_uses_with(outer, replace_graph_outputs=True)
    return inline_body(editor, copy, loop)


def _rename(editor: Editor, graph: ir.Graph) -> None:
    """Give every value and node of a copy a name of its own."""
    for value in (*graph.inputs, *graph.initializers.values()):
        value.name = editor.names.unique(str(value.name))
    for node in graph:
        node.name = editor.names.unique(str(node.name))
        for value in node.outputs:
            value.name = editor.names.unique(str(value.name))
        for inner in bodies(node):
            _rename(editor, inner)


def _stacked(scope: Scope, loop: ir.Node, rows: list[ir.Value]) -> ir.Value:
    """Scan outputs: a row an iteration."""
    from graphopt.rewriting.draft import Draft
    from graphopt.rewriting.operators import building

    draft = Draft(scope.editor, loop)
    with building(draft):
        lifted = [op.Unsqueeze(row, [0]) for row in rows]
        result = lifted[0] if len(lifted) == 1 else op.Concat(*lifted, axis=0)
    for node in draft.nodes:
        scope.editor.insert(node, loop)
    return result

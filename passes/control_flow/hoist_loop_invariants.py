"""Compute what is the same in every iteration once, before the loop.

    before   Loop { k = MatMul(memory, w); ... }
    after    k = MatMul(memory, w); Loop { ... }

A loop may run zero times: then only what can't fail is moved. Where the first iteration surely runs,
whatever it always computes is moved. A DequantizeLinear moves with what needs its numbers, or not at all:
what stays in the body is multiplied by the codes themselves where both are seen together (onnxruntime 1.32: a
loop of 25 products took five times as long without that).
"""

from __future__ import annotations

from dataclasses import dataclass

import onnx_ir as ir

from graphopt.ir import constants, facts
from graphopt.ir.graphs import bodies
from graphopt.ir.quantization import is_dequantize
from graphopt.rewriting import Pass, Scope
from graphopt.rewriting.bodies import lift_initializers


@dataclass(frozen=True)
class HoistLoopInvariants(Pass):
    """Move loop-invariant computation out of Loop and Scan bodies."""

    name = "hoist-loop-invariants"
    family = "control_flow"
    marks_steps = True

    def run(self, scope: Scope) -> None:
        """One walk: what a hoisted node feeds is looked at after it. Nested loops come first."""
        owner = scope.region.owner
        if (
            owner is None
            or owner.op_type not in ("Loop", "Scan")
            or owner.domain != ""
            or owner.graph is None
        ):
            return
        inside = set(scope.graph.inputs) | {v for node in scope.graph for v in node.outputs}
        surely_runs = _surely_runs(owner)
        waiting: set[ir.Node] = set()
        for node in scope.nodes():
            if not _is_invariant(node, inside) or not (surely_runs or not _can_fail(node)):
                continue
            if is_dequantize(node):
                waiting.add(node)
                inside.difference_update(node.outputs)
                continue
            needed = [maker for v in node.inputs if v is not None and (maker := v.producer()) in waiting]
            for moved in (*dict.fromkeys(maker for maker in needed if maker is not None), node):
                if scope.fire(moved, "hoist"):
                    _hoist(scope, moved, owner)
                    inside.difference_update(moved.outputs)
                    waiting.discard(moved)


def _surely_runs(loop: ir.Node) -> bool:
    """Whether the first iteration always runs: trip count and condition are constants that say so."""
    if loop.op_type != "Loop":
        return False
    count, condition = loop.inputs[0], loop.inputs[1]
    trips = constants.array(count) if count is not None else None
    starts = constants.array(condition) if condition is not None else None
    at_least_once = count is None or (trips is not None and trips.size == 1 and trips.item() >= 1)
    return at_least_once and (condition is None or (starts is not None and bool(starts.all())))


def _is_invariant(node: ir.Node, inside: set[ir.Value]) -> bool:
    """Pure, from outer values only, and worth it: a Constant is no work, and an output of the body stays."""
    if node.op_type == "Constant" or any(v is not None and v in inside for v in node.inputs):
        return False
    if any(v.is_graph_output() for v in node.outputs) or not facts.is_pure(node):
        return False
    return not any(_captures(body, inside) for body in bodies(node))


def _captures(body: ir.Graph, inside: set[ir.Value]) -> bool:
    return any(
        v in inside or any(_captures(b, inside) for b in bodies(inner))
        for inner in body
        for v in inner.inputs
        if v is not None
    ) or any(v in inside for v in body.outputs)


def _can_fail(node: ir.Node) -> bool:
    if facts.can_fail(node):
        return True
    return any(_can_fail(inner) for body in bodies(node) for inner in body)


def _hoist(scope: Scope, node: ir.Node, owner: ir.Node) -> None:
    if any(v is not None and v.is_initializer() and v.graph is scope.graph for v in node.inputs):
        lift_initializers(scope.editor, scope.graph)
    scope.editor.move(node, owner)

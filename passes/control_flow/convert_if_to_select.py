"""Compute both small branches of an If and choose between the results.

    before   y = If(c) { then: Less(a, b), else: false }
    after    y = And(c, Less(a, b))

An If costs a runtime more than a few scalar operators. Both branches are computed, so they must be pure,
unable to fail, and tiny.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from graphopt.ir import constants, facts
from graphopt.rewriting import Pass, Scope, op
from graphopt.rewriting.bodies import inline_body

# Computed in vain at the worst: three scalar operators take onnxruntime less than one If (1.5 us measured).
MOST_NODES = 3
MOST_ELEMENTS = 64


@dataclass(frozen=True)
class ConvertIfToSelect(Pass):
    """Replace an If over tiny pure branches by And, Or or Where."""

    name = "convert-if-to-select"
    family = "control_flow"
    marks_steps = True

    def run(self, scope: Scope) -> None:
        for node in scope.nodes("If"):
            if len(node.outputs) == 1 and _is_small(scope, node) and scope.fire(node, "select"):
                _select(scope, node)


def _is_small(scope: Scope, node: ir.Node) -> bool:
    branches = [node.attributes[name].as_graph() for name in ("then_branch", "else_branch")]
    work = [n for branch in branches for n in branch if n.op_type != "Constant"]
    if len(work) > MOST_NODES or not all(facts.is_pure(n) and not facts.can_fail(n) for n in work):
        return False
    condition = node.inputs[0]
    tested = scope.facts.dims(condition) if condition is not None else None
    first, second = (branch.outputs[0] for branch in branches)
    dims = scope.facts.dims(first)
    if tested is None or dims is None or dims != scope.facts.dims(second) or len(tested) > len(dims):
        return False
    if any(d != 1 for d in tested) or scope.facts.dtype(first) != scope.facts.dtype(second):
        return False
    sizes = [d for d in dims if isinstance(d, int)]
    return len(sizes) == len(dims) and 0 < int(np.prod(sizes)) <= MOST_ELEMENTS


def _select(scope: Scope, node: ir.Node) -> None:
    editor = scope.editor
    chosen = [
        inline_body(editor, node.attributes[name].as_graph(), node)[0]
        for name in ("then_branch", "else_branch")
    ]
    condition = node.inputs[0]
    assert condition is not None
    known = [constants.array(value) for value in chosen]
    with scope.rewriting(node, "select") as draft:
        if known[1] is not None and known[1].dtype == bool and not known[1].any():
            result = op.And(condition, chosen[0])
        elif known[0] is not None and known[0].dtype == bool and known[0].all():
            result = op.Or(condition, chosen[1])
        else:
            result = op.Where(condition, *chosen)
        draft.replace(node, result)

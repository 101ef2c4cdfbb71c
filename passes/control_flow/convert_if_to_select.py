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

# Element types for which every runtime has a Where; of bools, only what And and Or can say is chosen.
SELECTABLE = (ir.DataType.FLOAT, ir.DataType.DOUBLE, ir.DataType.INT32, ir.DataType.INT64)


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
    if scope.facts.dtype(first) not in SELECTABLE and not _is_logical(condition, first, second):
        return False
    sizes = [d for d in dims if isinstance(d, int)]
    return len(sizes) == len(dims) and 0 < int(np.prod(sizes)) <= MOST_ELEMENTS


def _is_logical(condition: ir.Value | None, first: ir.Value, second: ir.Value) -> bool:
    """Whether the choice is an And (the else branch gives false) or an Or (the then branch gives true)."""
    return condition is not None and (_gives(second, False, condition) or _gives(first, True, condition))


def _gives(value: ir.Value, constant: bool, condition: ir.Value) -> bool:
    """Whether a branch's result is this constant; the condition itself is, in the branch that it leads to."""
    producer = value.producer()
    while producer is not None and producer.op_type == "Identity" and producer.inputs[0] is not None:
        value = producer.inputs[0]
        producer = value.producer()
    array = constants.array(value)
    if array is not None:
        return array.dtype == bool and bool((array == constant).all())
    return value is condition


def _select(scope: Scope, node: ir.Node) -> None:
    editor = scope.editor
    condition = node.inputs[0]
    assert condition is not None
    branches = [node.attributes[name].as_graph() for name in ("then_branch", "else_branch")]
    ends_false = _gives(branches[1].outputs[0], False, condition)
    ends_true = _gives(branches[0].outputs[0], True, condition)
    first, second = (inline_body(editor, branch, node)[0] for branch in branches)
    with scope.rewriting(node, "select") as draft:
        if ends_false:
            result = op.And(condition, first)
        elif ends_true:
            result = op.Or(condition, second)
        else:
            result = op.Where(condition, first, second)
        draft.replace(node, result)

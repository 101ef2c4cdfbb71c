"""Put the branch that is always taken in the place of an If.

    before   y = If(true) { then: Relu(x), else: Abs(x) }
    after    y = Relu(x)

The condition is a constant, or a value whose contents are known from shapes (`x.dim(1) == 1`).
"""

from __future__ import annotations

from dataclasses import dataclass

import onnx_ir as ir

from graphopt.ir import constants
from graphopt.rewriting import Pass, Scope
from graphopt.rewriting.bodies import as_own_value, inline_body


@dataclass(frozen=True)
class InlineIf(Pass):
    """Inline the branch of an If whose condition is known."""

    name = "inline-if"
    family = "control_flow"
    marks_steps = True

    def run(self, scope: Scope) -> None:
        """Bodies come before the graphs that hold them, so nested Ifs are inlined from the inside."""
        for node in scope.nodes("If"):
            taken = _known_condition(scope, node.inputs[0])
            if taken is not None and scope.fire(node, "known-condition"):
                _inline(scope, node, "then_branch" if taken else "else_branch")


def _known_condition(scope: Scope, condition: ir.Value | None) -> bool | None:
    if condition is None:
        return None
    array = constants.array(condition)
    if array is not None:
        return bool(array.reshape(-1)[0]) if array.size == 1 else None
    elements = scope.facts.elements(condition)
    known = elements is not None and len(elements) == 1 and isinstance(elements[0], bool)
    return bool(elements[0]) if known and elements is not None else None


def _inline(scope: Scope, node: ir.Node, branch: str) -> None:
    editor = scope.editor
    body = node.attributes[branch].as_graph()
    made_inside = {value for inner in body for value in inner.outputs}
    taken: set[ir.Value] = set()
    for old, new in zip(node.outputs, inline_body(editor, body, node), strict=True):
        # A graph output takes the name; one value can give its name once, and an outer one not at all.
        if old.is_graph_output() and (new not in made_inside or new in taken):
            new = as_own_value(editor, new, node)
        taken.add(new)
        scope.replace(old, new)
    scope.remove(node)

"""Use one value for sizes that are provably the same, however they were computed.

    before   n = Div(Add(Gather(Shape(x), 1), 2), 3); m = Gather(Shape(y), 1)      where y has n rows
    after    n = Div(Add(Gather(Shape(x), 1), 2), 3)                               m is n

Common subexpressions need the same operators; here the contents are compared, as expressions over dims.
Done at the end: before, a size computed where it is needed leaves fusions more freedom.
"""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass

import onnx_ir as ir

from graphopt.ir import constants, facts
from graphopt.rewriting import Pass, Scope

# Longer ones are weights or tables; their contents are not followed.
MOST_ELEMENTS = 8


@dataclass(frozen=True)
class MergeEqualSizes(Pass):
    """Merge integers that are provably equal expressions over dims."""

    name = "merge-equal-sizes"
    family = "shapes"
    stage = "target"
    marks_steps = True

    def run(self, scope: Scope) -> None:
        """In graph order: the first value stands before every consumer of the later ones."""
        first: dict[Hashable, ir.Value] = {}
        for node in scope.nodes():
            if len(node.outputs) != 1 or node.graph is None or not facts.is_pure(node):
                continue
            value = node.outputs[0]
            key = _contents(scope, value)
            if key is None:
                continue
            known = first.get(key, value)
            producer = known.producer()
            if producer is None or producer.graph is None:
                known = value  # Only what has gone since needed it: it went as well.
            first[key] = known
            if known is not value and not value.is_graph_output() and scope.fire(node, "equal"):
                scope.replace(value, known)
                scope.remove(node)


def _contents(scope: Scope, value: ir.Value) -> Hashable | None:
    """What identifies the contents: known elements that are not all numbers; None without them."""
    dtype = scope.facts.dtype(value)
    if dtype not in (ir.DataType.INT64, ir.DataType.INT32) or constants.constant(value) is not None:
        return None
    elements, dims = scope.facts.elements(value), scope.facts.dims(value)
    if elements is None or not 0 < len(elements) <= MOST_ELEMENTS or any(e is None for e in elements):
        return None
    if all(isinstance(e, int) for e in elements):
        return None
    return dtype, dims, elements

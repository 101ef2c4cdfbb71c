"""Take back declared shapes that are not proven, where exporters are known to be wrong.

    before   Loop body: cache is declared [1, 0, 256] but grows with every step
    after    Loop body: cache is declared [1, ?, 256]

torch's exporter declares what a Loop carries with the shapes of its first step. Nothing here believes that,
but onnxruntime plans its memory by it as soon as it can infer the shapes around it, and then fails at run
time. So bodies, and graphs that have some, keep only what is proven; elsewhere only contradictions go. The
signature stays as it is.
"""

from __future__ import annotations

from dataclasses import dataclass

import onnx_ir as ir

from graphopt.ir.dims import Dim
from graphopt.ir.graphs import bodies
from graphopt.rewriting import Pass, Scope


def _declared(value: ir.Value) -> list[int | None] | None:
    return None if value.shape is None else [d if isinstance(d, int) else None for d in value.shape]


def _corrected(declared: list[int | None], proven: tuple[Dim, ...] | None) -> list[int | None] | None:
    """What may stay of a declared shape."""
    if proven is None or len(proven) != len(declared):
        return None
    return [d if isinstance(d, int) else None for d in proven]


def _contradicts(declared: list[int | None], proven: tuple[Dim, ...] | None) -> bool:
    if proven is None:
        return False
    return len(declared) != len(proven) or any(
        d is not None and isinstance(p, int) and d != p for d, p in zip(declared, proven, strict=True)
    )


@dataclass(frozen=True)
class CorrectDeclaredShapes(Pass):
    """Take back declared shapes of inner values that are wrong, or in loops not proven."""

    name = "correct-declared-shapes"
    family = "cleanup"
    stage = "open"

    def run(self, scope: Scope) -> None:
        graph, is_body = scope.graph, scope.region.owner is not None
        if scope.region.function is not None:
            return
        nodes = scope.nodes()
        strict = is_body or any(bodies(node) for node in nodes)
        values = list(graph.inputs) if is_body else []
        values += [v for node in nodes for v in node.outputs if is_body or not v.is_graph_output()]
        for value in values:
            declared = _declared(value)
            if declared is None:
                continue
            proven = scope.facts.dims(value)
            if strict or _contradicts(declared, proven):
                corrected = _corrected(declared, proven)
                if corrected != declared:
                    value.shape = None if corrected is None else ir.Shape(corrected)

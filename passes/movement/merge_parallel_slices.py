"""Make one Split of several Slices of a value.

    before   x[b,t,12] -> x[:, :, 0:4], x[:, :, 4:8], x[:, :, 8:12]
    after    Split(x, [4, 4, 4], axis=2)

What no slice keeps becomes a part that nothing uses; it is copied for nothing, so it may not be more than
the slices keep.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import onnx_ir as ir

from graphopt.ir.cuts import cuts_of
from graphopt.rewriting import Pass, Scope, op


@dataclass(frozen=True, slots=True)
class _Part:
    """A slice along one axis of known size."""

    value: ir.Value
    start: int
    end: int


def _part(node: ir.Node, scope: Scope) -> tuple[int, _Part] | None:
    """The axis and the part that a Slice keeps of its input."""
    cuts = cuts_of(node, scope.facts, scope.opset)
    if cuts is None or len(cuts) != 1 or cuts[0].step != 1:
        return None
    start, end = cuts[0].start, cuts[0].end
    if not isinstance(start, int) or not isinstance(end, int) or end <= start:
        return None
    return cuts[0].axis, _Part(node.outputs[0], start, end)


def _sizes(parts: list[_Part], size: int) -> list[int] | None:
    """Sizes of a Split that has all the parts, in order; None where they overlap or leave out too much."""
    bounds = [0]
    kept = 0
    for part in parts:
        if part.start < bounds[-1]:
            return None
        bounds += [part.start, part.end] if part.start > bounds[-1] else [part.end]
        kept += part.end - part.start
    if bounds[-1] < size:
        bounds.append(size)
    return [b - a for a, b in pairwise(bounds)] if 2 * kept >= size else None


@dataclass(frozen=True)
class MergeParallelSlices(Pass):
    """Make one Split of several Slices that take a value apart."""

    name = "merge-parallel-slices"
    family = "movement"
    # Rotary embeddings are recognised by their halves.
    stage = "target"
    marks_steps = True

    def run(self, scope: Scope) -> None:
        found: dict[tuple[ir.Value, int], list[_Part]] = {}
        for node in scope.nodes("Slice"):
            source = node.inputs[0]
            if source is None or len(source.uses()) < 2:
                continue
            part = _part(node, scope)
            if part is not None:
                found.setdefault((source, part[0]), []).append(part[1])
        for (source, axis), parts in found.items():
            if len(parts) >= 2:
                self._merge(scope, source, axis, parts)

    def _merge(self, scope: Scope, source: ir.Value, axis: int, parts: list[_Part]) -> None:
        dims = scope.facts.dims(source)
        size = dims[axis] if dims is not None else None
        # The first in the graph: all others come behind it.
        first = parts[0].value.producer()
        parts.sort(key=lambda part: part.start)
        sizes = _sizes(parts, size) if isinstance(size, int) else None
        if sizes is None or first is None:
            return
        with scope.rewriting(before=first, rule="one-split") as draft:
            outputs = op.Split(source, sizes, axis=axis, outputs=len(sizes))
            starts = [sum(sizes[:i]) for i in range(len(sizes))]
            for part in parts:
                draft.replace(part.value, outputs[starts.index(part.start)])

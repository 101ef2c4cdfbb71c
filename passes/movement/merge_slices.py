"""Make one Slice of a Slice of a Slice, and one Gather of a Slice that keeps one element.

    before   Slice(Slice(x, rows 2:), columns 1:5)       Squeeze(Slice(x, 3:4), 0)
    after    Slice(x, rows 2:, columns 1:5)              Gather(x, 3, axis=0)

A Slice of a shared Slice reads the source too: that takes as many nodes and one step less, and where each
consumer does so the shared one is gone.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from graphopt.ir.attributes import axes_of
from graphopt.ir.cuts import TO_THE_END, Cut, cuts_of, is_slice, spelled_end, spelled_start
from graphopt.ir.dims import Dim, minimum
from graphopt.rewriting import HAS_OTHER_CONSUMERS, Match, Pass, Rejection, constant, op, rule_on

UNKNOWN_BOUNDS = "the bounds of a slice are not known from the front"
NEEDS_RUN = "a bound of the one slice depends on the run"

# Gather takes negative indices since then.
NEGATIVE_INDICES_SINCE = 11


@rule_on("Slice", depth=2)
def slice_of_slice(m: Match) -> ir.Value | Rejection | None:
    """Slice(Slice(x)) -> Slice(x)."""
    inner = m.root.inputs[0].producer() if m.root.inputs[0] is not None else None
    if inner is None or not is_slice(inner) or inner.graph is not m.root.graph:
        return None
    source = inner.inputs[0]
    dims = m.dims(source) if source is not None else None
    first, second = cuts_of(inner, m.facts, m.opset), cuts_of(m.root, m.facts, m.opset)
    if first is None or second is None or dims is None:
        return Rejection(UNKNOWN_BOUNDS, m.output)
    bounds = []
    cuts = {cut.axis: cut for cut in first}
    for cut in second:
        cuts[cut.axis] = _after(cuts[cut.axis], cut) if cut.axis in cuts else cut
    for axis, cut in sorted(cuts.items()):
        start, end = spelled_start(cut.start, dims[axis]), spelled_end(cut.end, dims[axis])
        if start is None or end is None:
            return Rejection(NEEDS_RUN, m.output)
        bounds.append((start, end, axis, cut.step))
    if not bounds:
        return source
    starts, ends, axes, steps = (list(column) for column in zip(*bounds, strict=True))
    if all(step == 1 for step in steps):
        return op.Slice(source, starts, ends, axes)
    return op.Slice(source, starts, ends, axes, steps) if m.opset >= 10 else None


def _after(inner: Cut, outer: Cut) -> Cut:
    """What a cut of what a cut left keeps of the source."""
    start = inner.start + outer.start * inner.step
    # The last of the inner steps may reach over its end.
    end = minimum(inner.start + outer.end * inner.step, inner.end) if inner.step > 1 else None
    return Cut(inner.axis, start, inner.start + outer.end if end is None else end, inner.step * outer.step)


@rule_on("Squeeze", depth=2)
def slice_of_one(m: Match) -> ir.Value | Rejection | None:
    """Squeeze(Slice(x, i:i+1)) -> Gather(x, i)."""
    node = m.root.inputs[0].producer() if m.root.inputs[0] is not None else None
    if node is None or not is_slice(node):
        return None
    axes, cuts = axes_of(m.root, m.opset), cuts_of(node, m.facts, m.opset)
    source = node.inputs[0]
    dims = m.dims(source) if source is not None else None
    if cuts is None or dims is None:
        return Rejection(UNKNOWN_BOUNDS, m.output)
    if axes is None or len(axes) != 1 or len(cuts) != 1 or axes[0] % len(dims) != cuts[0].axis:
        return None
    if not m.has_one_consumer(node.outputs[0]):
        return Rejection(HAS_OTHER_CONSUMERS, node.outputs[0])
    index = _index(cuts[0], dims[cuts[0].axis])
    if index is None or (index < 0 and m.opset < NEGATIVE_INDICES_SINCE):
        return Rejection(NEEDS_RUN, m.output)
    return op.Gather(source, constant(np.array(index, np.int64)), axis=cuts[0].axis)


def _index(cut: Cut, size: Dim) -> int | None:
    """The one place that is kept, wherever Squeeze is legal behind the cut: there is exactly one."""
    start, end = spelled_start(cut.start, size), spelled_end(cut.end, size)
    if start is None or end is None:
        return None
    if start < 0:
        end = 0 if end == TO_THE_END else end
    # Counted from the same side, they are as far apart as there are places, or farther.
    return start if (start < 0) == (end <= 0) and end - start <= cut.step else None


@rule_on("Split", depth=1)
def split_into_ones(m: Match) -> dict[ir.Value, ir.Value] | None:
    """Squeeze of each part of a Split into parts of one -> a Gather each."""
    dims = m.dims(m.root.inputs[0]) if m.root.inputs[0] is not None else None
    axis = m.attribute(m.root, "axis")
    if dims is None or not isinstance(axis, int):
        return None
    axis %= max(len(dims), 1)
    found: dict[ir.Value, int] = {}
    for i, part in enumerate(m.root.outputs):
        part_dims = m.dims(part)
        if part.is_graph_output() or part_dims is None or part_dims[axis] != 1:
            return None
        for use in part.uses():
            if use.node.op_type != "Squeeze" or use.node.domain != "" or use.node.graph is not m.root.graph:
                return None
            axes = axes_of(use.node, m.opset)
            if axes is None or len(axes) != 1 or axes[0] % len(dims) != axis:
                return None
            found[use.node.outputs[0]] = i
    return {
        old: op.Gather(m.root.inputs[0], constant(np.array(i, np.int64)), axis=axis)
        for old, i in found.items()
    }


@dataclass(frozen=True)
class MergeSlices(Pass):
    """Make one Slice of a chain of Slices, and one Gather of a Slice that keeps one element."""

    name = "merge-slices"
    family = "movement"
    rules = (slice_of_slice, slice_of_one, split_into_ones)

"""Make a Split of a sequence that is only taken apart again.

before   s = SplitToSequence(x, 256, axis=2);  SequenceAt(s, 0), SequenceAt(s, 1), SequenceAt(s, 2)
after    Split(x, [256, 256, 256], axis=2)
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from graphopt.ir.operands import input_of
from graphopt.rewriting import Match, Pass, Rejection, constant, op, rule_on

UNKNOWN_SIZES = "the sizes of the parts are not known"
OTHER_USE = "the sequence is used for more than its elements at known places"


@rule_on("SplitToSequence", depth=1)
def elements_of_split(m: Match) -> dict[ir.Value, ir.Value] | Rejection:
    """SequenceAt(SplitToSequence(x), i) -> Split(x)[i]."""
    sizes = _sizes(m)
    if sizes is None:
        return Rejection(UNKNOWN_SIZES, m.output)
    places: dict[ir.Value, int] = {}
    for use in m.output.uses():
        index = m.scalar(use.node.inputs[1]) if use.node.op_type == "SequenceAt" else None
        if index is None or not -len(sizes) <= index < len(sizes) or use.node.domain != "":
            return Rejection(OTHER_USE, m.output)
        places[use.node.outputs[0]] = int(index) % len(sizes)
    if not places or m.output.is_graph_output():
        return Rejection(OTHER_USE, m.output)
    axis = m.attribute(m.root, "axis", 0)
    # `keepdims` is of no account where sizes are given.
    if len(m.root.inputs) > 1 or m.attribute(m.root, "keepdims", 1):
        if len(sizes) == 1:
            return {old: m.root.inputs[0] for old in places if m.root.inputs[0] is not None}
        parts = op.Split(m.root.inputs[0], sizes, axis=axis, outputs=len(sizes))
        return {old: parts[place] for old, place in places.items()}
    return {
        old: op.Gather(m.root.inputs[0], constant(np.array(place, np.int64)), axis=axis)
        for old, place in places.items()
    }


def _sizes(m: Match) -> list[int] | None:
    """The sizes of the parts along the axis."""
    dims = m.dims(m.root.inputs[0]) if m.root.inputs[0] is not None else None
    axis = m.attribute(m.root, "axis", 0)
    split = input_of(m.root, 1)
    if dims is None or not isinstance(axis, int):
        return None
    size = dims[axis]
    if split is None:
        return [1] * size if isinstance(size, int) and size <= 64 else None
    array = m.array(split)
    if array is None:
        return None
    if array.ndim:
        return [int(n) for n in array]
    chunk = int(array)
    if not isinstance(size, int) or chunk < 1 or size < 1:
        return None
    starts = [*range(0, size, chunk), size]
    return [b - a for a, b in itertools.pairwise(starts)]


@dataclass(frozen=True)
class MergeSequences(Pass):
    """Make a Split of a SplitToSequence whose elements are taken at known places."""

    name = "merge-sequences"
    family = "movement"
    rules = (elements_of_split,)

"""Make one Gather of a region of Slices, Concats, Transposes and Reshapes.

    before   x[b,784,48] -> Reshape(b,28,28,48) -> roll by 3 -> windows of 7x7 -> y[16*b,49,48]
    after    Reshape(Gather(x, table, axis=1), -1, 49, 48)

Window partition, roll and patch merging of vision transformers select rows of channels. A Gather copies each
row once, however many steps the region took; it is written where that takes fewer nodes and fewer copies, and
where a row is long enough to be worth a copy of its own.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from graphopt.ir.dims import product
from graphopt.ir.operands import producer_of
from graphopt.ir.relabelling import RELABELLINGS, Relabelling, relabelling
from graphopt.ir.selections import SELECTING, Selection, selection_of
from graphopt.rewriting import HAS_OTHER_CONSUMERS, Match, Pass, Rejection, constant, op, rule_on
from graphopt.rewriting.relabels import written

NEEDS_RUN = "the shape of the result would have to be computed"

# Nodes above the last one at which a change may matter; a roll and a window partition take 8.
FARTHEST = 10

# Fewer nodes that copy take less time than a Gather: windows of 7x7 by one Transpose 72 us, by a Gather
# 96 us; with a roll before it 199 us against 108 us (8 images of 28x28x48 in onnxruntime, one thread).
FEWEST_COPIES = 2

# Elements of a row below which copying rows one by one costs more than a Transpose.
SHORTEST_ROW = 16


@rule_on(*SELECTING, depth=FARTHEST)
def one_gather(m: Match) -> ir.Value | Rejection | None:
    """Reshape(Transpose(Concat(Slice(x), Slice(x)))) -> Reshape(Gather(x, table))."""
    if m.root.op_type in RELABELLINGS and not _is_selecting(m.root.inputs[0]):
        return None
    if len(m.root.outputs) > 1 or not m.output.name or _continues(m):
        return None
    selection = selection_of(m.root, m.facts, m.opset)
    if selection is None or len(selection.nodes) < 2:
        return None
    written_again = _spelled(m, selection)
    if written_again is None:
        return Rejection(NEEDS_RUN, m.output)
    before, after = written_again
    is_identity = np.array_equal(selection.table, np.arange(selection.rows))
    copies = sum(node.op_type not in RELABELLINGS for node in selection.nodes)
    if not is_identity and (selection.row < SHORTEST_ROW or copies < FEWEST_COPIES):
        return None
    count = bool(before.op_type) + bool(after.op_type) + (not is_identity)
    if count >= _removed(selection):
        return Rejection(HAS_OTHER_CONSUMERS, m.output)
    rows = written(selection.source, before)
    if not is_identity:
        rows = op.Gather(rows, constant(selection.table.astype(np.int32)), axis=len(selection.carried))
    return written(rows, after)


def _is_selecting(value: ir.Value | None) -> bool:
    return producer_of(value, *SELECTING) is not None


def _continues(m: Match) -> bool:
    """Whether the region goes on below: it is looked at from its last node."""
    if not m.has_one_consumer(m.output):
        return False
    (use,) = m.output.uses()
    inside = use.node.op_type in SELECTING and use.node.domain == "" and use.node.graph is m.root.graph
    return inside and (use.idx == 0 or use.node.op_type == "Concat")


def _spelled(m: Match, selection: Selection) -> tuple[Relabelling, Relabelling] | None:
    """The relabellings before and after the Gather; None where a shape would have to be computed."""
    dims, result = m.dims(selection.source), m.dims(m.output)
    if dims is None or result is None:
        return None
    before = relabelling(dims, (*selection.carried, selection.rows, selection.row), m.opset)
    rows = (*selection.carried, selection.table.size, selection.row)
    after = relabelling(rows, result, m.opset) if product(rows) == product(result) else None
    return None if before is None or after is None else (before, after)


def _removed(selection: Selection) -> int:
    """How many nodes of the region nothing else needs."""
    gone = {selection.nodes[0]}
    for node in selection.nodes[1:]:
        used = [use.node for value in node.outputs for use in value.uses()]
        if all(user in gone for user in used) and not any(v.is_graph_output() for v in node.outputs):
            gone.add(node)
    return len(gone)


@dataclass(frozen=True)
class MergeSelections(Pass):
    """Make one Gather of a region of Slices, Concats, Transposes and Reshapes."""

    name = "merge-selections"
    family = "movement"
    # Heads of attention, made by Reshapes and Transposes, are recognised first.
    stage = "target"
    rules = (one_gather,)

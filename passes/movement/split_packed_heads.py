"""Take queries, keys and values from where they are packed by one Split.

    before   t = Transpose(Reshape(x, b t 3 h d), 2 0 3 1 4);  Attention(t[0], t[1], t[2])
    after    q, k, v = Split(x, axis=2);  Attention(q, k, v, q_num_heads=h, kv_num_heads=h), heads split again

Vision transformers project all three at once. The heads that Attention has merged are split for those who
read them; mostly they merge them too, and nothing is left.
"""

from __future__ import annotations

from dataclasses import dataclass

import onnx_ir as ir

from graphopt.ir.operands import producer_of
from graphopt.rewriting import HAS_OTHER_CONSUMERS, Match, Pass, Rejection, op, rule_on

NOT_PACKED = "queries, keys and values do not lie one after the other in a last axis"

# (batch, length, 3, heads, size) -> (3, batch, heads, length, size)
PARTS_IN_FRONT = (2, 0, 3, 1, 4)
HEADS_IN_FRONT = (0, 2, 1, 3)


@rule_on("Attention", depth=4)
def packed_heads(m: Match) -> ir.Value | Rejection | None:
    """Attention(t[0], t[1], t[2]) -> Attention(Split(x))."""
    taken = [_taken(m, value) for value in m.root.inputs[:3]]
    first = taken[0]
    if first is None or len(taken) < 3 or len(m.root.inputs) > 4 or len(m.root.outputs) > 1:
        return None
    transposed = first[0]
    if any(part is None or part[0] is not transposed for part in taken):
        return None
    parts = [part[1] for part in taken if part is not None]
    if sorted(parts) != [0, 1, 2] or len(transposed.uses()) > 3 or transposed.is_graph_output():
        return Rejection(HAS_OTHER_CONSUMERS, transposed)
    found = _packed(m, transposed)
    if found is None:
        return Rejection(NOT_PACKED, transposed)
    source, heads, size = found
    split = op.Split(source, [heads * size] * 3, axis=2, outputs=3)
    query, keys, values = (split[part] for part in parts)
    attributes = {**m.root.attributes, "q_num_heads": heads, "kv_num_heads": heads}
    joined = op.Attention(query, keys, values, *m.root.inputs[3:], **attributes)
    return op.Transpose(op.Reshape(joined, [0, 0, heads, size]), perm=list(HEADS_IN_FRONT))


def _taken(m: Match, value: ir.Value | None) -> tuple[ir.Value, int] | None:
    """The value of which this is one place on axis 0, and the place."""
    node = producer_of(value, "Gather")
    if node is None or value is None:
        return None
    index, axis = m.scalar(node.inputs[1]), m.attribute(node, "axis")
    if index is None or m.rank(node.inputs[1]) != 0 or axis != 0 or not m.has_one_consumer(value):  # type: ignore[arg-type]
        return None
    source = node.inputs[0]
    return (source, int(index) % 3) if source is not None and node.graph is m.root.graph else None


def _packed(m: Match, transposed: ir.Value) -> tuple[ir.Value, int, int] | None:
    """The value that all three are packed in, how many heads there are, and their size."""
    node = transposed.producer()
    if node is None or node.op_type != "Transpose" or m.attribute(node, "perm") != PARTS_IN_FRONT:
        return None
    cut = node.inputs[0]
    reshape = cut.producer() if cut is not None else None
    if reshape is None or cut is None or reshape.op_type != "Reshape" or not m.has_one_consumer(cut):
        return None
    source = reshape.inputs[0]
    before, after = (m.dims(v) if v is not None else None for v in (source, cut))
    if source is None or before is None or after is None or len(before) != 3 or len(after) != 5:
        return None
    heads, size = after[3], after[4]
    if after[2] != 3 or not isinstance(heads, int) or not isinstance(size, int):
        return None
    return (source, heads, size) if before == (after[0], after[1], 3 * heads * size) else None


@dataclass(frozen=True)
class SplitPackedHeads(Pass):
    """Take queries, keys and values for Attention from where they are packed by one Split."""

    name = "split-packed-heads"
    family = "movement"
    stage = "attention"
    level = 2
    bound = "bit-exact where Attention is; runtimes may order the sums of merged heads in another way"
    rules = (packed_heads,)

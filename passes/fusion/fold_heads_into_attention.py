"""Let Attention split and merge the heads by itself.

    before   Reshape(Transpose(Attention(Transpose(Reshape(x)), ...)))     (batch, heads, length, size) inside
    after    Attention(x, ..., q_num_heads=h, kv_num_heads=g)              (batch, length, heads * size)

All three of queries, keys and values must be split right before, and the result merged right after.
"""

from __future__ import annotations

from dataclasses import dataclass

import onnx_ir as ir

from graphopt.ir.dims import Dim
from graphopt.rewriting import HAS_OTHER_CONSUMERS, Match, Pass, Rejection, op, rule_on

HEADS_IN_FRONT = (0, 2, 1, 3)
NOT_SPLIT = "queries, keys or values are not split into heads right before"
NOT_MERGED = "the heads are not merged right after"


def _transposed(m: Match, value: ir.Value | None) -> ir.Value | None:
    """What a (0, 2, 1, 3) transpose is of."""
    node = value.producer() if value is not None else None
    if node is None or node.op_type != "Transpose" or node.domain != "":
        return None
    return node.inputs[0] if m.attribute(node, "perm") == HEADS_IN_FRONT else None


def _joined(m: Match, value: ir.Value | None) -> tuple[ir.Value, int] | None:
    """Before the split into heads: (batch, length, heads * size), and the number of heads."""
    if value is None:
        return None
    split = _transposed(m, value)
    reshape = (split or value).producer()
    if reshape is None or reshape.op_type != "Reshape" or reshape.domain != "":
        return None
    source = reshape.inputs[0]
    before, after = (m.dims(source) if source is not None else None), m.dims(value)
    if source is None or before is None or after is None or len(before) != 3 or len(after) != 4:
        return None
    batch, heads, length, size = after
    if split is None and 1 not in (heads, length):
        return None
    if not isinstance(heads, int) or not isinstance(size, int) or before != (batch, length, heads * size):
        return None
    return source, heads


def _merges(m: Match, target: ir.Value, inner: tuple[Dim, ...]) -> bool:
    """Whether a Reshape output is (batch, length, heads * size) of these (batch, heads, length, size)."""
    if len(inner) != 4:
        return False
    batch, heads, length, size = inner
    return m.dims(target) == (batch, length, heads * size)


@rule_on("Reshape", opset=23, depth=5)
def heads_into_attention(m: Match) -> ir.Value | dict[ir.Value, ir.Value] | Rejection | None:
    """Reshape(Transpose(Attention(split q, split k, split v))) -> Attention(q, k, v, heads)."""
    merged = m.root.inputs[0]
    # A transpose of one head, or of one query, is a Reshape: it went into the one that merges.
    inner = _transposed(m, merged) or merged
    node = inner.producer() if inner is not None else None
    if merged is None or inner is None or node is None or node.op_type != "Attention" or node.domain != "":
        return None
    if not (m.has_one_consumer(inner) and m.has_one_consumer(merged)) or node.graph is not m.root.graph:
        return Rejection(HAS_OTHER_CONSUMERS, inner)
    dims = m.dims(inner)
    if dims is None or not _merges(m, m.output, dims) or (inner is merged and 1 not in dims[1:3]):
        return Rejection(NOT_MERGED, m.output)
    parts = [_joined(m, node.inputs[i]) for i in range(3)]
    if any(part is None for part in parts):
        return Rejection(NOT_SPLIT, node.outputs[0])
    (query, q_heads), (keys, kv_heads), (values, v_heads) = (part for part in parts if part is not None)
    if kv_heads != v_heads:
        return Rejection(NOT_SPLIT, node.outputs[0])
    attributes: dict[str, object] = {**node.attributes, "q_num_heads": q_heads, "kv_num_heads": kv_heads}
    made = op.Attention(query, keys, values, *node.inputs[3:], outputs=len(node.outputs), **attributes)
    return {m.output: made[0], **dict(zip(node.outputs[1:], made[1:], strict=False))}


@dataclass(frozen=True)
class FoldHeadsIntoAttention(Pass):
    """Fold the splitting and merging of heads into Attention."""

    name = "fold-heads-into-attention"
    family = "fusion"
    stage = "attention"
    level = 2
    rules = (heads_into_attention,)

"""Let Attention split and merge the heads by itself.

    before   Reshape(Transpose(Attention(Transpose(Reshape(x)), ...)))     (batch, heads, length, size) inside
    after    Attention(x, ..., q_num_heads=h, kv_num_heads=g)              (batch, length, heads * size)

All three of queries, keys and values must be split: right before, or before their rotation (RotaryEmbedding
splits heads too). Where something stands between Reshape and Transpose, a Reshape takes the place of the
Transpose. With channels in front of the length, (batch, heads * size, length), one Transpose each is left.
"""

from __future__ import annotations

from dataclasses import dataclass

import onnx_ir as ir

from graphopt.ir.dims import Dim, if_not_empty
from graphopt.ir.operands import producer_of
from graphopt.rewriting import HAS_OTHER_CONSUMERS, Match, Pass, Rejection, op, rule_on

__all__ = ["FoldHeadsIntoAttention"]

HEADS_IN_FRONT = (0, 2, 1, 3)
LENGTH_LAST = (0, 1, 3, 2)
NOT_SPLIT = "queries, keys or values are not split into heads right before"
NOT_MERGED = "the heads are not merged right after"


def _dims(m: Match, value: ir.Value | None) -> tuple[Dim, ...]:
    """Dims as they are where nothing is empty; () where they are not known."""
    return tuple(if_not_empty(d) for d in (m.dims(value) if value is not None else None) or ())


def _transposed(m: Match, value: ir.Value | None, perm: tuple[int, ...]) -> ir.Value | None:
    """What a transpose with this order is of."""
    node = producer_of(value, "Transpose")
    return node.inputs[0] if node is not None and m.attribute(node, "perm") == perm else None


def _joined(m: Match, value: ir.Value | None) -> ir.Value | None:
    """What (batch, heads, length, size) was split from, (batch, length, heads * size); no operator more."""
    dims = _dims(m, value)
    if value is None or len(dims) != 4:
        return None
    batch, heads, length, size = dims
    if not isinstance(heads, int) or not isinstance(size, int):
        return None
    is_own = m.has_one_consumer(value) and value.graph is m.root.graph
    rotation = producer_of(value, "RotaryEmbedding")
    if rotation is not None:
        inner = _joined(m, rotation.inputs[0]) if is_own else None
        if inner is None:
            return None
        return op.RotaryEmbedding(inner, *rotation.inputs[1:], **{**rotation.attributes, "num_heads": heads})
    split = _transposed(m, value, HEADS_IN_FRONT)
    if split is not None or 1 in (heads, length):
        reshape = producer_of(split or value, "Reshape", "Unsqueeze")
        if reshape is not None and _dims(m, reshape.inputs[0]) == (batch, length, heads * size):
            return reshape.inputs[0]
    if split is not None and is_own:
        return op.Reshape(split, [0, 0, heads * size])
    split = _transposed(m, value, LENGTH_LAST)
    reshape = producer_of(split, "Reshape")
    if reshape is None or not is_own or _dims(m, reshape.inputs[0]) != (batch, heads * size, length):
        return None
    return op.Transpose(reshape.inputs[0], perm=(0, 2, 1))


@dataclass(frozen=True, slots=True)
class _Merge:
    """How the heads are merged: the output of Attention, and what is left to do with joined heads."""

    inner: ir.Value
    perm: tuple[int, ...] | None = None
    is_reshaped: bool = False


def _merge(m: Match) -> _Merge | Rejection | None:
    merged = m.root.inputs[0]
    # A transpose of one head, or of one query, is a Reshape: it went into the one that merges.
    for perm in (HEADS_IN_FRONT, LENGTH_LAST, None):
        inner = merged if perm is None else _transposed(m, merged, perm)
        node = producer_of(inner, "Attention")
        if inner is None or merged is None or node is None:
            continue
        if not (m.has_one_consumer(inner) and m.has_one_consumer(merged)) or node.graph is not m.root.graph:
            return Rejection(HAS_OTHER_CONSUMERS, inner)
        dims, target = _dims(m, inner), _dims(m, m.output)
        if len(dims) != 4:
            return None
        batch, heads, length, size = dims
        is_joined = target == (batch, length, heads * size)
        if perm is LENGTH_LAST:
            is_swapped = target == (batch, heads * size, length)
            return _Merge(inner, (0, 2, 1)) if is_swapped else Rejection(NOT_MERGED, m.output)
        if is_joined and (perm is not None or 1 in (heads, length)):
            return _Merge(inner)
        if perm is not None and _copies_only_front(m):
            return _Merge(inner, is_reshaped=True)
        return Rejection(NOT_MERGED, m.output)
    return None


def _copies_only_front(m: Match) -> bool:
    """Whether the Reshape means the same for (batch, length, heads * size) as for heads and size apart."""
    target = m.root.inputs[1]
    elements = m.facts.elements(target) if target is not None else None
    return elements is not None and all(i < 2 or e != 0 for i, e in enumerate(elements))


@rule_on("Reshape", opset=23, depth=6)
def heads_into_attention(m: Match) -> dict[ir.Value, ir.Value] | Rejection | None:
    """Reshape(Transpose(Attention(split q, split k, split v))) -> Attention(q, k, v, heads)."""
    merge = _merge(m)
    if merge is None or isinstance(merge, Rejection):
        return merge
    node = merge.inner.producer()
    assert node is not None
    # They would be made where the heads are merged: too late for who stands before.
    if any(value.uses() for value in node.outputs[1:]):
        return Rejection(HAS_OTHER_CONSUMERS, node.outputs[1])
    query, keys, values = (_joined(m, node.inputs[i]) for i in range(3))
    q_heads, k_heads, v_heads = (_dims(m, node.inputs[i])[1:2] for i in range(3))
    if query is None or keys is None or values is None or k_heads != v_heads:
        return Rejection(NOT_SPLIT, node.outputs[0])
    attributes: dict[str, object] = {**node.attributes, "q_num_heads": q_heads[0], "kv_num_heads": k_heads[0]}
    made = op.Attention(query, keys, values, *node.inputs[3:], outputs=len(node.outputs), **attributes)
    result = made[0]
    if merge.perm is not None:
        result = op.Transpose(result, perm=merge.perm)
    elif merge.is_reshaped:
        result = op.Reshape(result, m.root.inputs[1], **m.root.attributes)
    return {m.output: result, **dict(zip(node.outputs[1:], made[1:], strict=False))}


@dataclass(frozen=True)
class FoldHeadsIntoAttention(Pass):
    """Fold the splitting and merging of heads into Attention."""

    name = "fold-heads-into-attention"
    family = "fusion"
    stage = "attention"
    level = 2
    rules = (heads_into_attention,)

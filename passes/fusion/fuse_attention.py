"""Attention from its parts.

    before   MatMul(Softmax(MatMul(q, Transpose(k)) * scale + mask), v)
    after    Attention(q, k, v, mask, scale=scale)

q, k and v are (batch, heads, length, size), or (batch, length, size), which is one head. The scale is a
number, or one for each head, on the scores, on q or on k; masks are added, or chosen by Where. A query that
may see no key gets zeros where NaN weights, or the weights of masked keys, are set to zero. Runtimes want the
mask's last two dims to be the real lengths, so a mask that broadcasts there is expanded, once for all
layers that share it.
"""

from __future__ import annotations

from dataclasses import dataclass

import onnx_ir as ir

from graphopt.ir.dims import Dim, if_not_empty
from graphopt.rewriting import HAS_OTHER_CONSUMERS, OTHER_SCOPE, Match, Pass, Rejection, op, rule_on
from graphopt.rewriting.attention_masks import combined, covers_keys
from graphopt.rewriting.attention_scores import Scores, scores_of
from graphopt.rewriting.attention_weights import (
    narrow_scores,
    never_seen,
    softmax_of,
    without_guard,
    without_zeros,
)
from graphopt.rewriting.lowest_numbers import FRACTION_BITS

__all__ = ["FuseAttention"]

NOT_OVER_KEYS = "the softmax is not over the last axis"
SHAPES_DIFFER = "batch, heads or lengths of queries, keys and values are not provably the same"
OTHER_ZEROS = "weights are set to zero elsewhere than where the scores are masked"
TYPES_DIFFER = "the softmax is in another type than the scores"
IS_EMPTY = "a dim is 0: Attention can't run on empty tensors"


# It may grow: the lengths and the mask that is written out are shared by all layers.
@rule_on("MatMul", opset=23, depth=12, may_grow=True)
def attention(m: Match) -> ir.Value | Rejection | None:
    """Softmax(q @ k^T * scale + mask) @ v -> Attention(q, k, v, mask)."""
    weights, values = m.root.inputs
    assert weights is not None and values is not None
    guarded = without_guard(m, weights)
    zeroed = without_zeros(m, weights) if guarded is None else None
    inner = guarded or (zeroed.value if zeroed is not None else weights)
    softmax = softmax_of(inner)
    if softmax is None:
        return None
    if not m.has_one_consumer(weights):
        return Rejection(HAS_OTHER_CONSUMERS, weights)
    if softmax.graph is not m.root.graph:
        return Rejection(OTHER_SCOPE, weights)
    rank = m.rank(inner)
    if rank not in (3, 4) or m.attribute(softmax, "axis") not in (-1, rank - 1):
        return Rejection(NOT_OVER_KEYS, weights)
    start, precision = narrow_scores(m, softmax, inner)
    if start is None:
        return Rejection(TYPES_DIFFER, weights)
    scores = scores_of(m, start)
    if scores is None or isinstance(scores, Rejection):
        return scores
    if zeroed is not None:
        scores = never_seen(m, scores, zeroed)
        if scores is None:
            return Rejection(OTHER_ZEROS, weights)
    result = _written(m, scores, weights, values, precision)
    if inner is not weights and isinstance(result, ir.Value):
        return op.Where(op.IsNaN(result), 0.0, result)
    return result


@rule_on("Transpose", "Reshape", depth=4)
def guard_after_movement(m: Match) -> ir.Value | None:
    """Transpose(Where(IsNaN(a), 0, a)) -> Where(IsNaN(b), 0, b), b = Transpose(a), a from Attention."""
    source = m.root.inputs[0]
    value = without_guard(m, source) if source is not None and m.has_one_consumer(source) else None
    if value is None or not _comes_from_attention(value):
        return None
    moved: ir.Value = getattr(op, m.root.op_type)(value, *m.root.inputs[1:], **m.root.attributes)
    return op.Where(op.IsNaN(moved), 0.0, moved)


def _comes_from_attention(value: ir.Value) -> bool:
    node = value.producer()
    while node is not None and node.op_type in ("Transpose", "Reshape") and node.inputs[0] is not None:
        node = node.inputs[0].producer()
    return node is not None and node.op_type == "Attention"


def _written(
    m: Match, scores: Scores, weights: ir.Value, values: ir.Value, precision: ir.DataType | None
) -> ir.Value | Rejection | None:
    query, keys = scores.query, scores.keys
    q, k, v, w = (_dims(m, value) for value in (query, keys, values, weights))
    if q is None or k is None or v is None or w is None or not len(q) == len(k) == len(v) == len(w):
        return Rejection(SHAPES_DIFFER, values)
    # The product with the values asks for as many of them as there are scores.
    same_length = k[-2] == v[-2] or covers_keys(m, scores.masks, k[-2])
    if not q[:-2] == k[:-2] == v[:-2] or not same_length or q[-1] != k[-1]:
        return Rejection(SHAPES_DIFFER, values)
    if 0 in (*q, *k, *v):
        return Rejection(IS_EMPTY, values)
    dtype = m.dtype(query)
    if dtype not in FRACTION_BITS or dtype is None:
        return None
    mask = combined(m, scores.masks, query, keys, dtype)
    if isinstance(mask, Rejection):
        return mask
    attributes: dict[str, object] = {"q_num_heads": 1, "kv_num_heads": 1} if len(q) == 3 else {}
    if precision is not None:
        attributes["softmax_precision"] = precision.value
    return op.Attention(query, keys, values, mask, scale=float(scores.scale), **attributes)


def _dims(m: Match, value: ir.Value) -> tuple[Dim, ...] | None:
    """Dims as they are where nothing is empty: Attention can't run on empty tensors anyway."""
    dims = m.dims(value)
    return None if dims is None else tuple(if_not_empty(d) for d in dims)


@dataclass(frozen=True)
class FuseAttention(Pass):
    """Fuse scaled dot-product attention into Attention."""

    name = "fuse-attention"
    family = "fusion"
    stage = "attention"
    level = 2
    bound = (
        "float32 within a few units in the last place of the largest value; fills take the place of scores "
        "up to 16 in size; NaN values behind a NaN guard, or behind zeroed weights, give 0, and queries that "
        "may see no key 0 or NaN"
    )
    rules = (attention, guard_after_movement)

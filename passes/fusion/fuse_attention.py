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

import math
from dataclasses import dataclass, replace

import onnx_ir as ir

from graphopt.ir.dims import Dim, if_not_empty
from graphopt.rewriting import HAS_OTHER_CONSUMERS, OTHER_SCOPE, Match, Pass, Rejection, op, rule_on
from graphopt.rewriting.attention_masks import Chosen, absorbs, combined, covers_keys
from graphopt.rewriting.attention_scores import Scores, only, scores_of
from graphopt.rewriting.lowest_numbers import FRACTION_BITS

__all__ = ["FuseAttention"]

NOT_OVER_KEYS = "the softmax is not over the last axis"
SHAPES_DIFFER = "batch, heads or lengths of queries, keys and values are not provably the same"
OTHER_ZEROS = "weights are set to zero elsewhere than where the scores are masked"
IS_EMPTY = "a dim is 0: Attention can't run on empty tensors"


@rule_on("MatMul", opset=23, depth=10)
def attention(m: Match) -> ir.Value | Rejection | None:
    """Softmax(q @ k^T * scale + mask) @ v -> Attention(q, k, v, mask)."""
    weights, values = m.root.inputs
    assert weights is not None and values is not None
    guarded = _without_guard(m, weights)
    zeroed = _without_zeros(m, weights) if guarded is None else None
    inner = guarded or (zeroed.value if zeroed is not None else weights)
    softmax = inner.producer()
    if softmax is None or softmax.op_type != "Softmax" or softmax.domain != "":
        return None
    if not m.has_one_consumer(weights):
        return Rejection(HAS_OTHER_CONSUMERS, weights)
    if softmax.graph is not m.root.graph:
        return Rejection(OTHER_SCOPE, weights)
    rank = m.rank(inner)
    if rank not in (3, 4) or m.attribute(softmax, "axis") not in (-1, rank - 1):
        return Rejection(NOT_OVER_KEYS, weights)
    assert softmax.inputs[0] is not None
    scores = scores_of(m, softmax.inputs[0])
    if scores is None or isinstance(scores, Rejection):
        return scores
    if zeroed is not None:
        scores = _never_seen(m, scores, zeroed)
        if scores is None:
            return Rejection(OTHER_ZEROS, weights)
    result = _written(m, scores, weights, values)
    if inner is not weights and isinstance(result, ir.Value):
        return op.Where(op.IsNaN(result), 0.0, result)
    return result


def _without_guard(m: Match, weights: ir.Value) -> ir.Value | None:
    """x of Where(IsNaN(x), 0, x): a query that may see no key gets zeros instead of 0 / 0."""
    where = only(m, weights, "Where")
    if where is None or m.scalar(where.inputs[1]) != 0.0:
        return None
    condition, _, value = where.inputs
    test = only(m, condition, "IsNaN")
    if test is None or value is None or test.inputs[0] is not value:
        return None
    return (
        value if {use.node for use in value.uses()} == {where, test} and not value.is_graph_output() else None
    )


@dataclass(frozen=True, slots=True)
class _Zeroed:
    """Where(condition, 0, value), or Where(condition, value, 0) if `keeps_true`."""

    value: ir.Value
    condition: ir.Value
    keeps_true: bool


def _without_zeros(m: Match, weights: ir.Value) -> _Zeroed | None:
    """A softmax whose masked weights are set to zero, for queries that may see no key."""
    where = only(m, weights, "Where")
    if where is None:
        return None
    condition, if_true, if_false = where.inputs
    keeps_true = m.scalar(if_false) == 0.0
    value = if_true if keeps_true else if_false
    if condition is None or value is None or only(m, value, "Softmax") is None:
        return None
    return _Zeroed(value, condition, keeps_true) if keeps_true or m.scalar(if_true) == 0.0 else None


def _never_seen(m: Match, scores: Scores, zeroed: _Zeroed) -> Scores | None:
    """Scores that are -inf where the weights become zero; None if the last mask does not fill those."""
    last = scores.masks[-1] if scores.masks else None
    if not isinstance(last, Chosen) or last.condition is not zeroed.condition:
        return None
    dtype = m.dtype(zeroed.value)
    if last.keeps_true != zeroed.keeps_true or dtype not in FRACTION_BITS or not absorbs(last.fill, dtype):
        return None
    return replace(scores, masks=(*scores.masks[:-1], replace(last, fill=-math.inf)))


@rule_on("Transpose", "Reshape", depth=4)
def guard_after_movement(m: Match) -> ir.Value | None:
    """Transpose(Where(IsNaN(a), 0, a)) -> Where(IsNaN(b), 0, b), b = Transpose(a), a from Attention."""
    source = m.root.inputs[0]
    value = _without_guard(m, source) if source is not None and m.has_one_consumer(source) else None
    if value is None or not _comes_from_attention(value):
        return None
    moved: ir.Value = getattr(op, m.root.op_type)(value, *m.root.inputs[1:], **m.root.attributes)
    return op.Where(op.IsNaN(moved), 0.0, moved)


def _comes_from_attention(value: ir.Value) -> bool:
    node = value.producer()
    while node is not None and node.op_type in ("Transpose", "Reshape") and node.inputs[0] is not None:
        node = node.inputs[0].producer()
    return node is not None and node.op_type == "Attention"


def _written(m: Match, scores: Scores, weights: ir.Value, values: ir.Value) -> ir.Value | Rejection | None:
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
    heads: dict[str, object] = {"q_num_heads": 1, "kv_num_heads": 1} if len(q) == 3 else {}
    return op.Attention(query, keys, values, mask, scale=float(scores.scale), **heads)


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

"""Attention within windows, each with a mask of its own.

    before   Transpose(MatMul(Softmax(MatMul(q, k^T) * scale + mask), v))
    after    Reshape(Attention(q, k, v, mask))

Before: (batch, windows, heads, length, size); for Attention: (batch * windows, length, heads * size).

q, k and v are made by Transposes that bring the heads before the length; Reshapes take their places, which
join those that split the heads. A mask that differs between windows is repeated for each batch item.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from graphopt.ir.dims import Dim
from graphopt.rewriting import Match, Pass, Rejection, constant, op, rule_on
from graphopt.rewriting.attention_masks import size_of, summed
from graphopt.rewriting.attention_scores import Scores, only, scores_of
from graphopt.rewriting.lowest_numbers import FRACTION_BITS

__all__ = ["FuseWindowAttention"]

HEADS_IN_FRONT = (0, 1, 3, 2, 4)
NOT_SPLIT = "queries, keys or values are not split into heads right before"
NOT_STATIC = "windows, heads, lengths and sizes must be numbers, the same ones for queries, keys and values"


# It may grow: the mask that is repeated is shared by all layers.
@rule_on("Transpose", opset=23, depth=12, may_grow=True)
def window_attention(m: Match) -> ir.Value | Rejection | None:
    """Transpose(Softmax(q @ k^T * scale + mask) @ v) -> Reshape(Attention(q, k, v, mask))."""
    if m.attribute(m.root, "perm") != HEADS_IN_FRONT:
        return None
    product = only(m, m.root.inputs[0], "MatMul")
    softmax = only(m, product.inputs[0], "Softmax") if product is not None else None
    if product is None or softmax is None or m.attribute(softmax, "axis") not in (-1, 4):
        return None
    start, values = softmax.inputs[0], product.inputs[1]
    assert start is not None and values is not None
    scores = scores_of(m, start)
    if scores is None or isinstance(scores, Rejection):
        return scores
    dims = [m.dims(value) or () for value in (scores.query, scores.keys, values, softmax.outputs[0])]
    if any(len(d) != 5 for d in dims):
        return None
    if not _is_static(*dims[:3]):
        return Rejection(NOT_STATIC, values)
    parts = [_joined(m, value) for value in (scores.query, scores.keys, values)]
    if any(part is None for part in parts):
        return Rejection(NOT_SPLIT, values)
    dtype = m.dtype(scores.query)
    if dtype is None or dtype not in FRACTION_BITS:
        return None
    mask = _mask(m, scores, (*dims[0][:4], dims[1][3]), dtype)
    if isinstance(mask, Rejection):
        return mask
    windows, heads, length, _ = _numbers(dims[0])
    attention = op.Attention(*parts, mask, scale=float(scores.scale), q_num_heads=heads, kv_num_heads=heads)
    return op.Reshape(attention, [-1, windows, length, heads, _numbers(dims[2])[3]])


def _numbers(dims: tuple[Dim, ...]) -> list[int]:
    """Windows, heads, length and size, once they are known to be numbers."""
    return [d for d in dims[1:] if isinstance(d, int)]


def _is_static(query: tuple[Dim, ...], keys: tuple[Dim, ...], values: tuple[Dim, ...]) -> bool:
    numbers = (*query[1:], *keys[1:], *values[1:])
    if not all(isinstance(d, int) and d > 0 for d in numbers):
        return False
    return query[:3] == keys[:3] == values[:3] and query[4] == keys[4] and keys[3] == values[3]


def _joined(m: Match, value: ir.Value) -> ir.Value | None:
    """(batch * windows, length, heads * size) of what a Transpose makes, or will make."""
    node = value.producer()
    if node is None or node.op_type != "Transpose" or node.domain != "":
        return None
    if m.attribute(node, "perm") != HEADS_IN_FRONT or node.inputs[0] is None:
        return None
    _, heads, length, size = _numbers(m.dims(value) or ())
    return op.Reshape(node.inputs[0], [-1, length, heads * size])


def _mask(
    m: Match, scores: Scores, shape: tuple[Dim, ...], dtype: ir.DataType
) -> ir.Value | Rejection | None:
    """The mask as (heads, length, length), or (batch * windows, heads, length, length)."""
    mask = summed(m, scores.masks, scores.query, dtype)
    if mask is None or isinstance(mask, Rejection):
        return mask
    dims = m.dims(mask) or ()
    batch, windows, heads = ((1,) * (5 - len(dims)) + dims)[:3]
    last = _numbers(shape)[2:]
    if batch == windows == 1:
        return op.Reshape(op.Expand(mask, last), [-1, *last])
    if not isinstance(heads, int):
        return Rejection(NOT_STATIC, mask)
    numbers = constant(np.asarray([_numbers(shape)[0], 1, *last], np.int64))
    target = op.Concat(size_of(m, shape[0], scores.query, 0), numbers, axis=0)
    return op.Reshape(op.Expand(mask, target), [-1, heads, *last])


@dataclass(frozen=True)
class FuseWindowAttention(Pass):
    """Fuse attention within windows into Attention."""

    name = "fuse-window-attention"
    family = "fusion"
    stage = "attention"
    level = 2
    bound = "as that of fuse-attention"
    rules = (window_attention,)

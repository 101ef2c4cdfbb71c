"""Facts of standard attention: Attention, FlexAttention, RotaryEmbedding."""

from __future__ import annotations

from dataclasses import dataclass

from graphopt.ir.dims import Dim, exact_quotient, product
from graphopt.ir.facts.registry import InferenceContext, Results, operator
from graphopt.ir.facts.results import Dims, known, like


@dataclass(frozen=True)
class Heads:
    """One of query, key and value, taken apart; whatever could not be told is a new unknown."""

    batch: Dim
    heads: Dim
    length: Dim
    size: Dim


def split_heads(ctx: InferenceContext, dims: Dims | None, heads: int) -> Heads:
    """(B, heads, length, size), or (B, length, heads * size) with the attribute's number of heads."""
    if dims is not None and len(dims) == 4:
        return Heads(*dims)
    size: Dim | None = None
    if dims is not None and len(dims) == 3 and heads > 0:
        size = exact_quotient(dims[2], heads)
    batch, length = dims[:2] if dims is not None and len(dims) == 3 else ctx.fresh_dims("attention", 2)
    return Heads(batch, heads or ctx.fresh("heads"), length, ctx.fresh("head") if size is None else size)


def grown(ctx: InferenceContext, past: int, length: Dim) -> Dim:
    """The length of a cache (B, heads, length, size) after `length` more positions."""
    if not ctx.has(past):
        return length
    dims = ctx.dims(past)
    return dims[2] + length if dims is not None and len(dims) == 4 else ctx.fresh("total")


def attention_flops(ctx: InferenceContext) -> Dim:
    """Scores, softmax and weighted sum: 2 a multiply-add, 5 an element of the softmax."""
    query = split_heads(ctx, known(ctx.dims(0)), ctx.int_attr("q_num_heads", 0))
    key = split_heads(ctx, known(ctx.dims(1)), ctx.int_attr("kv_num_heads", 0))
    value = split_heads(ctx, known(ctx.dims(2)), ctx.int_attr("kv_num_heads", 0))
    scores = product((query.batch, query.heads, query.length, grown(ctx, 4, key.length)))
    return scores * (2 * query.size + 2 * value.size + 5)


@operator("Attention", flops=attention_flops)
def _attention(ctx: InferenceContext) -> Results:
    """Y like the query, the grown caches, and the scores."""
    dims = ctx.dims(0)
    query = split_heads(ctx, dims, ctx.int_attr("q_num_heads", 0))
    key = split_heads(ctx, ctx.dims(1), ctx.int_attr("kv_num_heads", 0))
    value = split_heads(ctx, ctx.dims(2), ctx.int_attr("kv_num_heads", 0))
    result: Dims | None = None
    if dims is not None and len(dims) == 4:
        result = (query.batch, query.heads, query.length, value.size)
    elif dims is not None and len(dims) == 3:
        result = (query.batch, query.length, query.heads * value.size)
    total = grown(ctx, 4, key.length)
    return [
        ctx.tensor(ctx.dtype(0), result),
        ctx.tensor(ctx.dtype(1), (key.batch, key.heads, total, key.size)),
        ctx.tensor(ctx.dtype(2), (value.batch, value.heads, grown(ctx, 5, value.length), value.size)),
        ctx.tensor(ctx.dtype(0), (query.batch, query.heads, query.length, total)),
    ]


@operator("FlexAttention", domain="ai.onnx.preview", flops=attention_flops)
def _flex_attention(ctx: InferenceContext) -> Results:
    query, value = ctx.dims(0), ctx.dims(2)
    if query is None or len(query) != 4:
        return [ctx.tensor(ctx.dtype(0), None)]
    size = value[3] if value is not None and len(value) == 4 else ctx.fresh("head")
    return [ctx.tensor(ctx.dtype(0), (*query[:3], size))]


def rotary_flops(ctx: InferenceContext) -> Dim:
    """Two multiplications and an addition an element."""
    return 3 * product(known(ctx.dims(0)))


# Positions beyond the tables fail.
@operator("RotaryEmbedding", can_fail=True, flops=rotary_flops)
@operator("RotaryEmbedding", domain="com.microsoft", can_fail=True, flops=rotary_flops)
def _rotary_embedding(ctx: InferenceContext) -> Results:
    return [like(ctx)]

"""Facts of onnxruntime's attention operators (com.microsoft), which its fusions and exporters write."""

from __future__ import annotations

import onnx_ir as ir

from graphopt.ir.dims import Dim, exact_quotient
from graphopt.ir.facts.registry import InferenceContext, Results, operator
from graphopt.ir.facts.results import Dims, known, scalar

DOMAIN = "com.microsoft"


def _self_attention(ctx: InferenceContext, past: int, dtype: ir.DataType | None) -> Results:
    """Input (B, S, D), weights (D, 3 * H): output (B, S, H) and the cache (2, B, heads, total, size)."""
    dims, weights = ctx.dims(0), ctx.dims(1)
    batch, length = dims[:2] if dims is not None and len(dims) == 3 else ctx.fresh_dims("attention", 2)
    sizes = ctx.ints_attr("qkv_hidden_sizes")
    hidden: Dim | None = None
    if sizes is not None and len(sizes) == 3:
        hidden = sizes[2]
    elif weights is not None and len(weights) == 2:
        hidden = exact_quotient(weights[1], 3)
    heads = ctx.int_attr("num_heads", 0)
    size = exact_quotient(hidden, heads) if hidden is not None and heads else None
    cache, total = ctx.dims(past), length
    if ctx.has(past):
        shared = ctx.int_attr("past_present_share_buffer", 0)
        known_cache = cache is not None and len(cache) == 5
        before = cache[3] if cache is not None and known_cache else ctx.fresh("past")
        total = before if shared else before + length
    present = (2, batch, heads or ctx.fresh("heads"), total, ctx.or_fresh(size, "head"))
    return [ctx.tensor(dtype, (batch, length, ctx.or_fresh(hidden, "hidden"))), ctx.tensor(dtype, present)]


def self_attention_flops(ctx: InferenceContext) -> Dim:
    """The projections, scores and weighted sum, as if nothing were cached."""
    batch, length, width = known(ctx.dims(0))
    hidden = known(ctx.dims(1))[1]
    return 2 * batch * length * width * hidden + 4 * batch * length * length * known(ctx.output_dims())[2]


@operator("Attention", domain=DOMAIN, flops=self_attention_flops)
def _attention(ctx: InferenceContext) -> Results:
    return _self_attention(ctx, 4, ctx.dtype(0))


@operator("QAttention", domain=DOMAIN, flops=self_attention_flops)
def _quantized_attention(ctx: InferenceContext) -> Results:
    return _self_attention(ctx, 8, ctx.dtype(3))


def multi_head_attention_flops(ctx: InferenceContext) -> Dim:
    """Scores and weighted sum, 2 a multiply-add each, over the cached positions as well."""
    batch, length, width = known(ctx.output_dims())
    key = ctx.dims(1)
    steps = length if key is None else key[2] if len(key) == 4 else key[1]
    past = 6 if ctx.node.op_type == "MultiHeadAttention" else 5
    if ctx.has(past):
        steps = steps + known(ctx.dims(past))[2]
    return 4 * batch * length * steps * width


@operator(
    "MultiHeadAttention",
    "DecoderMaskedMultiHeadAttention",
    domain=DOMAIN,
    flops=multi_head_attention_flops,
)
def _multi_head_attention(ctx: InferenceContext) -> Results:
    """Query (B, S, H) or packed (B, S, heads, 3, size); caches (B, heads, total, size)."""
    masked = ctx.node.op_type != "MultiHeadAttention"
    past = 5 if masked else 6
    query, key, value = ctx.dims(0), ctx.dims(1), ctx.dims(2)
    heads = ctx.int_attr("num_heads", 0)
    batch, length = (
        query[:2] if query is not None and len(query) in (3, 5) else ctx.fresh_dims("attention", 2)
    )
    width: Dim | None = None
    steps: Dim | None = None
    if query is not None and len(query) == 5:
        width, steps = query[2] * query[4], length
    elif key is not None and len(key) == 5:
        width, steps = key[2] * key[4], key[1]
    elif value is not None and len(value) == 4:
        width, steps = value[1] * value[3], value[2]
    elif value is not None and len(value) == 3:
        width, steps = value[2], value[1]
    elif not ctx.has(1) and not ctx.has(2) and query is not None and len(query) == 3 and masked:
        steps = length
    dtype = ctx.dtype(0)
    cross = key is not None and len(key) == 4
    caches = [_cache(ctx, index, 7 if masked else 8, steps, cross) for index in (past, past + 1)]
    size = exact_quotient(width, heads) if width is not None and heads else None
    keys_and_values = [
        ctx.tensor(dtype, (batch, heads or ctx.fresh("heads"), total, ctx.or_fresh(size, "head")))
        for total in caches
    ]
    result = (batch, length, ctx.or_fresh(width, "hidden"))
    return [ctx.tensor(dtype, result), *keys_and_values, ctx.tensor(None, None)]


def _cache(ctx: InferenceContext, past: int, filled: int, steps: Dim | None, cross: bool) -> Dim:
    """The length of a cache after this call; with `filled` given, it is a buffer of fixed length."""
    if not ctx.has(past):
        return ctx.or_fresh(steps, "total")
    dims = ctx.dims(past)
    if (
        dims is None
        or len(dims) != 4
        or ctx.int_attr("past_present_share_buffer", 0)
        or ctx.has(filled)
        or cross
    ):
        return ctx.fresh("total")
    return ctx.fresh("total") if steps is None else dims[2] + steps


@operator("GroupQueryAttention", "SparseAttention", domain=DOMAIN, can_fail=True)
def _group_query_attention(ctx: InferenceContext) -> Results:
    """Query (B, S, heads * size), or (B, S, (heads + 2 * kv_heads) * size) with key and value packed into it.

    How long the caches become depends on the contents of `total_sequence_length`.
    """
    query = ctx.dims(0)
    heads, kv_heads = ctx.int_attr("num_heads", 0), ctx.int_attr("kv_num_heads", 0)
    size: Dim | None = None
    result: Dims | None = query
    if query is not None and len(query) == 3 and heads:
        size = exact_quotient(query[2], heads if ctx.has(1) else heads + 2 * kv_heads)
        if not ctx.has(1):
            result = (*query[:2], ctx.fresh("hidden") if size is None else heads * size)
    batch = query[0] if query else ctx.fresh("batch")
    caches = [
        ctx.tensor(
            ctx.dtype(past) if ctx.has(past) else ctx.dtype(0),
            (batch, kv_heads or ctx.fresh("heads"), ctx.fresh("total"), _cached_size(ctx, past, size)),
        )
        for past in (3, 4)
    ]
    return [ctx.tensor(ctx.dtype(0), result), *caches, ctx.tensor(ctx.dtype(0), None)]


def _cached_size(ctx: InferenceContext, past: int, size: Dim | None) -> Dim:
    """The last dim of a cache: its own where it is quantized or packed, else a head's size."""
    dims = ctx.dims(past)
    if dims is not None and len(dims) == 4:
        return dims[3]
    return ctx.fresh("head") if ctx.int_attr("kv_cache_bit_width", 0) or size is None else size


@operator("PackedAttention", domain=DOMAIN)
def _packed_attention(ctx: InferenceContext) -> Results:
    """Tokens (count, D), weights (D, 3 * H)."""
    dims, weights, sizes = ctx.dims(0), ctx.dims(1), ctx.ints_attr("qkv_hidden_sizes")
    hidden: Dim | None = None
    if sizes is not None and len(sizes) == 3:
        hidden = sizes[2]
    elif weights is not None and len(weights) == 2:
        hidden = exact_quotient(weights[1], 3)
    count = dims[0] if dims else ctx.fresh("tokens")
    return [ctx.tensor(ctx.dtype(0), (count, ctx.or_fresh(hidden, "hidden")))]


@operator("PackedMultiHeadAttention", domain=DOMAIN)
def _packed_multi_head_attention(ctx: InferenceContext) -> Results:
    """Tokens (count, H), or (count, heads, 3, size) with key and value packed into them."""
    query, value = ctx.dims(0), ctx.dims(2)
    if query is not None and len(query) == 4:
        return [ctx.tensor(ctx.dtype(0), (query[0], query[1] * query[3]))]
    count = query[0] if query else ctx.fresh("tokens")
    width = value[1] if value is not None and len(value) == 2 else None
    return [ctx.tensor(ctx.dtype(0), (count, ctx.or_fresh(width, "hidden")))]


@operator("LongformerAttention", domain=DOMAIN)
def _longformer_attention(ctx: InferenceContext) -> Results:
    return [ctx.tensor(ctx.dtype(0), ctx.dims(0))]


@operator("EmbedLayerNormalization", domain=DOMAIN, can_fail=True)
def _embed_layer_normalization(ctx: InferenceContext) -> Results:
    """Ids (B, S) to (B, S, H); the count of each mask; the sum before it is normalized."""
    return _embedded(ctx, ctx.dtype(2))


@operator("QEmbedLayerNormalization", domain=DOMAIN, can_fail=True)
def _quantized_embed_layer_normalization(ctx: InferenceContext) -> Results:
    return _embedded(ctx, ctx.dtype(8))


def _embedded(ctx: InferenceContext, dtype: ir.DataType | None) -> Results:
    ids, words = ctx.dims(0), ctx.dims(2)
    batch, length = ids if ids is not None and len(ids) == 2 else ctx.fresh_dims("ids", 2)
    hidden = words[1] if words is not None and len(words) == 2 else ctx.fresh("hidden")
    result = ctx.tensor(dtype, (batch, length, hidden))
    return [result, ctx.tensor(ir.DataType.INT32, (batch,)), result]


@operator("RelativePositionBias", domain=DOMAIN, shape_inputs=(1, 2), can_fail=True)
def _relative_position_bias(ctx: InferenceContext) -> Results:
    """(1, heads, queries, keys) of a table (buckets, heads)."""
    table = ctx.dims(0)
    heads = table[1] if table is not None and len(table) == 2 else None
    lengths = (ctx.or_fresh(scalar(ctx, index), "length") for index in (1, 2))
    return [ctx.tensor(ctx.dtype(0), (1, ctx.or_fresh(heads, "heads"), *lengths))]


@operator("GatedRelativePositionBias", domain=DOMAIN)
def _gated_relative_position_bias(ctx: InferenceContext) -> Results:
    """Query (B, S, H): (B, heads, S, S)."""
    query, heads = ctx.dims(0), ctx.int_attr("num_heads", 0)
    if query is None or len(query) != 3 or not heads or ctx.has(6):
        return [ctx.tensor(ctx.dtype(0), ctx.fresh_dims("bias", 4))]
    return [ctx.tensor(ctx.dtype(0), (query[0], heads, query[1], query[1]))]

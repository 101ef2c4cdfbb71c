"""Facts of recurrent layers: LSTM, GRU, RNN."""

from __future__ import annotations

import onnx_ir as ir

from graphopt.ir.dims import Dim, exact_quotient, product
from graphopt.ir.facts.registry import InferenceContext, Results, operator
from graphopt.ir.facts.results import known

GATES = {"LSTM": 4, "GRU": 3, "RNN": 1}


def _directions(ctx: InferenceContext) -> int:
    return 2 if ctx.attr("direction", "forward") == "bidirectional" else 1


def _hidden(ctx: InferenceContext) -> Dim:
    """The size of the state: the attribute, else what the recurrent weights (D, gates * H, H) say."""
    asked = ctx.int_attr("hidden_size", 0)
    recurrent = ctx.dims(2)
    if asked or recurrent is None or len(recurrent) != 3:
        return asked or ctx.fresh("hidden", low=1)
    return recurrent[2]


def recurrent_flops(ctx: InferenceContext) -> Dim:
    """The two matrix products of each step: 2 a multiply-add; gates' activations are not counted."""
    dims, weights, recurrent = known(ctx.dims(0)), known(ctx.dims(1)), known(ctx.dims(2))
    return 2 * dims[0] * dims[1] * (product(weights) + product(recurrent))


@operator("LSTM", "GRU", "RNN", flops=recurrent_flops)
def _recurrent(ctx: InferenceContext) -> Results:
    """X (seq, batch, input), or (batch, seq, input) under layout 1 (opset 14); Y, Y_h and LSTM's Y_c."""
    return recurrent_facts(ctx, ctx.dtype(0), _hidden(ctx))


def recurrent_facts(ctx: InferenceContext, dtype: ir.DataType | None, hidden: Dim) -> Results:
    """Y (seq, directions, batch, hidden) and states (directions, batch, hidden); layout 1: batch first."""
    dims = ctx.dims(0)
    first, second = dims[:2] if dims is not None and len(dims) == 3 else ctx.fresh_dims("steps", 2)
    directions = _directions(ctx)
    if ctx.int_attr("layout", 0):
        state = ctx.tensor(dtype, (first, directions, hidden))
        return [ctx.tensor(dtype, (first, second, directions, hidden)), state, state]
    state = ctx.tensor(dtype, (directions, second, hidden))
    return [ctx.tensor(dtype, (first, directions, second, hidden)), state, state]


@operator("LinearAttention")
def _linear_attention(ctx: InferenceContext) -> Results:
    """Packed heads: query (B, T, Hq * dk), value (B, T, Hkv * dv); the state is (B, Hkv, dk, dv)."""
    query, value = ctx.dims(0), ctx.dims(2)
    heads, kv_heads = ctx.int_attr("q_num_heads", 0), ctx.int_attr("kv_num_heads", 0)
    state_dtype = ctx.dtype(3) if ctx.has(3) else ctx.dtype(0)
    if query is None or len(query) != 3 or not heads or not kv_heads:
        return [ctx.tensor(ctx.dtype(0), ctx.fresh_dims("attention", 3)), ctx.tensor(state_dtype, None)]
    key_size = exact_quotient(query[2], heads)
    value_size = exact_quotient(value[2], kv_heads) if value is not None and len(value) == 3 else None
    key_size = ctx.fresh("head") if key_size is None else key_size
    value_size = ctx.fresh("head") if value_size is None else value_size
    return [
        ctx.tensor(ctx.dtype(0), (query[0], query[1], heads * value_size)),
        ctx.tensor(state_dtype, (query[0], kv_heads, key_size, value_size)),
    ]

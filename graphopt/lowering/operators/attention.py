"""Attention as one instruction: heads are looked at inside the rows that linear layers write."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import onnx_ir as ir

from graphopt.ir.attributes import attribute_float, attribute_int
from graphopt.ir.dims import Dim, exact_quotient
from graphopt.ir.element_types import FLOATS
from graphopt.ir.operands import input_of
from graphopt.lowering.builder import Builder, Dims
from graphopt.lowering.kernels import Layout, declare
from graphopt.lowering.program import ABSENT, dense_strides
from graphopt.lowering.registry import NotLowered, lowers

__all__: list[str] = []

HEADS_INSIDE = (0, 2, 1, 3)

declare(
    "attention",
    inputs={0: Layout.ROWS, 1: Layout.ROWS, 2: Layout.ROWS, 3: Layout.ROWS, 4: Layout.ANY},
    outputs={0: Layout.ROWS, 1: Layout.ANY},
)
declare("rotary_embedding", inputs=Layout.ANY, outputs=Layout.ANY)


@dataclass(frozen=True, slots=True)
class Heads:
    """A register [B, H, T, d], and the dtype of its elements."""

    register: int
    dims: Dims


@dataclass(frozen=True, slots=True)
class Options:
    """What attention does beside its products; `scale` is NaN where it is that of the head size."""

    left: int = -1
    right: int = -1
    past: Dim = 0
    mode: int = 0
    scale: float = math.nan
    softcap: float = 0.0


def _heads(build: Builder, value: ir.Value, heads: int) -> Heads | None:
    """[B, T, heads * d] or [B, heads, T, d], seen as the latter; None where the dims don't tell."""
    dims, register = build.dims(value), build.register(value)
    if dims is None or len(dims) not in (3, 4):
        return None
    if len(dims) == 4:
        return Heads(register, dims)
    size = exact_quotient(dims[2], heads) if heads > 0 else None
    if size is None:
        return None
    outer, row, inner = build.strides(register)
    split = (dims[0], heads, dims[1], size)
    return Heads(build.look(register, split, (outer, size * inner, row, inner)), split)


def _grown(build: Builder, node: ir.Node, past: ir.Value | None, new: Heads, output: int) -> Heads | None:
    """The cache with new positions after the old ones: an output of the node, or a register of its own."""
    made = build.output(node, output)
    if past is None:
        if made != ABSENT:
            build.emit("copy", [new.register], [made])
        return new
    old = build.dims(past)
    if old is None or len(old) != 4:
        return None
    dims = (*new.dims[:2], old[2] + new.dims[2], new.dims[3])
    dtype = build.dtype(past)
    assert dtype is not None, "a cache has an element type"
    if made == ABSENT:
        made = build.temporary(dtype, dims)
    build.emit("concat", [build.register(past), new.register], [made], ints=[2])
    return Heads(made, dims)


def _with_cache(
    build: Builder, node: ir.Node, pasts: tuple[ir.Value | None, ir.Value | None], news: tuple[Heads, Heads]
) -> tuple[Heads, Heads, Dim] | None:
    """Keys and values behind those of the cache, and how many it holds; None where its dims don't tell."""
    keys, values = (_grown(build, node, pasts[i], news[i], i + 1) for i in (0, 1))
    if keys is None or values is None:
        return None
    old = None if pasts[0] is None else build.dims(pasts[0])
    return keys, values, 0 if old is None else old[2]


@dataclass(frozen=True, slots=True)
class Operands:
    """Registers of a call; mask, lengths and scores may be ABSENT."""

    query: Heads
    key: Heads
    value: Heads
    mask: int = ABSENT
    lengths: int = ABSENT
    scores: int = ABSENT


def _result(build: Builder, node: ir.Node, dims: Dims) -> int:
    """Output 0 as [B, H, T, d], also where the node has it as [B, T, H * d]."""
    y = build.output(node)
    inside = build.rank(node.outputs[0]) == 3
    return build.look(y, dims, dense_strides(dims, HEADS_INSIDE)) if inside else y


def _attend(build: Builder, node: ir.Node, operands: Operands, options: Options) -> None:
    """The instruction; a result [B, T, H * e] is filled through a look at it."""
    y = _result(build, node, (*operands.query.dims[:3], operands.value.dims[3]))
    inputs = [o.register for o in (operands.query, operands.key, operands.value)]
    build.emit(
        "attention",
        [*inputs, operands.mask, operands.lengths],
        [y, operands.scores] if operands.scores != ABSENT else [y],
        ints=[options.left, options.right, options.past, options.mode],
        floats=[options.scale, options.softcap],
    )


@lowers("Attention")
def attention(build: Builder, node: ir.Node) -> NotLowered | None:
    """Attention-23 to 25. Softmax is in float32, in float64 where the operands are."""
    query, key, value = node.inputs[:3]
    assert query is not None and key is not None and value is not None, "Q, K and V are required"
    mask, past_key, past_value, lengths = (input_of(node, i) for i in range(3, 7))
    dtype = build.dtype(query)
    if dtype not in FLOATS or any(build.dtype(v) != dtype for v in (key, value)):
        return NotLowered("element types")
    if mask is not None and build.dtype(mask) not in (dtype, ir.DataType.BOOL):
        return NotLowered("element type of the mask")
    groups = attribute_int(node, "kv_num_heads", 0)
    q = _heads(build, query, attribute_int(node, "q_num_heads", 0))
    k, v = _heads(build, key, groups), _heads(build, value, groups)
    if q is None or k is None or v is None:
        return NotLowered("dims that are not known")
    grown = _with_cache(build, node, (past_key, past_value), (k, v))
    if grown is None:
        return NotLowered("dims of the cache that are not known")
    k, v, past = grown
    right = attribute_int(node, "right_window_size", -1)
    options = Options(
        left=attribute_int(node, "left_window_size", -1),
        right=0 if attribute_int(node, "is_causal", 0) else right,
        past=past,
        mode=attribute_int(node, "qk_matmul_output_mode", 0),
        scale=attribute_float(node, "scale", math.nan),
        softcap=attribute_float(node, "softcap", 0.0),
    )
    operands = Operands(q, k, v, build.register(mask), build.register(lengths), build.output(node, 3))
    _attend(build, node, operands, options)
    return None


@lowers("MultiHeadAttention", domain="com.microsoft")
def multi_head_attention(build: Builder, node: ir.Node) -> NotLowered | None:
    """onnxruntime's attention of separate query, key and value, without their biases."""
    query, key, value, bias, padding, mask, past_key, past_value = (input_of(node, i) for i in range(8))
    if query is None or key is None or value is None or bias is not None or padding is not None:
        return NotLowered("packed operands, a bias or a padding mask")
    if len(node.inputs) > 8 or len(node.outputs) > 3:
        return NotLowered("a cache of fixed size, or scores")
    dtype = build.dtype(query)
    if dtype not in FLOATS or any(build.dtype(v) != dtype for v in (key, value, mask) if v is not None):
        return NotLowered("element types")
    heads = attribute_int(node, "num_heads", 0)
    q, k, v = (_heads(build, x, heads) for x in (query, key, value))
    if q is None or k is None or v is None or build.rank(query) != 3:
        return NotLowered("dims that are not known")
    grown = _with_cache(build, node, (past_key, past_value), (k, v))
    if grown is None:
        return NotLowered("dims of the cache that are not known")
    k, v, past = grown
    scale = attribute_float(node, "scale", 0.0)
    options = Options(past=past, scale=scale or math.nan)
    if attribute_int(node, "unidirectional", 0):
        options = replace(options, right=0)
    _attend(build, node, Operands(q, k, v, build.register(mask)), options)
    return None


def _rotate(
    build: Builder, node: ir.Node, tables: tuple[ir.Value, ir.Value], positions: ir.Value | None
) -> NotLowered | None:
    x = node.inputs[0]
    assert x is not None, "a rotary embedding has an input"
    dtype = build.dtype(x)
    if dtype not in FLOATS or any(build.dtype(v) != dtype for v in tables):
        return NotLowered("element types")
    heads = _heads(build, x, attribute_int(node, "num_heads", 0))
    if heads is None:
        return NotLowered("number of heads")
    y = _result(build, node, heads.dims)
    build.emit(
        "rotary_embedding",
        [heads.register, *map(build.register, tables), build.register(positions)],
        [y],
        ints=[attribute_int(node, "interleaved", 0), attribute_int(node, "rotary_embedding_dim", 0)],
    )
    return None


@lowers("RotaryEmbedding")
def rotary_embedding(build: Builder, node: ir.Node) -> NotLowered | None:
    """Heads turned by the angles of their positions."""
    cosine, sine = node.inputs[1:3]
    assert cosine is not None and sine is not None, "the tables are required"
    return _rotate(build, node, (cosine, sine), input_of(node, 3))


@lowers("RotaryEmbedding", domain="com.microsoft")
def microsoft_rotary_embedding(build: Builder, node: ir.Node) -> NotLowered | None:
    """The same with another order of inputs."""
    positions, cosine, sine = node.inputs[1:4]
    assert cosine is not None and sine is not None, "the tables are required"
    if attribute_int(node, "is_packed_batching", 0) or attribute_float(node, "scale", 1.0) != 1.0:
        return NotLowered("packed sequences, or a scale")
    return _rotate(build, node, (cosine, sine), positions)

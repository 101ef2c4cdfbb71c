"""Attention from its parts.

    before   MatMul(Softmax(MatMul(q, Transpose(k)) * scale + mask), v)
    after    Attention(q, k, v, mask, scale=scale)

q, k and v are (batch, heads, length, size), or (batch, length, size), which is one head. The scale is a
number on the scores or on q; the mask is added, or chosen by Where. Runtimes want the mask's last two
dims to be the real lengths, so a mask that broadcasts there is expanded, once for all layers that share it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from graphopt.ir.dims import Dim
from graphopt.rewriting import (
    HAS_OTHER_CONSUMERS,
    Match,
    Pass,
    Rejection,
    constant,
    op,
    rule_on,
)

NOT_OVER_KEYS = "the softmax is not over the last axis"
SHAPES_DIFFER = "batch, heads or lengths of queries, keys and values are not provably the same"
KEYS_NOT_TRANSPOSED = "the keys are not made by a transpose"
MASK_DOES_NOT_FIT = "the mask does not provably broadcast to the scores"

FLOATS = (ir.DataType.FLOAT, ir.DataType.FLOAT16, ir.DataType.BFLOAT16, ir.DataType.DOUBLE)


@dataclass(frozen=True, slots=True)
class Scores:
    """What goes into the softmax, taken apart."""

    query: ir.Value
    keys: ir.Value
    scale: float
    mask: ir.Value | None
    # Where(condition, fill, scores): the mask is still to be built.
    condition: ir.Value | None = None
    fill: float = 0.0
    keeps_where_true: bool = False


def _only(m: Match, value: ir.Value, *op_types: str) -> ir.Node | None:
    """The producer, if it is one of these operators, here, and only this attention needs it."""
    node = value.producer()
    if node is None or node.op_type not in op_types or node.domain != "" or node.graph is not m.root.graph:
        return None
    return node if m.has_one_consumer(value) else None


@rule_on("MatMul", opset=23, depth=8)
def attention(m: Match) -> ir.Value | Rejection | None:
    """Softmax(q @ k^T * scale + mask) @ v -> Attention(q, k, v, mask)."""
    weights, values = m.root.inputs
    assert weights is not None and values is not None
    softmax = weights.producer()
    if softmax is None or softmax.op_type != "Softmax" or softmax.domain != "":
        return None
    if not m.has_one_consumer(weights):
        return Rejection(HAS_OTHER_CONSUMERS, weights)
    rank = m.rank(weights)
    if rank not in (3, 4) or m.attribute(softmax, "axis") not in (-1, rank - 1):
        return Rejection(NOT_OVER_KEYS, weights)
    scores = _scores(m, softmax.inputs[0])
    if scores is None or isinstance(scores, Rejection):
        return scores
    return _written(m, scores, values)


def _scores(m: Match, value: ir.Value | None) -> Scores | Rejection | None:
    """Take mask, scale and product apart, from the softmax upwards."""
    assert value is not None
    mask: ir.Value | None = None
    condition, fill, keeps = None, 0.0, False
    added = _only(m, value, "Add")
    chosen = _only(m, value, "Where")
    if added is not None:
        inner = next((v for v in added.inputs if v is not None and _is_product(m, v)), None)
        if inner is None:
            return None
        mask = added.inputs[1] if inner is added.inputs[0] else added.inputs[0]
        value = inner
    elif chosen is not None:
        condition, if_true, if_false = chosen.inputs
        assert if_true is not None and if_false is not None
        keeps = _is_product(m, if_true)
        number = m.scalar(if_false if keeps else if_true)
        value = if_true if keeps else if_false
        if number is None or not _is_product(m, value):
            return None
        fill = number
    scaled = _scaled(m, value)
    if scaled is None:
        return None
    product, scale = scaled
    query, keys = product.inputs
    assert query is not None and keys is not None
    query, factor = _without_scale(m, query)
    found = _untransposed(m, keys)
    if found is None:
        return Rejection(KEYS_NOT_TRANSPOSED, keys)
    return Scores(query, found, scale * factor, mask, condition, fill, keeps)


def _is_product(m: Match, value: ir.Value) -> bool:
    return _scaled(m, value) is not None


def _scaled(m: Match, value: ir.Value) -> tuple[ir.Node, float] | None:
    """The product of queries and keys, and a number that multiplies it."""
    product = _only(m, value, "MatMul")
    if product is not None:
        return product, 1.0
    scaling = _only(m, value, "Mul", "Div")
    if scaling is None:
        return None
    inner, number = scaling.inputs
    assert inner is not None and number is not None
    factor = m.scalar(number)
    if factor is None and scaling.op_type == "Mul":
        inner, factor = number, m.scalar(inner)
    product = _only(m, inner, "MatMul")
    if product is None or factor is None or factor == 0.0:
        return None
    return product, factor if scaling.op_type == "Mul" else 1.0 / factor


def _without_scale(m: Match, query: ir.Value) -> tuple[ir.Value, float]:
    """Queries less a number that multiplies them."""
    scaling = _only(m, query, "Mul", "Div")
    if scaling is not None:
        inner, number = scaling.inputs
        assert inner is not None and number is not None
        factor = m.scalar(number)
        if factor is not None and m.rank(inner) == m.rank(query):
            return inner, factor if scaling.op_type == "Mul" else 1.0 / factor
    return query, 1.0


def _untransposed(m: Match, keys: ir.Value) -> ir.Value | None:
    """Keys with the length before the size again: the transpose undone, or written without the last swap."""
    transpose = keys.producer()
    if transpose is None or transpose.op_type != "Transpose" or transpose.domain != "":
        return None
    perm = m.attribute(transpose, "perm")
    rank = m.rank(keys)
    source = transpose.inputs[0]
    if rank is None or source is None:
        return None
    order = tuple(perm) if isinstance(perm, tuple) else tuple(reversed(range(rank)))
    swapped = (*order[:-2], order[-1], order[-2])
    if swapped == tuple(range(rank)):
        return source
    return op.Transpose(source, perm=swapped)


def _written(m: Match, scores: Scores, values: ir.Value) -> ir.Value | Rejection | None:
    query, keys = scores.query, scores.keys
    shapes = [m.dims(v) for v in (query, keys, values)]
    if any(dims is None for dims in shapes) or len({len(dims or ()) for dims in shapes}) != 1:
        return Rejection(SHAPES_DIFFER, values)
    q, k, v = (dims or () for dims in shapes)
    # Positive sizes: scores over no features would be zeros, and a default scale would divide by zero.
    if q[:-2] != k[:-2] or k[:-1] != v[:-1] or q[-1] != k[-1] or not isinstance(q[-1], int) or q[-1] == 0:
        return Rejection(SHAPES_DIFFER, values)
    if m.dtype(query) not in FLOATS:
        return None
    length: tuple[Dim, Dim] = (q[-2], k[-2])
    mask = _mask(m, scores, query, keys, length)
    if isinstance(mask, Rejection):
        return mask
    heads = {"q_num_heads": 1, "kv_num_heads": 1} if len(q) == 3 else {}
    return op.Attention(query, keys, values, mask, scale=float(scores.scale), **heads)


def _mask(
    m: Match, scores: Scores, query: ir.Value, keys: ir.Value, length: tuple[Dim, Dim]
) -> ir.Value | None | Rejection:
    """The mask as Attention takes it: (.., queries, keys), to be added."""
    mask = scores.mask if scores.condition is None else scores.condition
    if mask is None:
        return None
    dims, rank = m.dims(mask), m.rank(query)
    if dims is None or rank is None or len(dims) > rank:
        return Rejection(MASK_DOES_NOT_FIT, mask)
    outer = (m.dims(query) or ())[:-2]
    padded = (1,) * (rank - len(dims)) + dims
    if any(d not in (1, o) for d, o in zip(padded, (*outer, *length), strict=True)):
        return Rejection(MASK_DOES_NOT_FIT, mask)
    if scores.condition is not None:
        dtype = m.dtype(query)
        assert dtype is not None
        zero, fill = np.zeros((), dtype.numpy()), np.asarray(scores.fill).astype(dtype.numpy())
        # fill + score is fill again: a score is far below the spacing of numbers as large as these.
        if not (np.isneginf(fill) or fill <= -1e9):
            return Rejection(MASK_DOES_NOT_FIT, mask)
        mask = op.Where(mask, zero, fill) if scores.keeps_where_true else op.Where(mask, fill, zero)
    if rank == 3:
        # One head a batch item: the mask needs a head's axis where it has a batch's.
        if len(dims) == 3 and dims[0] != 1:
            mask, padded = op.Unsqueeze(mask, [1]), (dims[0], 1, *dims[1:])
        else:
            padded = padded[-2:]
            mask = mask if len(dims) <= 2 else op.Squeeze(mask, [0])
        rank = len(padded)
    if padded[-2:] == length and len(dims) >= 2:
        return mask
    return _expanded(m, mask, (query, keys), padded)


def _expanded(
    m: Match, mask: ir.Value, sources: tuple[ir.Value, ir.Value], padded: tuple[Dim, ...]
) -> ir.Value:
    """The mask with its last two dims written out; the others still broadcast."""
    target: list[ir.Value | list[int]] = [[1] * (len(padded) - 2)] if len(padded) > 2 else []
    for found, source in zip(padded[-2:], sources, strict=True):
        wanted = (m.dims(source) or ())[-2]
        if found == wanted or isinstance(wanted, int):
            target.append([wanted if isinstance(wanted, int) else 1])
        else:
            target.append(_length_of(m, wanted, source))
    if all(isinstance(part, list) for part in target):
        return op.Expand(mask, [d for part in target for d in part])
    parts = [p if isinstance(p, ir.Value) else constant(np.asarray(p, np.int64)) for p in target]
    return op.Expand(mask, op.Concat(*parts, axis=0) if len(parts) > 1 else parts[0])


def _length_of(m: Match, wanted: Dim, source: ir.Value) -> ir.Value:
    """A length as a vector of one; from a graph input where one has it, so that all layers share the nodes."""
    for value in m.editor.model.graph.inputs if m.editor.regions[_graph(m)].function is None else ():
        dims = m.dims(value) or ()
        if wanted in dims:
            axis = dims.index(wanted)
            return op.Shape(value, start=axis, end=axis + 1)
    return op.Shape(source, start=-2, end=-1)


def _graph(m: Match) -> ir.Graph:
    graph = m.root.graph
    assert graph is not None
    return graph


@dataclass(frozen=True)
class FuseAttention(Pass):
    """Fuse scaled dot-product attention into Attention."""

    name = "fuse-attention"
    family = "fusion"
    stage = "attention"
    level = 2
    bound = "float32 within a few units in the last place of the largest value"
    rules = (attention,)

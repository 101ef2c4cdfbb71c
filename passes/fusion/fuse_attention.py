"""Attention from its parts.

    before   MatMul(Softmax(MatMul(q, Transpose(k)) * scale + mask), v)
    after    Attention(q, k, v, mask, scale=scale)

q, k and v are (batch, heads, length, size), or (batch, length, size), which is one head. The scale is a
number on the scores or on q; the mask is added, or chosen by Where. Runtimes want the mask's last two
dims to be the real lengths, so a mask that broadcasts there is expanded, once for all layers that share it.
"""

from __future__ import annotations

from dataclasses import dataclass

import onnx_ir as ir

from graphopt.rewriting import (
    HAS_OTHER_CONSUMERS,
    Match,
    Pass,
    Rejection,
    op,
    rule_on,
)
from graphopt.rewriting.attention_masks import Added, Chosen, Term, combined

NOT_OVER_KEYS = "the softmax is not over the last axis"
SHAPES_DIFFER = "batch, heads or lengths of queries, keys and values are not provably the same"
KEYS_NOT_TRANSPOSED = "the keys are not made by a transpose"

# Causal, padding, relative bias: no exporter was seen to stack more.
MOST_MASKS = 4

FLOATS = (ir.DataType.FLOAT, ir.DataType.FLOAT16, ir.DataType.BFLOAT16, ir.DataType.DOUBLE)


@dataclass(frozen=True, slots=True)
class Scores:
    """What goes into the softmax, taken apart; masks innermost first."""

    query: ir.Value
    keys: ir.Value
    scale: float
    masks: tuple[Term, ...]


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
    guarded = _without_guard(m, weights)
    softmax = (guarded or weights).producer()
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
    result = _written(m, scores, values)
    if guarded is not None and isinstance(result, ir.Value):
        return op.Where(op.IsNaN(result), 0.0, result)
    return result


def _without_guard(m: Match, weights: ir.Value) -> ir.Value | None:
    """x of Where(IsNaN(x), 0, x): a query that may see no key gets zeros instead of 0 / 0."""
    where = weights.producer()
    if where is None or where.op_type != "Where" or where.domain != "" or m.scalar(where.inputs[1]) != 0.0:
        return None
    condition, _, value = where.inputs
    test = condition.producer() if condition is not None else None
    if test is None or value is None or test.op_type != "IsNaN" or test.inputs[0] is not value:
        return None
    return value if {use.node for use in value.uses()} == {where, test} else None


@rule_on("Transpose", "Reshape", depth=4)
def guard_after_movement(m: Match) -> ir.Value | None:
    """Transpose(Where(IsNaN(a), 0, a)) -> Where(IsNaN(b), 0, b), b = Transpose(a), a from Attention."""
    source = m.root.inputs[0]
    value = _without_guard(m, source) if source is not None and m.has_one_consumer(source) else None
    if value is None or not _comes_from_attention(value):
        return None
    moved = getattr(op, m.root.op_type)(value, *m.root.inputs[1:], **m.root.attributes)
    return op.Where(op.IsNaN(moved), 0.0, moved)


def _comes_from_attention(value: ir.Value) -> bool:
    node = value.producer()
    while node is not None and node.op_type in ("Transpose", "Reshape") and node.inputs[0] is not None:
        node = node.inputs[0].producer()
    return node is not None and node.op_type == "Attention"


def _scores(m: Match, value: ir.Value | None) -> Scores | Rejection | None:
    """Take masks, scale and product apart, from the softmax upwards."""
    assert value is not None
    masks: list[Term] = []
    while (scaled := _scaled(m, value)) is None:
        found = _masked(m, value)
        if found is None or len(masks) > MOST_MASKS:
            return None
        term, value = found
        masks.insert(0, term)
    product, scale = scaled
    query, keys = product.inputs
    assert query is not None and keys is not None
    query, factor = _without_scale(m, query)
    keys, other = _without_scale(m, keys)
    source = _untransposed(m, keys)
    if source is None:
        return Rejection(KEYS_NOT_TRANSPOSED, keys)
    return Scores(query, source, scale * factor * other, tuple(masks))


def _masked(m: Match, value: ir.Value) -> tuple[Term, ir.Value] | None:
    """One mask and the scores below it."""
    added = _only(m, value, "Add")
    if added is not None:
        first, second = added.inputs
        assert first is not None and second is not None
        # The scores are the operand that only this attention needs and that has the result's shape.
        if _leads_to_product(m, first):
            return Added(second), first
        return (Added(first), second) if _leads_to_product(m, second) else None
    chosen = _only(m, value, "Where")
    if chosen is None:
        return None
    condition, if_true, if_false = chosen.inputs
    assert condition is not None and if_true is not None and if_false is not None
    keeps = _leads_to_product(m, if_true)
    scores, other = (if_true, if_false) if keeps else (if_false, if_true)
    fill = m.scalar(other)
    if fill is None or not _leads_to_product(m, scores):
        return None
    return Chosen(condition, fill, keeps), scores


def _leads_to_product(m: Match, value: ir.Value, steps: int = 3) -> bool:
    """Whether the value is a product of queries and keys, or one under further masks."""
    if _scaled(m, value) is not None:
        return True
    node = _only(m, value, "Add", "Where")
    if node is None or steps == 0:
        return False
    return any(v is not None and _leads_to_product(m, v, steps - 1) for v in node.inputs)


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


def _without_scale(m: Match, factor_of: ir.Value) -> tuple[ir.Value, float]:
    """Queries or keys less a number that multiplies them."""
    scaling = _only(m, factor_of, "Mul", "Div")
    if scaling is not None:
        inner, number = scaling.inputs
        assert inner is not None and number is not None
        factor = m.scalar(number)
        if factor is not None and m.rank(inner) == m.rank(factor_of):
            return inner, factor if scaling.op_type == "Mul" else 1.0 / factor
    return factor_of, 1.0


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
    dtype = m.dtype(query)
    assert dtype is not None
    mask = combined(m, scores.masks, query, keys, dtype)
    if isinstance(mask, Rejection):
        return mask
    heads: dict[str, object] = {"q_num_heads": 1, "kv_num_heads": 1} if len(q) == 3 else {}
    return op.Attention(query, keys, values, mask, scale=float(scores.scale), **heads)


@dataclass(frozen=True)
class FuseAttention(Pass):
    """Fuse scaled dot-product attention into Attention."""

    name = "fuse-attention"
    family = "fusion"
    stage = "attention"
    level = 2
    bound = (
        "float32 within a few units in the last place of the largest value; "
        "NaN values behind a NaN guard give 0"
    )
    rules = (attention, guard_after_movement)

"""What goes into the softmax of an attention, taken apart: queries, keys, a scale, masks.

The scale is a number on the scores, on queries, on keys (before or after their transpose), or on several of
them; or an array with one number a head or query. Masks are added or chosen, in any order.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import onnx_ir as ir

from graphopt.rewriting.attention_masks import Added, Chosen, Term, fits
from graphopt.rewriting.match import Match, Rejection
from graphopt.rewriting.operators import op

__all__ = ["NOT_A_SCALE", "SCALED_SUM", "Scores", "only", "scores_of"]

NOT_A_SCALE = "the scale is not a positive number"
# To scale the mask apart takes one more walk over all scores: 1.15 of the time of a conformer as it was.
SCALED_SUM = "scores and mask are scaled together: slower in onnxruntime when fused"

# Causal, padding, relative bias: no exporter was seen to stack more.
MOST_MASKS = 4


@dataclass(frozen=True, slots=True)
class Scores:
    """query @ keys^T * scale, and masks, innermost first."""

    query: ir.Value
    keys: ir.Value
    scale: float
    masks: tuple[Term, ...]


def only(m: Match, value: ir.Value | None, *op_types: str) -> ir.Node | None:
    """The producer, if it is one of these operators, here, and only this attention needs it."""
    node = value.producer() if value is not None else None
    if node is None or node.op_type not in op_types or node.domain != "" or node.graph is not m.root.graph:
        return None
    return node if value is not None and m.has_one_consumer(value) else None


def scores_of(m: Match, value: ir.Value) -> Scores | Rejection | None:
    """Take masks, scale and product apart, from the softmax upwards."""
    masks: list[Term] = []
    scale = 1.0
    arrays: list[tuple[str, ir.Value]] = []
    while (product := only(m, value, "MatMul")) is None:
        scaled = _scaled(m, value)
        if scaled is not None:
            value, factor = scaled
            scale *= factor
            continue
        by_array = _scaled_by_array(m, value)
        if by_array is not None:
            kind, array, value = by_array
            arrays.append((kind, array))
            continue
        found = _masked(m, value)
        if found is None or len(masks) >= MOST_MASKS:
            return None
        term, value = found
        if isinstance(term, Added):
            if scale != 1.0 and m.editor.target.name == "onnxruntime":
                return Rejection(SCALED_SUM, value)
            term = replace(term, factor=scale)
        if arrays or (isinstance(term, Chosen) and scale != 1.0):
            return None
        masks.insert(0, term)
    query, factor = _without_scale(m, product.inputs[0])
    keys, other = _without_scale(m, product.inputs[1])
    keys, third = _untransposed(m, keys)
    scale *= factor * other * third
    # Attention takes a scale of 0 for none at all, and its definition takes the root.
    if not 0.0 < scale < math.inf:
        return Rejection(NOT_A_SCALE, product.outputs[0])
    for kind, array in arrays:
        query = op.Mul(query, array) if kind == "Mul" else op.Div(query, array)
    return Scores(query, keys, scale, tuple(masks))


def _masked(m: Match, value: ir.Value) -> tuple[Term, ir.Value] | None:
    """One mask and the scores below it."""
    added = only(m, value, "Add")
    if added is not None:
        first, second = added.inputs
        assert first is not None and second is not None
        if _leads_to_product(m, first):
            return Added(second, value), first
        return (Added(first, value), second) if _leads_to_product(m, second) else None
    chosen = only(m, value, "Where")
    if chosen is None:
        return None
    condition, if_true, if_false = chosen.inputs
    assert condition is not None and if_true is not None and if_false is not None
    keeps = _leads_to_product(m, if_true)
    scores, other = (if_true, if_false) if keeps else (if_false, if_true)
    fill = m.scalar(other)
    if fill is None or not _leads_to_product(m, scores):
        return None
    return Chosen(condition, value, fill, keeps), scores


def _leads_to_product(m: Match, value: ir.Value | None, steps: int = MOST_MASKS + 1) -> bool:
    """Whether the value is a product of queries and keys, or one under scales and further masks."""
    node = only(m, value, "MatMul", "Add", "Where", "Mul", "Div")
    if node is None or steps == 0:
        return False
    return node.op_type == "MatMul" or any(_leads_to_product(m, v, steps - 1) for v in node.inputs)


def _scaled(m: Match, value: ir.Value) -> tuple[ir.Value, float] | None:
    """A product with a number: what is multiplied, and the number."""
    node = only(m, value, "Mul", "Div")
    if node is None:
        return None
    inner, number = node.inputs
    factor = m.scalar(number)
    if factor is None and node.op_type == "Mul":
        inner, factor = number, m.scalar(inner)
    if factor is None or inner is None or m.rank(inner) != m.rank(value):
        return None
    if node.op_type == "Div":
        factor = 1.0 / factor if factor else math.nan
    return inner, factor


def _scaled_by_array(m: Match, value: ir.Value) -> tuple[str, ir.Value, ir.Value] | None:
    """A product with an array of one number for all keys: the operator, the array, what is multiplied."""
    node = only(m, value, "Mul", "Div")
    if node is None:
        return None
    first, second = node.inputs
    pairs = [(first, second)] if node.op_type == "Div" else [(first, second), (second, first)]
    for inner, array in pairs:
        assert inner is not None and array is not None
        dims, wanted = m.dims(array), m.dims(inner)
        if not dims or wanted is None or len(dims) > len(wanted) or dims[-1] != 1:
            continue
        if _leads_to_product(m, inner) and all(map(fits, dims, wanted[-len(dims) :])):
            return node.op_type, array, inner
    return None


def _without_scale(m: Match, value: ir.Value | None) -> tuple[ir.Value, float]:
    """Queries or keys less a number that multiplies them."""
    assert value is not None
    return _scaled(m, value) or (value, 1.0)


def _untransposed(m: Match, keys: ir.Value) -> tuple[ir.Value, float]:
    """Keys with the length before the size, and a number that was taken from below their transpose.

    The transpose is undone, or written without the last swap; keys that come without one get one.
    """
    transpose, rank = keys.producer(), m.rank(keys)
    if rank is None or rank < 2:
        return keys, 1.0
    swap = (*range(rank - 2), rank - 1, rank - 2)
    source = transpose.inputs[0] if transpose is not None else None
    if transpose is None or source is None or transpose.op_type != "Transpose" or transpose.domain != "":
        return op.Transpose(keys, perm=swap), 1.0
    perm = m.attribute(transpose, "perm")
    order = tuple(perm) if isinstance(perm, tuple) else tuple(reversed(range(rank)))
    swapped = tuple(order[i] for i in swap)
    factor = 1.0
    if m.has_one_consumer(keys):
        source, factor = _without_scale(m, source)
    return (source if swapped == tuple(range(rank)) else op.Transpose(source, perm=swapped)), factor

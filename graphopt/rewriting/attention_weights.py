"""What stands between the softmax of an attention and its product with the values: casts, guards, zeros."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import onnx_ir as ir

from graphopt.rewriting.attention_masks import Chosen, absorbs
from graphopt.rewriting.attention_scores import Scores, only
from graphopt.rewriting.lowest_numbers import FRACTION_BITS
from graphopt.rewriting.match import Match

__all__ = ["Zeroed", "narrow_scores", "never_seen", "softmax_of", "without_guard", "without_zeros"]


def softmax_of(weights: ir.Value) -> ir.Node | None:
    """The softmax that makes the weights, or whose result is cast to them."""
    node = weights.producer()
    if node is not None and node.op_type == "Cast" and node.domain == "" and node.inputs[0] is not None:
        node = node.inputs[0].producer()
    return node if node is not None and node.op_type == "Softmax" and node.domain == "" else None


def narrow_scores(
    m: Match, softmax: ir.Node, weights: ir.Value
) -> tuple[ir.Value | None, ir.DataType | None]:
    """The scores, in the type of the weights, and the type that the softmax alone is in, if it is another.

    None for scores where there are casts of which not both are next to the softmax.
    """
    scores, result = softmax.inputs[0], softmax.outputs[0]
    if result is weights:
        return scores, None
    wide = only(m, scores, "Cast")
    narrow = wide.inputs[0] if wide is not None else None
    if narrow is None or m.dtype(narrow) != m.dtype(weights) or not m.has_one_consumer(result):
        return None, None
    return narrow, m.dtype(result)


def without_guard(m: Match, weights: ir.Value) -> ir.Value | None:
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
class Zeroed:
    """Where(condition, 0, value), or Where(condition, value, 0) if `keeps_true`."""

    value: ir.Value
    condition: ir.Value
    keeps_true: bool


def without_zeros(m: Match, weights: ir.Value) -> Zeroed | None:
    """A softmax whose masked weights are set to zero, for queries that may see no key."""
    where = only(m, weights, "Where")
    if where is None:
        return None
    condition, if_true, if_false = where.inputs
    keeps_true = m.scalar(if_false) == 0.0
    value = if_true if keeps_true else if_false
    if condition is None or value is None or only(m, value, "Softmax") is None:
        return None
    return Zeroed(value, condition, keeps_true) if keeps_true or m.scalar(if_true) == 0.0 else None


def never_seen(m: Match, scores: Scores, zeroed: Zeroed) -> Scores | None:
    """Scores that are -inf where the weights become zero; None if the last mask does not fill those."""
    last = scores.masks[-1] if scores.masks else None
    if not isinstance(last, Chosen) or last.condition is not zeroed.condition:
        return None
    dtype = m.dtype(zeroed.value)
    if last.keeps_true != zeroed.keeps_true or dtype not in FRACTION_BITS or not absorbs(last.fill, dtype):
        return None
    return replace(scores, masks=(*scores.masks[:-1], replace(last, fill=-math.inf)))

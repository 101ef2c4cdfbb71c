"""Biases of keys and values out of an attention.

    before   Attention(q, k + b, v + c) -> MatMul(w) -> Add(d)
    after    Attention(q, k, v) -> MatMul(w) -> Add(d + c @ w)

A key's bias adds the same number to all scores of a query, which softmax does not see: it goes. The weights
that softmax gives add up to one, so that a value's bias comes out of the attention as it went in: it goes on
into the weights below.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from graphopt.ir.affine import Affine, affine_of
from graphopt.rewriting import Match, Pass, Rejection, rule_on
from graphopt.rewriting.descent import DeepPlan, below
from graphopt.rewriting.weights import copy_of

KEEPS_KEYS = "the attention has earlier keys, gives its keys on, or caps its scores"
NO_BIAS = "neither keys nor values are a sum with a constant vector that nothing else needs"
NOT_TAKEN = "what follows the attention can't take the values' bias"


def _biased(m: Match, value: ir.Value | None) -> tuple[ir.Value, Affine] | None:
    """The value without the vector that is added to each of its rows, and that vector."""
    node = None if value is None else value.producer()
    # The sum may stand in a graph around this one: what it adds to is known here too.
    if value is None or node is None or not m.has_one_consumer(value):
        return None
    if node.op_type not in ("Add", "Sub") or m.rank(value) not in (3, 4):
        return None
    found = affine_of(node, m.facts)
    if found is None or found[1].has_scale or found[1].axis not in (None, (m.rank(value) or 0) - 1):
        return None
    return found


def _repeated(m: Match, bias: Affine) -> Affine | None:
    """The bias as it comes out: each head of values serves as many heads of queries."""
    if m.rank(m.output) == 4:
        # The heads have an axis to themselves, and the bias is the same for all of them.
        return bias
    heads, groups = m.attribute(m.root, "q_num_heads"), m.attribute(m.root, "kv_num_heads")
    if not isinstance(heads, int) or not isinstance(groups, int) or groups < 1 or heads % groups:
        return None
    if bias.axis is None or heads == groups:
        return bias
    rows = np.repeat(bias.shift.reshape(groups, -1), heads // groups, axis=0)
    return Affine(bias.scale, rows.reshape(-1), 2)


@rule_on("Attention", depth=2)
def biases_of_attention(m: Match) -> dict[ir.Value, ir.Value] | ir.Value | Rejection:
    """Attention(q, k + b, v + c) -> Attention(q, k, v), and c added below."""
    inputs = list(m.root.inputs)
    if any(given is not None for given in inputs[4:6]) or m.attribute(m.root, "softcap") not in (None, 0.0):
        return Rejection(KEEPS_KEYS, m.output)
    if any(v.uses() or v.is_graph_output() for v in m.root.outputs[1:]):
        return Rejection(KEEPS_KEYS, m.output)
    keys, values = _biased(m, inputs[1]), _biased(m, inputs[2])
    plan = _plan(m, values[1]) if values is not None else None
    if keys is None and plan is None:
        return Rejection(NO_BIAS if values is None else NOT_TAKEN, m.output)
    if keys is not None:
        inputs[1] = keys[0]
    if plan is None or values is None:
        return copy_of(m.root, inputs)
    inputs[2] = values[0]
    return plan(copy_of(m.root, inputs))


def _plan(m: Match, bias: Affine) -> DeepPlan | None:
    moved = _repeated(m, bias)
    return None if moved is None else below(m.editor, m.output, moved, m.root.graph)


@dataclass(frozen=True)
class FoldBiasesThroughAttention(Pass):
    """Drop the biases of an attention's keys, and fold those of its values into the weights below."""

    name = "fold-biases-through-attention"
    family = "algebra"
    stage = "target"
    level = 2
    bound = "float32 within a few units in the last place of scores and products: other terms are summed"
    rules = (biases_of_attention,)

"""Scales and shifts into the weights below them.

    before   x -> Mul(s) -> Add(t) -> Conv(w, b)
    after    x -> Conv(w * s, b + sum(w * t))

Where the convolution pads, what it pads with is zero after the shift: then only the scale goes down.

    before   x -> Mul(s) -> Add(t) -> Conv(w, b, pads)
    after    x -> Add(t / s) -> Conv(w * s, b, pads)

It runs when norms and activations have been fused: they have scales and shifts of their own.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from graphopt.ir.affine import Affine, affine_of
from graphopt.rewriting import Match, Pass, Rejection, op, rule_on
from graphopt.rewriting.descent import DeepPlan, below

NOT_TAKEN = "not every consumer has constant weights to take it in"

LONGEST_CHAIN = 4


def _chain(m: Match) -> tuple[ir.Value, Affine, int] | None:
    """The value at the top of a chain of maps that ends here, the whole map, the number of its nodes."""
    found = affine_of(m.root, m.facts)
    if found is None:
        return None
    value, total = found
    length = 1
    while length < LONGEST_CHAIN and m.has_one_consumer(value):
        node = value.producer()
        upper = affine_of(node, m.facts) if node is not None and node.graph is m.root.graph else None
        whole = total.after(upper[1]) if upper is not None else None
        if upper is None or whole is None or not whole.is_finite:
            break
        value, total, length = upper[0], whole, length + 1
    return value, total, length


@rule_on("Mul", "Div", "Add", "Sub", "Neg", "BatchNormalization", depth=LONGEST_CHAIN)
def map_into_consumers(m: Match) -> dict[ir.Value, ir.Value] | Rejection | None:
    """f(x * s + t, w) -> f(x, w')."""
    found = _chain(m)
    if found is None:
        return None
    value, affine, length = found
    plan = below(m.editor, m.output, affine, m.root.graph)
    if plan is not None:
        return plan(value)
    if affine.has_scale and affine.has_shift and (length > 1 or m.root.op_type == "BatchNormalization"):
        plan = below(m.editor, m.output, affine.only_scale, m.root.graph)
        return Rejection(NOT_TAKEN, m.output) if plan is None else _shift_first(m, value, affine, plan)
    return Rejection(NOT_TAKEN, m.output)


def _shift_first(
    m: Match, value: ir.Value, affine: Affine, plan: DeepPlan
) -> dict[ir.Value, ir.Value] | Rejection:
    """x * s + t as (x + t / s) * s, of which the scale is taken below."""
    rank, dtype = m.rank(value), m.dtype(value)
    with np.errstate(all="ignore"):
        shift = affine.shift / affine.scale
    if rank is None or dtype is None:
        return Rejection(NOT_TAKEN, m.output)
    axis = affine.axis if shift.ndim else None
    array = Affine(affine.scale, shift, axis).shaped(shift, rank).astype(dtype.numpy())
    if not np.isfinite(array.astype(np.float64)).all():
        return Rejection(NOT_TAKEN, m.output)
    return plan(op.Add(value, array))


@dataclass(frozen=True)
class FoldMapsIntoConsumers(Pass):
    """Fold scales and shifts into the weights below them."""

    name = "fold-maps-into-consumers"
    family = "algebra"
    stage = "target"
    level = 2
    bound = "float32 within a few units in the last place of the products: the weights are rounded once more"
    rules = (map_into_consumers,)

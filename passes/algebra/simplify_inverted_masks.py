"""Masks that are inverted as numbers, as conditions.

    before   inverted = 1 - Cast(mask: int64)     Where(Cast(inverted, to=bool), lowest, inverted)
    after    Where(mask == 1, 0, lowest)

transformers writes a mask of padding so, for its addition to the scores of an attention.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from graphopt.rewriting import Match, Pass, Rejection, const, op, rule

NOT_WHOLE = "the mask is not of whole numbers or conditions"

# Compared by Equal in every opset.
_COMPARED = frozenset({ir.DataType.INT32, ir.DataType.INT64})


@rule
def chosen_where_inverted(mask, masked):
    """Where(Cast(1 - Cast(mask), to=bool), masked, 1 - Cast(mask)) -> Where(mask == 1, 0, masked)."""
    inverted = op.Sub(const(1.0), op.Cast(mask).named("number"))
    return op.Where(op.Cast(inverted, to=int(ir.DataType.BOOL)), masked, inverted)


@chosen_where_inverted.when
def of_whole_numbers(m: Match) -> Rejection | None:
    # What is no whole number may be rounded to one by the Cast.
    fits = m.dtype(m["mask"]) in _COMPARED | {ir.DataType.BOOL} and m.dtype(m["number"]) is not None
    return None if fits else Rejection(NOT_WHOLE, m["mask"])


@chosen_where_inverted.rewrite
def chosen_where_equal(m: Match) -> ir.Value:
    mask, dtype = m["mask"], m.dtype(m["number"])
    assert dtype is not None, "the condition asked"
    # 1 - 1 is a zero without a sign; of everything else the inverse is not zero.
    kept = mask if m.dtype(mask) is ir.DataType.BOOL else op.Equal(mask, 1)
    made: ir.Value = op.Where(kept, np.zeros((), dtype.numpy()), m["masked"])
    return made


@dataclass(frozen=True)
class SimplifyInvertedMasks(Pass):
    """Write masks that are inverted as numbers as conditions."""

    name = "simplify-inverted-masks"
    family = "algebra"
    rules = (chosen_where_inverted,)

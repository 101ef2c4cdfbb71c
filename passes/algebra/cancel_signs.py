"""Signs and inverses that cancel, or that the next operator can take.

    before   Neg(Neg(x))   x + Neg(y)   x - Neg(y)   Neg(x) * Neg(y)   Neg(x - y)   Abs(Neg(x))
    after    x             x - y        x + y        x * y             y - x        Abs(x)

The same for Reciprocal beside Mul and Div, and for Not beside comparisons of integers and Where.
"""

from __future__ import annotations

from dataclasses import dataclass

import onnx_ir as ir

from graphopt.ir.ranges import has_no_sign
from graphopt.rewriting import Match, Pass, Rejection, op, rule, rule_on

MAY_BE_NAN = "a comparison with NaN is false, and so is its opposite"

_OPPOSITE = {
    "Less": "GreaterOrEqual",
    "Greater": "LessOrEqual",
    "LessOrEqual": "Greater",
    "GreaterOrEqual": "Less",
}


@rule
def double_negation(x):
    """Neg(Neg(x)) -> x."""
    return op.Neg(op.Neg(x).shared())


@double_negation.rewrite
def negated_twice(m: Match) -> ir.Value:
    return m["x"]


@rule
def plus_negative(x, y):
    """Add(x, Neg(y)) -> Sub(x, y)."""
    return op.Add(x, op.Neg(y))


@plus_negative.rewrite
def difference(m: Match) -> ir.Value:
    return op.Sub(m["x"], m["y"])


@rule
def minus_negative(x, y):
    """Sub(x, Neg(y)) -> Add(x, y)."""
    return op.Sub(x, op.Neg(y))


@minus_negative.rewrite
def sum_of_two(m: Match) -> ir.Value:
    return op.Add(m["x"], m["y"])


@rule
def product_of_negatives(x, y):
    """Mul(Neg(x), Neg(y)) -> Mul(x, y)."""
    return op.Mul(op.Neg(x), op.Neg(y))


@product_of_negatives.rewrite
def product_of_both(m: Match) -> ir.Value:
    return op.Mul(m["x"], m["y"])


@rule
def absolute_negative(x):
    """Abs(Neg(x)) -> Abs(x)."""
    return op.Abs(op.Neg(x))


@absolute_negative.rewrite
def absolute(m: Match) -> ir.Value:
    return op.Abs(m["x"])


@rule_on("Abs", depth=4)
def absolute_of_no_negative(m: Match) -> ir.Value | None:
    """Abs(Sigmoid(x)) -> Sigmoid(x)."""
    x = m.root.inputs[0]
    dtype = None if x is None else m.dtype(x)
    return x if dtype is not None and dtype.is_floating_point() and has_no_sign(x) else None


@rule_on("Ceil", "Floor", "Round", "Abs", "Sign", depth=2)
def repeated(m: Match) -> ir.Value | None:
    """Floor(Floor(x)) -> Floor(x)."""
    x = m.root.inputs[0]
    inner = None if x is None else x.producer()
    if inner is None or inner.domain != "":
        return None
    is_whole = inner.op_type in ("Ceil", "Floor", "Round") and m.root.op_type in ("Ceil", "Floor", "Round")
    return x if is_whole or inner.op_type == m.root.op_type else None


@rule
def where_not(c, x, y):
    """Where(Not(c), x, y) -> Where(c, y, x)."""
    return op.Where(op.Not(c), x, y)


@where_not.rewrite
def where_other_way(m: Match) -> ir.Value:
    return op.Where(m["c"], m["y"], m["x"])


@rule
def opposite_comparison(x, y):
    """Not(Less(x, y)) -> GreaterOrEqual(x, y), of integers."""
    return op.Not(op["Less", "Greater", "LessOrEqual", "GreaterOrEqual"](x, y).named("comparison"))


@opposite_comparison.when
def of_integers(m: Match) -> Rejection | None:
    dtype = m.dtype(m["x"])
    opposite = _OPPOSITE[m.node("comparison").op_type]
    # The forms with Equal are there from opset 12 on.
    if dtype is None or not dtype.is_integer() or (m.opset < 12 and opposite.endswith("Equal")):
        return Rejection(MAY_BE_NAN, m["comparison"])
    return None


@opposite_comparison.rewrite
def turned_round(m: Match) -> ir.Value:
    return op[_OPPOSITE[m.node("comparison").op_type]](m["x"], m["y"])


@dataclass(frozen=True)
class CancelSigns(Pass):
    """Cancel signs, and let the next operator take a negation, exactly."""

    name = "cancel-signs"
    family = "algebra"
    rules = (
        double_negation,
        plus_negative,
        minus_negative,
        product_of_negatives,
        absolute_negative,
        absolute_of_no_negative,
        repeated,
        where_not,
        opposite_comparison,
    )

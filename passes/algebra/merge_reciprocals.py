"""Reciprocals, roots and powers as the one operator that they come to.

    before   x * Reciprocal(y)   x / Reciprocal(y)   x * (1 / y)   Neg(x - y)   Pow(x, 0.5)
    after    x / y               x * y               x / y         y - x        Sqrt(x)

Pow(x, 0.5) of a negative infinity is infinite, its Sqrt is NaN: so only where x is never negative.
"""

from __future__ import annotations

from dataclasses import dataclass

import onnx_ir as ir

from graphopt.ir.ranges import is_never_negative
from graphopt.rewriting import Match, Pass, Rejection, any_of, const, op, rule

MAY_BE_NEGATIVE = "the base may be negative"
NOT_FLOAT = "the value is not known to be a float"
WIDENS = "the constant may widen the value by broadcasting"


def _reciprocal(y):
    return any_of(op.Reciprocal(y), op.Div(const(1.0), y).named("quotient"))


def _is_float(m: Match, name: str) -> Rejection | None:
    dtype = m.dtype(m[name])
    return None if dtype is not None and dtype.is_floating_point() else Rejection(NOT_FLOAT, m[name])


@rule
def times_reciprocal(x, y):
    """Mul(x, Reciprocal(y)) -> Div(x, y)."""
    return op.Mul(x, _reciprocal(y))


@times_reciprocal.when
def floats_multiplied(m: Match) -> Rejection | None:
    return _is_float(m, "y")


@times_reciprocal.rewrite
def quotient(m: Match) -> ir.Value:
    return op.Div(m["x"], m["y"])


@rule
def over_reciprocal(x, y):
    """Div(x, Reciprocal(y)) -> Mul(x, y)."""
    return op.Div(x, _reciprocal(y))


@over_reciprocal.when
def floats_divided(m: Match) -> Rejection | None:
    return _is_float(m, "y")


@over_reciprocal.rewrite
def product(m: Match) -> ir.Value:
    return op.Mul(m["x"], m["y"])


@rule
def negative_difference(x, y):
    """Neg(Sub(x, y)) -> Sub(y, x)."""
    return op.Neg(op.Sub(x, y))


@negative_difference.rewrite
def difference_other_way(m: Match) -> ir.Value:
    return op.Sub(m["y"], m["x"])


@rule
def power_of_half(x):
    """Pow(x, 0.5) -> Sqrt(x)."""
    return op.Pow(x, 0.5)


@power_of_half.when
def base_never_negative(m: Match) -> Rejection | None:
    return None if is_never_negative(m["x"]) else Rejection(MAY_BE_NEGATIVE, m["x"])


@power_of_half.rewrite
def root(m: Match) -> ir.Value:
    return op.Sqrt(m["x"])


@rule
def power_of_minus_one(x):
    """Pow(x, -1) -> Reciprocal(x)."""
    return op.Pow(x, -1.0)


@power_of_minus_one.when
def float_base(m: Match) -> Rejection | None:
    return _is_float(m, "x")


@power_of_minus_one.rewrite
def reciprocal(m: Match) -> ir.Value:
    return op.Reciprocal(m["x"])


@dataclass(frozen=True)
class MergeReciprocals(Pass):
    """Write reciprocals, roots and powers as the one operator that they come to."""

    name = "merge-reciprocals"
    family = "algebra"
    stage = "target"
    level = 2
    bound = "one rounding less; the sign of a zero"
    rules = (times_reciprocal, over_reciprocal, negative_difference, power_of_half, power_of_minus_one)

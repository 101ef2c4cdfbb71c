"""Remove arithmetic that gives back its input, bit for bit.

    before   x * 1   x / 1   x ** 1   x - 0.0   x + (-0.0)   n + 0   And(b, true)   Not(Not(b))
    after    x

x + 0.0 is not among them: it turns a negative zero into a positive one (see `remove-zero-additions`). The
constant must not widen x by broadcasting. NaN and infinities pass through all of these unchanged.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import onnx_ir as ir

from graphopt.ir.constants import constant, uniform
from graphopt.rewriting import Match, Pass, Rejection, op, rule, rule_on

WIDENS = "the constant may widen the value by broadcasting"


def _negative_zero(number: float) -> bool:
    return number == 0 and (isinstance(number, int) or math.copysign(1.0, number) < 0)


def _positive_zero(number: float) -> bool:
    return number == 0 and (isinstance(number, int) or math.copysign(1.0, number) > 0)


def _equals(wanted: float) -> Callable[[float], bool]:
    return lambda number: number == wanted


# Which constants change nothing; and of which operators as the first operand, too.
NEUTRAL: dict[str, Callable[[float], bool]] = {
    "Add": _negative_zero,
    "Sub": _positive_zero,
    "Mul": _equals(1),
    "Div": _equals(1),
    "Pow": _equals(1),
    "And": _equals(True),
    "Or": _equals(False),
    "Xor": _equals(False),
    "BitwiseAnd": _equals(-1),
    "BitwiseOr": _equals(0),
    "BitwiseXor": _equals(0),
    "BitShift": _equals(0),
}
COMMUTATIVE = frozenset({"Add", "Mul", "And", "Or", "Xor", "BitwiseAnd", "BitwiseOr", "BitwiseXor"})


@rule_on(*NEUTRAL, depth=1)
def neutral_operand(m: Match) -> ir.Value | Rejection | None:
    """x * 1 -> x, and the like."""
    first, second = m.root.inputs
    assert first is not None and second is not None
    pairs = [(first, second), (second, first)] if m.root.op_type in COMMUTATIVE else [(first, second)]
    for x, other in pairs:
        number = uniform(other)
        if number is not None and NEUTRAL[m.root.op_type](number):
            return x if _keeps_shape(m, other, x) else Rejection(WIDENS, other)
    return None


def _keeps_shape(m: Match, other: ir.Value, x: ir.Value) -> bool:
    tensor = constant(other)
    is_scalar = tensor is not None and tensor.shape.rank() == 0
    return is_scalar or m.facts.broadcasts_to(other, x)


@rule_on("And", "Or", "Min", "Max", "BitwiseAnd", "BitwiseOr", depth=1)
def equal_operands(m: Match) -> ir.Value | None:
    """Max(x, x) -> x, and the like."""
    first, *others = m.root.inputs
    return first if others and all(other is first for other in others) else None


@rule
def double_not(x):
    """Not(Not(x)) -> x."""
    return op.Not(op.Not(x).shared())


@double_not.rewrite
def just_x(m: Match) -> ir.Value:
    return m["x"]


@rule_on("Clip", depth=1)
def clip_without_bounds(m: Match) -> ir.Value | None:
    """Clip(x, -inf, inf) -> x; of integers also where no bound is given."""
    x = m.root.inputs[0]
    dtype = m.dtype(x) if x is not None else None
    if x is None or dtype is None or any(name in m.root.attributes for name in ("min", "max")):
        return None
    # The default bounds of floats are their largest finite numbers: an infinity would not pass.
    bounds = [None if v is None else uniform(v) for v in (*m.root.inputs, None, None)[1:3]]
    if dtype.is_floating_point():
        return x if bounds == [-math.inf, math.inf] else None
    return x if m.opset >= 12 and not any(m.root.inputs[1:]) else None


@dataclass(frozen=True)
class RemoveNoOpArithmetic(Pass):
    """Remove arithmetic and logic that change nothing: x * 1, x - 0, Not(Not(x))."""

    name = "remove-no-op-arithmetic"
    family = "cleanup"
    rules = (neutral_operand, equal_operands, double_not, clip_without_bounds)

"""One bound from two: Clip, Relu, Min and Max with numbers.

    before   Clip(Relu(x), max = 6)   Max(Min(x, 6), 0)   Relu(Sigmoid(x))
    after    Clip(x, 0, 6)            Clip(x, 0, 6)       Sigmoid(x)

A Clip from zero without an upper bound is written as Relu, one without bounds goes. What Max(-0.0, 0) is the
standard leaves open, and a Clip without a bound may take the largest number for infinity: the sign of a zero
and an infinity may change.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from graphopt.ir import constants
from graphopt.ir.ranges import clip_bounds, is_never_negative
from graphopt.rewriting import Match, Pass, Rejection, op, rule_on

HAS_OTHER_CONSUMERS = "the value between two bounds has another consumer"
NEEDS_OPSET = "bounds of this type can't be written at the model's opset"

_FLOATS = frozenset({ir.DataType.FLOAT, ir.DataType.DOUBLE, ir.DataType.FLOAT16})
_INTEGERS = frozenset(
    {ir.DataType.INT8, ir.DataType.INT16, ir.DataType.INT32, ir.DataType.INT64}
    | {ir.DataType.UINT8, ir.DataType.UINT16, ir.DataType.UINT32}
)


@dataclass(frozen=True)
class _Bounded:
    """min(max(value, low), high), infinities where there is no bound."""

    value: ir.Value
    low: float
    high: float

    def __call__(self, number: float) -> float:
        return min(max(number, self.low), self.high)


def _bounded(m: Match, node: ir.Node) -> _Bounded | None:
    """What a node bounds, and by what; None if it is no such node."""
    value = node.inputs[0]
    if node.domain != "" or value is None:
        return None
    if node.op_type == "Relu":
        return _Bounded(value, 0.0, math.inf)
    if node.op_type == "Clip":
        bounds = clip_bounds(node, m.opset)
        return None if bounds is None or any(map(math.isnan, bounds)) else _Bounded(value, *bounds)
    if node.op_type not in ("Min", "Max") or len(node.inputs) != 2:
        return None
    for number_value, other in ((node.inputs[1], value), (value, node.inputs[1])):
        tensor = constants.constant(number_value)
        if tensor is None or tensor.size != 1 or other is None:
            continue
        rank = m.rank(other)
        if rank is None or len(tensor.shape) > rank:
            return None
        number = float(np.asarray(tensor.numpy()).reshape(()).astype(np.float64))
        if math.isnan(number):
            return None
        return (
            _Bounded(other, -math.inf, number) if node.op_type == "Min" else _Bounded(other, number, math.inf)
        )
    return None


@rule_on("Relu", "Clip", "Min", "Max", depth=2)
def two_bounds(m: Match) -> ir.Value | Rejection | None:
    """Clip(Clip(x, a, b), c, d) -> Clip(x, max(a, c), min(b, d))."""
    outer = _bounded(m, m.root)
    dtype = None if outer is None else m.dtype(outer.value)
    if outer is None or dtype is None:
        return None
    producer = outer.value.producer()
    inner = None if producer is None else _bounded(m, producer)
    if inner is None:
        return _single(m, outer, dtype)
    joint = _Bounded(inner.value, outer(min(inner.low, inner.high)), outer(inner.high))
    if (joint.low, joint.high) == (min(inner.low, inner.high), inner.high):
        # The outer bound changes nothing, whoever else uses the inner one.
        return outer.value
    if not m.has_one_consumer(outer.value):
        return Rejection(HAS_OTHER_CONSUMERS, outer.value)
    return _written(m, joint, dtype)


def _single(m: Match, bounded: _Bounded, dtype: ir.DataType) -> ir.Value | Rejection | None:
    """One bound alone: gone where it binds nothing, Relu where it is one."""
    if dtype not in _FLOATS:
        return None
    if bounded.low <= 0 and bounded.high == math.inf and is_never_negative(bounded.value):
        return bounded.value
    if (bounded.low, bounded.high) == (-math.inf, math.inf):
        return bounded.value
    if (bounded.low, bounded.high) == (0.0, math.inf) and m.root.op_type != "Relu":
        return _written(m, bounded, dtype)
    return None


def _written(m: Match, bounded: _Bounded, dtype: ir.DataType) -> ir.Value | Rejection:
    if (bounded.low, bounded.high) == (0.0, math.inf) and (dtype in _FLOATS or m.opset >= 14):
        result: ir.Value = op.Relu(bounded.value)
        return result
    if m.opset < (6 if dtype in _FLOATS else 12):
        return Rejection(NEEDS_OPSET, bounded.value)
    if m.opset < 11 and math.inf in (-bounded.low, bounded.high):
        return Rejection(NEEDS_OPSET, bounded.value)
    low, high = (
        None if math.isinf(b) and b * sign > 0 else np.array(b, dtype.numpy())
        for b, sign in ((bounded.low, -1), (bounded.high, 1))
    )
    clipped: ir.Value = op.Clip(bounded.value, low, high)
    return clipped


@dataclass(frozen=True)
class MergeClips(Pass):
    """Merge consecutive bounds into one."""

    name = "merge-clips"
    family = "algebra"
    level = 2
    bound = "the same bits but for signs of zeros, and for infinities that a Clip has no bound for"
    rules = (two_bounds,)

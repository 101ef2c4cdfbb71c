"""Softmax and LogSoftmax from their parts.

    before   d = x - ReduceMax(x); e = Exp(d); e / ReduceSum(e)
    after    Softmax(x)

    before   d = x - ReduceMax(x); d - Log(ReduceSum(Exp(d)))            x - ReduceLogSumExp(x)
    after    LogSoftmax(x)

Without the maximum the exponential of a large number is infinite and the quotient NaN: that form stays.
"""

from __future__ import annotations

from dataclasses import dataclass

import onnx_ir as ir

from graphopt.ir.dims import Dim
from graphopt.rewriting import Match, Pass, Rejection, any_of, op, rule
from graphopt.rewriting.normalization import reduced_axes

NOT_ONE_AXIS = "maximum and sum are not over one same axis that is kept"


def _restored(value):
    return any_of(value, op["Reshape", "Unsqueeze"](value, ...))


def _less_maximum(x):
    """x - max(x), the sum of its exponentials, and the exponentials."""
    below = op.Sub(x, _restored(op.ReduceMax(x, ...).named("maximum")).named("top"))
    exponential = op.Exp(below)
    total = _restored(op.ReduceSum(exponential, ...).named("sum")).named("total")
    return below, exponential, total


def _axis(m: Match, *names: str) -> int | Rejection:
    """The one axis that reductions are over; the others of the named values have x's dims."""
    x = m["x"]
    dims = m.dims(x)
    reductions = [name for name in names if name in ("maximum", "sum", "logarithm")]
    axes = {reduced_axes(m, m.node(name)) for name in reductions}
    found = axes.pop() if len(axes) == 1 else None
    if dims is None or found is None or len(found) != 1:
        return Rejection(NOT_ONE_AXIS, x)
    kept: tuple[Dim, ...] = tuple(1 if i == found[0] else dim for i, dim in enumerate(dims))
    for name in names:
        if name not in reductions and m.dims(m[name]) != kept:
            return Rejection(NOT_ONE_AXIS, m[name])
    return found[0] if found[0] < len(dims) - 1 else -1


@rule(opset=13)
def softmax(x):
    """Exp(x - max) / ReduceSum(Exp(x - max)) -> Softmax(x)."""
    _, exponential, total = _less_maximum(x)
    return any_of(op.Div(exponential, total), op.Mul(exponential, op.Reciprocal(total)))


@softmax.when
def over_one_axis(m: Match) -> int | Rejection:
    return _axis(m, "maximum", "top", "sum", "total")


@softmax.rewrite
def as_softmax(m: Match, axis: int) -> ir.Value:
    return op.Softmax(m["x"], axis=axis)


@rule(opset=13)
def log_softmax(x):
    """(x - max) - Log(ReduceSum(Exp(x - max))) -> LogSoftmax(x)."""
    below, _, total = _less_maximum(x)
    return op.Sub(below, op.Log(total))


@log_softmax.when
def over_one_axis_in_logarithms(m: Match) -> int | Rejection:
    return _axis(m, "maximum", "top", "sum", "total")


@log_softmax.rewrite
def as_log_softmax(m: Match, axis: int) -> ir.Value:
    return op.LogSoftmax(m["x"], axis=axis)


@rule(opset=13)
def less_log_sum_exp(x):
    """x - ReduceLogSumExp(x) -> LogSoftmax(x)."""
    return op.Sub(x, _restored(op.ReduceLogSumExp(x, ...).named("logarithm")).named("total"))


@less_log_sum_exp.when
def over_the_same_axis(m: Match) -> int | Rejection:
    return _axis(m, "logarithm", "total")


@less_log_sum_exp.rewrite
def as_log_softmax_too(m: Match, axis: int) -> ir.Value:
    return op.LogSoftmax(m["x"], axis=axis)


@dataclass(frozen=True)
class FuseSoftmax(Pass):
    """Fuse Softmax and LogSoftmax from their parts."""

    name = "fuse-softmax"
    family = "fusion"
    stage = "fuse"
    level = 2
    bound = "float32 within a few units in the last place"
    rules = (softmax, log_softmax, less_log_sum_exp)

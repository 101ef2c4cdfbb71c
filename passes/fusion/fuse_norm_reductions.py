"""Norms as one reduction.

    before   Sqrt(ReduceSum(x * x))     ReduceSum(x * x)      ReduceSum(Abs(x))
    after    ReduceL2(x)                ReduceSumSquare(x)    ReduceL1(x)

Not for onnxruntime: its kernels for these take 1.1 to 3.9 times as long as the parts (0.9 for eight elements;
measured on seven shapes with one thread).
"""

from __future__ import annotations

from dataclasses import dataclass

import onnx_ir as ir

from graphopt.ir.element_types import FLOATS
from graphopt.rewriting import Match, Pass, Rejection, any_of, op, rule
from graphopt.rewriting.normalization import reduced_axes

NOT_FLOATS = "the sum of integers may wrap around in another way"
UNKNOWN_AXES = "the axes are not known"


def _square(x):
    return any_of(op.Mul(x, x), op.Pow(x, 2.0))


def _axes(m: Match) -> list[int] | Rejection:
    """The axes of the matched sum, from the front."""
    if m.dtype(m["x"]) not in FLOATS:
        return Rejection(NOT_FLOATS, m["x"])
    axes, rank = reduced_axes(m, m.node("sum")), m.rank(m["x"])
    if axes is None or rank is None:
        return Rejection(UNKNOWN_AXES, m["sum"])
    # Where none are given, a sum is over all, or over none where it says so.
    if not axes and m.attribute(m.node("sum"), "noop_with_empty_axes", 0):
        return Rejection(UNKNOWN_AXES, m["sum"])
    return list(axes) or list(range(rank))


def _reduced(m: Match, operator: str, axes: list[int]) -> ir.Value:
    keeps = m.attribute(m.node("sum"), "keepdims", 1)
    build = getattr(op, operator)
    return build(m["x"], axes, keepdims=keeps) if axes else build(m["x"], keepdims=keeps)


@rule
def sum_of_squares(x):
    """ReduceSum(x * x) -> ReduceSumSquare(x)."""
    return op.ReduceSum(_square(x), ...).named("sum")


sum_of_squares.when(_axes)


@sum_of_squares.rewrite
def as_sum_of_squares(m: Match, axes: list[int]) -> ir.Value:
    return _reduced(m, "ReduceSumSquare", axes)


@rule
def root_of_squares(x):
    """Sqrt(ReduceSumSquare(x)) -> ReduceL2(x)."""
    return op.Sqrt(op.ReduceSumSquare(x, ...).named("sum"))


root_of_squares.when(_axes)


@root_of_squares.rewrite
def as_length(m: Match, axes: list[int]) -> ir.Value:
    return _reduced(m, "ReduceL2", axes)


@rule
def sum_of_sizes(x):
    """ReduceSum(Abs(x)) -> ReduceL1(x)."""
    return op.ReduceSum(op.Abs(x), ...).named("sum")


sum_of_sizes.when(_axes)


@sum_of_sizes.rewrite
def as_sum_of_sizes(m: Match, axes: list[int]) -> ir.Value:
    return _reduced(m, "ReduceL1", axes)


@dataclass(frozen=True)
class FuseNormReductions(Pass):
    """Fuse squares, sizes and roots into the reductions that are norms."""

    name = "fuse-norm-reductions"
    family = "fusion"
    stage = "fuse"
    level = 2
    targets = ("onnx", "graphopt")
    bound = "float32 within a few units in the last place"
    rules = (sum_of_squares, root_of_squares, sum_of_sizes)

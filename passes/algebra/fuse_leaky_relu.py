"""LeakyRelu and PRelu from their parts.

    before   Relu(x) - slope * Relu(-x)      Max(x, 0.1 * x)      Where(x > 0, x, slope * x)
    after    PRelu(x, slope)                 LeakyRelu(x)         PRelu(x, slope)

A slope of one number becomes LeakyRelu's alpha.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from graphopt.ir import constants
from graphopt.ir.affine import MOST_CHANNELS
from graphopt.ir.element_types import FLOATS
from graphopt.rewriting import Match, Pass, Rejection, any_of, const, constant, op, rule

NO_SLOPE = "the slope is no constant of a float type that broadcasts over the value"
NOT_BETWEEN = "only a slope between 0 and 1 makes the larger of the two the leaky one"


def _slope(m: Match, sign: float) -> np.ndarray | Rejection:
    tensor, dims = m.tensor("slope"), m.dims(m["x"])
    if tensor is None or dims is None or tensor.dtype not in FLOATS or tensor.size > MOST_CHANNELS:
        return Rejection(NO_SLOPE, m["slope"])
    shape = constants.shape_of(tensor)
    if len(shape) > len(dims) or m.dtype(m["x"]) != tensor.dtype:
        return Rejection(NO_SLOPE, m["slope"])
    if any(size not in (1, dim) for size, dim in zip(shape[::-1], dims[::-1], strict=False)):
        return Rejection(NO_SLOPE, m["slope"])
    array = np.asarray(tensor.numpy())
    return array if sign > 0 else -array


def _leaky(x: ir.Value, slope: np.ndarray) -> ir.Value:
    if slope.size == 1:
        return op.LeakyRelu(x, alpha=float(slope.reshape(()).astype(np.float64)))
    return op.PRelu(x, constant(slope))


@rule
def minus_negative_part(x, slope):
    """Sub(Relu(x), Mul(Relu(Neg(x)), slope)) -> PRelu(x, slope)."""
    return op.Sub(op.Relu(x), op.Mul(op.Relu(op.Neg(x)), slope))


@minus_negative_part.when
def subtracted(m: Match) -> np.ndarray | Rejection:
    return _slope(m, 1.0)


@minus_negative_part.rewrite
def leaky_of_difference(m: Match, slope: np.ndarray) -> ir.Value:
    return _leaky(m["x"], slope)


@rule
def plus_negative_part(x, slope):
    """Add(Relu(x), Mul(Relu(Neg(x)), -slope)) -> PRelu(x, slope)."""
    return op.Add(op.Relu(x), op.Mul(op.Relu(op.Neg(x)), slope))


@plus_negative_part.when
def added(m: Match) -> np.ndarray | Rejection:
    return _slope(m, -1.0)


@plus_negative_part.rewrite
def leaky_of_sum(m: Match, slope: np.ndarray) -> ir.Value:
    return _leaky(m["x"], slope)


@rule
def larger_of_two(x):
    """Max(x, Mul(x, 0.1)) -> LeakyRelu(x)."""
    scaled = op.Mul(x, const("slope"))
    return any_of(op.Max(x, scaled), op.Max(scaled, x))


@larger_of_two.when
def between(m: Match) -> np.ndarray | Rejection:
    slope = _slope(m, 1.0)
    if isinstance(slope, Rejection):
        return slope
    # A slope of 0 makes NaN of infinities.
    return slope if bool(((slope > 0) & (slope <= 1)).all()) else Rejection(NOT_BETWEEN, m["slope"])


@larger_of_two.rewrite
def leaky_of_larger(m: Match, slope: np.ndarray) -> ir.Value:
    return _leaky(m["x"], slope)


@rule
def chosen_by_sign(x, slope):
    """Where(Greater(x, 0), x, Mul(x, slope)) -> PRelu(x, slope)."""
    positive = any_of(op.Greater(x, 0.0), op.GreaterOrEqual(x, 0.0))
    return op.Where(positive, x, op.Mul(x, slope))


@chosen_by_sign.when
def of_negatives(m: Match) -> np.ndarray | Rejection:
    return _slope(m, 1.0)


@chosen_by_sign.rewrite
def leaky_of_choice(m: Match, slope: np.ndarray) -> ir.Value:
    return _leaky(m["x"], slope)


@dataclass(frozen=True)
class FuseLeakyRelu(Pass):
    """Fuse LeakyRelu and PRelu from their parts."""

    name = "fuse-leaky-relu"
    family = "algebra"
    stage = "fuse"
    level = 2
    bound = "the sign of a zero"
    rules = (minus_negative_part, plus_negative_part, larger_of_two, chosen_by_sign)

"""RMSNormalization from its parts.

    before   x / Sqrt(ReduceMean(x * x) + eps) [* scale]
    after    RMSNormalization(x, scale)

The division is written in the ways that layer normalization has too.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from graphopt.rewriting import Match, Pass, Rejection, any_of, attr, const, constant, op, rule
from graphopt.rewriting.normalization import (
    is_small,
    normalized_sizes,
    over_normalized,
    trailing_axes,
)

NOT_TRAILING = "the mean of squares is not over trailing axes"
UNKNOWN_SIZE = "the size of the normalized axes is not known"
WRONG_SHAPE = "the scale is not a constant over exactly the normalized axes"


@rule(opset=23)
def rms_norm(x):
    """x / Sqrt(mean(x^2) + eps) -> RMSNormalization(x, 1)."""
    square = any_of(op.Pow(x, 2.0), op.Mul(x, x))
    shifted = op.Add(op.ReduceMean(square, ...).named("mean"), const("eps", is_small))
    root = op.Sqrt(shifted)
    return any_of(
        op.Div(x, root),
        op.Mul(x, op.Reciprocal(root)),
        op.Mul(x, op.Div(1.0, root)),
        op.Mul(x, op.Pow(shifted, -0.5)),
    )


@rms_norm.when
def sizes_of_axes(m: Match) -> tuple[int, ...] | Rejection:
    axes = trailing_axes(m, m.node("mean"))
    if axes is None:
        return Rejection(NOT_TRAILING, m["mean"])
    return normalized_sizes(m, m["x"], axes) or Rejection(UNKNOWN_SIZE, m["x"])


@rms_norm.rewrite
def normalize(m: Match, sizes: tuple[int, ...]) -> ir.Value:
    dtype = m.dtype(m["x"]) or ir.DataType.FLOAT
    ones = constant(np.ones(sizes, dtype.numpy()))
    return op.RMSNormalization(m["x"], ones, axis=-len(sizes), epsilon=m.scalar("eps"))


@rule(opset=23)
def scale_into_rms_norm(x, scale, weight):
    """RMSNormalization(x, s) * w -> RMSNormalization(x, s * w)."""
    norm = op.RMSNormalization(x, scale, axis=attr("axis"), epsilon=attr("epsilon")).named("norm")
    return op.Mul(norm, weight)


@scale_into_rms_norm.when
def product(m: Match) -> np.ndarray | Rejection:
    array, scale = over_normalized(m, m["weight"], m.node("norm")), m.array("scale")
    return Rejection(WRONG_SHAPE, m["weight"]) if array is None or scale is None else scale * array


@scale_into_rms_norm.rewrite
def with_scale(m: Match, scale: np.ndarray) -> ir.Value:
    attributes = {name: m.captured(name) for name in ("axis", "epsilon")}
    return op.RMSNormalization(m["x"], constant(scale), **attributes)


@dataclass(frozen=True)
class FuseRmsNorm(Pass):
    """Fuse decomposed root-mean-square normalization into RMSNormalization."""

    name = "fuse-rms-norm"
    family = "fusion"
    stage = "fuse"
    level = 2
    bound = "float32 within a few units in the last place of the normalized values"
    rules = (rms_norm, scale_into_rms_norm)

"""LayerNormalization from its parts.

    before   mean = ReduceMean(x); d = x - mean; v = ReduceMean(d * d); d / Sqrt(v + eps) [* scale] [+ bias]
    after    LayerNormalization(x, scale, bias)

Exporters write the square as Pow or Mul, the division as Div, or as Mul by Reciprocal(Sqrt), 1 / Sqrt or
Pow(-0.5). The bare form is fused first, with a scale of ones; a Mul and an Add that follow are then taken in.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from graphopt.rewriting import Match, Pass, Rejection, any_of, attr, const, constant, op, rule
from graphopt.rewriting.normalization import normalized_sizes, over_normalized, trailing_axes

AXES_DIFFER = "mean and variance are not over the same trailing axes"
UNKNOWN_SIZE = "the size of the normalized axes is not known"
WRONG_SHAPE = "the scale or bias is not a constant over exactly the normalized axes"


def _is_small(eps: float) -> bool:
    return 0.0 <= eps < 0.1


@rule(opset=17)
def layer_norm(x):
    """(x - mean) / Sqrt(mean((x - mean)^2) + eps) -> LayerNormalization(x, 1)."""
    d = op.Sub(x, op.ReduceMean(x, ...).named("mean"))
    square = any_of(op.Pow(d, 2.0), op.Mul(d, d))
    shifted = op.Add(op.ReduceMean(square, ...).named("variance"), const("eps", _is_small))
    root = op.Sqrt(shifted)
    return any_of(
        op.Div(d, root),
        op.Mul(d, op.Reciprocal(root)),
        op.Mul(d, op.Div(1.0, root)),
        op.Mul(d, op.Pow(shifted, -0.5)),
    )


@layer_norm.when
def sizes_of_axes(m: Match) -> tuple[int, ...] | Rejection:
    axes = trailing_axes(m, m.node("mean"))
    if axes is None or axes != trailing_axes(m, m.node("variance")):
        return Rejection(AXES_DIFFER, m["mean"])
    return normalized_sizes(m, m["x"], axes) or Rejection(UNKNOWN_SIZE, m["x"])


@layer_norm.rewrite
def normalize(m: Match, sizes: tuple[int, ...]) -> ir.Value:
    dtype = m.dtype(m["x"]) or ir.DataType.FLOAT
    ones = constant(np.ones(sizes, dtype.numpy()))
    return op.LayerNormalization(m["x"], ones, axis=-len(sizes), epsilon=m.scalar("eps"))


def _normalized(x, scale):  # type: ignore[no-untyped-def]
    return op.LayerNormalization(x, scale, axis=attr("axis"), epsilon=attr("epsilon")).named("norm")


@rule
def scale_into_layer_norm(x, scale, weight):
    """LayerNormalization(x, s) * w -> LayerNormalization(x, s * w)."""
    return op.Mul(_normalized(x, scale), weight)


@scale_into_layer_norm.when
def product(m: Match) -> np.ndarray | Rejection:
    array, scale = over_normalized(m, m["weight"], m.node("norm")), m.array("scale")
    return Rejection(WRONG_SHAPE, m["weight"]) if array is None or scale is None else scale * array


@scale_into_layer_norm.rewrite
def with_scale(m: Match, scale: np.ndarray) -> ir.Value:
    attributes = {name: m.captured(name) for name in ("axis", "epsilon")}
    return op.LayerNormalization(m["x"], constant(scale), **attributes)


@rule
def bias_into_layer_norm(x, scale, bias):
    """LayerNormalization(x, s) + b -> LayerNormalization(x, s, b)."""
    return op.Add(_normalized(x, scale), bias)


@bias_into_layer_norm.when
def addend(m: Match) -> np.ndarray | Rejection:
    array = over_normalized(m, m["bias"], m.node("norm"))
    return Rejection(WRONG_SHAPE, m["bias"]) if array is None else array


@bias_into_layer_norm.rewrite
def with_bias(m: Match, bias: np.ndarray) -> ir.Value:
    attributes = {name: m.captured(name) for name in ("axis", "epsilon")}
    return op.LayerNormalization(m["x"], m["scale"], constant(bias), **attributes)


@dataclass(frozen=True)
class FuseLayerNorm(Pass):
    """Fuse decomposed layer normalization into LayerNormalization."""

    name = "fuse-layer-norm"
    family = "fusion"
    stage = "fuse"
    level = 2
    bound = "float32 within a few units in the last place of the normalized values"
    rules = (layer_norm, scale_into_layer_norm, bias_into_layer_norm)

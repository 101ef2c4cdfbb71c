"""LayerNormalization from its parts.

    before   mean = ReduceMean(x); d = x - mean; v = ReduceMean(d * d); d / sqrt(v + eps) [* scale] [+ bias]
    after    LayerNormalization(x, scale, bias)

Exporters write the square as Pow or Mul, the division as Div, as Mul by a Reciprocal or as Pow(-0.5). The
bare form is fused first, with a scale of ones; a Mul and an Add that follow are then taken in.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from graphopt.ir.attributes import axes_of
from graphopt.rewriting import Match, Pass, Rejection, any_of, attr, const, constant, op, rule

AXES_DIFFER = "mean and variance are not over the same trailing axes"
UNKNOWN_SIZE = "the size of the normalized axes is not known"
WRONG_SHAPE = "the scale or bias is not a constant over exactly the normalized axes"


def _small(eps: float) -> bool:
    return 0.0 <= eps < 0.1


@rule(opset=17)
def layer_norm(x):
    """(x - mean) / sqrt(mean((x - mean)^2) + eps) -> LayerNormalization(x, 1)."""
    d = op.Sub(x, op.ReduceMean(x, ...).named("mean"))
    square = any_of(op.Pow(d, 2.0), op.Mul(d, d))
    shifted = op.Add(op.ReduceMean(square, ...).named("variance"), const("eps", _small))
    root = op.Sqrt(shifted)
    return any_of(
        op.Div(d, root),
        op.Mul(d, op.Reciprocal(root)),
        op.Mul(d, op.Div(1.0, root)),
        op.Mul(d, op.Pow(shifted, -0.5)),
    )


def _trailing(m: Match, mean: ir.Node) -> tuple[int, ...] | None:
    """The axes of a ReduceMean that keeps dims, if they are the last ones of its input; else None."""
    rank = m.rank(mean.inputs[0])
    axes = axes_of(mean, m.opset)
    if rank is None or not axes or m.attribute(mean, "keepdims", 1) != 1:
        return None
    found = tuple(sorted(a % rank for a in axes))
    return found if found == tuple(range(rank - len(found), rank)) else None


@layer_norm.when
def normalized_sizes(m: Match) -> tuple[int, ...] | Rejection:
    mean, variance = m.node("mean"), m.node("variance")
    if mean.inputs[0] is not m["x"]:
        return Rejection(AXES_DIFFER, m["mean"])
    axes = _trailing(m, mean)
    if axes is None or axes != _trailing(m, variance):
        return Rejection(AXES_DIFFER, m["mean"])
    dims = m.dims(m["x"])
    assert dims is not None
    sizes = tuple(dims[a] for a in axes)
    # A zero-sized mean is NaN on one side only: the sizes must be known, and not be zero.
    if not all(isinstance(s, int) and s > 0 for s in sizes):
        return Rejection(UNKNOWN_SIZE, m["x"])
    return sizes


@layer_norm.rewrite
def normalize(m: Match, sizes: tuple[int, ...]) -> ir.Value:
    dtype = m.dtype(m["x"])
    ones = constant(np.ones(sizes, dtype.numpy() if dtype is not None else np.float32))
    return op.LayerNormalization(m["x"], ones, axis=-len(sizes), epsilon=m.scalar("eps"))


def _over_normalized(m: Match, value: ir.Value, norm: ir.Node) -> np.ndarray | None:
    """A constant that has exactly the normalized axes (leading ones allowed); else None."""
    tensor, scale = m.tensor(value), m.tensor(norm.inputs[1])
    if tensor is None or scale is None:
        return None
    sizes = tuple(scale.shape.numpy())
    shape = tuple(tensor.shape.numpy())
    rank = m.rank(norm.outputs[0])
    if rank is None or len(shape) > rank or (len(shape) > len(sizes) and set(shape[: -len(sizes)]) != {1}):
        return None
    array = m.array(value)
    assert array is not None
    if shape[-len(sizes) :] != sizes and array.size != 1:
        return None
    return np.broadcast_to(array.reshape(shape[-len(sizes) :] if array.size != 1 else ()), sizes).copy()


@rule
def scale_into_layer_norm(x, scale, weight):
    """LayerNormalization(x, s) * w -> LayerNormalization(x, s * w)."""
    return op.Mul(
        op.LayerNormalization(x, scale, axis=attr("axis"), epsilon=attr("epsilon")).named("norm"), weight
    )


@scale_into_layer_norm.when
def product(m: Match) -> np.ndarray | Rejection:
    array, scale = _over_normalized(m, m["weight"], m.node("norm")), m.array("scale")
    if array is None or scale is None:
        return Rejection(WRONG_SHAPE, m["weight"])
    return scale * array


@scale_into_layer_norm.rewrite
def with_scale(m: Match, scale: np.ndarray) -> ir.Value:
    return op.LayerNormalization(
        m["x"], constant(scale), axis=m.captured("axis"), epsilon=m.captured("epsilon")
    )


@rule
def bias_into_layer_norm(x, scale, bias):
    """LayerNormalization(x, s) + b -> LayerNormalization(x, s, b)."""
    return op.Add(
        op.LayerNormalization(x, scale, axis=attr("axis"), epsilon=attr("epsilon")).named("norm"), bias
    )


@bias_into_layer_norm.when
def addend(m: Match) -> np.ndarray | Rejection:
    array = _over_normalized(m, m["bias"], m.node("norm"))
    return Rejection(WRONG_SHAPE, m["bias"]) if array is None else array


@bias_into_layer_norm.rewrite
def with_bias(m: Match, bias: np.ndarray) -> ir.Value:
    return op.LayerNormalization(
        m["x"], m["scale"], constant(bias), axis=m.captured("axis"), epsilon=m.captured("epsilon")
    )


@dataclass(frozen=True)
class FuseLayerNorm(Pass):
    """Fuse decomposed layer normalization into LayerNormalization."""

    name = "fuse-layer-norm"
    family = "fusion"
    stage = "fuse"
    level = 2
    bound = "float32 within a few units in the last place of the normalized values"
    rules = (layer_norm, scale_into_layer_norm, bias_into_layer_norm)

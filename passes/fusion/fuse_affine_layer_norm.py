"""LayerNormalization from the form in which scale and bias are mixed with the moments.

    before   s = scale / Sqrt(variance + eps); x * s + (bias - mean * s)        (x - mean) * s [+ bias]
    after    LayerNormalization(x, scale, bias)

TensorFlow's batch_normalization function writes the first, and Keras calls it for layers; Flax writes the
second.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from graphopt.rewriting import Match, Pass, Rejection, any_of, const, op, rule
from graphopt.rewriting.normalization import (
    Normalized,
    centered,
    inverse_root,
    layer_norm,
    normalized,
    over_axes,
    shifted_variance,
)

WRONG_SHAPE = "the scale or bias is not a constant over exactly the normalized axes"


def _factor(shifted, gamma):
    """gamma / Sqrt(shifted), however it is written."""
    root = op.Sqrt(shifted)
    inverse = inverse_root(shifted, root)
    return any_of(op.Div(gamma, root), op.Mul(inverse, gamma))


@dataclass(frozen=True)
class Parameters:
    """What a LayerNormalization is made of."""

    over: Normalized
    scale: np.ndarray | None
    bias: np.ndarray | None


def _parameters(m: Match) -> Parameters | Rejection:
    over, rank = normalized(m), m.rank(m["x"])
    if isinstance(over, Rejection):
        return over
    assert rank is not None
    found: dict[str, np.ndarray | None] = {"gamma": None, "beta": None}
    for name in found:
        if name not in m:
            continue
        array = over_axes(m, m[name], rank, over.axes, over.sizes)
        if array is None or m.dtype(m[name]) != m.dtype(m["x"]):
            return Rejection(WRONG_SHAPE, m[name])
        found[name] = array
    return Parameters(over, found["gamma"], found["beta"])


def _fused(m: Match, given: Parameters) -> ir.Value:
    return layer_norm(m, m["x"], given.over, given.scale, given.bias)


@rule(opset=17)
def scaled_and_shifted(x):
    """x * s + (bias - mean * s), s = scale / Sqrt(variance + eps) -> LayerNormalization(x, scale, bias)."""
    mean, center, difference = centered(x)
    shifted = shifted_variance(x, mean, difference)
    beta = const("beta")
    s = any_of(_factor(shifted, const("gamma")), inverse_root(shifted, op.Sqrt(shifted)))
    scaled, offset = op.Mul(x, s), op.Mul(center, s)
    return any_of(
        op.Add(scaled, op.Sub(beta, offset)),
        op.Add(scaled, op.Add(op.Mul(op.Neg(center), s), beta)),
        op.Add(scaled, op.Add(op.Neg(offset), beta)),
        op.Sub(scaled, op.Sub(offset, beta)),
        op.Sub(scaled, offset),
    )


scaled_and_shifted.when(_parameters)
scaled_and_shifted.rewrite(_fused)


@rule(opset=17)
def scaled_difference(x):
    """(x - mean) * s, s = scale / Sqrt(variance + eps) -> LayerNormalization(x, scale)."""
    mean, _, difference = centered(x)
    return op.Mul(difference, _factor(shifted_variance(x, mean, difference), const("gamma")))


scaled_difference.when(_parameters)
scaled_difference.rewrite(_fused)


@dataclass(frozen=True)
class FuseAffineLayerNorm(Pass):
    """Fuse layer normalization whose scale and bias are mixed with its moments."""

    name = "fuse-affine-layer-norm"
    family = "fusion"
    stage = "fuse"
    level = 2
    bound = (
        "float32 within a few units in the last place of the normalized values, more where the mean is large"
    )
    rules = (scaled_and_shifted, scaled_difference)

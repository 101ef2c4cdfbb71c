"""InstanceNormalization from its parts.

    before   m = ReduceMean(x, spatial axes); d = x - m; d / Sqrt(ReduceMean(d * d) + eps) [* scale] [+ bias]
    after    InstanceNormalization(x, scale, bias)

Scale and bias are of channels; a scale over the spatial axes makes it a layer normalization, as does a tensor
of rank 3, whose last axis is that of features more often than not.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from graphopt.rewriting import Match, Pass, Rejection, any_of, const, constant, op, rule
from graphopt.rewriting.normalization import centered, inverse_root, over_axes, own_axes, shifted_variance

NOT_SPATIAL = "the mean is not over all axes but those of samples and channels, of rank 4 or more"
UNKNOWN_CHANNELS = "the number of channels is not known"
WRONG_SHAPE = "the scale or bias is not a constant over the channels"


@dataclass(frozen=True)
class Channels:
    """What an InstanceNormalization is made of."""

    scale: np.ndarray
    bias: np.ndarray


def _channels(m: Match) -> Channels | Rejection:
    x = m["x"]
    dims, dtype, axes = m.dims(x), m.dtype(x), own_axes(m)
    if isinstance(axes, Rejection):
        return axes
    assert dims is not None and dtype is not None
    if len(dims) < 4 or axes != tuple(range(2, len(dims))):
        return Rejection(NOT_SPATIAL, x)
    channels = dims[1]
    if not isinstance(channels, int) or channels < 1:
        return Rejection(UNKNOWN_CHANNELS, x)
    found = {"gamma": np.ones(channels, dtype.numpy()), "beta": np.zeros(channels, dtype.numpy())}
    for name in found:
        if name in m:
            array = over_axes(m, m[name], len(dims), (1,), (channels,))
            if array is None or m.dtype(m[name]) != dtype:
                return Rejection(WRONG_SHAPE, m[name])
            found[name] = array
    return Channels(found["gamma"], found["beta"])


def _fused(m: Match, given: Channels) -> ir.Value:
    eps = m.scalar("eps")
    return op.InstanceNormalization(m["x"], constant(given.scale), constant(given.bias), epsilon=eps)


def _quotient(difference, shifted):
    root = op.Sqrt(shifted)
    inverse = inverse_root(shifted, root)
    gamma = const("gamma")
    factor = any_of(op.Div(gamma, root), op.Mul(inverse, gamma), inverse)
    return any_of(op.Div(difference, root), op.Mul(difference, factor))


@rule
def instance_norm(x):
    """(x - mean) / Sqrt(mean((x - mean)^2) + eps) [* scale] -> InstanceNormalization(x)."""
    mean, _, difference = centered(x)
    return _quotient(difference, shifted_variance(x, mean, difference))


instance_norm.when(_channels)
instance_norm.rewrite(_fused)


@rule
def affine_instance_norm(x):
    """x * s + (bias - mean * s), s = scale / Sqrt(variance + eps) -> InstanceNormalization(x)."""
    mean, center, difference = centered(x)
    shifted = shifted_variance(x, mean, difference)
    gamma, beta, root = const("gamma"), const("beta"), op.Sqrt(shifted)
    s = any_of(op.Div(gamma, root), op.Mul(inverse_root(shifted, root), gamma), inverse_root(shifted, root))
    scaled, offset = op.Mul(x, s), op.Mul(center, s)
    return any_of(
        op.Add(scaled, op.Sub(beta, offset)),
        op.Add(scaled, op.Add(op.Mul(op.Neg(center), s), beta)),
    )


affine_instance_norm.when(_channels)
affine_instance_norm.rewrite(_fused)


def _norm(x, scale, bias):
    return op.InstanceNormalization(x, scale, bias)


def _folded(m: Match, name: str) -> tuple[np.ndarray, np.ndarray, np.ndarray] | Rejection:
    norm = m.node("norm")
    scale, bias, rank = m.array(norm.inputs[1]), m.array(norm.inputs[2]), m.rank(norm.outputs[0])
    if scale is None or bias is None or rank is None or m.dtype(m[name]) != m.dtype(norm.outputs[0]):
        return Rejection(WRONG_SHAPE, m[name])
    array = over_axes(m, m[name], rank, (1,), scale.shape)
    return Rejection(WRONG_SHAPE, m[name]) if array is None else (scale, bias, array)


@rule
def scale_into_instance_norm(x, scale, bias, weight):
    """InstanceNormalization(x, s, b) * w -> InstanceNormalization(x, s * w, b * w)."""
    return op.Mul(_norm(x, scale, bias).named("norm"), weight)


@scale_into_instance_norm.when
def factor(m: Match) -> tuple[np.ndarray, np.ndarray, np.ndarray] | Rejection:
    return _folded(m, "weight")


@scale_into_instance_norm.rewrite
def with_scale(m: Match, given: tuple[np.ndarray, np.ndarray, np.ndarray]) -> ir.Value:
    scale, bias, weight = given
    eps = m.attribute(m.node("norm"), "epsilon")
    return op.InstanceNormalization(m["x"], constant(scale * weight), constant(bias * weight), epsilon=eps)


@rule
def bias_into_instance_norm(x, scale, bias, addend):
    """InstanceNormalization(x, s, b) + c -> InstanceNormalization(x, s, b + c)."""
    return op.Add(_norm(x, scale, bias).named("norm"), addend)


@bias_into_instance_norm.when
def term(m: Match) -> tuple[np.ndarray, np.ndarray, np.ndarray] | Rejection:
    return _folded(m, "addend")


@bias_into_instance_norm.rewrite
def with_bias(m: Match, given: tuple[np.ndarray, np.ndarray, np.ndarray]) -> ir.Value:
    scale, bias, addend = given
    eps = m.attribute(m.node("norm"), "epsilon")
    return op.InstanceNormalization(m["x"], constant(scale), constant(bias + addend), epsilon=eps)


@dataclass(frozen=True)
class FuseInstanceNorm(Pass):
    """Fuse decomposed instance normalization into InstanceNormalization."""

    name = "fuse-instance-norm"
    family = "fusion"
    stage = "fuse"
    level = 2
    bound = "float32 within a few units in the last place of the normalized values"
    rules = (instance_norm, affine_instance_norm, scale_into_instance_norm, bias_into_instance_norm)

"""GroupNormalization from the InstanceNormalization of groups that torch's exporter writes.

    before   Reshape(x, [0, groups, -1]) -> InstanceNormalization(1, 0) -> Reshape -> * scale -> + bias
    after    GroupNormalization(x, scale, bias, num_groups=groups)

Not for onnxruntime, which has no kernel for it and runs its definition, a dozen operators.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from graphopt.ir.constants import uniform
from graphopt.rewriting import Match, Pass, Rejection, constant, op, rule
from graphopt.rewriting.normalization import over_axes

NOT_GROUPS = "the first reshape does not put neighbouring channels together"
NOT_BARE = "the groups have scales or biases of their own"
WRONG_SHAPE = "the scale or bias is not a constant over the channels"


@dataclass(frozen=True)
class Groups:
    """What a GroupNormalization is made of."""

    count: int
    scale: np.ndarray
    bias: np.ndarray


@rule(opset=21)
def group_norm(x, ones, zeros, gamma, beta):
    """Reshape(InstanceNormalization(Reshape(x))) * scale + bias -> GroupNormalization(x, scale, bias)."""
    groups = op.Reshape(x, ...).named("groups")
    norm = op.InstanceNormalization(groups, ones, zeros).named("norm")
    return op.Add(op.Mul(op.Reshape(norm, ...), gamma), beta)


@group_norm.when
def of_neighbours(m: Match) -> Groups | Rejection:
    x = m["x"]
    dims, grouped, dtype = m.dims(x), m.dims(m["groups"]), m.dtype(x)
    if dims is None or grouped is None or dtype is None or not m.facts.same_shape(x, m.output):
        return Rejection(NOT_GROUPS, x)
    if len(dims) < 3 or len(grouped) < 3 or grouped[0] != dims[0]:
        return Rejection(NOT_GROUPS, m["groups"])
    count, channels = grouped[1], dims[1]
    if not isinstance(count, int) or not isinstance(channels, int) or count < 1 or channels % count:
        return Rejection(NOT_GROUPS, m["groups"])
    if uniform(m["ones"]) != 1 or uniform(m["zeros"]) != 0:
        return Rejection(NOT_BARE, m["norm"])
    found = [over_axes(m, m[name], len(dims), (1,), (channels,)) for name in ("gamma", "beta")]
    scale, bias = found
    if scale is None or bias is None or {m.dtype(m["gamma"]), m.dtype(m["beta"])} != {dtype}:
        return Rejection(WRONG_SHAPE, m["gamma"])
    return Groups(count, scale, bias)


@group_norm.rewrite
def over_groups(m: Match, given: Groups) -> ir.Value:
    return op.GroupNormalization(
        m["x"],
        constant(given.scale),
        constant(given.bias),
        num_groups=given.count,
        epsilon=m.attribute(m.node("norm"), "epsilon"),
    )


@dataclass(frozen=True)
class FuseGroupNorm(Pass):
    """Fuse the normalization of groups of channels into GroupNormalization."""

    name = "fuse-group-norm"
    family = "fusion"
    stage = "fuse"
    level = 2
    targets = ("onnx", "graphopt")
    bound = "float32 within a few units in the last place of the normalized values"
    rules = (group_norm,)

"""A convolution, what is added to it and the activation after it as onnxruntime's FusedConv.

    before   Relu(Conv(x, w, b) + Conv(y, v))
    after    FusedConv(x, w, b, Conv(y, v), activation="Relu")

onnxruntime does this at load as well, and blocks the channels of either spelling for its fastest kernels:
the time is the same. Another addend than a convolution would keep it from that. HardSwish is not taken in,
since older releases have no such kernel.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from graphopt.ir.operands import input_of
from graphopt.rewriting import HAS_OTHER_CONSUMERS, Match, Pass, Rejection, any_of, ms, op, rule, rule_on

NO_KERNEL = "there is no kernel for this element type"
NO_BOUND = "a bound is not a constant number"
NO_CONVOLUTION = "what is added is not made by a convolution"
NOT_ALIKE = "what is added is not provably of the convolution's shape"

# What onnxruntime computes on blocked channels, in its spelling and ours.
BLOCKED = frozenset({("", "Conv"), ("com.microsoft", "FusedConv")})

LIMIT = float(np.finfo(np.float32).max)


def _has_kernel(m: Match, value: ir.Value) -> bool:
    return m.editor.target.runs("com.microsoft", "FusedConv", m.dtype(value))


@rule_on("Add", depth=2)
def convolution_addition(m: Match) -> ir.Value | Rejection | None:
    """Conv(x, w, b) + Conv(y, v) -> FusedConv(x, w, b, Conv(y, v))."""
    first, second = m.root.inputs
    assert first is not None and second is not None, "Add has no optional inputs"
    found: Rejection | None = None
    # Either convolution may be the one that nothing else needs.
    for value, other in ((second, first), (first, second)):
        conv = value.producer()
        if conv is None or conv.op_type != "Conv" or conv.domain != "":
            continue
        found = _obstacle(m, conv, other)
        if found is None:
            x, w, *bias = conv.inputs
            return ms.FusedConv(x, w, *(bias or [None]), other, **conv.attributes)
    return found


def _obstacle(m: Match, conv: ir.Node, addend: ir.Value) -> Rejection | None:
    """Why a convolution can't take a sum in."""
    result = conv.outputs[0]
    source = addend.producer()
    if not m.has_one_consumer(result) or conv.graph is not m.root.graph:
        return Rejection(HAS_OTHER_CONSUMERS, result)
    if not _has_kernel(m, addend):
        return Rejection(NO_KERNEL, addend)
    if source is None or (source.domain, source.op_type) not in BLOCKED or m.rank(addend) != 4:
        return Rejection(NO_CONVOLUTION, addend)
    return None if m.facts.same_shape(result, addend) else Rejection(NOT_ALIKE, addend)


@rule
def convolution_activation(x):
    """Relu(Conv(x, w, b)) -> FusedConv(x, w, b, activation="Relu")."""
    activated = op["Relu", "Sigmoid", "Tanh", "LeakyRelu", "HardSigmoid", "Clip"]
    fused = ms.FusedConv(x, ..., activation=None).named("conv")
    return activated(any_of(op.Conv(x, ...).named("conv"), fused), ...)


@convolution_activation.when
def parameters(m: Match) -> tuple[float, ...] | Rejection:
    if not _has_kernel(m, m["x"]):
        return Rejection(NO_KERNEL, m["x"])
    activation = m.root
    if activation.op_type == "Clip":
        bounds = [_bound(m, index, name, open_end) for index, name, open_end in BOUNDS]
        return Rejection(NO_BOUND, m.output) if None in bounds else tuple(b for b in bounds if b is not None)
    names = PARAMETERS.get(activation.op_type, ())
    return tuple(float(m.attribute(activation, name)) for name in names)  # type: ignore[arg-type]


PARAMETERS = {"LeakyRelu": ("alpha",), "HardSigmoid": ("alpha", "beta")}
BOUNDS = ((1, "min", -LIMIT), (2, "max", LIMIT))


def _bound(m: Match, index: int, name: str, open_end: float) -> float | None:
    if m.opset < 11:
        return float(m.attribute(m.root, name, open_end))  # type: ignore[arg-type]
    given = input_of(m.root, index)
    return open_end if given is None else m.scalar(given)


@convolution_activation.rewrite
def as_fused_conv(m: Match, found: tuple[float, ...]) -> ir.Value:
    conv = m.node("conv")
    attributes: dict[str, object] = {**conv.attributes, "activation": m.root.op_type}
    if found:
        attributes["activation_params"] = list(found)
    return ms.FusedConv(*conv.inputs, **attributes)


@dataclass(frozen=True)
class FuseConvolutionActivations(Pass):
    """Fuse Conv, a sum with another one and an activation into onnxruntime's FusedConv."""

    name = "fuse-convolution-activations"
    family = "fusion"
    stage = "target"
    level = 2
    targets = ("onnxruntime",)
    rules = (convolution_addition, convolution_activation)

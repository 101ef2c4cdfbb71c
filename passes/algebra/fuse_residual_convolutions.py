"""A convolution, the residual added to it and the activation after that as onnxruntime's FusedConv.

    before   Relu(Conv(x, w, b) + z)
    after    FusedConv(x, w, b, z, activation="Relu")

onnxruntime does this at load as well, once it has blocked the channels for its fastest kernels. Up to 1.26 it
blocks a FusedConv that comes with a fourth input wrongly, and says nothing: the result is for 1.27 and newer,
hence only on request. Measured with 1.32: ResNet-50 takes 0.98 and MobileNetV2 0.99 of the original's time. A
residual without blocked channels makes the convolution lose them too (1.28): it must come from one itself.
"""

from __future__ import annotations

from dataclasses import dataclass

import onnx_ir as ir

from graphopt.rewriting import Match, Pass, Rejection, ms, op, rule, rule_on

NO_KERNEL = "there is a kernel for float32 images only"
OTHER_SHAPE = "what is added is not proven to have the convolution's shape"
NOT_BLOCKED = "the residual comes from no convolution or pooling"
HAS_OTHER_CONSUMERS = "the convolution's result has another consumer"
HAS_ACTIVATION = "the convolution has an activation already"

_BLOCKED = frozenset({"Conv", "FusedConv", "MaxPool", "AveragePool"})
_ACTIVATIONS = {
    "Relu": (),
    "Sigmoid": (),
    "Tanh": (),
    "LeakyRelu": ("alpha",),
    "HardSigmoid": ("alpha", "beta"),
}


def _is_blocked(value: ir.Value, left: int = 3) -> bool:
    """Whether onnxruntime has the value with blocked channels, as far as can be told from its producers."""
    node = value.producer()
    if node is None or left == 0:
        return False
    if node.op_type in _BLOCKED:
        return True
    if node.op_type in ("Add", "Relu", "Clip", "Concat", "Sigmoid", "Mul"):
        return all(v is not None and _is_blocked(v, left - 1) for v in node.inputs[:2] if not _is_number(v))
    return False


def _is_number(value: ir.Value | None) -> bool:
    return value is not None and value.is_initializer()


@rule_on("Add", depth=4)
def convolution_plus_residual(m: Match) -> ir.Value | Rejection | None:
    """Add(Conv(x, w, b), z) -> FusedConv(x, w, b, z)."""
    rejection: Rejection | None = None
    for value, residual in (m.root.inputs, m.root.inputs[::-1]):
        conv = None if value is None else value.producer()
        if conv is None or residual is None or value is None or conv.op_type not in ("Conv", "FusedConv"):
            continue
        rejection = _objection(m, conv, value, residual)
        if rejection is None:
            bias = conv.inputs[2] if len(conv.inputs) > 2 else None
            result: ir.Value = ms.FusedConv(*conv.inputs[:2], bias, residual, **conv.attributes)
            return result
    return rejection


def _objection(m: Match, conv: ir.Node, value: ir.Value, residual: ir.Value) -> Rejection | None:
    if m.dtype(value) is not ir.DataType.FLOAT or m.rank(value) != 4:
        return Rejection(NO_KERNEL, value)
    if "activation" in conv.attributes or len(conv.inputs) > 3:
        return Rejection(HAS_ACTIVATION, value)
    if not m.has_one_consumer(value):
        return Rejection(HAS_OTHER_CONSUMERS, value)
    if not m.facts.same_shape(value, residual):
        return Rejection(OTHER_SHAPE, residual)
    return None if _is_blocked(residual) else Rejection(NOT_BLOCKED, residual)


@rule
def activation_after_residual(x):
    """Relu(FusedConv(x, w, b, z)) -> FusedConv(x, w, b, z, activation="Relu")."""
    return op[tuple(_ACTIVATIONS)](ms.FusedConv(x, ...).named("conv"))


@activation_after_residual.when
def without_activation(m: Match) -> Rejection | None:
    return Rejection(HAS_ACTIVATION, m["conv"]) if "activation" in m.node("conv").attributes else None


@activation_after_residual.rewrite
def with_activation(m: Match) -> ir.Value:
    conv, names = m.node("conv"), _ACTIVATIONS[m.root.op_type]
    attributes: dict[str, object] = {**conv.attributes, "activation": m.root.op_type}
    if names:
        attributes["activation_params"] = [m.attribute(m.root, name) for name in names]
    return ms.FusedConv(*conv.inputs, **attributes)


@dataclass(frozen=True)
class FuseResidualConvolutions(Pass):
    """Fuse Conv, residual and activation into onnxruntime's FusedConv (for 1.27 and newer)."""

    name = "fuse-residual-convolutions"
    family = "algebra"
    stage = "on-request"
    level = 2
    targets = ("onnxruntime",)
    bound = "float32 within a few units in the last place: the residual is added first"
    rules = (convolution_plus_residual, activation_after_residual)

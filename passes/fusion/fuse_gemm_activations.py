"""A Gemm and the activation after it as onnxruntime's FusedGemm.

    before   Relu(Gemm(x, w, b))
    after    FusedGemm(x, w, b, activation="Relu")

onnxruntime does this at load as well: the time is the same.
"""

from __future__ import annotations

from dataclasses import dataclass

import onnx_ir as ir

from graphopt.rewriting import Match, Pass, Rejection, ms, op, rule

NO_KERNEL = "there is no kernel for this element type"

# What each activation calls its parameter, and what FusedGemm calls it.
PARAMETERS = {
    "LeakyRelu": {"alpha": "activation_alpha"},
    "HardSigmoid": {"alpha": "activation_alpha", "beta": "activation_beta"},
}


@rule
def gemm_activation(x, w):
    """Relu(Gemm(x, w, b)) -> FusedGemm(x, w, b, activation="Relu")."""
    return op["Relu", "Sigmoid", "Tanh", "LeakyRelu", "HardSigmoid"](op.Gemm(x, w, ...).named("gemm"))


@gemm_activation.when
def with_kernel(m: Match) -> Rejection | None:
    runs = m.editor.target.runs("com.microsoft", "FusedGemm", m.dtype(m["x"]))
    return None if runs else Rejection(NO_KERNEL, m["x"])


@gemm_activation.rewrite
def as_fused_gemm(m: Match) -> ir.Value:
    gemm, activation = m.node("gemm"), m.root
    attributes: dict[str, object] = {**gemm.attributes, "activation": activation.op_type}
    for theirs, ours in PARAMETERS.get(activation.op_type, {}).items():
        attributes[ours] = m.attribute(activation, theirs)
    return ms.FusedGemm(*gemm.inputs, **attributes)


@dataclass(frozen=True)
class FuseGemmActivations(Pass):
    """Fuse Gemm and the activation after it into onnxruntime's FusedGemm."""

    name = "fuse-gemm-activations"
    family = "fusion"
    stage = "target"
    level = 2
    targets = ("onnxruntime",)
    rules = (gemm_activation,)

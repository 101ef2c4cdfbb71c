"""x * Sigmoid(alpha * x) as onnxruntime's QuickGelu; with alpha 1 this is SiLU, or Swish.

    before   x * Sigmoid(x * 1.702)     x * Sigmoid(x)
    after    QuickGelu(x, alpha=1.702)  QuickGelu(x, alpha=1)

onnxruntime does this at load as well: the time is the same.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import onnx_ir as ir

from graphopt.rewriting import Match, Pass, Rejection, any_of, const, ms, op, rule

NO_KERNEL = "there are kernels for float32 and float16 only"


@rule
def quick_gelu(x):
    """x * Sigmoid(x * alpha) -> QuickGelu(x, alpha)."""
    scaled = any_of(op.Mul(x, const("alpha", math.isfinite)), x)
    return op.Mul(x, op.Sigmoid(scaled))


@quick_gelu.when
def with_kernel(m: Match) -> Rejection | None:
    if m.dtype(m["x"]) not in (ir.DataType.FLOAT, ir.DataType.FLOAT16):
        return Rejection(NO_KERNEL, m["x"])
    # An alpha of more axes than x would widen the result.
    return None if m.facts.same_shape(m["x"], m.output) else Rejection(NO_KERNEL, m["x"])


@quick_gelu.rewrite
def as_quick_gelu(m: Match) -> ir.Value:
    alpha = m.scalar("alpha") if "alpha" in m else 1.0
    return ms.QuickGelu(m["x"], alpha=alpha)


@dataclass(frozen=True)
class FuseQuickGelu(Pass):
    """Fuse x * Sigmoid(alpha * x) into onnxruntime's QuickGelu."""

    name = "fuse-quick-gelu"
    family = "fusion"
    stage = "target"
    level = 2
    targets = ("onnxruntime",)
    bound = "a unit in the last place of float16; float32 is exact"
    rules = (quick_gelu,)

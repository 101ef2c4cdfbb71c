"""HardSigmoid, HardSwish and Mish from their parts.

before   Clip(x + 3, 0, 6) / 6              after   HardSigmoid(x, alpha=1/6, beta=1/2)
before   x * Clip(x + 3, 0, 6) / 6          after   HardSwish(x)
before   x * HardSigmoid(x, 1/6, 1/2)       after   HardSwish(x)
before   x * Tanh(Softplus(x))              after   Mish(x)
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from graphopt.rewriting import Match, Pass, any_of, op, rule

# In single precision, as attributes are.
SIXTH = float(np.float32(1.0 / 6.0))


def _is_sixth(alpha: object) -> bool:
    return isinstance(alpha, float) and math.isclose(alpha, SIXTH, rel_tol=1e-6)


def _relu6_of(x):
    """Clip(x + 3, 0, 6), bounds as attributes or inputs."""
    return any_of(op.Clip(op.Add(x, 3.0), min=0.0, max=6.0), op.Clip(op.Add(x, 3.0), 0.0, 6.0))


@rule
def hard_sigmoid(x):
    """Clip(x + 3, 0, 6) / 6 -> HardSigmoid(x)."""
    return any_of(op.Div(_relu6_of(x), 6.0), op.Mul(_relu6_of(x), SIXTH))


@hard_sigmoid.rewrite
def as_hard_sigmoid(m: Match) -> ir.Value:
    return op.HardSigmoid(m["x"], alpha=SIXTH, beta=0.5)


@rule(opset=14)
def hard_swish(x):
    """x * HardSigmoid(x), or x * Clip(x + 3, 0, 6) / 6 -> HardSwish(x)."""
    return any_of(
        op.Mul(x, op.HardSigmoid(x, alpha=_is_sixth, beta=0.5)),
        op.Div(op.Mul(x, _relu6_of(x)), 6.0),
        op.Mul(op.Mul(x, _relu6_of(x)), SIXTH),
        op.Mul(op.Mul(x, SIXTH), _relu6_of(x)),
    )


@hard_swish.rewrite
def as_hard_swish(m: Match) -> ir.Value:
    return op.HardSwish(m["x"])


@rule(opset=18)
def mish(x):
    """x * Tanh(Softplus(x)) -> Mish(x)."""
    return op.Mul(x, op.Tanh(any_of(op.Softplus(x), op.Log(op.Add(op.Exp(x), 1.0)))))


@mish.rewrite
def as_mish(m: Match) -> ir.Value:
    return op.Mish(m["x"])


@dataclass(frozen=True)
class FuseHardActivations(Pass):
    """Fuse decomposed HardSigmoid, HardSwish and Mish."""

    name = "fuse-hard-activations"
    family = "fusion"
    stage = "fuse"
    level = 2
    bound = "float32 within a few units in the last place of x"
    rules = (hard_sigmoid, hard_swish, mish)

"""Elu, ThresholdedRelu, Softsign and HardSigmoid from their parts.

    before   Where(x > 0, x, alpha * (Exp(x) - 1))     after   Elu(x, alpha)
    before   Where(x > alpha, x, 0)                    after   ThresholdedRelu(x, alpha)
    before   x / (1 + Abs(x))                          after   Softsign(x)
    before   Clip(x * alpha + beta, 0, 1)              after   HardSigmoid(x, alpha, beta)

Log(1 + Exp(x)) is left as it is: it is infinite where Softplus is x.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from graphopt.rewriting import Match, Pass, Rejection, any_of, const, op, rule

ROUNDED = "a number would be rounded: attributes are of single precision"
NOT_FLOAT = "there is no such operator for this element type"

FLOATS = (ir.DataType.FLOAT, ir.DataType.DOUBLE, ir.DataType.FLOAT16)


def _is_number(value: float) -> bool:
    return bool(np.isfinite(value))


def _in_attributes(m: Match, *names: str) -> Rejection | None:
    """Whether the constants named can be attributes."""
    if m.dtype(m["x"]) not in FLOATS:
        return Rejection(NOT_FLOAT, m["x"])
    for name in names:
        if name in m and float(np.float32(m.scalar(name))) != m.scalar(name):
            return Rejection(ROUNDED, m[name])
    return None


def _number(m: Match, name: str, default: float) -> float:
    found = m.scalar(name) if name in m else default
    assert found is not None
    return found


@rule
def elu(x):
    """Where(x > 0, x, alpha * (Exp(x) - 1)) -> Elu(x, alpha)."""
    below = any_of(op.Sub(op.Exp(x), 1.0), op.Add(op.Exp(x), -1.0))
    positive = any_of(op.Greater(x, 0.0), op.GreaterOrEqual(x, 0.0))
    return op.Where(positive, x, any_of(op.Mul(below, const("alpha", _is_number)), below))


@elu.when
def elu_number(m: Match) -> Rejection | None:
    return _in_attributes(m, "alpha")


@elu.rewrite
def as_elu(m: Match) -> ir.Value:
    return op.Elu(m["x"], alpha=_number(m, "alpha", 1.0))


@rule(opset=10)
def thresholded_relu(x):
    """Where(x > alpha, x, 0) -> ThresholdedRelu(x, alpha)."""
    return op.Where(op.Greater(x, const("alpha", _is_number)), x, 0.0)


@thresholded_relu.when
def threshold(m: Match) -> Rejection | None:
    return _in_attributes(m, "alpha")


@thresholded_relu.rewrite
def as_thresholded_relu(m: Match) -> ir.Value:
    return op.ThresholdedRelu(m["x"], alpha=_number(m, "alpha", 1.0))


@rule
def softsign(x):
    """x / (1 + Abs(x)) -> Softsign(x)."""
    return op.Div(x, op.Add(op.Abs(x), 1.0))


@softsign.when
def of_floats(m: Match) -> Rejection | None:
    return _in_attributes(m)


@softsign.rewrite
def as_softsign(m: Match) -> ir.Value:
    return op.Softsign(m["x"])


@rule
def hard_sigmoid(x):
    """Clip(x * alpha + beta, 0, 1) -> HardSigmoid(x, alpha, beta)."""
    scaled = any_of(op.Mul(x, const("alpha", _is_number)), x)
    line = op.Add(scaled, const("beta", _is_number))
    return any_of(op.Clip(line, 0.0, 1.0), op.Clip(line, min=0.0, max=1.0))


@hard_sigmoid.when
def line(m: Match) -> Rejection | None:
    return _in_attributes(m, "alpha", "beta")


@hard_sigmoid.rewrite
def as_hard_sigmoid(m: Match) -> ir.Value:
    return op.HardSigmoid(m["x"], alpha=_number(m, "alpha", 1.0), beta=_number(m, "beta", 0.5))


@dataclass(frozen=True)
class FuseActivations(Pass):
    """Fuse decomposed Elu, ThresholdedRelu, Softsign and HardSigmoid."""

    name = "fuse-activations"
    family = "fusion"
    stage = "fuse"
    level = 2
    bound = "float32 within a few units in the last place"
    rules = (elu, thresholded_relu, softsign, hard_sigmoid)

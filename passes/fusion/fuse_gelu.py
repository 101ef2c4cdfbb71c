"""Gelu from its parts.

    before   x * 0.5 * (1 + Erf(x / sqrt(2)))
             x * 0.5 * (1 + Tanh(sqrt(2 / pi) * (x + 0.044715 * x^3)))
    after    Gelu(x)  and  Gelu(x, approximate="tanh")

The three factors come in any order and grouping; the cube as Pow, or as products.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import onnx_ir as ir

from graphopt.rewriting import Match, Pass, any_of, op, rule

ROOT_HALF = 1.0 / math.sqrt(2.0)
ROOT_TWO = math.sqrt(2.0)
ROOT_TWO_OVER_PI = math.sqrt(2.0 / math.pi)
CUBIC = 0.044715


def _half_times(x, gate):
    """x * gate / 2, however it is grouped."""
    return any_of(
        op.Mul(op.Mul(x, gate), 0.5),
        op.Mul(op.Mul(x, 0.5), gate),
        op.Mul(x, op.Mul(gate, 0.5)),
        op.Div(op.Mul(x, gate), 2.0),
        op.Mul(op.Div(x, 2.0), gate),
    )


@rule(opset=20)
def gelu_by_erf(x):
    """x * 0.5 * (1 + Erf(x / sqrt(2))) -> Gelu(x)."""
    scaled = any_of(op.Div(x, ROOT_TWO), op.Mul(x, ROOT_HALF))
    return _half_times(x, op.Add(op.Erf(scaled), 1.0))


@gelu_by_erf.rewrite
def exact_gelu(m: Match) -> ir.Value:
    return op.Gelu(m["x"])


@rule(opset=20)
def gelu_by_tanh(x):
    """x * 0.5 * (1 + Tanh(sqrt(2 / pi) * (x + 0.044715 * x^3))) -> Gelu(x, approximate="tanh")."""
    square = any_of(op.Mul(x, x), op.Pow(x, 2.0))
    cube = any_of(op.Pow(x, 3.0), op.Mul(square, x))
    inner = any_of(
        op.Mul(op.Add(x, op.Mul(cube, CUBIC)), ROOT_TWO_OVER_PI),
        op.Mul(op.Add(x, op.Mul(op.Mul(x, CUBIC), square)), ROOT_TWO_OVER_PI),
        op.Mul(op.Add(x, op.Mul(x, op.Mul(x, op.Mul(x, CUBIC)))), ROOT_TWO_OVER_PI),
        op.Mul(op.Mul(x, ROOT_TWO_OVER_PI), op.Add(op.Mul(square, CUBIC), 1.0)),
        op.Mul(x, op.Add(op.Mul(square, CUBIC * ROOT_TWO_OVER_PI), ROOT_TWO_OVER_PI)),
    )
    return _half_times(x, op.Add(op.Tanh(inner), 1.0))


@gelu_by_tanh.rewrite
def tanh_gelu(m: Match) -> ir.Value:
    return op.Gelu(m["x"], approximate="tanh")


@dataclass(frozen=True)
class FuseGelu(Pass):
    """Fuse the erf and tanh forms of the Gaussian error linear unit into Gelu."""

    name = "fuse-gelu"
    family = "fusion"
    stage = "fuse"
    level = 2
    bound = "float32 within a few units in the last place of x"
    rules = (gelu_by_erf, gelu_by_tanh)

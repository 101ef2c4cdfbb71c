"""A pass of one's own: Tan from its parts.

    before   Sin(x) / Cos(x)
    after    Tan(x)

    graphopt optimize model.onnx --plugin examples.fuse_tan

Its test is tests/examples/test_fuse_tan.py. For more, see "Write your first pass" in CONTRIBUTING.md.
"""

from __future__ import annotations

from dataclasses import dataclass

import onnx_ir as ir

from graphopt.rewriting import Match, Pass, Rejection, op, rule

NOT_FLOAT32 = "onnxruntime has Tan for float32 alone"


@rule
def tangent(x):  # type: ignore[no-untyped-def]
    """Div(Sin(x), Cos(x)) -> Tan(x)."""
    return op.Div(op.Sin(x), op.Cos(x))


@tangent.when
def is_float32(m: Match) -> Rejection | None:
    return None if m.dtype(m["x"]) == ir.DataType.FLOAT else Rejection(NOT_FLOAT32, m["x"])


@tangent.rewrite
def one_node(m: Match) -> ir.Value:
    return op.Tan(m["x"])


@dataclass(frozen=True)
class FuseTan(Pass):
    """Fuse a sine over a cosine into Tan."""

    name = "fuse-tan"
    family = "example"
    stage = "fuse"
    level = 2
    bound = "a few units in the last place"
    rules = (tangent,)

"""A pass of one's own: Softsign from its parts.

    before   x / (1 + |x|)
    after    Softsign(x)

    graphopt optimize model.onnx --plugin examples.fuse_softsign

Its test is tests/examples/test_fuse_softsign.py. For more, see "Write your first pass" in CONTRIBUTING.md.
"""

from __future__ import annotations

from dataclasses import dataclass

import onnx_ir as ir

from graphopt.rewriting import Match, Pass, Rejection, op, rule

NOT_FLOAT = "Softsign takes floats only"
FLOATS = (ir.DataType.FLOAT, ir.DataType.FLOAT16, ir.DataType.DOUBLE)


@rule
def softsign(x):  # type: ignore[no-untyped-def]
    """Div(x, Add(Abs(x), 1)) -> Softsign(x)."""
    return op.Div(x, op.Add(op.Abs(x), 1.0))


@softsign.when
def is_float(m: Match) -> Rejection | None:
    # On integers the division truncates, and Softsign is not defined.
    return None if m.dtype(m["x"]) in FLOATS else Rejection(NOT_FLOAT, m["x"])


@softsign.rewrite
def one_node(m: Match) -> ir.Value:
    return op.Softsign(m["x"])


@dataclass(frozen=True)
class FuseSoftsign(Pass):
    """Fuse x / (1 + |x|) into Softsign."""

    name = "fuse-softsign"
    family = "example"
    stage = "fuse"
    level = 2
    bound = "a unit in the last place"
    rules = (softsign,)

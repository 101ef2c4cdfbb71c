"""Remove casts to the type that a value has, and write CastLike as the Cast that it is.

before   x: float32 -> Cast(to=float32) -> y          CastLike(x, like: float16)
after    x                                            Cast(x, to=float16)
"""

from __future__ import annotations

from dataclasses import dataclass

import onnx_ir as ir

from graphopt.rewriting import Match, Pass, op, rule_on


@rule_on("Cast", depth=1)
def same_type(m: Match) -> ir.Value | None:
    """Cast(x: T, to=T) -> x."""
    x = m.root.inputs[0]
    to = m.attribute(m.root, "to")
    return x if x is not None and to is not None and m.dtype(x) == to else None


@rule_on("CastLike", depth=1)
def cast_like(m: Match) -> ir.Value | None:
    """CastLike(x, like: T) -> Cast(x, to=T)."""
    x, like = m.root.inputs
    assert x is not None and like is not None
    dtype = m.dtype(like)
    if dtype is None or dtype == ir.DataType.UNDEFINED:
        return None
    saturate = m.root.attributes.get("saturate")
    if saturate is not None and saturate.is_ref():
        return None
    value: ir.Value = op.Cast(x, to=dtype, saturate=saturate.value if saturate is not None else None)
    return value


@dataclass(frozen=True)
class RemoveNoOpCasts(Pass):
    """Remove casts to the same type; CastLike becomes Cast where the type is known."""

    name = "remove-no-op-casts"
    family = "cleanup"
    rules = (same_type, cast_like)

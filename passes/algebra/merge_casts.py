"""Casts that go through a type which holds everything.

    before   x: int32 -> Cast(int64) -> Cast(float32)      x: bool -> Cast(int64) -> Cast(bool)
    after    x -> Cast(float32)                            x

The type between must hold every number of the first one exactly: a way through float16 rounds, and stays.
Indices of int32 are taken as they are: Gather(x, Cast(i, to=int64)) is Gather(x, i).
"""

from __future__ import annotations

from dataclasses import dataclass

import onnx_ir as ir

from graphopt.rewriting import HAS_OTHER_CONSUMERS, Match, Pass, Rejection, op, rule_on
from graphopt.rewriting.operators import operators

WRAPS = "numbers out of the last type's range would be treated in another way"
ROUNDS = "the type between does not hold every number of the first one"

_UNSIGNED = (ir.DataType.UINT8, ir.DataType.UINT16, ir.DataType.UINT32, ir.DataType.UINT64)
_SIGNED = (ir.DataType.INT8, ir.DataType.INT16, ir.DataType.INT32, ir.DataType.INT64)
_INTEGERS = _UNSIGNED + _SIGNED
_FLOATS = (ir.DataType.FLOAT16, ir.DataType.BFLOAT16, ir.DataType.FLOAT, ir.DataType.DOUBLE)
# Bits that a type has for whole numbers, the sign not counted.
_PRECISION = {
    ir.DataType.BOOL: 1,
    **dict(zip(_UNSIGNED, (8, 16, 32, 64), strict=True)),
    **dict(zip(_SIGNED, (7, 15, 31, 63), strict=True)),
    **dict(zip(_FLOATS, (11, 8, 24, 53), strict=True)),
}


def _holds(wide: ir.DataType, narrow: ir.DataType) -> bool:
    """Whether every number of one type is one of the other, exactly."""
    if wide == narrow:
        return True
    if wide not in _PRECISION or narrow not in _PRECISION or wide == ir.DataType.BOOL:
        return False
    if narrow in _FLOATS:
        return wide in (ir.DataType.FLOAT, ir.DataType.DOUBLE) and narrow != ir.DataType.DOUBLE
    if narrow in _SIGNED and wide in _UNSIGNED:
        return False
    return _PRECISION[wide] >= _PRECISION[narrow]


@rule_on("Cast", depth=2)
def cast_of_cast(m: Match) -> ir.Value | Rejection | None:
    """Cast(Cast(x, to=wide), to=T) -> Cast(x, to=T)."""
    middle = m.root.inputs[0]
    inner = None if middle is None else middle.producer()
    if middle is None or inner is None or inner.op_type != "Cast" or inner.domain != "":
        return None
    source = inner.inputs[0]
    given = None if source is None else m.dtype(source)
    between = m.dtype(middle)
    to = m.attribute(m.root, "to")
    if source is None or given is None or between is None or not isinstance(to, int):
        return None
    target = ir.DataType(to)
    if not _holds(between, given):
        return Rejection(ROUNDS, middle)
    # Whole numbers wrap around, floats out of range may do anything.
    if between in _FLOATS and given not in _FLOATS and target in _INTEGERS and not _holds(target, given):
        return Rejection(WRAPS, middle)
    if given == target:
        return source
    if target not in _PRECISION:
        return None
    result: ir.Value = op.Cast(source, to=target)
    return result


@rule_on("Gather", "GatherElements", "ScatterElements", depth=2)
def cast_of_indices(m: Match) -> ir.Value | Rejection | None:
    """Gather(x, Cast(i: int32, to=int64)) -> Gather(x, i)."""
    wide = m.root.inputs[1]
    cast = None if wide is None else wide.producer()
    if wide is None or cast is None or cast.op_type != "Cast" or cast.domain != "":
        return None
    indices = cast.inputs[0]
    if indices is None or m.dtype(indices) is not ir.DataType.INT32 or m.dtype(wide) is not ir.DataType.INT64:
        return None
    if not m.has_one_consumer(wide):
        return Rejection(HAS_OTHER_CONSUMERS, wide)
    inputs = [indices if i == 1 else value for i, value in enumerate(m.root.inputs)]
    again = getattr(operators(""), m.root.op_type)
    made: ir.Value = again(*inputs, **m.root.attributes)
    return made


@dataclass(frozen=True)
class MergeCasts(Pass):
    """Cast once where the type between two casts holds everything; leave indices as they are."""

    name = "merge-casts"
    family = "algebra"
    rules = (cast_of_cast, cast_of_indices)

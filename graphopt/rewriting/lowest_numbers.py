"""Masks of the lowest number there is, which is not what runtimes take it for.

A query that may see no key, its scores all masked by the lowest finite number, looks at all keys alike: the
scores are lost in the rounding. onnxruntime's Attention takes that very number for minus infinity and gives
zeros. The number next to it is kept as it is, and rounds as much away.
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from graphopt.ir import facts
from graphopt.rewriting.match import Match
from graphopt.rewriting.operators import op

__all__ = ["FRACTION_BITS", "next_to_lowest", "without_lowest"]

FRACTION_BITS = {
    ir.DataType.FLOAT: 23,
    ir.DataType.DOUBLE: 52,
    ir.DataType.FLOAT16: 10,
    ir.DataType.BFLOAT16: 7,
}
EXPONENTS = {
    ir.DataType.FLOAT: 127,
    ir.DataType.DOUBLE: 1023,
    ir.DataType.FLOAT16: 15,
    ir.DataType.BFLOAT16: 127,
}

# Masks are made by a dozen nodes; what takes more is taken for one that may hold the number.
MOST_NODES = 64
# A mask of more elements is not read.
MOST_ELEMENTS = 1 << 20

# Operators whose floats come out of their inputs as they were, or changed a little.
CARRIERS = frozenset(
    {"Add", "Sub", "Mul", "Div", "Where", "Neg", "Max", "Min", "Clip", "Cast", "Concat", "Trilu"}
)
FLOATS = frozenset(FRACTION_BITS)


def _lowest(dtype: ir.DataType) -> float:
    return -(2.0 - 2.0 ** -FRACTION_BITS[dtype]) * 2.0 ** EXPONENTS[dtype]


def _factor(dtype: ir.DataType) -> float:
    """Makes the lowest number its neighbour, minus infinity itself, and rounds others once."""
    return 1.0 - 2.0 ** -(FRACTION_BITS[dtype] + 1)


def next_to_lowest(fill: float, dtype: ir.DataType) -> float:
    """A fill, or the number next to it if it is the lowest one."""
    return fill + 2.0 ** (EXPONENTS[dtype] - FRACTION_BITS[dtype]) if fill == _lowest(dtype) else fill


def without_lowest(m: Match, mask: ir.Value, dtype: ir.DataType) -> ir.Value:
    """A mask that is added, with the number next to the lowest one in its place.

    Where a number among the inputs of the last node or two is to blame, it is changed there.
    """
    if not _may_hold(m, mask, dtype):
        return mask
    return _with_other_numbers(m, mask, dtype, steps=2) or op.Mul(mask, _factor(dtype))


def _with_other_numbers(m: Match, mask: ir.Value, dtype: ir.DataType, steps: int) -> ir.Value | None:
    node = mask.producer()
    if node is None or node.domain != "" or node.op_type not in ("Where", "Mul", "Add") or steps == 0:
        return None
    inputs: list[ir.Value | np.ndarray | None] = []
    for value in node.inputs:
        number = m.scalar(value)
        if value is None or m.dtype(value) != dtype or not _may_hold(m, value, dtype):
            inputs.append(value)
        elif number is not None:
            shape = m.dims(value) or ()
            inputs.append(np.full([1] * len(shape), next_to_lowest(number, dtype), dtype.numpy()))
        else:
            changed = _with_other_numbers(m, value, dtype, steps - 1)
            if changed is None:
                return None
            inputs.append(changed)
    made: ir.Value = getattr(op, node.op_type)(*inputs)
    return made


def _may_hold(m: Match, mask: ir.Value, dtype: ir.DataType) -> bool:
    """Whether the lowest number is among the constants, or may be among the inputs, that make a mask."""
    pending, seen = [mask], set[ir.Value]()
    while pending:
        value = pending.pop()
        if value in seen:
            continue
        seen.add(value)
        tensor = m.tensor(value)
        node = value.producer()
        if tensor is not None:
            if tensor.size > MOST_ELEMENTS or (tensor.numpy() == _lowest(dtype)).any():
                return True
        elif node is None or len(seen) > MOST_NODES or node.op_type in ("If", "Loop", "Scan"):
            return True
        elif node.op_type == "ConstantOfShape":
            fill = m.attribute(node, "value")
            if isinstance(fill, ir.TensorProtocol) and float(fill.numpy().item()) == _lowest(dtype):
                return True
        elif facts.is_movement(node) or node.op_type in CARRIERS:
            pending.extend(v for v in node.inputs if v is not None and m.dtype(v) in FLOATS)
    return False

"""Do not spread out what an operator broadcasts by itself.

    before   Add(x: [N, S, C], Expand(b: [C], [N, S, C]))        Min(x: [N, N], ConstantOfShape([N, N]))
    after    Add(x, b)                                            Min(x, 7)

    before   Add(x: [N, S, C], Gather(table, zeros [N, S]))      Where(And(m: [N, 1], true [1, S]), x, y)
    after    Add(x, table[0])                                     Where(m, x, y)

Only where the operator's output keeps its shape: another operand must have it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import onnx_ir as ir

from graphopt.ir.attributes import attribute
from graphopt.ir.constants import constant as tensor_of
from graphopt.ir.dims import Dim, broadcast
from graphopt.ir.uniform import uniform_contents
from graphopt.rewriting import Match, Pass, Rejection, constant, op, rule_on

SETS_THE_SHAPE = "the operand gives the result its shape"

ARITHMETIC = ("Add", "Sub", "Mul", "Div", "Pow", "Min", "Max", "Sum", "Mean", "Mod")
LOGIC = ("And", "Or", "Xor", "Equal", "Less", "Greater", "LessOrEqual", "GreaterOrEqual", "Where")
BITS = ("BitwiseAnd", "BitwiseOr", "BitwiseXor", "BitShift")

# What makes a tensor of run-time size out of little: without any there is nothing to look for.
FILLS = ("ConstantOfShape", "Expand", "Tile", "Range")


@rule_on(*ARITHMETIC, *LOGIC, *BITS, depth=2)
def spread_operand(m: Match) -> ir.Value | Rejection | None:
    """Add(x, Expand(b)) -> Add(x, b)."""
    node = m.root
    # Before opset 8 (Min, Max, Sum, Mean; 7 for the others) operators broadcast by attributes or not at all.
    if m.opset < 8 or not any(m.editor.index.get(("", fill)) for fill in FILLS):
        return None
    rejection: Rejection | None = None
    wanted = m.dims(m.output)
    for value in dict.fromkeys(node.inputs):
        if value is None or value.producer() is None or tensor_of(value) is not None:
            continue
        narrow = _narrow(m, value)
        if narrow is None:
            continue
        dims = [_dims_of(m, narrow) if v is value else m.dims(v) for v in node.inputs if v is not None]
        if wanted is None or _broadcast(dims) != wanted:
            rejection = Rejection(SETS_THE_SHAPE, value)
            continue
        operand = _value_of(narrow)
        inputs = [operand if v is value else v for v in node.inputs]
        made: ir.Value = getattr(op, node.op_type)(*inputs, **node.attributes)
        return made
    return rejection


@dataclass(frozen=True)
class _Row:
    """A row of a constant table."""

    table: ir.Value
    index: object
    dims: tuple[Dim, ...]


Narrow = ir.Value | ir.TensorProtocol | _Row


def _narrow(m: Match, value: ir.Value) -> Narrow | None:
    """What the operand was before it was spread out."""
    node = value.producer()
    assert node is not None and m.root.graph is not None
    if node.op_type == "Expand" and node.domain == "":
        return node.inputs[0]
    opsets = m.editor.regions[m.root.graph].opsets
    if node.op_type in ("And", "Or") and node.domain == "":
        for decided, other in (node.inputs, reversed(node.inputs)):
            truth = uniform_contents(decided, opsets)
            if truth is not None and bool(truth) == (node.op_type == "And"):
                return other
    if node.op_type == "Gather" and node.domain == "" and attribute(node, "axis", 0) == 0:
        table = node.inputs[0]
        dims = m.dims(table) if table is not None and tensor_of(table) is not None else None
        index = uniform_contents(node.inputs[1], opsets) if dims is not None else None
        if table is not None and dims is not None and index is not None and m.rank(value) != len(dims) - 1:
            return _Row(table, index, dims[1:])
    contents = uniform_contents(value, opsets)
    return None if contents is None or m.rank(value) == 0 else ir.Tensor(contents)


def _dims_of(m: Match, narrow: Narrow) -> tuple[Dim, ...] | None:
    if isinstance(narrow, ir.Value):
        return m.dims(narrow)
    return narrow.dims if isinstance(narrow, _Row) else ()


def _value_of(narrow: Narrow) -> ir.Value:
    if isinstance(narrow, ir.Value):
        return narrow
    if isinstance(narrow, _Row):
        row: ir.Value = op.Gather(narrow.table, constant(narrow.index), axis=0)  # type: ignore[arg-type]
        return row
    return constant(narrow.numpy())


def _broadcast(shapes: Sequence[tuple[Dim, ...] | None]) -> tuple[Dim, ...] | None:
    """The shape that these have together; None where a rank is unknown or they do not fit."""
    known = [dims for dims in shapes if dims is not None]
    if len(known) < len(shapes):
        return None
    rank = max(len(dims) for dims in known)
    result: list[Dim] = [1] * rank
    try:
        for dims in known:
            for axis, dim in enumerate(dims, rank - len(dims)):
                result[axis] = broadcast(result[axis], dim)
    except ValueError:
        return None
    return tuple(result)


@dataclass(frozen=True)
class RemoveNeedlessBroadcasts(Pass):
    """Remove Expands and fills that an element-wise operator's own broadcasting does."""

    name = "remove-needless-broadcasts"
    family = "cleanup"
    rules = (spread_operand,)

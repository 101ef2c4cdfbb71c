"""Make one Pad of Pads and Slices one after the other.

    before   Pad(Slice(x, 36:), 36 zeros behind)      Pad(Pad(x, 1), 2)      Slice(Pad(x, 3), 1:-1)
    after    Pad(x, -36 before, 36 zeros behind)      Pad(x, 3)              Pad(x, 2)

A negative amount takes away. What is taken away first and put back on the same side is a value lost, so such
amounts are not added up.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from graphopt.ir.attributes import attribute, axes_of
from graphopt.ir.cuts import cuts_of, is_slice
from graphopt.ir.operands import input_of, producer_of
from graphopt.rewriting import HAS_OTHER_CONSUMERS, Match, Pass, Rejection, constant, op, rule_on

OTHER_VALUES = "what they fill in differs, or is not a constant"
LOST_VALUES = "what the one takes away the other fills in again"

Amounts = tuple[int, ...]


@dataclass(frozen=True, slots=True)
class _Frame:
    """What is put around a value, or taken away where negative: begins, then ends, axis by axis."""

    amounts: Amounts
    fill: float | None


@rule_on("Pad", "Slice", depth=2)
def one_pad(m: Match) -> ir.Value | Rejection | None:
    """Pad(Slice(x)) -> Pad(x), and the same for Pad of Pad and Slice of Pad."""
    middle = m.root.inputs[0]
    inner = producer_of(middle, "Pad", "Slice")
    if inner is None:
        return None
    if inner.graph is not m.root.graph or (inner.op_type == "Slice" and m.root.op_type == "Slice"):
        return None
    first, second = _frame(m, inner), _frame(m, m.root)
    if first is None or second is None or middle is None:
        return None
    if not m.has_one_consumer(middle):
        return Rejection(HAS_OTHER_CONSUMERS, middle)
    # 0.0 and -0.0 are not one value.
    fills = {str(frame.fill): frame.fill for frame in (first, second) if frame.fill is not None}
    if len(fills) != 1:
        return Rejection(OTHER_VALUES, m.output)
    if any(a < 0 < b for a, b in zip(first.amounts, second.amounts, strict=True)):
        return Rejection(LOST_VALUES, m.output)
    amounts = [a + b for a, b in zip(first.amounts, second.amounts, strict=True)]
    if not _leaves_something(m, inner.inputs[0], first.amounts, amounts):
        return Rejection(LOST_VALUES, m.output)
    dtype = m.dtype(m.output)
    (text, fill), *_ = fills.items()
    if dtype is None:
        return None
    return op.Pad(
        inner.inputs[0], amounts, None if text == "0.0" else constant(np.array(fill, dtype.numpy()))
    )


def _frame(m: Match, node: ir.Node) -> _Frame | None:
    """What a Pad or Slice does; None where its amounts depend on the run, or it repeats elements."""
    rank = m.rank(node.outputs[0])
    if rank is None:
        return None
    return _sliced(m, node, rank) if is_slice(node) else _padded(m, node, rank)


def _sliced(m: Match, node: ir.Node, rank: int) -> _Frame | None:
    cuts = cuts_of(node, m.facts, m.opset)
    dims = m.dims(node.inputs[0]) if node.inputs[0] is not None else None
    if cuts is None or dims is None:
        return None
    amounts = [0] * (2 * rank)
    for cut in cuts:
        behind = dims[cut.axis] - cut.end
        if cut.step != 1 or not isinstance(cut.start, int) or not isinstance(behind, int):
            return None
        amounts[cut.axis], amounts[rank + cut.axis] = -cut.start, -behind
    return _Frame(tuple(amounts), None)


def _padded(m: Match, node: ir.Node, rank: int) -> _Frame | None:
    if attribute(node, "mode", "constant") != "constant":
        return None
    if m.opset < 11:
        given, number = attribute(node, "pads"), attribute(node, "value", 0.0)
        found: Sequence[object] = given if isinstance(given, tuple) else ()
        fill = number if isinstance(number, float) else None
    else:
        array = m.array(node.inputs[1])
        found = () if array is None else array.tolist()
        value = input_of(node, 2)
        fill = 0.0 if value is None else m.scalar(value)
    axes = axes_of(node, m.opset) if m.opset >= 18 else ()
    if axes is None or len(found) != 2 * (len(axes) or rank) or fill is None:
        return None
    amounts = [0] * (2 * rank)
    for i, axis in enumerate(axes or range(rank)):
        for side in (0, 1):
            amount = found[i + side * len(found) // 2]
            amounts[axis % rank + side * rank] = amount if isinstance(amount, int) else 0
    return _Frame(tuple(amounts), fill)


def _leaves_something(m: Match, source: ir.Value | None, first: Amounts, both: Sequence[int]) -> bool:
    """Whether no axis of the source is cut by more than it has, in the first step or in all."""
    dims = m.dims(source) if source is not None else None
    if dims is None:
        return False
    for axis, dim in enumerate(dims):
        for amounts in (first, both):
            taken = -min(amounts[axis], 0) - min(amounts[axis + len(dims)], 0)
            if taken and not (isinstance(dim, int) and dim >= taken):
                return False
    return True


@dataclass(frozen=True)
class MergePads(Pass):
    """Make one Pad of Pads and Slices one after the other."""

    name = "merge-pads"
    family = "movement"
    rules = (one_pad,)

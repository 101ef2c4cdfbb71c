"""A Slice with constant starts, ends and steps, whichever way it is written."""

from __future__ import annotations

from dataclasses import dataclass

import onnx_ir as ir

from graphopt.ir import constants
from graphopt.ir.attributes import attribute
from graphopt.ir.operands import input_of

__all__ = ["AxisSlice", "slices_of"]

# An end from here on is no number of elements: exporters write the largest int32 or int64 for "to the end".
TO_THE_END = (1 << 31) - 1


@dataclass(frozen=True)
class AxisSlice:
    """The elements start, start + step, ... of one axis.

    Attributes:
        axis: As written: it may count from the end.
        start: As written: it may count from the end.
        end: The first element beyond; None: to the end.
        step: Never 0.
    """

    axis: int
    start: int
    end: int | None
    step: int


def slices_of(node: ir.Node) -> tuple[AxisSlice, ...] | None:
    """What a Slice takes of each axis that it names; None unless all of it is constant."""
    if "starts" in node.attributes:
        parts = [attribute(node, name) for name in ("starts", "ends", "axes")]
        columns = [tuple(n for n in p if isinstance(n, int)) if isinstance(p, tuple) else None for p in parts]
    else:
        columns = []
        for index in (1, 2, 3, 4):
            given = input_of(node, index)
            array = constants.array(given)
            if given is not None and array is None:
                return None
            columns.append(None if array is None else tuple(int(n) for n in array.reshape(-1)))
    starts, ends, axes, steps = (*columns, None)[:4]
    if starts is None or ends is None:
        return None
    axes = axes if axes is not None else tuple(range(len(starts)))
    steps = steps if steps is not None else (1,) * len(starts)
    return tuple(
        AxisSlice(int(axis), int(start), None if end >= TO_THE_END else int(end), int(step))
        for axis, start, end, step in zip(axes, starts, ends, steps, strict=True)
    )

"""Index tensors that are a grid: every combination of a row, a column, and so on.

    Unsqueeze(rows, [1, 2]): [n, 1, 1]                     a line along axis 0
    Concat(Unsqueeze(rows, -1), Unsqueeze(columns, -1))    a grid of both

torch writes an indexing with ranges in every axis as GatherND or ScatterND with such a grid.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import onnx_ir as ir

from graphopt.ir import constants
from graphopt.ir.attributes import attribute
from graphopt.ir.dims import Dim
from graphopt.ir.inference import Facts

__all__ = ["Line", "counts_from_zero", "grid_of", "line_of"]

# A longer table of positions is not compared with 0, 1, 2, ...
LONGEST_TABLE = 1 << 16

MAX_DEPTH = 12


@dataclass(frozen=True)
class Line:
    """A tensor whose elements differ along one axis only.

    Attributes:
        axis: That axis, from the first one on; None: all elements are the same one.
        values: What the elements along it are, of rank 1; a tensor of one element where `axis` is None.
    """

    axis: int | None
    values: ir.Value


def line_of(value: ir.Value | None, facts: Facts, depth: int = 0) -> Line | None:
    """The line that a tensor is made of by reshaping and expanding; None if it isn't, or nothing shows it."""
    dims = facts.dims(value) if value is not None else None
    if value is None or dims is None or depth > MAX_DEPTH:
        return None
    if all(d == 1 for d in dims):
        return Line(None, value)
    if len(dims) == 1 and not _is_spread(value):
        return Line(0, value)
    node = value.producer()
    if node is None or node.domain != "":
        return None
    if node.op_type not in ("Unsqueeze", "Squeeze", "Reshape", "Expand", "Identity"):
        return None
    inner = line_of(node.inputs[0], facts, depth + 1)
    source = facts.dims(node.inputs[0]) if node.inputs[0] is not None else None
    if inner is None or inner.axis is None or source is None:
        return inner
    axis = _place(inner.axis, source, dims, is_expand=node.op_type == "Expand")
    return None if axis is None else replace(inner, axis=axis)


def grid_of(value: ir.Value, facts: Facts) -> tuple[Line, ...] | None:
    """The lines that are the components of an index tensor [..., k], over its axes but the last."""
    node = value.producer()
    dims = facts.dims(value)
    if node is None or node.op_type != "Concat" or node.domain != "" or not dims:
        return None
    last = len(dims) - 1
    if attribute(node, "axis", 0) not in (-1, last):
        return None
    found: list[Line] = []
    for part in node.inputs:
        line = line_of(part, facts)
        part_dims = facts.dims(part) if part is not None else None
        if line is None or part_dims is None or part_dims[-1] != 1 or line.axis == last:
            return None
        found.append(line)
    return tuple(found)


def counts_from_zero(values: ir.Value, facts: Facts) -> bool:
    """Whether a tensor of rank 1 is 0, 1, 2, ..."""
    dims = facts.dims(values)
    tensor = constants.constant(values)
    if dims is None or len(dims) != 1:
        return False
    if tensor is not None:
        size = tensor.size
        return size <= LONGEST_TABLE and np.array_equal(tensor.numpy(), np.arange(size))
    node = values.producer()
    if node is None or node.op_type != "Range" or node.domain != "":
        return False
    start, _, step = (facts.elements(v) if v is not None else None for v in node.inputs)
    return start == (0,) and step == (1,)


def _is_spread(value: ir.Value) -> bool:
    node = value.producer()
    return node is not None and node.op_type in ("Expand", "Squeeze", "Reshape")


def _place(axis: int, source: tuple[Dim, ...], target: tuple[Dim, ...], *, is_expand: bool) -> int | None:
    """Where an axis goes when axes of size 1 come, go or are spread out."""
    if is_expand:
        moved = axis + len(target) - len(source)
        return moved if moved >= 0 and target[moved] == source[axis] else None
    kept = [a for a, d in enumerate(source) if d != 1]
    there = [a for a, d in enumerate(target) if d != 1]
    if [source[a] for a in kept] != [target[a] for a in there]:
        return None
    return there[kept.index(axis)] if axis in kept else None

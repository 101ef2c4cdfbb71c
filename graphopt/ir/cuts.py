"""What a Slice keeps of each axis, with bounds counted from the front."""

from __future__ import annotations

from dataclasses import dataclass

import onnx_ir as ir

from graphopt.ir.attributes import attribute
from graphopt.ir.dims import Dim, high, is_nonnegative, minimum
from graphopt.ir.facts.slicing import cut_bounds
from graphopt.ir.inference import Facts
from graphopt.ir.operands import input_of

__all__ = ["TO_THE_END", "Cut", "cuts_of", "is_slice", "spelled_end", "spelled_start"]

# As the end of a slice: the end of the axis, whatever its size.
TO_THE_END = 2**63 - 1


@dataclass(frozen=True, slots=True)
class Cut:
    """Elements start, start + step, ... before end of an axis.

    Attributes:
        axis: The axis, counted from the front.
        start: From 0 to the axis's size.
        end: From 0 to the axis's size; before start where nothing is kept.
        step: At least 1.
    """

    axis: int
    start: Dim
    end: Dim
    step: int


def is_slice(node: ir.Node | None) -> bool:
    """Whether the node is a Slice."""
    return node is not None and node.op_type == "Slice" and node.domain == ""


def cuts_of(node: ir.Node, facts: Facts, opset: int) -> tuple[Cut, ...] | None:
    """The cuts of a Slice, by axis, without those that keep everything.

    None where one goes backwards, or its place depends on the run.
    """
    dims = facts.dims(node.inputs[0]) if node.inputs[0] is not None else None
    if dims is None:
        return None
    bounds = [_bounds(node, i, facts, opset) for i in range(4)]
    if None in bounds:
        return None
    starts, ends, axes, steps = (bound or () for bound in bounds)
    axes, steps = axes or tuple(range(len(starts))), steps or (1,) * len(starts)
    if not len(starts) == len(ends) == len(axes) == len(steps) or len(set(axes)) < len(axes):
        return None
    found = []
    for axis, start, end, step in zip(axes, starts, ends, steps, strict=True):
        if type(step) is not int or step < 1 or type(axis) is not int:
            return None
        axis += len(dims) if axis < 0 else 0
        cut = cut_bounds(dims[axis], start, end, step, is_nonnegative)
        if cut is None:
            return None
        if (*cut, step) != (0, dims[axis], 1):
            found.append(Cut(axis, *cut, step))
    return tuple(sorted(found, key=lambda cut: cut.axis))


def _bounds(node: ir.Node, i: int, facts: Facts, opset: int) -> tuple[Dim, ...] | None:
    """Starts, ends, axes or steps; () where they are not given, None where one is not known."""
    if opset < 10:
        given = attribute(node, ("starts", "ends", "axes", "steps")[i], ())
        return tuple(n for n in given if isinstance(n, int)) if isinstance(given, tuple) else None
    value = input_of(node, i + 1)
    if value is None:
        return ()
    elements = facts.elements(value)
    if elements is None or any(e is None or isinstance(e, bool | float) for e in elements):
        return None
    return elements  # type: ignore[return-value]


def spelled_start(start: Dim, size: Dim) -> int | None:
    """A start as the number that a Slice has for it; None where it depends on the run."""
    return _spelled(start, size)


def spelled_end(end: Dim, size: Dim) -> int | None:
    """An end as the number that a Slice has for it; None where it depends on the run."""
    return TO_THE_END if end == size and type(end) is not int else _spelled(end, size)


def _spelled(bound: Dim, size: Dim) -> int | None:
    if type(bound) is int:
        return bound
    most = high(bound)
    if most is not None and minimum(most, size) == bound:
        return most
    behind = size - bound
    # A bound lies within the axis, so that many elements are there.
    return -behind if type(behind) is int and behind >= 1 else None

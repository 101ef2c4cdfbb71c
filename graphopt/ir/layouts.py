"""Another order of a value's axes, perhaps with dims of 1 put in or taken out."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from graphopt.ir.attributes import attribute
from graphopt.ir.dims import Dim
from graphopt.ir.inference import Facts
from graphopt.ir.regions import Movement
from graphopt.ir.relabelling import inserted_axes

__all__ = ["Layout", "layouts_of"]

Dims = tuple[Dim, ...]


@dataclass(frozen=True, slots=True)
class Layout:
    """How a value of some rank is laid out anew.

    Attributes:
        rank: Rank of the value.
        axes: For each axis of the value as laid out, the axis that it was; None for a new dim of 1.
            An axis that is not among them is a dim of 1 that is taken out.
    """

    rank: int
    axes: tuple[int | None, ...]

    @property
    def dropped(self) -> tuple[int, ...]:
        """The axes that are taken out."""
        return tuple(axis for axis in range(self.rank) if axis not in self.axes)

    @property
    def added(self) -> tuple[int, ...]:
        """The axes that are put in, counted in the new order."""
        return tuple(place for place, axis in enumerate(self.axes) if axis is None)

    def fits(self, dims: Dims) -> bool:
        """Whether a value of these dims can be laid out like this."""
        return len(dims) == self.rank and all(dims[axis] == 1 for axis in self.dropped)

    def place(self, axis: int) -> int | None:
        """Where an axis goes; None where it is taken out."""
        axis += self.rank if axis < 0 else 0
        return self.axes.index(axis) if axis in self.axes else None

    def keeps_first(self, count: int) -> bool:
        """Whether so many first axes stay what and where they are."""
        return self.axes[:count] == tuple(range(count))

    def keeps_last(self, count: int) -> bool:
        """Whether so many last axes stay the last ones, in order."""
        first = self.rank - count
        return count <= len(self.axes) and self.axes[len(self.axes) - count :] == tuple(
            range(first, self.rank)
        )

    def keeps_order_without(self, axes: tuple[int, ...]) -> bool:
        """Whether the axes but some, and but those put in or taken out, stay in their order."""
        rest = [axis for axis in self.axes if axis is not None and axis not in axes]
        return rest == sorted(rest) and all(axis in axes for axis in self.dropped)

    def forwards(self, movement: Movement) -> Movement:
        """A map whose result is then laid out anew."""
        groups = tuple(() if axis is None else movement.groups[axis] for axis in self.axes)
        return Movement(movement.source, movement.factors, groups)

    def backwards(self, movement: Movement) -> Movement:
        """A map whose result, which is laid out anew, is then brought back."""
        groups = tuple(
            movement.groups[self.axes.index(axis)] if axis in self.axes else () for axis in range(self.rank)
        )
        return Movement(movement.source, movement.factors, groups)

    def dims(self, dims: Dims) -> Dims:
        """The dims in the new order."""
        return tuple(1 if axis is None else dims[axis] for axis in self.axes)

    def array(self, array: np.ndarray) -> np.ndarray | None:
        """An array that is broadcast with such values, laid out anew; None where it does not fit."""
        if array.ndim > self.rank:
            return None
        whole = array.reshape((1,) * (self.rank - array.ndim) + array.shape)
        if any(whole.shape[axis] != 1 for axis in self.dropped):
            return None
        kept = [axis for axis in self.axes if axis is not None]
        moved = whole.transpose(*kept, *self.dropped).reshape([whole.shape[axis] for axis in kept])
        return np.ascontiguousarray(np.expand_dims(moved, self.added))


def layouts_of(node: ir.Node, facts: Facts) -> tuple[Layout, ...]:
    """The layouts by which a movement's result is its source, and its source the result."""
    source, result = (facts.dims(v) if v is not None else None for v in (node.inputs[0], node.outputs[0]))
    if source is None or result is None or not 2 <= max(len(source), len(result)) <= 6:
        return ()
    if node.op_type == "Transpose":
        given = attribute(node, "perm")
        perm = tuple(n for n in given if isinstance(n, int)) if isinstance(given, tuple) else ()
        perm = perm or tuple(range(len(source)))[::-1]
        inverse = tuple(perm.index(axis) for axis in range(len(perm)))
        return tuple(dict.fromkeys((Layout(len(perm), perm), Layout(len(perm), inverse))))
    for low, high in ((source, result), (result, source)):
        added = inserted_axes(low, high)
        if added and low:
            kept = [axis for axis in range(len(high)) if axis not in added]
            put_in = tuple(None if axis in added else kept.index(axis) for axis in range(len(high)))
            return Layout(len(low), put_in), Layout(len(high), tuple(kept))
    return ()

"""Operators that do the same whether an axis of their tensors is one or several.

    x[b*h,n,k] @ y[b*h,k,m]  is  x[b,h,n,k] @ y[b,h,k,m]  but for a Reshape of the result

The axis must be none that the operator works along. `adapted` says where the axis is in each input and output
of a node, and gives the node's attributes and axes for the tensors with more axes.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import onnx_ir as ir

from graphopt.ir import constants
from graphopt.ir import facts as operator_facts
from graphopt.ir.attribute_defaults import attribute_or_default
from graphopt.ir.attributes import axes_of
from graphopt.ir.dims import Dim, product
from graphopt.ir.inference import Facts
from graphopt.ir.relabelling import Relabelling, is_relabelling, relabelling

__all__ = ["Adapted", "Anchor", "adapted", "parted"]

Dims = tuple[Dim, ...]

# Softmax works on the axis alone from here on; before, on all axes from it.
SOFTMAX_OVER_ONE_AXIS_SINCE = 13

REDUCTIONS = (
    *("ReduceSum", "ReduceMean", "ReduceMax", "ReduceMin", "ReduceProd", "ReduceL1", "ReduceL2"),
    *("ReduceLogSum", "ReduceLogSumExp", "ReduceSumSquare"),
)
# With one axis, which keeps its place; those that work on all axes from it.
ALONG = ("Softmax", "LogSoftmax", "Split")
FROM = ("LayerNormalization", "RMSNormalization")


@dataclass(frozen=True, slots=True)
class Adapted:
    """A node for tensors one of whose axes has become several.

    Attributes:
        inputs: Inputs that have the axis (or a 1 in its place, left of which there are others), and where.
        result: Where the outputs have it.
        attributes: Those that change.
        axes: The axes, where they are an input or an attribute of the old spelling.
        weak: Whether an input may have a 1 in place of some of the axes: the operator broadcasts.
        relabelling: The node becomes this one.
        is_product: A Gemm becomes a MatMul, and an Add if it has a third input.
        growth: Nodes more than before.
    """

    inputs: dict[int, int]
    result: int
    attributes: dict[str, object] = field(default_factory=dict)
    axes: tuple[int, ...] | None = None
    weak: bool = False
    relabelling: Relabelling | None = None
    is_product: bool = False
    growth: int = 0


@dataclass(frozen=True, slots=True)
class Anchor:
    """What is known of a node: where one of its inputs, or its output (None), has the axis."""

    index: int | None
    place: int


def parted(dims: Dims, place: int, lead: Dims) -> Dims:
    """The dims with the parts in the place of the axis; with ones, if there is a 1."""
    return (*dims[:place], *((1,) * len(lead) if dims[place] == 1 else lead), *dims[place + 1 :])


def adapted(facts: Facts, node: ir.Node, opset: int, anchor: Anchor, lead: Dims) -> Adapted | None:
    """How to run a node whose anchor's axis is parted; None: it can't be, or the operator is unknown."""
    if node.domain != "" or not node.outputs:
        return None
    shapes: dict[int, Dims] = {}
    for i, value in enumerate(node.inputs):
        dims = facts.dims(value) if value is not None else None
        if dims is not None:
            shapes[i] = dims
        elif value is not None:
            return None
    results = [facts.dims(value) for value in node.outputs]
    if results[0] is None or not shapes:
        return None
    place = _Place(node, opset, anchor, lead, shapes, results[0])
    found = place.adapted()
    merged = product(lead)
    if found is None or any(dims is None or dims[found.result] != merged for dims in results):
        return None
    is_wide = any(shapes[i][at] == merged for i, at in found.inputs.items())
    return found if is_wide else None


class _Place:
    """One node and the place of the axis."""

    def __init__(
        self,
        node: ir.Node,
        opset: int,
        anchor: Anchor,
        lead: Dims,
        shapes: dict[int, Dims],
        result: Dims,
    ) -> None:
        self.node = node
        self.opset = opset
        self.anchor = anchor
        self.lead = lead
        self.merged = product(lead)
        self.shapes = shapes
        self.result = result

    def adapted(self) -> Adapted | None:
        node = self.node
        if operator_facts.is_elementwise(node):
            plain = len(node.outputs) == 1 and "axis" not in node.attributes
            return self._broadcast() if plain and not operator_facts.is_random(node) else None
        name = node.op_type
        if name == "MatMul":
            return self._product()
        if name == "Gemm":
            return self._gemm()
        if name in ("Concat", "GatherElements"):
            return self._together()
        if self.anchor.index not in (0, None):
            return None
        if name == "Transpose":
            return self._transposed()
        if is_relabelling(node):
            return self._relabelled()
        if name in REDUCTIONS or name in ("Slice", "ArgMax", "ArgMin"):
            return self._over_axes()
        if name in ALONG or name in FROM:
            return self._along()
        return self._gathered() if name == "Gather" else None

    def attribute(self, name: str) -> object:
        return attribute_or_default(self.node, name, self.opset)

    def _from_end(self) -> int:
        """The distance of the axis from the end, at the anchor."""
        index = self.anchor.index
        return len(self.result if index is None else self.shapes[index]) - self.anchor.place

    def _aligned(self, distance: int) -> dict[int, int] | None:
        """Where the broadcast inputs have the axis; None where one has another one there."""
        found: dict[int, int] = {}
        for i, shape in self.shapes.items():
            place = len(shape) - distance
            if place < 0 or (place == 0 and shape[0] == 1):
                continue
            if shape[place] not in (1, self.merged):
                return None
            found[i] = place
        return found

    def _broadcast(self) -> Adapted | None:
        distance = self._from_end()
        inputs = self._aligned(distance)
        return None if inputs is None else Adapted(inputs, len(self.result) - distance, weak=True)

    def _product(self) -> Adapted | None:
        """Rows of the left factor by a matrix, or an axis of the batch."""
        left, right = len(self.shapes[0]), len(self.shapes[1])
        distance = self._from_end()
        if min(left, right) < 2 or distance < 2:
            return None
        if distance == 2:
            rows = self.anchor.index != 1 and right == 2
            return Adapted({0: left - 2}, len(self.result) - 2, weak=True) if rows else None
        inputs = self._aligned(distance)
        return None if inputs is None else Adapted(inputs, len(self.result) - distance, weak=True)

    def _gemm(self) -> Adapted | None:
        """Of a Gemm the rows may be several axes, if it is MatMul and Add but for a transposed constant."""
        if self.anchor.place != 0 or self.anchor.index == 1 or self.attribute("transA"):
            return None
        if self.attribute("transB") and constants.constant(self.node.inputs[1]) is None:
            return None
        if any(self.attribute(name) != 1 for name in ("alpha", "beta")):
            return None
        inputs = {0: 0}
        addend = self.shapes.get(2)
        if addend is not None and len(addend) == 2 and addend[0] != 1:
            inputs[2] = 0
        return Adapted(inputs, 0, is_product=True, growth=int(addend is not None))

    def _together(self) -> Adapted | None:
        """Several tensors that all have the axis in one place."""
        place, rank = self.anchor.place, len(self.result)
        axis = self.attribute("axis")
        if not isinstance(axis, int) or axis % rank == place:
            return None
        if any(shape[place] != self.merged for shape in self.shapes.values()):
            return None
        return Adapted(dict.fromkeys(self.shapes, place), place, {"axis": _moved(axis % rank, place, rank)})

    def _transposed(self) -> Adapted | None:
        perm = self.attribute("perm")
        if not isinstance(perm, tuple):
            perm = tuple(range(len(self.result)))[::-1]
        place = perm[self.anchor.place] if self.anchor.index is None else self.anchor.place
        extra = len(self.lead) - 1
        order: list[int] = []
        for axis in perm:
            if axis == place:
                order.extend(range(place, place + extra + 1))
            else:
                order.append(axis if axis < place else axis + extra)
        return Adapted({0: place}, perm.index(place), {"perm": order}, weak=True)

    def _relabelled(self) -> Adapted | None:
        """A reshape that leaves the axis alone."""
        source, result = self.shapes[0], self.result
        here, there = (result, source) if self.anchor.index is None else (source, result)
        place = self.anchor.place
        before = product(here[:place])
        other = next(
            (
                i
                for i, dim in enumerate(there)
                if dim == self.merged and product(there[:i]) == before and here[place] == dim
            ),
            None,
        )
        if other is None:
            return None
        first, second = (other, place) if self.anchor.index is None else (place, other)
        how = relabelling(parted(source, first, self.lead), parted(result, second, self.lead), self.opset)
        return None if how is None else Adapted({0: first}, second, relabelling=how)

    def _over_axes(self) -> Adapted | None:
        """Reductions and slices of other axes."""
        rank = len(self.shapes[0])
        axes = self._axes()
        if not axes:
            return None
        removed = [] if self.node.op_type == "Slice" or self.attribute("keepdims") else sorted(axes)
        kept = [axis for axis in range(rank) if axis not in removed]
        place = kept[self.anchor.place] if self.anchor.index is None else self.anchor.place
        if place in axes:
            return None
        moved = tuple(_moved(axis, place, rank) for axis in axes)
        result = kept.index(place)
        if self.node.op_type in ("ArgMax", "ArgMin"):
            return Adapted({0: place}, result, {"axis": moved[0]}, weak=True)
        return Adapted({0: place}, result, axes=moved, weak=True)

    def _axes(self) -> tuple[int, ...]:
        rank = len(self.shapes[0])
        if self.node.op_type in ("ArgMax", "ArgMin"):
            axis = self.attribute("axis")
            return (axis % rank,) if isinstance(axis, int) else ()
        return tuple(axis % rank for axis in axes_of(self.node, self.opset) or ())

    def _along(self) -> Adapted | None:
        """Operators with one axis, or all from one on."""
        rank, place, name = len(self.shapes[0]), self.anchor.place, self.node.op_type
        axis = self.attribute("axis")
        if not isinstance(axis, int) or axis % rank == place:
            return None
        axis %= rank
        if name in FROM and axis < place:
            return None
        if name != "Split" and self.opset < SOFTMAX_OVER_ONE_AXIS_SINCE and axis != rank - 1:
            return None
        return Adapted({0: place}, place, {"axis": _moved(axis, place, rank)}, weak=True)

    def _gathered(self) -> Adapted | None:
        axis, rank = self.attribute("axis"), len(self.shapes[0])
        if not isinstance(axis, int):
            return None
        axis %= rank
        more = len(self.shapes[1]) - 1
        place = self.anchor.place
        if self.anchor.index is None:
            if axis <= place <= axis + more:
                return None
            place = place if place < axis else place - more
        if place == axis:
            return None
        result = place if place < axis else place + more
        return Adapted({0: place}, result, {"axis": _moved(axis, place, rank)}, weak=True)


def _moved(axis: int, place: int, rank: int) -> int:
    """The axis beside several in the place of one: from the front, or from the end."""
    return axis if axis < place else axis - rank

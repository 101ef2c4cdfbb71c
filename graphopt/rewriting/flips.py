"""Operators written again for operands in another layout.

    y = Softmax(x, axis=1)    with x' = Transpose(x, 0 2 3 1):    y' = Softmax(x', axis=3)

A flip says which operands have to be in the new layout and which results then are. An operator that can't
work in the layout has none.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from graphopt.ir import constants
from graphopt.ir import facts as operator_facts
from graphopt.ir.attribute_defaults import attribute_or_default
from graphopt.ir.attributes import attribute, axes_of
from graphopt.ir.inference import Facts
from graphopt.ir.layouts import Layout
from graphopt.rewriting.operators import constant, operators

__all__ = ["Flip", "flip_of"]

# A constant operand is laid out anew up to this size: it becomes a second copy where it is shared.
LARGEST_CONSTANT = 1 << 20

Operands = list[ir.Value | None]


@dataclass(frozen=True, slots=True)
class Flip:
    """An operator in another layout.

    Attributes:
        operands: Indices of the inputs that have to be laid out anew.
        results: Indices of the outputs that then are; the others are what they were.
        build: Makes the operator of all its inputs, those of `operands` laid out anew.
    """

    operands: tuple[int, ...]
    results: tuple[int, ...]
    build: Callable[[Operands], tuple[ir.Value, ...]]


@dataclass(frozen=True, slots=True)
class _Place:
    """A node, the layout, and what is known there."""

    node: ir.Node
    layout: Layout
    facts: Facts
    opset: int

    def fits(self, value: ir.Value | None) -> bool:
        dims = self.facts.dims(value) if value is not None else None
        return dims is not None and self.layout.fits(dims)

    def axis(self) -> int | None:
        """Where the node's axis goes."""
        axis = attribute_or_default(self.node, "axis", self.opset)
        return self.layout.place(axis) if isinstance(axis, int) else None

    def again(self, inputs: Operands, **changed: object) -> tuple[ir.Value, ...]:
        """The node with other inputs and attributes; an attribute of None goes."""
        attributes: dict[str, object] = {**self.node.attributes, **changed}
        count = len(self.node.outputs)
        make = getattr(operators(self.node.domain), self.node.op_type)
        made: tuple[ir.Value, ...] = make(*inputs, outputs=count, **attributes)
        return made

    def flip(
        self,
        build: Callable[[Operands], tuple[ir.Value, ...]] | None = None,
        *,
        results: tuple[int, ...] | None = None,
        **changed: object,
    ) -> Flip:
        """The usual flip: of the first input and of all outputs."""
        outputs = tuple(range(len(self.node.outputs))) if results is None else results
        return Flip((0,), outputs, build or (lambda inputs: self.again(inputs, **changed)))


def flip_of(node: ir.Node, layout: Layout, facts: Facts, opset: int) -> Flip | None:
    """The node in a layout; None where it can't be."""
    if node.domain not in ("", "com.microsoft") or not node.outputs or not operator_facts.is_pure(node):
        return None
    place = _Place(node, layout, facts, opset)
    if operator_facts.is_elementwise(node):
        return _elementwise(place)
    if node.domain != "":
        return None
    if node.op_type.startswith("Reduce"):
        return _reduction(place)
    make = _FLIPS.get(node.op_type)
    if make is None or (node.op_type not in ("MatMul", "Concat") and not place.fits(node.inputs[0])):
        return None
    return make(place)


def _elementwise(place: _Place) -> Flip | None:
    """Any element-wise operator; operands of lower rank have to be constants, or single elements."""
    node = place.node
    if len(node.outputs) != 1 or node.op_type in ("CastLike", "Identity") or not place.fits(node.outputs[0]):
        return None
    if node.domain != "" and len(node.inputs) != 1:
        return None
    return _broadcast(place)


def _broadcast(place: _Place, **changed: object) -> Flip | None:
    """An operator whose operands are broadcast, or joined, axis by axis."""
    moved: list[int] = []
    arrays: dict[int, np.ndarray] = {}
    for i, value in enumerate(place.node.inputs):
        dims = place.facts.dims(value) if value is not None else None
        if value is None:
            continue
        if dims is None:
            return None
        if len(dims) < place.layout.rank and all(dim == 1 for dim in dims):
            if len(dims) > len(place.layout.axes):
                return None
            continue
        array = _small(value)
        if array is not None:
            laid_out = place.layout.array(array)
            if laid_out is None:
                return None
            arrays[i] = laid_out
        elif place.layout.fits(dims):
            moved.append(i)
        else:
            return None
    if not moved:
        return None

    def build(inputs: Operands) -> tuple[ir.Value, ...]:
        given = [constant(arrays[i]) if i in arrays else value for i, value in enumerate(inputs)]
        return place.again(given, **changed)

    return Flip(tuple(moved), (0,), build)


def _small(value: ir.Value) -> np.ndarray | None:
    tensor = constants.constant(value)
    return tensor.numpy() if tensor is not None and tensor.nbytes <= LARGEST_CONSTANT else None


def _concat(place: _Place) -> Flip | None:
    axis = place.axis()
    ranks = {place.facts.rank(v) for v in place.node.inputs if v is not None}
    if axis is None or ranks != {place.layout.rank}:
        return None
    return _broadcast(place, axis=axis)


def _along_axis(place: _Place) -> Flip | None:
    axis = place.axis()
    return None if axis is None else place.flip(axis=axis)


def _softmax(place: _Place) -> Flip | None:
    """Softmax over any axis; kernels are fast over the last one, so that stays the last. From opset 13 on."""
    axis = place.axis()
    was_last = attribute_or_default(place.node, "axis", place.opset) in (-1, place.layout.rank - 1)
    if axis is None or place.opset < 13 or (was_last and axis != len(place.layout.axes) - 1):
        return None
    return place.flip(axis=axis)


def _arg(place: _Place) -> Flip | None:
    """ArgMax and ArgMin."""
    axis = place.axis()
    given = attribute_or_default(place.node, "axis", place.opset)
    if axis is None or not isinstance(given, int):
        return None
    if attribute(place.node, "keepdims", 1):
        return place.flip(axis=axis)
    given %= place.layout.rank
    if place.layout.added or not place.layout.keeps_order_without((given,)):
        return None
    return place.flip(axis=axis, results=())


def _reduction(place: _Place) -> Flip | None:
    """A reduction over known axes; without them in the result, where the other axes stay in their order.

    One over the last axis that keeps it stays there: norms are recognised by it.
    """
    node, layout = place.node, place.layout
    given = axes_of(node, place.opset)
    if not given or not place.fits(node.inputs[0]):
        return None
    axes = tuple(sorted(axis % layout.rank for axis in given))
    places = [found for axis in axes if (found := layout.place(axis)) is not None]
    results: tuple[int, ...] = (0,)
    if not attribute(node, "keepdims", 1):
        if not layout.keeps_order_without(axes):
            return None
        places += layout.added
        results = ()
    elif len(places) < len(axes):
        return None
    last = len(layout.axes) - 1
    if not places or (results and axes[-1] == layout.rank - 1 and last not in places):
        return None

    def build(inputs: Operands) -> tuple[ir.Value, ...]:
        return place.again([inputs[0], constant(np.array(sorted(places), np.int64))], axes=None)

    return place.flip(build, results=results)


def _slice(place: _Place) -> Flip | None:
    if place.opset < 10:
        starts, axes = attribute(place.node, "starts"), attribute(place.node, "axes")
        count = len(starts) if isinstance(starts, tuple) else None
    else:
        dims = place.facts.dims(place.node.inputs[1]) if place.node.inputs[1] is not None else None
        count = dims[0] if dims and isinstance(dims[0], int) else None
        axes = axes_of(place.node, place.opset)
    if count is None or axes is None or not isinstance(axes, tuple):
        return None
    given = [axis for axis in axes or range(count) if isinstance(axis, int)]
    places = [place.layout.place(axis) for axis in given]
    if None in places:
        return None
    if place.opset < 10:
        return place.flip(axes=places)

    def build(inputs: Operands) -> tuple[ir.Value, ...]:
        table = constant(np.array(places, np.int64))
        return place.again([*inputs[:3], table, *inputs[4:]])

    return place.flip(build)


def _pad(place: _Place) -> Flip | None:
    node, layout = place.node, place.layout
    if place.opset < 11:
        given = attribute(node, "pads")
        amounts = [n for n in given if isinstance(n, int)] if isinstance(given, tuple) else []
    else:
        array = constants.array(node.inputs[1])
        amounts = [] if array is None else [int(n) for n in array]
    axes = axes_of(node, place.opset) if place.opset >= 18 else ()
    if axes is None or len(amounts) != 2 * (len(axes) or layout.rank):
        return None
    begins, ends = [0] * layout.rank, [0] * layout.rank
    for i, axis in enumerate(axes or range(layout.rank)):
        begins[axis], ends[axis] = amounts[i], amounts[i + len(amounts) // 2]
    if any(begins[axis] or ends[axis] for axis in layout.dropped):
        return None
    pads = [0 if axis is None else side[axis] for side in (begins, ends) for axis in layout.axes]
    if place.opset < 11:
        return place.flip(pads=pads)

    def build(inputs: Operands) -> tuple[ir.Value, ...]:
        return place.again([inputs[0], constant(np.array(pads, np.int64)), *inputs[2:3]])

    return place.flip(build)


def _tile(place: _Place) -> Flip | None:
    array = constants.array(place.node.inputs[1])
    if array is None or len(array) != place.layout.rank:
        return None
    if any(array[axis] != 1 for axis in place.layout.dropped):
        return None
    repeats = [1 if axis is None else int(array[axis]) for axis in place.layout.axes]
    return place.flip(lambda inputs: place.again([inputs[0], constant(np.array(repeats, np.int64))]))


def _gather(place: _Place) -> Flip | None:
    """Gather by a vector keeps the rank; by one index it takes an axis away."""
    rank = place.facts.rank(place.node.inputs[1]) if place.node.inputs[1] is not None else None
    axis = place.axis()
    given = attribute(place.node, "axis", 0)
    if axis is None or not isinstance(given, int):
        return None
    if rank == 1:
        return place.flip(axis=axis)
    given %= place.layout.rank
    if rank != 0 or place.layout.added or not place.layout.keeps_order_without((given,)):
        return None
    return place.flip(axis=axis, results=())


def _channels_second(place: _Place) -> Flip | None:
    """BatchNormalization and InstanceNormalization: batch and channels stay first."""
    is_plain = len(place.node.outputs) == 1 and len(place.layout.axes) >= 3
    return place.flip() if is_plain and place.layout.keeps_first(2) else None


def _trailing(place: _Place) -> Flip | None:
    """LayerNormalization and RMSNormalization: the axes that they normalize stay last."""
    axis = attribute(place.node, "axis", -1)
    if not isinstance(axis, int) or len(place.node.outputs) != 1:
        return None
    count = -axis if axis < 0 else place.layout.rank - axis
    return place.flip(axis=-count) if place.layout.keeps_last(count) else None


def _matmul(place: _Place) -> Flip | None:
    """By a matrix, or by a stack whose matrices stay the last two axes."""
    left, right = place.node.inputs
    if left is None or right is None or not place.fits(left) or not place.fits(place.node.outputs[0]):
        return None
    if place.facts.rank(right) == 2 and place.layout.rank > 2 and len(place.layout.axes) >= 2:
        return place.flip() if place.layout.keeps_last(1) else None
    if not place.fits(right) or not place.layout.keeps_last(2) or place.layout.rank < 3:
        return None
    return Flip((0, 1), (0,), place.again)


def _quantization(place: _Place) -> Flip | None:
    """QuantizeLinear and DequantizeLinear with one scale, or one for each place on an axis."""
    rank = place.facts.rank(place.node.inputs[1]) if place.node.inputs[1] is not None else None
    if rank == 0:
        return place.flip()
    axis = place.axis()
    blocked = attribute(place.node, "block_size", 0)
    return None if rank != 1 or blocked or axis is None else place.flip(axis=axis)


_FLIPS: dict[str, Callable[[_Place], Flip | None]] = {
    "ArgMax": _arg,
    "ArgMin": _arg,
    "BatchNormalization": _channels_second,
    "Concat": _concat,
    "DequantizeLinear": _quantization,
    "Gather": _gather,
    "InstanceNormalization": _channels_second,
    "LayerNormalization": _trailing,
    "LogSoftmax": _softmax,
    "LpNormalization": _along_axis,
    "MatMul": _matmul,
    "Pad": _pad,
    "QuantizeLinear": _quantization,
    "RMSNormalization": _trailing,
    "Slice": _slice,
    "Softmax": _softmax,
    "Split": _along_axis,
    "Tile": _tile,
}

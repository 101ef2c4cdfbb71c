"""Let what stands above a value take an affine map of it in.

    before   Conv(x, w, b) -> Relu -> Transpose -> * 0.5
    after    Conv(x, 0.5 * w, 0.5 * b) -> Relu -> Transpose

On the way up the map crosses data movement, operators that commute with it, and sums and products with
constants, as long as each value in between has this one consumer; the crossed nodes are written again.
Nothing is built before the whole way is known to be free.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np
import onnx_ir as ir

from graphopt.ir import constants
from graphopt.ir.affine import Affine, affine_of
from graphopt.ir.attributes import attribute, attribute_ints
from graphopt.ir.dims import Dim, product
from graphopt.rewriting import weights
from graphopt.rewriting.weights import Plan, rebuilt

if TYPE_CHECKING:
    from graphopt.rewriting.editor import Editor

__all__ = ["MOST_CROSSED", "above", "channel_axis_before"]

# A longer way is not searched: rules look again at everything this far below a change.
MOST_CROSSED = 6


def above(
    editor: Editor, value: ir.Value, affine: Affine, consumer: ir.Node, *, uses: int = 1
) -> Plan | None:
    """A plan for the mapped value without a node for the map; None where it can't be taken in.

    Args:
        editor: The model.
        value: What is mapped.
        affine: The map; its channels are on an axis of `value`.
        consumer: The node that uses the value.
        uses: How often the value is used, all of them by nodes that are about to go.
    """
    return _Ascent(editor, consumer.graph).plan(value, affine, MOST_CROSSED, uses)


class _Ascent:
    def __init__(self, editor: Editor, graph: ir.Graph | None) -> None:
        self.editor = editor
        self.facts = editor.facts
        self.graph = graph

    def plan(self, value: ir.Value, affine: Affine, left: int, uses: int = 1) -> Plan | None:
        if not affine.has_scale and not affine.has_shift:
            return lambda: value
        node = value.producer()
        if node is None or node.domain != "" or node.graph is not self.graph or value.is_graph_output():
            return None
        if len(value.uses()) != uses or left == 0:
            return None
        taken = weights.after(node, affine, self.facts) if value is node.outputs[0] else None
        if taken is not None:
            return taken
        cross = _CROSS.get(node.op_type)
        if cross is None or len(node.outputs) != 1:
            return None
        return cross(self, node, affine, left - 1)

    def through_first(self, node: ir.Node, affine: Affine, left: int) -> Plan | None:
        """The node again, on its first input mapped."""
        source = node.inputs[0]
        inner = None if source is None else self.plan(source, affine, left)
        return None if inner is None else lambda: rebuilt(node, [inner(), *node.inputs[1:]])


# ------------------------------------------------------------------ crossing


def _sum(ascent: _Ascent, node: ir.Node, affine: Affine, left: int) -> Plan | None:
    """(u + c) * s + t: as one map of u, or as u * s + (c * s + t)."""
    own = affine_of(node, ascent.facts)
    total = affine.after(own[1]) if own is not None else None
    if own is not None and total is not None:
        whole = ascent.plan(own[0], total, left)
        if whole is not None:
            return whole
    for i in (1, 0):
        tensor = constants.constant(node.inputs[i])
        other = node.inputs[1 - i]
        rank = ascent.facts.rank(node.outputs[0])
        if tensor is None or other is None or rank is None or tensor.nbytes > weights.LAZY_BYTES:
            continue
        if ascent.facts.rank(other) != rank or (node.op_type == "Sub" and i == 0):
            continue
        inner = ascent.plan(other, affine.only_scale, left)
        new = _moved_constant(tensor, affine, rank, -1.0 if node.op_type == "Sub" else 1.0)
        if inner is None or new is None:
            return None
        return lambda: rebuilt(node, [inner(), new], "Add")
    return None


def _moved_constant(
    tensor: ir.TensorProtocol, affine: Affine, rank: int, sign: float
) -> weights.Array | None:
    array = np.asarray(tensor.numpy()).astype(np.float64) * sign
    with np.errstate(all="ignore"):
        moved = array * affine.shaped(affine.scale, rank) + affine.shaped(affine.shift, rank)
    return weights.fitting(moved, tensor, rank)


def _product(ascent: _Ascent, node: ir.Node, affine: Affine, left: int) -> Plan | None:
    """A factor of all elements goes into either side of a product."""
    if affine.axis is not None or affine.has_shift:
        return None
    for i in (0, 1) if node.op_type != "Div" else (0,):
        source = node.inputs[i]
        inner = None if source is None else ascent.plan(source, affine, left)
        if inner is not None:
            inputs = list(node.inputs)

            def build(i: int = i, inner: Plan = inner, inputs: list[ir.Value | None] = inputs) -> ir.Value:
                inputs[i] = inner()
                return rebuilt(node, inputs)

            return build
    return None


def _movement(ascent: _Ascent, node: ir.Node, affine: Affine, left: int) -> Plan | None:
    """Each element is moved, none is made up."""
    source = node.inputs[0]
    if source is None:
        return None
    if affine.axis is None:
        return ascent.through_first(node, affine, left)
    axis = channel_axis_before(node, affine, ascent.editor)
    return None if axis is None else ascent.through_first(node, affine.along(axis), left)


def channel_axis_before(node: ir.Node, affine: Affine, editor: Editor) -> int | None:
    """The axis of a movement's input on which the channels of its output are; None if there is none."""
    source, axis = node.inputs[0], affine.axis
    if source is None or axis is None:
        return None
    given, made = editor.facts.dims(source), editor.facts.dims(node.outputs[0])
    if given is None or made is None:
        return None
    if node.op_type == "Transpose":
        return attribute_ints(node, "perm", range(len(given))[::-1])[axis]
    if node.op_type not in ("Reshape", "Squeeze", "Unsqueeze", "Flatten"):
        return None
    return relabelled_axis(made, axis, given)


def relabelled_axis(dims: tuple[Dim, ...], axis: int, others: tuple[Dim, ...]) -> int | None:
    """Where the channels of an axis are under other dims of the same elements; None: on no one axis."""
    # Row-major: the channel of an element is (its place // inner) mod count, on both sides alike.
    inner, count = product(dims[axis + 1 :]), dims[axis]
    for i in range(len(others) - 1, -1, -1):
        if others[i] == count and isinstance(count, int) and product(others[i + 1 :]) == inner:
            return i
    return None


def _ordered(ascent: _Ascent, node: ir.Node, affine: Affine, left: int) -> Plan | None:
    """Relu, LeakyRelu, Abs: they commute with positive factors."""
    if affine.has_shift or not affine.is_positive:
        return None
    return ascent.through_first(node, affine, left)


def _largest(ascent: _Ascent, node: ir.Node, affine: Affine, left: int) -> Plan | None:
    """MaxPool takes elements as they are; padding stands for minus infinity, before and after."""
    if not affine.is_positive or affine.axis not in (None, 1):
        return None
    return ascent.through_first(node, affine, left)


def _mean(ascent: _Ascent, node: ir.Node, affine: Affine, left: int) -> Plan | None:
    """A mean over windows without padding (or that does not count it) commutes with the map."""
    if affine.axis not in (None, 1) or (
        affine.has_shift and attribute(node, "count_include_pad") not in (None, 0)
    ):
        return None
    return ascent.through_first(node, affine, left)


def _clip(ascent: _Ascent, node: ir.Node, affine: Affine, left: int) -> Plan | None:
    """clip(u, a, b) * s + t = clip(u * s + t, a * s + t, b * s + t) for a positive number s."""
    if affine.axis is not None or not affine.is_positive or ascent.editor.opset_at(node) < 11:
        return None
    bounds: list[weights.Array | None] = [None, None]
    for i, given in enumerate(node.inputs[1:3]):
        tensor = constants.constant(given)
        if given is not None and tensor is None:
            return None
        if tensor is not None:
            moved = np.asarray(tensor.numpy()).astype(np.float64) * affine.scale + affine.shift
            bounds[i] = moved.reshape(()).astype(tensor.dtype.numpy())
    source = node.inputs[0]
    inner = None if source is None else ascent.plan(source, affine, left)
    if inner is None:
        return None
    return lambda: rebuilt(node, [inner(), *bounds])


_Cross = Callable[[_Ascent, ir.Node, Affine, int], Plan | None]

_CROSS: dict[str, _Cross] = {
    "Add": _sum,
    "Sub": _sum,
    "Mul": _product,
    "Div": _product,
    "MatMul": _product,
    "Clip": _clip,
    "MaxPool": _largest,
    "AveragePool": _mean,
    "GlobalAveragePool": _mean,
    **dict.fromkeys(("Relu", "LeakyRelu"), _ordered),
    **dict.fromkeys(
        ("Transpose", "Reshape", "Squeeze", "Unsqueeze", "Flatten", "Slice", "Gather", "Expand", "Tile"),
        _movement,
    ),
    **dict.fromkeys(("DepthToSpace", "SpaceToDepth", "Identity", "GatherElements", "GatherND"), _movement),
}

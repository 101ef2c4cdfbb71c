"""Let what stands below a value take an affine map of it in.

    before   x -> Mul(s) -> Add(t) -> Conv(w, b)
    after    x -> Conv(w * s, b + sum(w * t))

The counterpart of `absorption`: every consumer must take the map, each by weights of its own. On the way down
the map crosses data movement and operators that commute with it; the crossed nodes are written again.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np
import onnx_ir as ir

from graphopt.ir import constants
from graphopt.ir.affine import Affine, affine_of
from graphopt.ir.attributes import attribute, attribute_ints
from graphopt.rewriting.absorption import above, relabelled_axis
from graphopt.rewriting.operators import op, placed_before
from graphopt.rewriting.weights import Array, fitting, rebuilt
from graphopt.rewriting.weights_before import before, shift_through_matmul

if TYPE_CHECKING:
    from graphopt.rewriting.editor import Editor

__all__ = ["DeepPlan", "below"]

# Longer ways, and values with more consumers than any layer has heads and branches, are not searched.
# A block of MobileBERT has five sums on the way of a scale, each with a scale and a shift of its own.
MOST_CROSSED = 24
MOST_CONSUMERS = 16

# From the value before the map: what takes the place of each value that the map reached.
DeepPlan = Callable[[ir.Value], dict[ir.Value, ir.Value]]


def below(editor: Editor, value: ir.Value, affine: Affine, graph: ir.Graph | None) -> DeepPlan | None:
    """A plan for all consumers of a mapped value on the unmapped one; None where one can't take the map.

    Args:
        editor: The model.
        value: The mapped value: the last affine node's output.
        affine: The map; its channels are on an axis of `value`.
        graph: Where all the nodes must stand.
    """
    return _Descent(editor, graph).plan(value, affine, MOST_CROSSED)


class _Descent:
    def __init__(self, editor: Editor, graph: ir.Graph | None) -> None:
        self.editor = editor
        self.facts = editor.facts
        self.graph = graph

    def plan(self, value: ir.Value, affine: Affine, left: int) -> DeepPlan | None:
        uses = value.uses()
        if value.is_graph_output() or not uses or left == 0 or len(uses) > MOST_CONSUMERS:
            return None
        steps: list[DeepPlan] = []
        for node, index in uses:
            step = self._through(node, index, affine, left - 1)
            if step is None:
                return None
            steps.append(step)

        def build(x: ir.Value) -> dict[ir.Value, ir.Value]:
            return {old: new for step in steps for old, new in step(x).items()}

        return build

    def _through(self, node: ir.Node, index: int, affine: Affine, left: int) -> DeepPlan | None:
        if node.graph is not self.graph or node.domain != "" or len(node.outputs) != 1:
            return None
        output = node.outputs[0]
        taken = before(node, index, affine, self.facts)
        if taken is not None:
            return lambda x: {output: taken(x)}
        if node.op_type == "MatMul":
            return self._matmul(node, index, affine)
        own = affine_of(node, self.facts)
        if own is not None:
            total = own[1].after(affine)
            return None if total is None else self.plan(output, total, left)
        if node.op_type == "Add":
            return self._residual(node, index, affine, left)
        moved = self._crossed(node, index, affine)
        inner = None if moved is None else self.plan(output, moved, left)
        return None if inner is None else lambda x: inner(rebuilt(node, [x, *node.inputs[1:]]))

    def _residual(self, node: ir.Node, index: int, affine: Affine, left: int) -> DeepPlan | None:
        """(x * s + t) + z = (x + (z + t) / s) * s: what makes z takes its part, what follows the scale."""
        mapped, other, output = node.inputs[index], node.inputs[1 - index], node.outputs[0]
        inverse = affine.inverse_sum
        if mapped is None or other is None or other is mapped or inverse is None:
            return None
        if not self.facts.same_shape(mapped, other):
            return None
        added = above(self.editor, other, inverse, node)
        if added is None:
            return None
        if not affine.has_scale:
            return lambda x: {output: rebuilt(node, [x, added()])}
        inner = self.plan(output, affine.only_scale, left)
        return None if inner is None else lambda x: inner(rebuilt(node, [x, added()]))

    def _matmul(self, node: ir.Node, index: int, affine: Affine) -> DeepPlan | None:
        """(x * s + t) @ w: t @ w goes into the Add that follows, or makes it a Gemm."""
        output = node.outputs[0]
        plain = before(node, index, affine.only_scale, self.facts) if affine.has_scale else None
        moved = shift_through_matmul(node, affine, self.facts) if index == 0 else None
        if moved is None or (plain is None and affine.has_scale):
            return None

        def scaled(x: ir.Value) -> ir.Value:
            return rebuilt(node, [x, node.inputs[1]]) if plain is None else plain(x)

        uses = tuple(output.uses())
        if len(uses) == 1 and uses[0].node.op_type == "Add" and not output.is_graph_output():
            add = uses[0].node
            rank = self.facts.rank(output)
            tensor = constants.constant(add.inputs[1 - uses[0].idx])
            if tensor is None or rank is None or add.graph is not self.graph:
                return None
            bias = fitting(np.asarray(tensor.numpy()).astype(np.float64) + moved, tensor, rank)
            if bias is None:
                return None
            return lambda x: {add.outputs[0]: rebuilt(add, [scaled(x), bias], "Add")}
        source, dtype = node.inputs[0], self.facts.dtype(output)
        if source is None or self.facts.rank(source) != 2 or dtype is None or self.editor.opset_at(node) < 7:
            return None
        vector: Array = moved.astype(dtype.numpy())

        def as_gemm(x: ir.Value) -> dict[ir.Value, ir.Value]:
            product_of = scaled(x).producer()
            assert product_of is not None
            with placed_before(node):
                gemm: ir.Value = op.Gemm(*product_of.inputs, vector)
            return {output: gemm}

        return as_gemm if np.isfinite(vector.astype(np.float64)).all() else None

    def _crossed(self, node: ir.Node, index: int, affine: Affine) -> Affine | None:
        """The map as it is after a node that commutes with it; None where it does not."""
        if index != 0:
            return None
        if node.op_type in _ORDERED:
            return affine if affine.is_positive and not affine.has_shift else None
        if node.op_type == "MaxPool":
            return affine if affine.is_positive and affine.axis in (None, 1) else None
        if node.op_type in ("AveragePool", "GlobalAveragePool"):
            counts = affine.has_shift and attribute(node, "count_include_pad") not in (None, 0)
            return affine if affine.axis in (None, 1) and not counts else None
        if node.op_type not in _MOVEMENT:
            return None
        if affine.axis is None:
            return affine
        axis = self._axis_after(node, affine)
        return None if axis is None else affine.along(axis)

    def _axis_after(self, node: ir.Node, affine: Affine) -> int | None:
        source, axis = node.inputs[0], affine.axis
        given = None if source is None else self.facts.dims(source)
        made = self.facts.dims(node.outputs[0])
        if given is None or made is None or axis is None:
            return None
        if node.op_type == "Transpose":
            return attribute_ints(node, "perm", range(len(given))[::-1]).index(axis)
        if node.op_type not in ("Reshape", "Squeeze", "Unsqueeze", "Flatten"):
            return None
        return relabelled_axis(given, axis, made)


_ORDERED = frozenset({"Relu", "LeakyRelu"})
_MOVEMENT = frozenset(
    {"Transpose", "Reshape", "Squeeze", "Unsqueeze", "Flatten", "Slice", "Gather", "Expand", "Tile"}
    | {"DepthToSpace", "SpaceToDepth", "Identity"}
)

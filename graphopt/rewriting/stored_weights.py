"""Weights stored as codes: where the codes lie, and where they are turned into numbers again.

    before   w -> MatMul(x, w)                  after   codes -> DequantizeLinear(scale) -> MatMul(x, .)
    before   w -> Gather(w, i)                  after   codes -> Gather(., i) -> DequantizeLinear(scale)

The codes of a weight that the products of one body use alone move into that body, and so does its
DequantizeLinear: runtimes multiply by the codes themselves only if they see both there (onnxruntime 1.27 to
1.32 refuses a product of floats by codes that a body captures). Where several graphs use a weight, or
something else does, it becomes numbers once, where it lies.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx_ir as ir

from graphopt.ir import lazy
from graphopt.ir.constants import shape_of
from graphopt.ir.quantizable import Weight
from graphopt.ir.quantizing import Grid, quantized
from graphopt.rewriting.draft import Draft
from graphopt.rewriting.editor import Editor
from graphopt.rewriting.operators import building, op

__all__ = ["StoredWeights"]


class StoredWeights:
    """Puts codes in the place of weights of one model."""

    def __init__(self, editor: Editor) -> None:
        self.editor = editor
        self._constants: dict[tuple[ir.Graph, object, object, bytes], ir.Value] = {}

    def store(self, weight: Weight, grid: Grid, users: Sequence[Weight], *, is_integer: bool) -> None:
        """Store a weight as codes for everything that uses it.

        Args:
            weight: The weight, at one of its users.
            grid: Its codes.
            users: All operators that it is a weight of.
            is_integer: Whether each of them multiplies codes by codes.
        """
        value = weight.value
        is_all = len(list(value.uses())) == len(users) and not value.is_graph_output()
        graphs = list(dict.fromkeys(user.node.graph for user in users if user.node.graph is not None))
        if is_all and all(user.is_table for user in users) and _keeps_last_axis(grid, weight):
            self._store_table(weight, grid, users)
        elif (
            is_all
            and all(user.is_matrix or is_integer for user in users)
            and (len(graphs) == 1 or is_integer)
        ):
            home = graphs[0] if len(graphs) == 1 else _home(value)
            codes = self._codes(weight, grid, home)
            for graph in graphs:
                here = [user for user in users if user.node.graph is graph]
                numbers = self._dequantized(codes, grid, here[0].node, graph)
                for user in here:
                    user.node.replace_input_with(user.index, numbers)
                    self.editor.touch(user.node)
        else:
            home = _home(value)
            codes = self._codes(weight, grid, home)
            numbers = self._dequantized(codes, grid, home[0], home)
            self.editor.take_over(value, numbers)
        self.drop(value)

    def constant(self, array: np.ndarray, name: str, graph: ir.Graph) -> ir.Value:
        """An initializer of a graph; equal ones are one."""
        key = (graph, array.dtype, array.shape, array.tobytes())
        if key not in self._constants:
            self._constants[key] = self._initializer(ir.Tensor(array), name, graph)
        return self._constants[key]

    def _store_table(self, weight: Weight, grid: Grid, users: Sequence[Weight]) -> None:
        home = _home(weight.value)
        codes = self._codes(weight, grid, home)
        scale = self.constant(grid.scale, "scale", home)
        for user in users:
            draft = Draft(self.editor, user.node)
            with building(draft):
                rows = op.Gather(codes, user.node.inputs[1], axis=0)
                if grid.axis is None:
                    numbers = op.DequantizeLinear(rows, scale)
                else:
                    numbers = op.DequantizeLinear(rows, scale, axis=-1)
                draft.replace(user.node.outputs[0], numbers)
            self.editor.commit(draft, None)

    def drop(self, value: ir.Value) -> None:
        """Take a weight out that nothing uses any more."""
        producer = value.producer()
        if value.uses() or value.is_graph_output():
            return
        if producer is not None:
            self.editor.remove(producer)
        elif value.graph is not None:
            value.graph.initializers.pop(value.name or "", None)

    def _codes(self, weight: Weight, grid: Grid, graph: ir.Graph) -> ir.Value:
        tensor = lazy.mapped(
            (weight.tensor,), lambda array: quantized(array, grid), grid.dtype, shape_of(weight.tensor)
        )
        return self._initializer(tensor, f"{weight.value.name}_q", graph)

    def _initializer(self, tensor: ir.TensorProtocol, name: str, graph: ir.Graph) -> ir.Value:
        value = ir.Value(
            name=self.editor.names.unique(name),
            const_value=tensor,
            type=ir.TensorType(tensor.dtype),
            shape=ir.Shape(shape_of(tensor)),
        )
        graph.register_initializer(value)
        return value

    def _dequantized(self, codes: ir.Value, grid: Grid, before: ir.Node, graph: ir.Graph) -> ir.Value:
        """The numbers that codes stand for; symmetric ones need no zero point."""
        inputs = [codes, self.constant(grid.scale, "scale", graph)]
        if grid.zero_point.any():
            inputs.append(self.constant(grid.zero_point, "zero", graph))
        attributes = [] if grid.axis is None else [ir.AttrInt64("axis", grid.axis)]
        if grid.block_size:
            attributes.append(ir.AttrInt64("block_size", grid.block_size))
        node = ir.Node(
            "", "DequantizeLinear", inputs, attributes, name=self.editor.names.unique(f"{codes.name}/DQ")
        )
        node.outputs[0].name = self.editor.names.unique("weight")
        node.outputs[0].type = ir.TensorType(ir.DataType.FLOAT)
        node.outputs[0].shape = codes.shape
        self.editor.insert(node, before)
        return node.outputs[0]


def _keeps_last_axis(grid: Grid, weight: Weight) -> bool:
    return not grid.block_size and grid.axis in (None, len(weight.tensor.shape) - 1)


def _home(value: ir.Value) -> ir.Graph:
    """The graph that a constant lies in."""
    producer = value.producer()
    graph = value.graph if producer is None else producer.graph
    assert graph is not None
    return graph

"""Weights stored as codes: where the codes lie, and where they are turned into numbers again.

    before   w -> MatMul(x, w)                  after   codes -> DequantizeLinear(scale) -> MatMul(x, .)
    before   w -> Gather(w, i)                  after   codes -> Gather(., i) -> DequantizeLinear(scale)

The codes of a weight that the products of one body use alone move into that body, and so does its
DequantizeLinear: runtimes multiply by the codes themselves only if they see both there (onnxruntime 1.27 to
1.32 refuses a product of floats by codes that a body captures). What else uses a weight shares its numbers,
which are made once, where the codes lie. A weight of float16 or bfloat16 becomes that type again behind its
DequantizeLinear. Functions have no initializers: there codes lie in Constant nodes.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

import numpy as np
import onnx_ir as ir

from graphopt.errors import UsageError
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

    def store(
        self,
        grid: Grid,
        users: Sequence[Weight],
        *,
        integer: Collection[ir.Node] = (),
        codes: np.ndarray | None = None,
    ) -> None:
        """Store a weight as codes for everything that uses it.

        Args:
            grid: Its codes.
            users: The weight at each operator that was looked at, in order; others get its numbers.
            integer: Those operators that multiply codes by codes.
            codes: The codes, shaped like the weight; None: the nearest ones.
        """
        weight, value = users[0], users[0].value
        nodes = {user.node for user in users}
        is_all = not value.is_graph_output() and all(use.node in nodes for use in value.uses())
        tables = [user for user in users if user.is_table and _reads_rows(grid, user)]
        rest = [user for user in users if user not in tables]
        home = _home(value)
        if is_all and len(graphs := {user.node.graph for user in users}) == 1:
            only = graphs.pop()
            if only is not None and all(user.is_matrix or user.node in integer for user in rest):
                home = only
        direct = [u for u in rest if u.node in integer or (u.is_matrix and u.node.graph is home)]
        stored = self._codes(weight, grid, home, codes)
        for table in tables:
            self._read_rows(table, grid, stored, home)
        if not is_all or len(direct) < len(rest):
            direct = [user for user in direct if user.node.graph is not home]
        self._give_each_graph(direct, grid, stored)
        if value.uses() or value.is_graph_output():
            self.editor.take_over(value, self._numbers(stored, weight, grid, self._first(home)))
        self.drop(value)

    def store_half(self, users: Sequence[Weight]) -> None:
        """Store a weight as float16, and make it a float again for everything that uses it.

        Args:
            users: The weight at each operator that was looked at: tables look up half the bits, too.

        Raises:
            UsageError: It has numbers that float16 can't say.
        """
        weight, value = users[0], users[0].value
        if weight.tensor.dtype != ir.DataType.FLOAT:
            return
        limit = float(np.finfo(np.float16).max)
        if float(np.abs(weight.tensor.numpy()).max()) > limit:
            raise UsageError(f"weight {value.name!r} can't be float16: it has numbers beyond {limit:g}")
        home = _home(value)
        half = lazy.mapped(
            (weight.tensor,),
            lambda array: array.astype(np.float16),
            ir.DataType.FLOAT16,
            shape_of(weight.tensor),
        )
        stored = self._stored(half, f"{value.name}_half", home)
        for table in (user for user in users if user.is_table):
            draft = Draft(self.editor, table.node)
            with building(draft):
                rows = op.Gather(stored, table.node.inputs[1], axis=0)
                draft.replace(table.node.outputs[0], op.Cast(rows, to=int(ir.DataType.FLOAT)))
            self.editor.commit(draft, None)
        if value.uses() or value.is_graph_output():
            self.editor.take_over(value, self._cast(stored, ir.DataType.FLOAT, self._first(home)))
        self.drop(value)

    def constant(self, array: np.ndarray, name: str, graph: ir.Graph) -> ir.Value:
        """A constant of a graph; equal ones are one."""
        key = (graph, array.dtype, array.shape, array.tobytes())
        if key not in self._constants:
            self._constants[key] = self._stored(ir.Tensor(array), name, graph)
        return self._constants[key]

    def drop(self, value: ir.Value) -> None:
        """Take a weight out that nothing uses any more."""
        producer = value.producer()
        if value.uses() or value.is_graph_output():
            return
        if producer is not None:
            self.editor.remove(producer)
        elif value.graph is not None:
            value.graph.initializers.pop(value.name or "", None)

    # ------------------------------------------------------------------ who reads what

    def _give_each_graph(self, users: Sequence[Weight], grid: Grid, stored: ir.Value) -> None:
        """Let users take numbers that are made in their own graph, next to them."""
        made: dict[ir.Graph, ir.Value] = {}
        for user in users:
            graph = user.node.graph
            assert graph is not None
            if graph not in made:
                made[graph] = self._numbers(stored, user, grid, user.node)
            user.node.replace_input_with(user.index, made[graph])
            self.editor.touch(user.node)

    def _read_rows(self, user: Weight, grid: Grid, stored: ir.Value, home: ir.Graph) -> None:
        """Look up codes, and their scales where each row has one."""
        draft = Draft(self.editor, user.node)
        index = user.node.inputs[1]
        with building(draft):
            rows = op.Gather(stored, index, axis=0)
            if grid.axis == 0:
                column = grid.scale.reshape(-1, *[1] * (len(user.tensor.shape) - 1))
                scales = op.Gather(self.constant(column, "scale", home), index, axis=0)
                numbers = op.Mul(op.Cast(rows, to=int(ir.DataType.FLOAT)), scales)
            elif grid.axis is None:
                numbers = op.DequantizeLinear(rows, self.constant(grid.scale, "scale", home))
            else:
                numbers = op.DequantizeLinear(rows, self.constant(grid.scale, "scale", home), axis=-1)
            if user.tensor.dtype != ir.DataType.FLOAT:
                numbers = op.Cast(numbers, to=int(user.tensor.dtype))
            draft.replace(user.node.outputs[0], numbers)
        self.editor.commit(draft, None)

    # ------------------------------------------------------------------ codes and numbers

    def _is_in_function(self, graph: ir.Graph) -> bool:
        region = self.editor.regions.get(graph)
        return region is not None and region.function is not None

    def _first(self, graph: ir.Graph) -> ir.Node:
        """The first node that may use a constant: in functions these are nodes and stand before it."""
        if not self._is_in_function(graph):
            return graph[0]
        return next((node for node in graph if node.op_type != "Constant"), graph[-1])

    def _codes(self, weight: Weight, grid: Grid, graph: ir.Graph, codes: np.ndarray | None) -> ir.Value:
        tensor: ir.TensorProtocol
        if codes is not None:
            tensor = ir.Tensor(codes, dtype=grid.dtype)
        else:
            tensor = lazy.mapped(
                (weight.tensor,), lambda array: quantized(array, grid), grid.dtype, shape_of(weight.tensor)
            )
        return self._stored(tensor, f"{weight.value.name}_q", graph)

    def _stored(self, tensor: ir.TensorProtocol, name: str, graph: ir.Graph) -> ir.Value:
        """A constant value: an initializer, in a function the output of a Constant."""
        name = self.editor.names.unique(name)
        if self._is_in_function(graph):
            node = ir.Node("", "Constant", [], [ir.AttrTensor("value", tensor)])
            node.outputs[0].name = name
            node.outputs[0].type = ir.TensorType(tensor.dtype)
            node.outputs[0].shape = ir.Shape(shape_of(tensor))
            self.editor.insert(node, graph[0])
            return node.outputs[0]
        value = ir.Value(
            name=name,
            const_value=tensor,
            type=ir.TensorType(tensor.dtype),
            shape=ir.Shape(shape_of(tensor)),
        )
        graph.register_initializer(value)
        return value

    def _numbers(self, stored: ir.Value, weight: Weight, grid: Grid, before: ir.Node) -> ir.Value:
        """The numbers that codes stand for; symmetric ones need no zero point."""
        graph = before.graph
        assert graph is not None
        inputs = [stored, self.constant(grid.scale, "scale", graph)]
        # onnxruntime (1.32) makes no QGemm of a weight without a zero point, zeros though it is.
        if grid.zero_point.any() or before.op_type == "Gemm":
            inputs.append(self.constant(grid.zero_point, "zero", graph))
        attributes = [] if grid.axis is None else [ir.AttrInt64("axis", grid.axis)]
        if grid.block_size:
            attributes.append(ir.AttrInt64("block_size", grid.block_size))
        node = ir.Node(
            "", "DequantizeLinear", inputs, attributes, name=self.editor.names.unique(f"{stored.name}/DQ")
        )
        node.outputs[0].name = self.editor.names.unique("weight")
        node.outputs[0].type = ir.TensorType(ir.DataType.FLOAT)
        node.outputs[0].shape = stored.shape
        self.editor.insert(node, before)
        dtype = weight.tensor.dtype
        return node.outputs[0] if dtype == ir.DataType.FLOAT else self._cast(node.outputs[0], dtype, before)

    def _cast(self, value: ir.Value, dtype: ir.DataType, before: ir.Node) -> ir.Value:
        node = ir.Node("", "Cast", [value], [ir.AttrInt64("to", int(dtype))])
        node.name = self.editor.names.unique(f"{value.name}/Cast")
        node.outputs[0].name = self.editor.names.unique("weight")
        node.outputs[0].type, node.outputs[0].shape = ir.TensorType(dtype), value.shape
        self.editor.insert(node, before)
        return node.outputs[0]


def _reads_rows(grid: Grid, user: Weight) -> bool:
    """Whether rows can be looked up as codes: their scales are the same, or there is one for each row."""
    if grid.block_size or grid.zero_point.any():
        return False
    return grid.axis in (None, 0, len(user.tensor.shape) - 1)


def _home(value: ir.Value) -> ir.Graph:
    """The graph that a constant lies in."""
    producer = value.producer()
    graph = value.graph if producer is None else producer.graph
    assert graph is not None
    return graph

"""Quantize what a quant table names, as pairs of QuantizeLinear and DequantizeLinear.

    before   MatMul(x, w)
    after    MatMul(DequantizeLinear(QuantizeLinear(x)), DequantizeLinear(codes))

Runtimes fuse operators between such pairs into integer kernels. A value gets one QuantizeLinear, next to what
makes it, whoever takes it; a body that captures it turns the codes into numbers itself. An output that the
table names is quantized for everything that takes it. Biases of Conv and Gemm become int32 with the product
of both scales. A name that the model does not have is an error: it is a slip of the pen, or another model.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from graphopt.errors import UsageError
from graphopt.ir import constants, quant_table
from graphopt.ir.quant_table import OperatorPlan, QuantTable
from graphopt.ir.quantizable import Weight, weight_of
from graphopt.ir.quantizing import LIMITS, Grid
from graphopt.ir.scoped_names import name_nodes, scopes, values_by_name
from graphopt.rewriting import Pass
from graphopt.rewriting.editor import Editor
from graphopt.rewriting.stored_weights import StoredWeights

APPLIED = "graphopt.quant_table"
INTEGER = "int8"
HALF = "float16"
CODED = ("int8", "weight_only")
STORED = (*CODED, HALF)
WITH_BIAS = ("Conv", "Gemm")


@dataclass(frozen=True)
class InsertQdq(Pass):
    """Quantize what a quant table names, as pairs of QuantizeLinear and DequantizeLinear.

    Attributes:
        table: The table, or the file that it is in.
    """

    name = "insert-qdq"
    family = "quantization"
    stage = "on-request"
    level = 1
    bound = "what the table names is rounded to its codes"

    table: str | QuantTable = ""

    def run_model(self, editor: Editor) -> None:
        if editor.model.meta.get(APPLIED) is self.table:
            return  # Passes run until nothing changes; the names are gone that it was applied to.
        table = self.table if isinstance(self.table, QuantTable) else quant_table.read(self.table)
        name_nodes(editor.model)
        _Insertion(editor, table).run()
        editor.model.meta[APPLIED] = self.table


class _Insertion:
    """The edits that one table asks for."""

    def __init__(self, editor: Editor, table: QuantTable) -> None:
        self.editor = editor
        self.table = table
        self.stored = StoredWeights(editor)
        self.values = values_by_name(editor.model)
        self.names = {value: name for name, value in self.values.items()}
        self.plain = {name: value.name for name, value in self.values.items()}
        self.nodes = {
            f"{scope}{node.name}": node for scope, graph in scopes(editor.model.graph) for node in graph
        }
        self.codes: dict[str, ir.Value] = {}
        self.numbers: dict[tuple[str, ir.Graph | None], ir.Value] = {}
        opset = editor.model.graph.opset_imports.get("", 1)
        quant_table.check_fit(table, self.values, self.nodes, opset)

    def run(self) -> None:
        planned = [
            (node, self.table.operators[name])
            for name, node in self.nodes.items()
            if name in self.table.operators and self.table.operators[name].mode in STORED
        ]
        integer = [(node, plan) for node, plan in planned if plan.mode == INTEGER]
        weights = [(weight, plan) for node, plan in planned if (weight := weight_of(node)) is not None]
        biased = [(node, self._input_grid(node, plan)) for node, plan in integer]
        for _, plan in integer:
            for name in plan.outputs:
                self._quantize_output(name)
        for node, plan in integer:
            self._take_codes(node, plan)
        for node, grid in biased:
            self._quantize_bias(node, grid)
        self._store_weights(weights, {node for node, _ in integer})

    # ------------------------------------------------------------------ activations

    def _grid(self, name: str) -> Grid:
        if name not in self.table.tensors:
            raise UsageError(
                f"the quant table has an operator that takes {name!r}, and no tensor of that name"
            )
        return self.table.tensors[name].grid

    def _input_grid(self, node: ir.Node, plan: OperatorPlan) -> Grid | None:
        """How the first input of an operator is quantized."""
        first = node.inputs[0] if node.inputs else None
        name = self.names.get(first) if first is not None else None
        return self._grid(name) if name is not None and name in plan.inputs else None

    def _take_codes(self, node: ir.Node, plan: OperatorPlan) -> None:
        found = {self.names.get(v) for v in node.inputs if v is not None}
        for name in plan.inputs:
            if name not in found:
                raise UsageError(f"the quant table has {node.name!r} take {name!r}, which it does not")
        for i, value in enumerate(node.inputs):
            taken = self.names.get(value) if value is not None else None
            if taken is not None and taken in plan.inputs:
                node.replace_input_with(i, self._numbers(taken, node))
                self.editor.touch(node)

    def _quantize_output(self, name: str) -> None:
        """Let everything that takes a value take its codes' numbers."""
        value = self.values.get(name)
        if value is None or value.producer() is None:
            raise UsageError(f"the quant table has an output {name!r}, which no operator makes")
        if name in self.codes:
            return
        numbers = self._pair_after(name, value)
        self.editor.take_over(value, numbers, is_fresh=True)
        quantize = self.codes[name].producer()
        assert quantize is not None
        quantize.replace_input_with(0, value)
        self.names[numbers] = name
        self.names.pop(value, None)

    def _pair_after(self, name: str, value: ir.Value) -> ir.Value:
        codes = self._quantized(name)
        quantize = codes.producer()
        assert quantize is not None
        node = self._dequantize(name, quantize.graph)
        self.editor.insert_after(node, quantize)
        self.numbers[name, quantize.graph] = node.outputs[0]
        node.outputs[0].type, node.outputs[0].shape = value.type, value.shape
        return node.outputs[0]

    def _numbers(self, name: str, before: ir.Node) -> ir.Value:
        """What the codes of a value stand for, in the graph of a node."""
        key = (name, before.graph)
        if key not in self.numbers:
            codes = self._quantized(name)
            node = self._dequantize(name, before.graph)
            quantize = codes.producer()
            if quantize is not None and quantize.graph is before.graph:
                self.editor.insert_after(node, quantize)
            else:
                assert before.graph is not None
                self.editor.insert(node, before.graph[0])
            self.numbers[key] = node.outputs[0]
        return self.numbers[key]

    def _quantized(self, name: str) -> ir.Value:
        """The codes of a value, made next to it."""
        if name in self.codes:
            return self.codes[name]
        value, grid = self.values[name], self._grid(name)
        producer = value.producer()
        graph = producer.graph if producer is not None else value.graph
        assert graph is not None
        scale, zero = self._parameters(grid, graph)
        node = self._node("QuantizeLinear", [value, scale, zero], f"{self.plain[name]}/Q", grid)
        node.outputs[0].type = ir.TensorType(grid.dtype)
        if producer is not None:
            self.editor.insert_after(node, producer)
        else:
            self.editor.insert(node, graph[0])
        self.codes[name] = node.outputs[0]
        return node.outputs[0]

    def _dequantize(self, name: str, graph: ir.Graph | None) -> ir.Node:
        assert graph is not None
        grid = self._grid(name)
        scale, zero = self._parameters(grid, graph)
        node = self._node("DequantizeLinear", [self.codes[name], scale, zero], f"{self.plain[name]}/DQ", grid)
        node.outputs[0].type = ir.TensorType(ir.DataType.FLOAT)
        return node

    def _node(self, op_type: str, inputs: list[ir.Value], hint: str, grid: Grid) -> ir.Node:
        attributes = [] if grid.axis is None else [ir.AttrInt64("axis", grid.axis)]
        node = ir.Node("", op_type, inputs, attributes, name=self.editor.names.unique(hint))
        node.outputs[0].name = self.editor.names.unique("codes" if op_type == "QuantizeLinear" else "numbers")
        return node

    def _parameters(self, grid: Grid, graph: ir.Graph) -> tuple[ir.Value, ir.Value]:
        """Scale and zero point in the graph that needs them: a fusion of runtimes may not look farther."""
        constant = self.stored.constant
        return constant(grid.scale, "scale", graph), constant(grid.zero_point, "zero", graph)

    # ------------------------------------------------------------------ weights and biases

    def _store_weights(self, planned: list[tuple[Weight, OperatorPlan]], integer: set[ir.Node]) -> None:
        """Store each weight once; codes are what all take if one operator wants them."""
        users: dict[ir.Value, list[tuple[Weight, OperatorPlan]]] = {}
        for weight, plan in planned:
            users.setdefault(weight.value, []).append((weight, plan))
        for value, found in users.items():
            coded = [weight for weight, plan in found if plan.mode in CODED]
            given = self.table.tensors.get(self.names.get(value, ""))
            if coded and given is not None:
                self.stored.store(given.grid, coded, integer=integer, codes=given.codes)
            elif any(plan.mode == HALF for _, plan in found):
                self.stored.store_half([weight for weight, _ in found])

    def _quantize_bias(self, node: ir.Node, grid: Grid | None) -> None:
        bias = node.inputs[2] if len(node.inputs) > 2 and node.op_type in WITH_BIAS else None
        weight = weight_of(node)
        array = constants.array(bias)
        name = self.names.get(weight.value) if weight is not None else None
        if grid is None or bias is None or array is None or name is None or node.graph is None:
            return
        if name not in self.table.tensors or not _is_plain_bias(node, array):
            return
        weights = self._grid(name)
        scale = (grid.scale.astype(np.float64) * weights.scale).astype(np.float32).reshape(-1)
        with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
            codes = np.rint(array.astype(np.float64) / scale)
        low, high = LIMITS[ir.DataType.INT32]
        if weights.block_size or not (np.isfinite(codes) & (codes >= low) & (codes <= high)).all():
            return
        inputs = [
            self.stored.constant(codes.astype(np.int32), "bias_codes", node.graph),
            self.stored.constant(scale if scale.size > 1 else scale.reshape(()), "scale", node.graph),
        ]
        made = ir.Node("", "DequantizeLinear", inputs, [ir.AttrInt64("axis", 0)] if scale.size > 1 else [])
        made.name = self.editor.names.unique(f"{node.name}/bias")
        made.outputs[0].name = self.editor.names.unique("bias")
        made.outputs[0].type, made.outputs[0].shape = ir.TensorType(ir.DataType.FLOAT), bias.shape
        self.editor.insert(made, node)
        node.replace_input_with(2, made.outputs[0])
        self.stored.drop(bias)


def _is_plain_bias(node: ir.Node, array: np.ndarray) -> bool:
    beta = node.attributes.get("beta")
    return array.ndim == 1 and array.dtype == np.float32 and (beta is None or beta.as_float() == 1.0)

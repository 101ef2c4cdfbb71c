"""Add what a quant table says to the output channels of operators: what quantizing them shifts on average.

    before   Conv(x, w, b)                   after   Conv(x, w, b + c)
    before   Add(MatMul(x, w), b)            after   Add(MatMul(x, w), b + c)
    before   MatMul(x, w) -> Relu            after   Add(MatMul(x, w), c) -> Relu

An operator of its own is added only where there is no bias, and no constant that is added next.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from graphopt.errors import UsageError
from graphopt.ir import constants, quant_table
from graphopt.ir.attributes import attribute_float
from graphopt.ir.quant_table import QuantTable
from graphopt.ir.quantizable import weight_of
from graphopt.ir.scoped_names import name_nodes, scopes, values_by_name
from graphopt.rewriting import Pass
from graphopt.rewriting.editor import Editor
from graphopt.rewriting.stored_weights import StoredWeights

APPLIED = "graphopt.corrections"
WITH_BIAS = ("Conv", "ConvTranspose", "Gemm")
BIAS = 2


@dataclass(frozen=True)
class CorrectBiases(Pass):
    """Add what a quant table says to the output channels of operators.

    Attributes:
        table: The table, or the file that it is in.
    """

    name = "correct-biases"
    family = "quantization"
    stage = "on-request"
    level = 1
    bound = "outputs are shifted by what quantizing shifts them the other way"

    table: str | QuantTable = ""

    def run_model(self, editor: Editor) -> None:
        if editor.model.meta.get(APPLIED) is self.table:
            return  # Passes run until nothing changes, and this one would add again.
        table = self.table if isinstance(self.table, QuantTable) else quant_table.read(self.table)
        name_nodes(editor.model)
        nodes = {f"{scope}{node.name}": node for scope, graph in scopes(editor.model.graph) for node in graph}
        opset = editor.model.graph.opset_imports.get("", 1)
        quant_table.check_fit(table, values_by_name(editor.model), nodes, opset)
        for name, correction in table.corrections.items():
            _correct(editor, name, nodes[name], correction.astype(np.float32))
        editor.model.meta[APPLIED] = self.table


def _correct(editor: Editor, name: str, node: ir.Node, correction: np.ndarray) -> None:
    weight = weight_of(node)
    if weight is None or weight.is_table or weight.tensor.shape[weight.channels] != correction.size:
        raise UsageError(
            f"the quant table: correction {name!r}: the operator does not give {correction.size} channels"
        )
    if node.op_type in WITH_BIAS and _into_bias(editor, node, correction):
        return
    if node.op_type == "MatMul" and _into_next(editor, node, correction):
        return
    added = correction
    if not weight.is_matrix:
        added = correction.reshape(-1, *[1] * (len(weight.tensor.shape) - 2))
    out = node.outputs[0]
    sum_ = ir.Node(
        "", "Add", [out, editor.constant(added, node)], name=editor.names.unique(f"{node.name}/bias")
    )
    sum_.outputs[0].type, sum_.outputs[0].shape = out.type, out.shape
    editor.insert_after(sum_, node)
    editor.take_over(out, sum_.outputs[0], is_fresh=True)
    sum_.replace_input_with(0, out)


def _into_bias(editor: Editor, node: ir.Node, correction: np.ndarray) -> bool:
    old = node.inputs[BIAS] if len(node.inputs) > BIAS else None
    beta = attribute_float(node, "beta", 1.0)
    array = constants.array(old)
    if (old is not None and array is None) or beta == 0.0 or (array is not None and array.ndim > 1):
        return False
    start = np.zeros_like(correction) if array is None else array
    new = (start + correction / np.float32(beta)).astype(np.float32)
    if len(node.inputs) <= BIAS:
        node.resize_inputs(BIAS + 1)
    _put(editor, node, BIAS, new)
    return True


def _into_next(editor: Editor, node: ir.Node, correction: np.ndarray) -> bool:
    """Into a constant that is added to the output next, and to nothing else."""
    out = node.outputs[0]
    uses = list(out.uses())
    if len(uses) != 1 or out.is_graph_output() or uses[0].node.op_type != "Add" or uses[0].node.domain:
        return False
    index = 1 - uses[0].idx
    old = uses[0].node.inputs[index]
    array = constants.array(old)
    if old is None or array is None or array.ndim > 1 or array.dtype != np.float32:
        return False
    _put(editor, uses[0].node, index, array + correction)
    return True


def _put(editor: Editor, node: ir.Node, index: int, array: np.ndarray) -> None:
    """Give a node another constant, under the name that a table may have for it if nothing else uses that."""
    old = node.inputs[index]
    is_alone = old is not None and old.is_initializer() and len(old.uses()) == 1 and not old.is_graph_output()
    tensor = constants.constant(old) if is_alone else None
    if old is not None and tensor is not None and constants.shape_of(tensor) == array.shape:
        old.const_value = ir.Tensor(array, name=old.name)
        editor.facts.forget(old)
    else:
        node.replace_input_with(index, editor.constant(array, node))
        if old is not None:
            StoredWeights(editor).drop(old)
    editor.touch(node)

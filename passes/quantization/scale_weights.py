"""Multiply constants by the factors that a quant table has for them.

    before   MatMul(Relu(MatMul(x, v)), w)
    after    MatMul(Relu(MatMul(x, v * 0.5)), w * 2)

What the table has is such that factors cancel: the model computes the same but for rounding, and its weights
and values are easier to quantize. It runs before anything is quantized.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from graphopt.ir import constants, lazy, quant_table
from graphopt.ir.quant_table import QuantTable, Scaling
from graphopt.ir.scoped_names import name_nodes, scopes, values_by_name
from graphopt.rewriting import Pass
from graphopt.rewriting.editor import Editor

APPLIED = "graphopt.scalings"


@dataclass(frozen=True)
class ScaleWeights(Pass):
    """Multiply constants by the factors that a quant table has for them.

    Attributes:
        table: The table, or the file that it is in.
    """

    name = "scale-weights"
    family = "quantization"
    stage = "on-request"
    level = 1
    bound = "constants are multiplied by factors that cancel, and rounded"

    table: str | QuantTable = ""

    def run_model(self, editor: Editor) -> None:
        if editor.model.meta.get(APPLIED) is self.table:
            return  # Passes run until nothing changes, and this one would change again what it has changed.
        table = self.table if isinstance(self.table, QuantTable) else quant_table.read(self.table)
        name_nodes(editor.model)
        values = values_by_name(editor.model)
        nodes = {f"{scope}{node.name}": node for scope, graph in scopes(editor.model.graph) for node in graph}
        quant_table.check_fit(table, values, nodes, editor.model.graph.opset_imports.get("", 1))
        for name, scalings in table.scalings.items():
            _scale(editor, values[name], scalings)
        editor.model.meta[APPLIED] = self.table


def _scale(editor: Editor, value: ir.Value, scalings: tuple[Scaling, ...]) -> None:
    tensor = constants.constant(value)
    assert tensor is not None
    scaled = lazy.mapped(
        (tensor,), lambda array: _scaled(array, scalings), tensor.dtype, constants.shape_of(tensor)
    )
    node = value.producer()
    if node is None:
        scaled.name = value.name
        value.const_value = scaled
    else:
        node.attributes.clear()
        node.attributes["value"] = ir.AttrTensor("value", scaled)
    editor.facts.forget(value)
    for use in value.uses():
        editor.touch(use.node)


def _scaled(array: np.ndarray, scalings: tuple[Scaling, ...]) -> np.ndarray:
    """Rounded once, however many factors there are."""
    found = array.astype(np.float64)
    for given in scalings:
        dims = [1] * array.ndim
        dims[given.axis] = given.factors.size
        found *= given.factors.astype(np.float64).reshape(dims)
    return found.astype(array.dtype)

"""Which inputs of which operators are weights, and along which of their axes the outputs lie."""

from __future__ import annotations

from dataclasses import dataclass

import onnx_ir as ir

from graphopt.ir import constants
from graphopt.ir.attributes import attribute
from graphopt.ir.element_types import UP_TO_FLOAT32

__all__ = ["Weight", "weight_of"]


@dataclass(frozen=True, eq=False)
class Weight:
    """A constant float input of an operator that has integer kernels or only looks rows up.

    Attributes:
        node: The operator.
        index: Which input it is.
        value: The input.
        tensor: Its contents, not read yet.
        channels: Axis of the outputs: each position may have a scale of its own.
        depth: The axis that is summed, which may be cut into blocks; None where there are several.
    """

    node: ir.Node
    index: int
    value: ir.Value
    tensor: ir.TensorProtocol
    channels: int
    depth: int | None

    @property
    def is_matrix(self) -> bool:
        """Whether it is the second factor of a matrix product: runtimes multiply by its codes."""
        return self.node.op_type in ("MatMul", "Gemm")

    @property
    def is_table(self) -> bool:
        """Whether rows of it are looked up."""
        return self.node.op_type == "Gather"


def weight_of(node: ir.Node) -> Weight | None:
    """The weight of an operator; None if it has none, or an input may override it."""
    index = {"MatMul": 1, "Gemm": 1, "Conv": 1, "ConvTranspose": 1, "Gather": 0}.get(node.op_type)
    if index is None or node.domain != "" or len(node.inputs) <= index:
        return None
    value = node.inputs[index]
    tensor = constants.constant(value)
    if value is None or tensor is None or tensor.dtype not in UP_TO_FLOAT32 or not tensor.size:
        return None
    rank = len(tensor.shape)
    if rank < 2:
        return None
    axes = _axes(node, rank)
    return None if axes is None else Weight(node, index, value, tensor, *axes)


def _axes(node: ir.Node, rank: int) -> tuple[int, int | None] | None:
    """Axis of the outputs, and the one that is summed along."""
    if node.op_type == "MatMul":
        # In a stack of matrices, columns at one place share a scale.
        return rank - 1, rank - 2
    if node.op_type == "Gemm":
        if rank != 2 or attribute(node, "alpha", 1.0) != 1.0:
            return None
        return (0, 1) if attribute(node, "transB", 0) else (1, 0)
    if node.op_type == "Gather":
        if attribute(node, "axis", 0) not in (0, -rank):
            return None
        return (0 if _is_tied(node) else rank - 1), None
    return (0, None) if node.op_type == "Conv" else (1, None)


def _is_tied(table: ir.Node) -> bool:
    """Whether products whose outputs are its rows share a table: each row then has a scale, for both.

    Rows are looked up by the first axis, so that alone the last one, which is left whole, has the scales.
    """
    value = table.inputs[0]
    others = [use for use in value.uses() if use.node.op_type in ("MatMul", "Gemm")] if value else []
    axes = [_axes(use.node, 2) if use.idx == 1 and use.node.domain == "" else None for use in others]
    return bool(axes) and all(found is not None and found[0] == 0 for found in axes)

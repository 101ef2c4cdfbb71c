"""What nodes take: inputs that they may leave out, and the nodes that make them."""

from __future__ import annotations

import onnx_ir as ir

__all__ = ["input_of", "producer_of"]


def input_of(node: ir.Node, index: int) -> ir.Value | None:
    """The input; None where the node leaves it out, by an empty name or by its end."""
    return node.inputs[index] if index < len(node.inputs) else None


def producer_of(value: ir.Value | None, *op_types: str) -> ir.Node | None:
    """The node that makes a value; None where it is none of these operators of the default domain."""
    node = None if value is None else value.producer()
    return node if node is not None and node.op_type in op_types and node.domain == "" else None

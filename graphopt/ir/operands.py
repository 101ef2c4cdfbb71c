"""Inputs of nodes, whether a node names them or not."""

from __future__ import annotations

import onnx_ir as ir

__all__ = ["input_of"]


def input_of(node: ir.Node, index: int) -> ir.Value | None:
    """The input; None where the node leaves it out, by an empty name or by its end."""
    return node.inputs[index] if index < len(node.inputs) else None

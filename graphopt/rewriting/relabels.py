"""Nodes for relabellings (`graphopt.ir.relabelling`)."""

from __future__ import annotations

import onnx_ir as ir

from graphopt.ir.relabelling import Relabelling
from graphopt.rewriting.operators import op

__all__ = ["written"]


def written(source: ir.Value, found: Relabelling) -> ir.Value:
    """The source with new dims; itself where nothing has to be done."""
    numbers = list(found.numbers)
    made: ir.Value
    if not found.op_type:
        return source
    if found.op_type == "Reshape":
        made = op.Reshape(source, numbers, allowzero=1 if found.allowzero else None)
    elif found.op_type == "Flatten":
        made = op.Flatten(source, axis=numbers[0])
    elif found.op_type == "Unsqueeze":
        made = op.Unsqueeze(source, numbers)
    else:
        made = op.Squeeze(source, numbers)
    return made

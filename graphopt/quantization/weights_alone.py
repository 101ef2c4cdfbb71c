"""A quant table that stores weights in fewer bits and leaves everything to be computed in floats."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import onnx_ir as ir

from graphopt.ir.quant_table import OperatorPlan, QuantTable, TensorPlan
from graphopt.quantization.planning import candidates

__all__ = ["weights_alone"]

# Rows that are looked up are heard as they are: no sum over many of them evens their rounding out. Tables
# with less than this share of all weights take 16 bits.
SMALL_TABLE = 0.001


def weights_alone(
    model: ir.Model, table: QuantTable, blocks: Mapping[str, TensorPlan] | None = None
) -> QuantTable:
    """The table without activations.

    Args:
        model: What it is of.
        table: Has the plans of weights with 8 bits.
        blocks: Plans of weights with 4 bits, which are taken instead; None: there are none.
    """
    found = [c for c in candidates(model) if c.name in table.operators and c.weight_name in table.tensors]
    sizes = {candidate.weight_name: candidate.weight.tensor.size for candidate in found}
    most = SMALL_TABLE * sum(sizes.values())
    products = {candidate.weight_name for candidate in found if not candidate.weight.is_table}
    tensors: dict[str, TensorPlan] = {}
    operators: dict[str, OperatorPlan] = {}
    for candidate in found:
        name, plan = candidate.weight_name, table.operators[candidate.name]
        if plan.mode not in ("int8", "weight_only"):
            operators[candidate.name] = plan
        elif name not in products and sizes[name] <= most:
            operators[candidate.name] = OperatorPlan("float16", 16)
        else:
            operators[candidate.name] = OperatorPlan("weight_only")
            tensors[name] = (blocks or {}).get(name, table.tensors[name])
    return replace(table, tensors=tensors, operators=operators)

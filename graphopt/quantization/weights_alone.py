"""A quant table that stores weights in fewer bits and leaves everything to be computed in floats."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from graphopt.ir.quant_table import OperatorPlan, QuantTable, TensorPlan

__all__ = ["weights_alone"]


def weights_alone(table: QuantTable, blocks: Mapping[str, TensorPlan] | None = None) -> QuantTable:
    """The table without activations.

    Args:
        table: Has the plans of weights with 8 bits.
        blocks: Plans of weights with 4 bits, which are taken instead; None: there are none.
    """
    found = {name: plan for name, plan in table.tensors.items() if plan.role == "weight"}
    changed = {name: plan for name, plan in (blocks or {}).items() if name in found}
    # What else is in the table follows those around it, and has no weight.
    operators = {
        name: OperatorPlan("weight_only")
        for name, plan in table.operators.items()
        if plan.mode in ("int8", "weight_only") and plan.bits is not None
    }
    return replace(table, tensors={**found, **changed}, operators=operators)

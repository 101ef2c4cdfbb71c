"""Whether a quant table says only what its model can do: a slip of the pen, or another model, is one line."""

from __future__ import annotations

from collections.abc import Mapping

import onnx_ir as ir

from graphopt.errors import ModelError, UsageError
from graphopt.ir import constants
from graphopt.ir.element_types import UP_TO_FLOAT32
from graphopt.ir.quant_table.plans import OperatorPlan, QuantTable, Scaling, TensorPlan
from graphopt.ir.quantizable import weight_of

__all__ = ["check_fit"]


def check_fit(
    table: QuantTable, values: Mapping[str, ir.Value], nodes: Mapping[str, ir.Node], opset: int
) -> None:
    """Make sure that a table can be applied to a model.

    Args:
        table: The table.
        values: The model's values by scoped name.
        nodes: Its nodes.
        opset: Of the default domain.

    Raises:
        UsageError: It can't be; the message names the entry.
    """
    for kind, named, known in (
        ("tensor", table.tensors, values),
        ("operator", table.operators, nodes),
        ("constant", table.scalings, values),
        ("operator", table.corrections, nodes),
    ):
        lost = next((name for name in named if name not in known), None)
        if lost is not None:
            raise UsageError(f"the quant table names {kind} {lost!r}, which the model does not have")
    if table.needed_opset > opset:
        raise UsageError(
            f"the quant table has blocks, 4 or 16 bits: opset {table.needed_opset}, the model has {opset}"
        )
    for name, plan in table.tensors.items():
        wrong = _wrong_tensor(plan, values[name])
        if wrong:
            raise UsageError(f"the quant table: tensor {name!r} {wrong}")
    for name, scalings in table.scalings.items():
        for given in scalings:
            wrong = _wrong_scaling(given, values[name])
            if wrong:
                raise UsageError(f"the quant table: scaling {name!r}: {wrong}")
    names = {value: name for name, value in values.items()}
    for name, operator in table.operators.items():
        wrong = _wrong_operator(operator, nodes[name], names, table)
        if wrong:
            raise UsageError(f"the quant table: operator {name!r} {wrong}")


def _wrong_tensor(plan: TensorPlan, value: ir.Value) -> str | None:
    tensor, grid = constants.constant(value), plan.grid
    dtype = tensor.dtype if tensor is not None else value.dtype
    if dtype is not None and dtype not in UP_TO_FLOAT32:
        return f"is {dtype.name.lower()}: only floats can be quantized"
    if tensor is None:
        if plan.codes is not None or grid.block_size:
            return "is no constant: only these have codes of their own, or blocks"
        return None
    shape = constants.shape_of(tensor)
    if plan.codes is not None and plan.codes.shape != shape:
        return f"is {list(shape)}, and its codes are {list(plan.codes.shape)}"
    try:
        grid.spread(shape)
    except ModelError as error:
        return f"is {list(shape)}: {error}"
    return None


def _wrong_scaling(given: Scaling, value: ir.Value) -> str | None:
    tensor = constants.constant(value)
    if tensor is None or tensor.dtype not in UP_TO_FLOAT32:
        return "it is no constant of floats"
    shape = constants.shape_of(tensor)
    if not -len(shape) <= given.axis < len(shape) or shape[given.axis] != given.factors.size:
        return f"{given.factors.size} factors do not fit {list(shape)} along axis {given.axis}"
    return None


def _wrong_operator(
    plan: OperatorPlan, node: ir.Node, names: Mapping[ir.Value, str], table: QuantTable
) -> str | None:
    if plan.mode == "float":
        return None
    weight = weight_of(node)
    name = names.get(weight.value) if weight is not None else None
    if plan.mode in ("weight_only", "float16"):
        if weight is None:
            return f"({node.op_type}) has no constant weight that could be stored in fewer bits"
        if plan.mode == "weight_only" and name not in table.tensors:
            return f"stores its weight {name!r}, and no tensor has that name"
        if plan.mode == "float16" and plan.bits not in (None, 16):
            return f"is float16 and has {plan.bits} bits"
    elif not (plan.inputs or plan.outputs):
        return f"({node.op_type}) computes int8, and none of its inputs or outputs is named"
    if plan.mode != "float16" and plan.bits is not None and name is not None and name in table.tensors:
        grid = table.tensors[name].grid
        bits = grid.bits or grid.dtype.bitwidth
        if bits != plan.bits:
            return f"has {plan.bits} bits, and its weight {name!r} has {bits}"
    return None

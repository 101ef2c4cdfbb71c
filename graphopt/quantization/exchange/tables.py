"""From and to the tables of other tools: which tool has which module, and operators for what came in."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from importlib import import_module
from typing import Protocol, cast

import onnx_ir as ir

from graphopt.errors import UsageError
from graphopt.ir.json_file import Json
from graphopt.ir.quant_table import ModelIdentity, OperatorPlan, QuantTable, TensorPlan, check_fit
from graphopt.ir.quantizable import weight_of
from graphopt.quantization import planning
from graphopt.quantization.exchange.losses import Losses
from graphopt.quantization.exchange.view import View

__all__ = ["TOOLS", "Restored", "export", "restore"]


TOOLS = ("ort", "mnn", "openvino", "aimet")
_SAYS_FLOAT = "the other tool leaves it as it is"


@dataclass
class Restored:
    """What a table of another tool says.

    Attributes:
        tensors: By scoped name.
        floats: Operators that stay as they are.
    """

    tensors: dict[str, TensorPlan] = field(default_factory=dict)
    floats: set[str] = field(default_factory=set)


class _Tool(Protocol):
    @staticmethod
    def export(table: QuantTable, view: View, losses: Losses) -> Json: ...
    @staticmethod
    def restore(found: Json, view: View, losses: Losses) -> Restored: ...


def export(table: QuantTable, model: ir.Model, tool: str) -> tuple[Json, Losses]:
    """A table as another tool's JSON.

    Args:
        table: The table.
        model: The model that its names are of; its nodes have names.
        tool: One of `TOOLS`.

    Raises:
        UsageError: There is no such tool, or the table does not fit the model.
    """
    view, losses = View(model), Losses()
    check_fit(table, view.values, view.nodes, model.graph.opset_imports.get("", 1))
    for name, plan in table.operators.items():
        if plan.sensitivity is not None:
            losses.add("sensitivity", name, "it is our measurement")
    for name, tensor in table.tensors.items():
        if tensor.codes is not None:
            losses.add("codes", name, "weights are rounded to the nearest code")
        if tensor.observed is not None:
            losses.add("observed", name, "it is what our calibration saw")
    for name in table.scalings:
        losses.add("scalings", name, "weights must be scaled before: take the model written with --prepared")
    for name in table.corrections:
        losses.add("corrections", name, "biases stay as they are")
    return _tool(tool).export(table, view, losses), losses


def restore(found: Json, model: ir.Model, tool: str, identity: ModelIdentity) -> tuple[QuantTable, Losses]:
    """Another tool's JSON as a table.

    Args:
        found: The JSON.
        model: The model that its names are of; its nodes have names.
        tool: One of `TOOLS`.
        identity: Of the file that the model came from.

    Raises:
        UsageError: There is no such tool, it is not that tool's table, or nothing in it is of this model.
    """
    view, losses = View(model), Losses()
    restored = _tool(tool).restore(found, view, losses)
    operators = _operators(model, restored.tensors, restored.floats)
    taken = {name for plan in operators.values() for name in (*plan.inputs, *plan.outputs)}
    taken |= {
        view.names[weight.value]
        for name, plan in operators.items()
        if plan.mode != "float" and (weight := weight_of(view.nodes[name])) is not None
    }
    for name in restored.tensors:
        if name not in taken:
            losses.add("tensor", name, "no operator that can be quantized takes it")
    tensors = {name: plan for name, plan in restored.tensors.items() if name in taken}
    if not tensors:
        raise UsageError(f"nothing in the table of {tool} is of this model", hint="are the names the same?")
    return QuantTable(identity, tensors, operators), losses


def _operators(
    model: ir.Model, tensors: Mapping[str, TensorPlan], floats: Collection[str]
) -> dict[str, OperatorPlan]:
    """What each operator does, from which tensors are quantized."""
    found = planning.candidates(model)
    operators: dict[str, OperatorPlan] = {}
    for candidate in found:
        if candidate.name in floats or candidate.weight_name not in tensors:
            operators[candidate.name] = OperatorPlan("float", reason=_SAYS_FLOAT)
            continue
        grid = tensors[candidate.weight_name].grid
        bits = grid.bits or grid.dtype.bitwidth
        size = candidate.weight.tensor.size * bits // 8
        if candidate.input is None or candidate.input not in tensors:
            operators[candidate.name] = OperatorPlan("weight_only", bits, bytes=size)
            continue
        outputs = (candidate.output,) if candidate.output in tensors else ()
        operators[candidate.name] = OperatorPlan(
            "int8", bits, (candidate.input,), cast("tuple[str, ...]", outputs), bytes=size
        )
    quantized = {name for plan in operators.values() for name in plan.outputs}
    for other in planning.between(model, found):
        known = other.output in tensors and all(name in quantized for name in other.inputs)
        if known and other.name not in floats:
            operators[other.name] = OperatorPlan("int8", inputs=other.inputs, outputs=(other.output,))
            quantized.add(other.output)
    return operators


def _tool(name: str) -> _Tool:
    if name not in TOOLS:
        raise UsageError(f"there is no tool {name!r}", hint=f"one of {', '.join(TOOLS)}")
    return cast(_Tool, import_module(f"graphopt.quantization.exchange.{name}"))

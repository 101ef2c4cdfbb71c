"""Calls of functions: what they bind, and the function's body for one of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import onnx_ir as ir

from graphopt.ir.cloning import copy_nodes
from graphopt.ir.facts.registry import Attributes
from graphopt.ir.names import Names

__all__ = ["body_of_call", "bound_attributes"]


def bound_attributes(function: ir.Function, node: ir.Node, outer: Attributes | None) -> Attributes:
    """The attributes as a call binds them: its own, those of the outer call, the defaults."""
    binding: Attributes = {}
    for name, default in function.attributes.items():
        if default.value is not None:
            binding[name] = default
    for name, attr in node.attributes.items():
        if attr.ref_attr_name is None:
            binding[name] = attr
        elif outer is not None and attr.ref_attr_name in outer:
            binding[name] = outer[attr.ref_attr_name]
    return binding


def body_of_call(
    function: ir.Function,
    call: ir.Node,
    names: Names,
    *,
    defaults: Mapping[str, ir.Attr] | None = None,
    captured: Sequence[ir.Value] = (),
) -> tuple[list[ir.Node], list[ir.Value]]:
    """Copies of a function's nodes over a call's inputs, in no graph yet, and what the call's outputs are.

    Args:
        function: The function.
        call: The call, outside of functions. It stays where it is.
        names: Where the copies' names come from.
        defaults: Attributes that neither the call nor the function gives.
        captured: What stands for the function's last inputs, which no call gives.
    """
    bound = {**(defaults or {}), **bound_attributes(function, call, None)}
    absent = len(function.inputs) - len(call.inputs) - len(captured)
    given = [*call.inputs, *[None] * absent, *captured]
    values: dict[ir.Value, ir.Value | None] = dict(zip(function.inputs, given, strict=True))
    nodes = copy_nodes(function, values, names, bound=bound, prefix=f"{call.name or call.op_type}/")
    outputs: list[ir.Value] = []
    for inner in function.outputs[: len(call.outputs)]:
        made = values.get(inner)
        assert made is not None, "a function's output is one of its values"
        outputs.append(made)
    return nodes, outputs

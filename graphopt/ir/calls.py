"""Calls of model-local functions."""

from __future__ import annotations

import onnx_ir as ir

from graphopt.ir.facts.registry import Attributes

__all__ = ["bound_attributes"]


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

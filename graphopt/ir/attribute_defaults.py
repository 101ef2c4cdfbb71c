"""An attribute's value as the standard has it where the node does not say."""

from __future__ import annotations

from functools import cache

import onnx_ir as ir

from graphopt.ir.attributes import AttributeValue, attribute
from graphopt.ir.schemas import definition


@cache
def _default(domain: str, op_type: str, name: str, opset: int) -> AttributeValue | None:
    schema = definition(domain, op_type, opset)
    declared = None if schema is None else schema.attributes.get(name)
    if declared is None or not declared.default_value.name:
        return None
    value: AttributeValue = ir.serde.deserialize_attribute(declared.default_value).value
    return value


def is_default(node: ir.Node, attribute: ir.Attr, opset: int) -> bool:
    """Whether the attribute says what the operator of that opset does without it."""
    default = _default(node.domain, node.op_type, attribute.name, opset)
    return default is not None and default == attribute.value


def attribute_or_default(node: ir.Node, name: str, opset: int) -> AttributeValue | None:
    """The attribute's plain value; the default of that opset's operator where absent; None without either."""
    value = attribute(node, name)
    return _default(node.domain, node.op_type, name, opset) if value is None else value

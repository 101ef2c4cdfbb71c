"""Attributes as plain Python values, and axes wherever an operator's version keeps them."""

from __future__ import annotations

from typing import TypeAlias, TypeVar, overload

import onnx_ir as ir

from graphopt.ir import constants

__all__ = ["AttributeValue", "attribute", "axes_of"]

T = TypeVar("T")
AttributeValue: TypeAlias = (
    int | float | str | ir.TensorProtocol | ir.Graph | tuple[int, ...] | tuple[float, ...] | tuple[str, ...]
)

# Where an operator takes its axes as an input, and since which opset (an attribute before that).
_AXES_INPUT = {
    "CumSum": (1, 11),
    "Pad": (3, 18),
    "ReduceSum": (1, 13),
    "Slice": (3, 10),
    "Squeeze": (1, 13),
    "Unsqueeze": (1, 13),
}
_REDUCTION_INPUT = (1, 18)


@overload
def attribute(node: ir.Node, name: str) -> AttributeValue | None: ...
@overload
def attribute(node: ir.Node, name: str, default: T) -> AttributeValue | T: ...
def attribute(node: ir.Node, name: str, default: T | None = None) -> AttributeValue | T | None:
    """The attribute's value as int, float, str, tuple, tensor or graph.

    `default` where it is absent, and where it refers to an attribute of a function that is not bound here.
    """
    attr = node.attributes.data.get(name)
    if attr is None or attr.value is None:
        return default
    value: AttributeValue = attr.value
    return value


def axes_of(node: ir.Node, opset: int) -> tuple[int, ...] | None:
    """The axes of Squeeze, Unsqueeze, Reduce*, Slice, Pad, CumSum and operators with an `axis`.

    `()` where none are given (the operator's own default holds); None where they are not constant.
    """
    index, since = _AXES_INPUT.get(
        node.op_type, _REDUCTION_INPUT if node.op_type.startswith("Reduce") else (0, 0)
    )
    if since and opset >= since:
        if index >= len(node.inputs) or node.inputs[index] is None:
            return ()
        array = constants.array(node.inputs[index])
        return None if array is None else tuple(int(axis) for axis in array.reshape(-1))
    for name in ("axes", "axis"):
        if name in node.attributes.data:
            value = attribute(node, name)
            if isinstance(value, tuple):
                return value  # type: ignore[return-value]
            return (value,) if isinstance(value, int) else None
    return ()

"""Attributes as plain Python values, and axes wherever an operator's version keeps them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeAlias, TypeVar, overload

import onnx_ir as ir

from graphopt.ir import constants
from graphopt.ir.operands import input_of

__all__ = ["AttributeValue", "attribute", "attribute_float", "attribute_int", "attribute_ints", "axes_of"]

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


def attribute_int(node: ir.Node, name: str, default: int = 0) -> int:
    """An attribute that is an integer; checked models have no other in its place."""
    value = attribute(node, name, default)
    assert isinstance(value, int), f"{name} of {node.op_type} is an integer"
    return value


def attribute_float(node: ir.Node, name: str, default: float) -> float:
    """An attribute that is a number."""
    value = attribute(node, name, default)
    assert isinstance(value, int | float), f"{name} of {node.op_type} is a number"
    return float(value)


def attribute_ints(node: ir.Node, name: str, default: Sequence[int] = ()) -> tuple[int, ...]:
    """An attribute that is a list of integers."""
    value = attribute(node, name, tuple(default))
    assert isinstance(value, tuple), f"{name} of {node.op_type} is a list"
    return tuple([int(n) for n in value])


def axes_of(node: ir.Node, opset: int) -> tuple[int, ...] | None:
    """The axes of Squeeze, Unsqueeze, Reduce*, Slice, Pad, CumSum and operators with an `axis`.

    `()` where none are given (the operator's own default holds); None where they are not constant.
    """
    index, since = _AXES_INPUT.get(
        node.op_type, _REDUCTION_INPUT if node.op_type.startswith("Reduce") else (0, 0)
    )
    if since and opset >= since:
        value = input_of(node, index)
        if value is None:
            return ()
        array = constants.array(value)
        return None if array is None else tuple(int(axis) for axis in array.reshape(-1))
    for name in ("axes", "axis"):
        if name in node.attributes.data:
            given = attribute(node, name)
            if isinstance(given, tuple):
                return given  # type: ignore[return-value]
            return (given,) if isinstance(given, int) else None
    return ()

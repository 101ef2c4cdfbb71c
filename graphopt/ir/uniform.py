"""Tensors that are one number all over, whatever their size.

    ConstantOfShape(any shape) -> Unsqueeze -> 1 - x       every element is 1 - value

Exporters fill masks and states whose size is known at run time only. What they hold is known now.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import onnx_ir as ir

from graphopt.ir import constants
from graphopt.ir.evaluate import CannotEvaluate, evaluate
from graphopt.ir.facts import is_elementwise

__all__ = ["uniform_contents"]

# Operators whose output has only elements of their first input.
SELECTING = frozenset(
    {"Expand", "Tile", "Slice", "Gather", "GatherND", "GatherElements", "Reshape", "Transpose", "Squeeze"}
    | {"Unsqueeze", "Flatten", "Identity", "Split"}
)

# Element-wise operators that numpy does; one that needs a runtime would cost more than it tells.
ARITHMETIC = frozenset(
    {"Add", "Sub", "Mul", "Div", "Min", "Max", "Neg", "Abs", "Not", "And", "Or", "Xor", "Equal", "Less"}
    | {"Greater", "LessOrEqual", "GreaterOrEqual", "Where", "Cast"}
)

# A chain of masks has about ten operators between its fill and its use.
MAX_DEPTH = 16


def uniform_contents(value: ir.Value | None, opsets: Mapping[str, int]) -> np.ndarray | None:
    """What every element of the value is, as an array of rank 0; None: they may differ, or are not known.

    An empty tensor has no elements that could differ.

    Args:
        value: Any value; bodies see through what they capture.
        opsets: Versions by domain where the value is made.
    """
    return _Search(opsets).contents(value, 0)


class _Search:
    def __init__(self, opsets: Mapping[str, int]) -> None:
        self._opsets = opsets
        self._known: dict[ir.Value, np.ndarray | None] = {}

    def contents(self, value: ir.Value | None, depth: int) -> np.ndarray | None:
        if value is None or depth > MAX_DEPTH:
            return None
        if value not in self._known:
            self._known[value] = self._find(value, depth)
        return self._known[value]

    def _find(self, value: ir.Value, depth: int) -> np.ndarray | None:
        tensor, node = constants.constant(value), value.producer()
        if tensor is not None:
            number = constants.uniform(value)
            return None if number is None else np.array(number, tensor.dtype.numpy())
        if node is None or node.domain != "" or any(a.is_ref() for a in node.attributes.values()):
            return None
        if node.op_type == "ConstantOfShape":
            fill = node.attributes.get("value")
            return np.zeros((), np.float32) if fill is None else fill.as_tensor().numpy().reshape(())
        if node.op_type in SELECTING:
            return self.contents(node.inputs[0], depth + 1)
        if node.op_type == "Concat":
            return self._common(node, depth)
        if node.op_type in ARITHMETIC and is_elementwise(node):
            return self._computed(node, depth)
        return None

    def _least(self, value: ir.Value | None, depth: int) -> int | None:
        """A number that no element of a range is below; None: not known."""
        node = value.producer() if value is not None else None
        if node is None or node.domain != "" or depth > MAX_DEPTH:
            return None
        if node.op_type in SELECTING:
            return self._least(node.inputs[0], depth + 1)
        if node.op_type != "Range":
            return None
        start, step = (self.contents(node.inputs[place], depth + 1) for place in (0, 2))
        if start is None or step is None or start.dtype.kind not in "iu" or step <= 0:
            return None
        return int(start)

    def _common(self, node: ir.Node, depth: int) -> np.ndarray | None:
        first = self.contents(node.inputs[0], depth + 1)
        for other in node.inputs[1:]:
            found = self.contents(other, depth + 1) if first is not None else None
            if first is None or found is None or found.tobytes() != first.tobytes():
                return None
        return first

    def _computed(self, node: ir.Node, depth: int) -> np.ndarray | None:
        if node.op_type in ("GreaterOrEqual", "Less"):
            limit = self.contents(node.inputs[1], depth + 1)
            least = None if limit is None else self._least(node.inputs[0], depth + 1)
            if limit is not None and least is not None and least >= limit:
                return np.array(node.op_type == "GreaterOrEqual")
        arrays: list[np.ndarray] = []
        for given in node.inputs:
            found = self.contents(given, depth + 1)
            if found is None:
                return None
            arrays.append(found)
        try:
            return evaluate(node, arrays, self._opsets)[0]
        except CannotEvaluate:
            return None

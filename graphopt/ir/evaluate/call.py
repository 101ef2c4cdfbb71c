"""One node with the arrays it is to be computed on, and the error that says why it can't be."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias, TypeVar

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from graphopt.errors import GraphoptError
from graphopt.ir.attributes import AttributeValue, attribute

Array: TypeAlias = npt.NDArray[np.generic]
T = TypeVar("T")


class CannotEvaluate(GraphoptError):
    """A node can't be computed now; the graph stays as it is."""


@dataclass(frozen=True)
class Call:
    """A node, its inputs (None: absent) and the version of its domain."""

    node: ir.Node
    arrays: tuple[Array | None, ...]
    version: int

    def array(self, index: int) -> Array:
        """Input `index`.

        Raises:
            CannotEvaluate: It is absent.
        """
        if not self.has(index):
            raise self.refusal(f"input {index} is missing")
        array = self.arrays[index]
        assert array is not None, "just looked"
        return array

    def has(self, index: int) -> bool:
        """Whether input `index` is given."""
        return index < len(self.arrays) and self.arrays[index] is not None

    def integers(self, index: int, name: str | None = None) -> list[int] | None:
        """Input `index` as plain integers, else attribute `name` of older versions; None: neither."""
        if self.has(index):
            return [int(number) for number in self.array(index).reshape(-1)]
        value = None if name is None else self.attr(name, None)
        return [int(number) for number in value] if isinstance(value, (tuple, list)) else None

    def attr(self, name: str, default: T) -> AttributeValue | T:
        """An attribute as plain Python, `default` where it is absent."""
        return attribute(self.node, name, default)

    def int_attr(self, name: str, default: int) -> int:
        """An integer attribute."""
        value = self.attr(name, default)
        return value if isinstance(value, int) else default

    def refusal(self, reason: str) -> CannotEvaluate:
        """The error that names this node."""
        node = self.node
        return CannotEvaluate(f"node '{node.name}' ({node.op_type}): {reason}", node=node.name)


Compute: TypeAlias = Callable[[Call], "list[Array] | None"]

"""What a rule is told about the place it looks at, and how it says no."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import onnx_ir as ir

from graphopt.ir import attributes, constants
from graphopt.ir.attribute_defaults import attribute_or_default
from graphopt.ir.dims import Dim
from graphopt.ir.inference import Facts
from graphopt.rewriting.pattern import NodePattern, ValuePattern

if TYPE_CHECKING:
    from graphopt.rewriting.editor import Editor
    from graphopt.rewriting.passes import Pass

HAS_OTHER_CONSUMERS = "an inner value has another consumer"
IS_GRAPH_OUTPUT = "an inner value is a graph output"
OTHER_SCOPE = "an inner value is made in another scope"
WOULD_NEED_IDENTITY = "the value is a graph output and what replaces it can't take its name"
NEEDS_OPSET = "needs a newer opset"


@dataclass(frozen=True, slots=True)
class Rejection:
    """Why a rule that nearly fits does not fire. `reason` is a module constant that tests compare.

    Attributes:
        reason: The condition that failed, in words.
        value: The value that it failed for, if one can be named.
    """

    reason: str
    value: ir.Value | None = None

    def __str__(self) -> str:
        return f"{self.reason} ({self.value.name})" if self.value is not None else self.reason


class Match:
    """One place in a graph where a rule's pattern fits.

    `m["x"]` is the value bound to a name, `m.node("y")` the node that makes it. Everything that a
    condition wants to know of a value is asked here, so that a rule keeps no state of its own.
    """

    __slots__ = ("_captures", "_names", "_values", "editor", "nodes", "options", "root")

    def __init__(self, editor: Editor, options: Pass, root: ir.Node) -> None:
        self.editor = editor
        self.options = options
        self.root = root
        self.nodes: list[ir.Node] = [root]
        self._values: dict[ValuePattern, ir.Value | None] = {}
        self._names: dict[str, ir.Value | None] = {}
        self._captures: dict[str, object] = {}

    def bind(
        self,
        values: dict[ValuePattern, ir.Value | None],
        nodes: dict[NodePattern, ir.Node],
        captures: dict[str, object],
    ) -> None:
        """Keep what the matcher found."""
        self._values = values
        self._captures = captures
        self._names = {p.name: v for p, v in values.items() if p.name is not None}
        self.nodes = list(nodes.values())

    def __getitem__(self, name: str) -> ir.Value:
        value = self._names[name]
        if value is None:
            raise KeyError(f"{name} is an absent input")
        return value

    def __contains__(self, name: str) -> bool:
        return self._names.get(name) is not None

    def node(self, name: str) -> ir.Node:
        """The node that makes a named value."""
        producer = self[name].producer()
        if producer is None:
            raise KeyError(f"{name} is made by no node")
        return producer

    def captured(self, name: str) -> object:
        """An attribute's value that the pattern kept with `attr(name)`."""
        return self._captures[name]

    @property
    def facts(self) -> Facts:
        return self.editor.facts

    @property
    def output(self) -> ir.Value:
        """The first output of the root."""
        return self.root.outputs[0]

    @property
    def opset(self) -> int:
        """The default domain's version where the root stands."""
        return self.editor.opset_at(self.root)

    def attribute(self, node: ir.Node, name: str, default: object = None) -> object:
        """An attribute's plain Python value; where it is absent `default`, or else the operator's own one."""
        if default is not None:
            return attributes.attribute(node, name, default)
        return attribute_or_default(node, name, self.opset if node.domain == "" else 1)

    def dims(self, value: ir.Value) -> tuple[Dim, ...] | None:
        return self.editor.facts.dims(value)

    def rank(self, value: ir.Value) -> int | None:
        return self.editor.facts.rank(value)

    def dtype(self, value: ir.Value) -> ir.DataType | None:
        return self.editor.facts.dtype(value)

    def tensor(self, value: ir.Value | str | None) -> ir.TensorProtocol | None:
        """The tensor behind a constant, unread; None for anything else."""
        value = self._names.get(value) if isinstance(value, str) else value
        return None if value is None else constants.constant(value)

    def array(self, value: ir.Value | str | None) -> np.ndarray | None:
        """A constant's contents (reads them); None for anything else."""
        value = self._names.get(value) if isinstance(value, str) else value
        return None if value is None else constants.array(value)

    def scalar(self, value: ir.Value | str | None) -> float | None:
        """The only element of a constant with one element; None for anything else."""
        tensor = self.tensor(value)
        if tensor is None or tensor.size != 1:
            return None
        return float(tensor.numpy().reshape(()).item())

    def has_one_consumer(self, value: ir.Value) -> bool:
        """Whether the value is used once and is not a graph output."""
        return len(value.uses()) == 1 and not value.is_graph_output()


Replacement = ir.Value | Sequence[ir.Value] | dict[ir.Value, ir.Value]

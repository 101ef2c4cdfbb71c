"""A model as tables see it: values, nodes and weights by the names that hold over all scopes."""

from __future__ import annotations

from functools import cached_property

import onnx_ir as ir

from graphopt.errors import UsageError
from graphopt.ir import constants
from graphopt.ir.quantizable import Weight, weight_of
from graphopt.ir.scoped_names import scopes, values_by_name

__all__ = ["View"]


class View:
    """The names of a model whose nodes all have one.

    Attributes:
        model: The model.
        values: Values by scoped name.
        nodes: Nodes by scoped name.
        scopes: What stands before the names of each graph; "" for the main graph.
    """

    def __init__(self, model: ir.Model) -> None:
        self.model = model
        self.values = values_by_name(model)
        self.scopes = {graph: scope for scope, graph in scopes(model.graph)}
        self.nodes = {f"{scope}{node.name}": node for graph, scope in self.scopes.items() for node in graph}

    @cached_property
    def names(self) -> dict[ir.Value, str]:
        """Scoped name of each value."""
        return {value: name for name, value in self.values.items()}

    @cached_property
    def weights(self) -> dict[str, Weight]:
        """Each weight by its scoped name, at the first operator that has it."""
        found: dict[str, Weight] = {}
        for node in self.nodes.values():
            weight = weight_of(node)
            if weight is not None and weight.value in self.names:
                found.setdefault(self.names[weight.value], weight)
        return found

    def value(self, name: str) -> ir.Value:
        """The value of a name.

        Raises:
            UsageError: There is none.
        """
        if name not in self.values:
            raise UsageError(f"the quant table names tensor {name!r}, which the model does not have")
        return self.values[name]

    def node(self, name: str) -> ir.Node:
        """The node of a name.

        Raises:
            UsageError: There is none.
        """
        if name not in self.nodes:
            raise UsageError(f"the quant table names operator {name!r}, which the model does not have")
        return self.nodes[name]

    def scope(self, entry: ir.Value | ir.Node) -> str:
        """What stands before the name of a value or a node: "" in the main graph."""
        owner = entry if isinstance(entry, ir.Node) else entry.producer() or entry
        graph = owner.graph
        return self.scopes.get(graph, "") if graph is not None else ""

    def is_weight(self, name: str) -> bool:
        """Whether a value is a constant."""
        return constants.constant(self.values.get(name)) is not None

    def shape(self, name: str) -> tuple[int, ...] | None:
        """Dims of a constant; None for other values."""
        tensor = constants.constant(self.values.get(name))
        return None if tensor is None else constants.shape_of(tensor)

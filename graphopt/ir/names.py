"""Names that nobody has yet."""

from __future__ import annotations

import re

import onnx_ir as ir

from graphopt.ir import scopes


class Names:
    """The names of all values and nodes of a model, over all scopes.

    One name space for everything: a value may move into or out of a body, and a function may be inlined,
    without a name meeting its like.
    """

    def __init__(self, model: ir.Model) -> None:
        self._taken: set[str] = set()
        self._next: dict[str, int] = {}
        for graph in scopes.all_graphs(model):
            self._taken.update(value.name for value in graph.inputs if value.name)
            self._taken.update(graph.initializers)
            for node in graph:
                if node.name:
                    self._taken.add(node.name)
                self._taken.update(value.name for value in node.outputs if value.name)

    def separate(self, model: ir.Model) -> None:
        """Rename what shares its name with a value outside of its body, or in a sibling.

        The standard lets the branches of an If use a name twice. A value that moves out of one of them, or
        is captured by it, must not meet the other.
        """
        for root in (model.graph, *(function.graph for function in model.functions.values())):
            seen: set[str] = set()
            for graph in scopes.nested(root):
                values = [*graph.inputs, *graph.initializers.values()]
                values += [value for node in graph for value in node.outputs]
                for value in dict.fromkeys(values):
                    if graph is not root and value.name in seen:
                        value.name = self.unique(value.name)
                    if value.name:
                        seen.add(value.name)

    def __contains__(self, name: str) -> bool:
        return name in self._taken

    def add(self, name: str) -> None:
        """Note a name that was given without asking."""
        self._taken.add(name)

    def unique(self, hint: str) -> str:
        """Return `hint` where it is free, else the first free of "hint_1", "hint_2", ...

        It counts as taken from now. The answer depends on the model and the earlier calls only.
        """
        hint = hint or "value"
        name = hint
        number = self._next.get(hint, 0)
        while name in self._taken:
            number += 1
            name = f"{hint}_{number}"
        self._next[hint] = number
        self._taken.add(name)
        return name


def joined(name: str, op_type: str) -> str:
    """A name for a new node of this operator in the place of another one; the operator is said once."""
    said = re.sub(r"_\d+$", "", name)
    return said if said.endswith(f"/{op_type}") else f"{name}/{op_type}"

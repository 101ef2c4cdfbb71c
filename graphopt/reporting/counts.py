"""Count operators.

An operator is a node other than a Constant. Bodies of If, Loop and Scan count; a call of a model-local
function counts as the operators of its body, as often as it is called. Where the engine of graphopt runs the
model, a call of one of its own operators is one instruction, so counts as one.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

import onnx_ir as ir

OWN_DOMAIN = "ai.graphopt"


@dataclass(frozen=True, slots=True)
class OperatorCounts:
    """How many operators of each type; types outside the standard domain are written "domain::Type".

    Attributes:
        types: Most frequent first, then by name.
        constants: Constant nodes, which are not operators.
    """

    types: dict[str, int]
    constants: int

    @property
    def total(self) -> int:
        """All operators."""
        return sum(self.types.values())


def count_operators(model: ir.Model, target: str = "onnx") -> OperatorCounts:
    """Count the operators of a model as `target` would run them."""
    counter = _Counter(model, whole_calls=target == "graphopt")
    found = counter.count(model.graph)
    constants = found.pop("Constant", 0)
    types = dict(sorted(found.items(), key=lambda item: (-item[1], item[0])))
    return OperatorCounts(types, constants)


class _Counter:
    def __init__(self, model: ir.Model, whole_calls: bool) -> None:
        self._functions = model.functions
        self._whole_calls = whole_calls
        self._bodies: dict[ir.OperatorIdentifier, Counter[str]] = {}

    def count(self, nodes: Iterable[ir.Node]) -> Counter[str]:
        found: Counter[str] = Counter()
        for node in nodes:
            key = node.op_identifier()
            if key in self._functions and not (self._whole_calls and node.domain == OWN_DOMAIN):
                found += self._body(key)
            else:
                found[_type(node)] += 1
            for attribute in node.attributes.values():
                if attribute.type == ir.AttributeType.GRAPH:
                    found += self.count(attribute.as_graph())
                elif attribute.type == ir.AttributeType.GRAPHS:
                    for graph in attribute.as_graphs():
                        found += self.count(graph)
        return found

    def _body(self, key: ir.OperatorIdentifier) -> Counter[str]:
        # The standard forbids recursion; a function that calls itself must not hang the count.
        if key not in self._bodies:
            self._bodies[key] = Counter()
            self._bodies[key] = self.count(self._functions[key])
        return self._bodies[key]


def _type(node: ir.Node) -> str:
    return node.op_type if node.domain in ("", "ai.onnx") else f"{node.domain}::{node.op_type}"

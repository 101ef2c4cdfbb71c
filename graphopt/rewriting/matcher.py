"""Does a pattern fit here? Backtracking over spellings and operand orders, from the anchor upwards."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
import onnx_ir as ir

from graphopt.ir import constants
from graphopt.ir.attribute_defaults import attribute_or_default
from graphopt.rewriting.match import (
    HAS_OTHER_CONSUMERS,
    IS_GRAPH_OUTPUT,
    OTHER_SCOPE,
    Match,
    Rejection,
)
from graphopt.rewriting.pattern import (
    Alternatives,
    AttributeCapture,
    ConstantValue,
    FreeValue,
    NodeOutput,
    NodePattern,
    Pattern,
    ValuePattern,
)

if TYPE_CHECKING:
    from graphopt.ir.inference import Facts

# A list of (pattern, value) still to be matched, as a linked list so that branches share it.
Goals = tuple[ValuePattern, ir.Value | None, "Goals"] | None


@dataclass(slots=True)
class _Search:
    facts: Facts
    opset: int
    values: dict[ValuePattern, ir.Value | None] = field(default_factory=dict)
    nodes: dict[NodePattern, ir.Node] = field(default_factory=dict)
    captures: dict[str, object] = field(default_factory=dict)
    deepest: int = 0

    def solve(self, goals: Goals) -> bool:
        """Match every goal; on failure nothing stays bound."""
        if goals is None:
            return True
        pattern, value, rest = goals
        if pattern in self.values:
            return self.values[pattern] is value and self.solve(rest)
        if value is None:
            return False
        if isinstance(pattern, FreeValue):
            return self._bind(pattern, value, rest)
        if isinstance(pattern, NodeOutput):
            return self._solve_node(pattern, value, rest)
        if isinstance(pattern, ConstantValue):
            return self._fits(pattern, value) and self._bind(pattern, value, rest)
        assert isinstance(pattern, Alternatives)
        self.values[pattern] = value
        for choice in pattern.choices:
            if self.solve((choice, value, rest)):
                return True
        del self.values[pattern]
        return False

    def _bind(self, pattern: ValuePattern, value: ir.Value, rest: Goals) -> bool:
        self.values[pattern] = value
        if self.solve(rest):
            return True
        del self.values[pattern]
        return False

    def _fits(self, pattern: ConstantValue, value: ir.Value) -> bool:
        tensor = constants.constant(value)
        if tensor is None:
            return False
        if pattern.expected is None and pattern.test is None:
            return True
        return tensor.size == 1 and pattern.accepts(np.asarray(tensor.numpy()))

    def _solve_node(self, pattern: NodeOutput, value: ir.Value, rest: Goals) -> bool:
        node, wanted = value.producer(), pattern.node
        if (
            node is None
            or node.op_type not in wanted.op_types
            or node.domain != wanted.domain
            or value.index() != pattern.index
        ):
            return False
        known = self.nodes.get(wanted)
        if known is not None:
            return known is node and self._bind(pattern, value, rest)
        inputs = node.inputs
        count = len(wanted.inputs)
        while len(inputs) > count and inputs[-1] is None:
            inputs = inputs[:-1]
        if len(inputs) > count and not wanted.has_rest:
            return False
        padded = tuple(inputs[:count]) + (None,) * (count - len(inputs))
        captured = self._attributes(wanted, node)
        if captured is None:
            return False
        self.nodes[wanted] = node
        self.values[pattern] = value
        self.captures.update(captured)
        self.deepest = max(self.deepest, len(self.nodes))
        orders = [padded, padded[::-1]] if wanted.is_commutative else [padded]
        for order in orders:
            if self._agrees(wanted, order) and self.solve(_goals(wanted, order, rest)):
                return True
        del self.nodes[wanted], self.values[pattern]
        return False

    def _agrees(self, wanted: NodePattern, inputs: tuple[ir.Value | None, ...]) -> bool:
        """Absent inputs are absent, and a number does not raise the rank of what it is combined with."""
        for pattern, value in zip(wanted.inputs, inputs, strict=True):
            if pattern is None and value is not None:
                return False
            if isinstance(pattern, ConstantValue) and value is not None and len(inputs) == 2:
                tensor = constants.constant(value)
                if tensor is None:
                    return False
                if pattern.name is None and len(tensor.shape) > 0 and wanted.domain == "":
                    other = inputs[1] if value is inputs[0] else inputs[0]
                    rank = None if other is None else self.facts.rank(other)
                    if rank is None or len(tensor.shape) > rank:
                        return False
        return True

    def _attributes(self, wanted: NodePattern, node: ir.Node) -> dict[str, object] | None:
        captured: dict[str, object] = {}
        for name, expected in wanted.attributes.items():
            found = attribute_or_default(node, name, self.opset if node.domain == "" else 1)
            if isinstance(expected, AttributeCapture):
                captured[expected.name] = found
            elif callable(expected):
                if not expected(found):
                    return None
            elif (tuple(expected) if isinstance(expected, list) else expected) != found:
                return None
        return captured


def _goals(wanted: NodePattern, inputs: tuple[ir.Value | None, ...], rest: Goals) -> Goals:
    goals = rest
    # Values made by operators are tried first: they fail soonest.
    pairs = [(p, v) for p, v in zip(wanted.inputs, inputs, strict=True) if p is not None]
    for pattern, value in sorted(pairs, key=lambda pair: isinstance(pair[0], NodeOutput)):
        goals = (pattern, value, goals)
    return goals


def match(pattern: Pattern, place: Match) -> Rejection | bool:
    """Fit the pattern at `place.root` and bind what it found there.

    Returns:
        True; False where it does not fit; a Rejection where it fits but for an inner value that is
        needed elsewhere.
    """
    root = place.root
    if not pattern.may_fit(root):
        return False
    search = _Search(place.editor.facts, place.opset)
    if not search.solve((pattern.root, root.outputs[_root_index(pattern)], None)):
        return False
    place.bind(search.values, search.nodes, search.captures)
    return _inner_values(search, root) or True


def nodes_matched(pattern: Pattern, place: Match) -> int:
    """How many operators of the pattern were found before it failed: how near a miss was."""
    search = _Search(place.editor.facts, place.opset)
    search.solve((pattern.root, place.root.outputs[_root_index(pattern)], None))
    return search.deepest


def _root_index(pattern: Pattern) -> int:
    return pattern.root.index if isinstance(pattern.root, NodeOutput) else 0


def _inner_values(search: _Search, root: ir.Node) -> Rejection | None:
    inside = set(search.nodes.values())
    for wanted, node in search.nodes.items():
        if node is root or any(v.is_shared for v in wanted.outputs):
            continue
        if node.graph is not root.graph:
            return Rejection(OTHER_SCOPE, node.outputs[0])
        for value in node.outputs:
            if value.is_graph_output():
                return Rejection(IS_GRAPH_OUTPUT, value)
            if any(use.node not in inside for use in value.uses()):
                return Rejection(HAS_OTHER_CONSUMERS, value)
    return None

"""Patterns: small graphs with holes, written as the Python function that would build them.

A pattern function is called once with free values; every `op.X(...)` in it becomes a node of the
pattern. The value that it returns is the root, and the root's producer is the anchor: the driver
looks at a pattern only where a node of the anchor's operator stands.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from types import EllipsisType

import numpy as np
import onnx_ir as ir

Scalar = int | float | bool
ScalarTest = Callable[[float], bool]

# Matching goes this many operators above the anchor at most; a longer pattern is a design fault.
MAX_DEPTH = 24


class ValuePattern:
    """A value of a pattern. Compared by identity: used twice, it must be one value in the graph too."""

    __slots__ = ("is_shared", "name")

    def __init__(self, name: str | None = None) -> None:
        self.name = name
        self.is_shared = False

    def named(self, name: str) -> ValuePattern:
        """Give the value a name by which the match is asked for it."""
        self.name = name
        return self

    def shared(self) -> ValuePattern:
        """Allow consumers outside of the match: the value stays in the graph."""
        self.is_shared = True
        return self

    def children(self) -> Sequence[ValuePattern]:
        return ()


class FreeValue(ValuePattern):
    """Any value."""

    __slots__ = ()


class ConstantValue(ValuePattern):
    """A constant with one element that equals `expected` or passes `test`; neither: any constant."""

    __slots__ = ("expected", "test")

    def __init__(self, expected: Scalar | None, test: ScalarTest | None, name: str | None) -> None:
        super().__init__(name)
        self.expected = expected
        self.test = test

    def accepts(self, array: np.ndarray) -> bool:
        """Whether the constant's contents fit. A literal is compared in the array's own precision."""
        if self.expected is None and self.test is None:
            return True
        if array.size != 1:
            return False
        found = array.reshape(()).item()
        if self.test is not None:
            return bool(self.test(float(found)))
        assert self.expected is not None
        if isinstance(found, float):
            wanted = float(np.asarray(self.expected).astype(array.dtype))
            # An exporter may have computed 1/sqrt(2) or sqrt(2/pi) in single or double precision.
            return math.isclose(found, wanted, rel_tol=1e-6 if wanted != round(wanted) else 0.0)
        return bool(found == self.expected)


class NodeOutput(ValuePattern):
    """An output of a node of the pattern."""

    __slots__ = ("index", "node")

    def __init__(self, node: NodePattern, index: int) -> None:
        super().__init__()
        self.node = node
        self.index = index

    def children(self) -> Sequence[ValuePattern]:
        return [v for v in self.node.inputs if v is not None]


class Alternatives(ValuePattern):
    """One of several values, tried in order."""

    __slots__ = ("choices",)

    def __init__(self, choices: Sequence[ValuePattern]) -> None:
        super().__init__()
        self.choices = tuple(choices)

    def shared(self) -> ValuePattern:
        for choice in self.choices:
            choice.shared()
        return super().shared()

    def children(self) -> Sequence[ValuePattern]:
        return self.choices


@dataclass(frozen=True, eq=False)
class AttributeCapture:
    """An attribute whose value the match keeps under a name."""

    name: str


@dataclass(eq=False, slots=True)
class NodePattern:
    """A node of the pattern: one of `op_types` of a domain, with these inputs and attributes."""

    domain: str
    op_types: tuple[str, ...]
    inputs: tuple[ValuePattern | None, ...]
    has_rest: bool
    attributes: dict[str, object]
    is_commutative: bool
    outputs: list[NodeOutput] = field(default_factory=list)

    def output(self, index: int) -> NodeOutput:
        while len(self.outputs) <= index:
            self.outputs.append(NodeOutput(self, len(self.outputs)))
        return self.outputs[index]


COMMUTATIVE = frozenset({"Add", "Mul", "And", "Or", "Xor", "Equal", "BitwiseAnd", "BitwiseOr", "BitwiseXor"})


def make_node(
    domain: str,
    op_types: tuple[str, ...],
    inputs: Sequence[ValuePattern | Scalar | EllipsisType | None],
    attributes: dict[str, object],
) -> NodePattern:
    """A node of a pattern; a trailing `...` allows any further inputs."""
    has_rest = bool(inputs) and inputs[-1] is Ellipsis
    values: list[ValuePattern | None] = []
    for given in inputs[:-1] if has_rest else inputs:
        if given is None or isinstance(given, ValuePattern):
            values.append(given)
        elif isinstance(given, bool | int | float):
            values.append(ConstantValue(given, None, None))
        else:
            raise TypeError(
                f"{'/'.join(op_types)}: a pattern's input must be a value or a number, not {given!r}"
            )
    commutative = len(values) == 2 and domain == "" and all(t in COMMUTATIVE for t in op_types)
    return NodePattern(domain, op_types, tuple(values), has_rest, attributes, commutative)


def const(expected: Scalar | str | None = None, test: ScalarTest | None = None) -> ValuePattern:
    """A constant.

    `const(2.0)`: one element, this number. `const("eps")`: any constant, under a name.
    `const("eps", lambda v: v < 1e-3)`: one element that passes the test. `const()`: any constant.
    """
    if isinstance(expected, str):
        return ConstantValue(None, test, expected)
    return ConstantValue(expected, test, None)


def any_of(*choices: ValuePattern) -> ValuePattern:
    """The first of several spellings that fits."""
    return Alternatives(choices)


def attr(name: str) -> AttributeCapture:
    """Keep an attribute's value: `op.Concat(a, b, axis=attr("axis"))`, then `m.captured("axis")`."""
    return AttributeCapture(name)


@dataclass(frozen=True, eq=False)
class Pattern:
    """A traced pattern.

    Attributes:
        root: The value that a firing replaces.
        anchors: (domain, operator) of the nodes that may produce the root.
        depth: Operators between the root and the farthest value, the anchor counted.
        arguments: Names of the free values.
        outlines: What must stand right above the anchor, one a spelling: a quick test before the search.
    """

    root: ValuePattern
    anchors: tuple[tuple[str, str], ...]
    depth: int
    arguments: tuple[str, ...]
    outlines: tuple[Outline, ...]

    def may_fit(self, node: ir.Node) -> bool:
        """Whether the operators right above a node could be those of some spelling."""
        above = [
            producer.op_type
            for value in node.inputs
            if value is not None and (producer := value.producer()) is not None
        ]
        return any(outline.fits(node.op_type, above) for outline in self.outlines)


@dataclass(frozen=True, slots=True)
class Outline:
    """One spelling's anchor and, for each input that must be made by a node, the operators it may be."""

    anchors: frozenset[str]
    above: tuple[frozenset[str], ...]

    def fits(self, op_type: str, above: list[str]) -> bool:
        return op_type in self.anchors and all(any(t in wanted for t in above) for wanted in self.above)


def trace(function: Callable[..., ValuePattern]) -> Pattern:
    """Call a pattern function with free values and keep what it builds.

    Raises:
        TypeError: If the function returns something that is not a value made by an operator.
    """
    names = tuple(inspect.signature(function).parameters)
    root = function(*(FreeValue(name) for name in names))
    anchors = tuple(dict.fromkeys(_anchors(root)))
    if not anchors:
        raise TypeError(f"pattern {function.__name__} must return the output of an operator")
    return Pattern(root, anchors, _depth(root), names, tuple(_outlines(root)))


def _anchors(value: ValuePattern) -> Iterator[tuple[str, str]]:
    if isinstance(value, NodeOutput):
        for op_type in value.node.op_types:
            yield value.node.domain, op_type
    elif isinstance(value, Alternatives):
        for choice in value.choices:
            yield from _anchors(choice)


def _outlines(root: ValuePattern) -> Iterator[Outline]:
    if isinstance(root, Alternatives):
        for choice in root.choices:
            yield from _outlines(choice)
    elif isinstance(root, NodeOutput):
        above = (_makers(v) for v in root.node.inputs if v is not None)
        yield Outline(frozenset(root.node.op_types), tuple(frozenset(m) for m in above if m))


def _makers(value: ValuePattern) -> set[str]:
    """Operators that may make the value; none if it may be made by no node."""
    if isinstance(value, NodeOutput):
        return set(value.node.op_types)
    if isinstance(value, Alternatives):
        makers = [_makers(choice) for choice in value.choices]
        return set().union(*makers) if all(makers) else set()
    return set()


def _depth(value: ValuePattern, known: dict[ValuePattern, int] | None = None) -> int:
    known = {} if known is None else known
    if value not in known:  # alternatives share what they are made of
        below = max((_depth(v, known) for v in value.children()), default=0)
        known[value] = below + 1 if isinstance(value, NodeOutput) else below
    if known[value] > MAX_DEPTH:
        raise TypeError(f"pattern is deeper than {MAX_DEPTH} operators")
    return known[value]

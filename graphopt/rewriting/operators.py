"""`op`: the one way to write an operator, in a pattern and in a replacement.

In a pattern function `op.Add(x, y)` makes a node of the pattern; in a replacement it makes a node of
the graph. Which one is decided by who called: tracing a pattern has no builder, a rewrite has one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar, Token
from types import EllipsisType
from typing import Any, Protocol, overload

import numpy as np
import onnx_ir as ir

from graphopt.rewriting import pattern as patterns
from graphopt.rewriting import spelling

Operand = ir.Value | np.ndarray | float | Sequence[int] | Sequence[float] | None
PatternOperand = patterns.ValuePattern | patterns.Scalar | EllipsisType | None


class Builds(Protocol):
    """What makes nodes while a replacement runs.

    Attributes:
        place: The node before which new ones go.
        rebuilt: Nodes that have been written again.
    """

    place: ir.Node
    rebuilt: set[ir.Node]

    def build(
        self,
        domain: str,
        op_type: str,
        inputs: Sequence[Operand],
        attributes: dict[str, object],
        outputs: int,
    ) -> tuple[ir.Value, ...]: ...

    def constant(self, array: np.ndarray | ir.TensorProtocol) -> ir.Value: ...


_builder: ContextVar[Builds | None] = ContextVar("graphopt_builder", default=None)


class building:  # noqa: N801 - used like a function
    """Let `op.X(...)` make nodes of the graph that `builder` edits: `with building(draft): ...`."""

    __slots__ = ("_builder", "_token")

    def __init__(self, builder: Builds) -> None:
        self._builder = builder
        self._token: Token[Builds | None] | None = None

    def __enter__(self) -> None:
        self._token = _builder.set(self._builder)

    def __exit__(self, *_: object) -> None:
        assert self._token is not None
        _builder.reset(self._token)


@contextmanager
def placed_before(node: ir.Node) -> Iterator[None]:
    """Put the nodes made inside before another node than the anchor: one of the same graph."""
    builder = _builder.get()
    if builder is None:
        raise TypeError("placed_before() is for replacements: a pattern has no places")
    former, builder.place = builder.place, node
    try:
        yield
    finally:
        builder.place = former


@contextmanager
def in_place_of(node: ir.Node) -> Iterator[None]:
    """Put the nodes made inside before the one that they stand for.

    Raises:
        NotExpressible: If something else has taken that node's place already: two changes can't both be made.
    """
    builder = _builder.get()
    assert builder is not None, "only a replacement has places"
    if node in builder.rebuilt:
        raise spelling.NotExpressible(f"two changes meet at one {node.op_type}")
    builder.rebuilt.add(node)
    with placed_before(node):
        yield


class Operator:
    """One operator, or one of several when it stands in a pattern."""

    __slots__ = ("domain", "op_types")

    def __init__(self, domain: str, op_types: tuple[str, ...]) -> None:
        self.domain = domain
        self.op_types = op_types

    # Operands of a graph give values, those of a pattern pattern values; numbers alone could be either.
    @overload
    def __call__(  # type: ignore[overload-overlap]
        self, *inputs: Operand, outputs: int, **attributes: object
    ) -> tuple[ir.Value, ...]: ...
    @overload
    def __call__(self, *inputs: Operand, **attributes: object) -> ir.Value: ...  # type: ignore[overload-overlap]
    @overload
    def __call__(  # type: ignore[overload-overlap]
        self, *inputs: PatternOperand, outputs: int, **attributes: object
    ) -> tuple[patterns.ValuePattern, ...]: ...
    @overload
    def __call__(self, *inputs: PatternOperand, **attributes: object) -> patterns.ValuePattern: ...
    def __call__(self, *inputs: Any, outputs: int | None = None, **attributes: object) -> object:  # type: ignore[misc]
        """One value, or a tuple of them where `outputs` says how many."""
        builder = _builder.get()
        if builder is None:
            node = patterns.make_node(self.domain, self.op_types, inputs, attributes)
            found = tuple(node.output(i) for i in range(outputs or 1))
            return found[0] if outputs is None else found
        made = builder.build(self.domain, self.op_types[0], inputs, attributes, outputs or 1)
        return made[0] if outputs is None else made


class Operators:
    """The operators of a domain: `op.Relu(x)`, or `op["Relu", "Clip"](x)` for one of several in a pattern."""

    __slots__ = ("_domain",)

    def __init__(self, domain: str) -> None:
        self._domain = domain

    def __getattr__(self, op_type: str) -> Operator:
        if op_type.startswith("__"):
            raise AttributeError(op_type)
        return Operator(self._domain, (op_type,))

    def __getitem__(self, op_types: str | tuple[str, ...]) -> Operator:
        return Operator(self._domain, (op_types,) if isinstance(op_types, str) else op_types)


op = Operators("")
ms = Operators("com.microsoft")
gopt = Operators("ai.graphopt")


def operators(domain: str) -> Operators:
    """The operators of any other domain."""
    return Operators(domain)


def constant(array: np.ndarray | ir.TensorProtocol) -> ir.Value:
    """A constant of the graph that is being rewritten; equal small ones are one value.

    Args:
        array: The contents, or a tensor (a lazy one is not evaluated).
    """
    builder = _builder.get()
    if builder is None:
        raise TypeError("constant() makes a value of a graph: use const() in a pattern")
    return builder.constant(array)


@overload
def optional(op_type: str, value: patterns.ValuePattern, **attributes: object) -> patterns.ValuePattern: ...
@overload
def optional(
    op_type: Operator, value: patterns.ValuePattern, **attributes: object
) -> patterns.ValuePattern: ...
def optional(
    op_type: str | Operator, value: patterns.ValuePattern, **attributes: object
) -> patterns.ValuePattern:
    """The value, with or without one operator after it: `optional("Cast", x)`."""
    operator: Callable[..., patterns.ValuePattern] = (
        getattr(op, op_type) if isinstance(op_type, str) else op_type
    )
    return patterns.any_of(operator(value, ..., **attributes), value)


__all__ = [
    "Operator",
    "Operators",
    "building",
    "constant",
    "gopt",
    "in_place_of",
    "ms",
    "op",
    "operators",
    "optional",
    "placed_before",
]

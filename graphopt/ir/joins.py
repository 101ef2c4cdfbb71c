"""What holds for two facts at once: where branches meet, and for all elements of a sequence."""

from __future__ import annotations

from collections.abc import Callable

import onnx_ir as ir

from graphopt.ir.dims import Dim, symbol
from graphopt.ir.fact import UNKNOWN, Element, Fact, OptionalFact, SequenceFact, TensorFact

__all__ = ["VARYING", "element_fact", "is_nothing", "join", "join_elements_of_sequence", "nothing"]

# Stands in the fact of a sequence's elements for a dim that differs from element to element.
VARYING = symbol("*")


def join(a: Fact, b: Fact, fresh: Callable[[str], Dim]) -> Fact:
    """What holds whichever of the two it is; dims that differ become new symbols."""
    if a is b:
        return a
    if isinstance(a, SequenceFact) and isinstance(b, SequenceFact):
        return SequenceFact(join_elements_of_sequence(a.element, b.element))
    if isinstance(a, OptionalFact) and isinstance(b, OptionalFact):
        return OptionalFact(join(a.element, b.element, fresh))
    if not isinstance(a, TensorFact) or not isinstance(b, TensorFact):
        return UNKNOWN
    dims: tuple[Dim, ...] | None = None
    if a.dims is not None and b.dims is not None and len(a.dims) == len(b.dims):
        dims = tuple([x if x == y else fresh("either") for x, y in zip(a.dims, b.dims, strict=True)])
    elements: tuple[Element, ...] | None = None
    if a.elements is not None and b.elements is not None and a.dims == b.dims:
        elements = tuple([_same_element(x, y) for x, y in zip(a.elements, b.elements, strict=True)])
        if elements and all(element is None for element in elements):
            elements = None
    return TensorFact(a.dtype if a.dtype is b.dtype else None, dims, elements)


def join_elements_of_sequence(a: Fact, b: Fact) -> Fact:
    """What holds for the elements of two sequences; dims that differ are `VARYING`."""
    if is_nothing(a):
        return b
    if is_nothing(b):
        return a
    joined = join(a, b, lambda _: VARYING)
    return TensorFact(joined.dtype, joined.dims, None) if isinstance(joined, TensorFact) else joined


def element_fact(element: Fact, fresh: Callable[[str], Dim]) -> Fact:
    """The fact of one element of a sequence: what varies becomes a new symbol."""
    if is_nothing(element):
        assert isinstance(element, TensorFact), "what is nothing is a tensor"
        return TensorFact(element.dtype, None, None)
    if not isinstance(element, TensorFact) or element.dims is None:
        return element
    dims = tuple([fresh("element") if dim is VARYING else dim for dim in element.dims])
    return TensorFact(element.dtype, dims, element.elements)


def nothing(dtype: ir.DataType | None) -> TensorFact:
    """The fact of the elements of an empty sequence: it gives way to any other."""
    return TensorFact(dtype, None, ())


def is_nothing(fact: Fact) -> bool:
    """Whether it is `nothing` (no other fact has contents without dims)."""
    return isinstance(fact, TensorFact) and fact.dims is None and fact.elements == ()


def _same_element(a: Element, b: Element) -> Element:
    return a if type(a) is type(b) and a == b else None

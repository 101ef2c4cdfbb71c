"""What is known of one value: the three kinds of fact, as plain immutable data.

`graphopt.ir.inference` computes them; operators' functions in `graphopt.ir.facts` build them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

import onnx_ir as ir

from graphopt.ir.dims import Dim

__all__ = [
    "MAX_ELEMENTS",
    "UNKNOWN",
    "Element",
    "Fact",
    "OptionalFact",
    "Ratio",
    "SequenceFact",
    "TensorFact",
    "describe",
]

# Contents are followed up to this many elements: targets of Reshape, Expand and Slice have at most
# a few dozen, while position tables of 512 would cost more than they ever tell.
MAX_ELEMENTS = 128


@dataclass(frozen=True, slots=True)
class Ratio:
    """An element of a float tensor that is known to be numerator / denominator (at least 2)."""

    numerator: Dim
    denominator: int


# None: this one element is unknown. Integer tensors hold Dims, bool tensors bools, string tensors
# strings; float tensors hold floats, or what came out of integers by exact steps (Dim, Ratio).
Element: TypeAlias = Dim | float | bool | str | Ratio | None


@dataclass(frozen=True, slots=True)
class TensorFact:
    """What is known of a tensor.

    Attributes:
        dtype: Element type; None: unknown.
        dims: One expression an axis; None: the rank is unknown.
        elements: Partial contents, row-major, of tensors of static shape with at most
            `MAX_ELEMENTS` elements; None: nothing is known.
    """

    dtype: ir.DataType | None
    dims: tuple[Dim, ...] | None
    elements: tuple[Element, ...] | None = None


@dataclass(frozen=True, slots=True)
class SequenceFact:
    """A sequence; `element` is what is known of every element of it."""

    element: Fact


@dataclass(frozen=True, slots=True)
class OptionalFact:
    """An optional; `element` is what is known of its content, should it have one."""

    element: Fact


Fact: TypeAlias = TensorFact | SequenceFact | OptionalFact

UNKNOWN = TensorFact(None, None, None)


def describe(fact: Fact) -> str:
    """A fact in words: "float32[batch, seq, 256]", "sequence(int64[...])"."""
    if isinstance(fact, SequenceFact):
        return f"sequence({describe(fact.element)})"
    if isinstance(fact, OptionalFact):
        return f"optional({describe(fact.element)})"
    names = {ir.DataType.FLOAT: "float32", ir.DataType.DOUBLE: "float64"}
    dtype = "?" if fact.dtype is None else names.get(fact.dtype, fact.dtype.name.lower())
    dims = "..." if fact.dims is None else ", ".join(str(dim) for dim in fact.dims)
    return f"{dtype}[{dims}]"

"""What many operators' results have in common: an input's shape, axes counted from the end."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeAlias, TypeVar

import onnx_ir as ir

from graphopt.ir.dims import Dim, Expr
from graphopt.ir.fact import TensorFact
from graphopt.ir.facts.registry import InferenceContext

Dims: TypeAlias = tuple[Dim, ...]
T = TypeVar("T")


def known(value: T | None) -> T:
    """`value`, where it is known. FLOPs of what is unknown are unknown: raising says so to their caller.

    Raises:
        ValueError: It is None.
    """
    if value is None:
        raise ValueError("a shape that the result depends on is unknown")
    return value


def like(ctx: InferenceContext, index: int = 0, dtype: ir.DataType | None = None) -> TensorFact:
    """A tensor of the shape of input `index`, of its dtype unless another one is given; contents unknown."""
    return ctx.tensor(dtype or ctx.dtype(index), ctx.dims(index))


def normalized_axis(axis: object, rank: int) -> int | None:
    """`axis` counted from the front, None where it is no int or lies outside the rank."""
    if not isinstance(axis, int) or not -rank <= axis < rank:
        return None
    return axis + rank if axis < 0 else axis


def normalized_axes(axes: Sequence[object], rank: int) -> tuple[int, ...] | None:
    """All `axes` counted from the front, None where one is wrong or is given twice."""
    found = [normalized_axis(axis, rank) for axis in axes]
    known = tuple(axis for axis in found if axis is not None)
    return known if len(set(known)) == len(found) else None


def scalar(ctx: InferenceContext, index: int) -> Dim | None:
    """The one integer that input `index` holds, None where it is absent, unknown, or no integer."""
    values = ctx.elements(index)
    if values is None or len(values) != 1:
        return None
    return _integer(values[0])


def integers(ctx: InferenceContext, index: int) -> tuple[Dim | None, ...] | None:
    """The integers that input `index` holds, None where none of them is known."""
    values = ctx.elements(index)
    return None if values is None else tuple(_integer(value) for value in values)


def output_dtype(ctx: InferenceContext, name: str, default: ir.DataType | None) -> ir.DataType | None:
    """The dtype that integer attribute `name` asks for; `default` where it is absent or 0."""
    code = ctx.attr(name, 0)
    if not isinstance(code, int) or code == 0:
        return default
    try:
        return ir.DataType(code)
    except ValueError:
        return None


def _integer(value: object) -> Dim | None:
    if isinstance(value, bool) or not isinstance(value, (int, Expr)):
        return None
    return value

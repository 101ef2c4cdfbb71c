"""Slice only the axes that are cut, with constant bounds wherever they hold for every size.

    before   Slice(x, [0,0,0], Concat([max], n, [max]))               x[b,s,c]
    after    Slice(x, [0], n, axes = [1])

    before   Slice(x, [1], Shape(x)[1], axes = [1])
    after    Slice(x, [1], [max], axes = [1])

An end that is proven to be at least the dim is the largest integer. What still has to be computed is taken
from the Concat that put it beside other bounds.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from graphopt.ir.dims import Dim, Expr, at_most
from graphopt.ir.fact import Element
from graphopt.rewriting import Match, Pass, Rejection, constant, op, rule_on

CONSTANT = "the bounds are constant already, or attributes"
NEEDS_RUN = "a bound depends on the run and is not an input of a Concat"
UNKNOWN = "the axes, the steps or the input's dims are not known"

END = np.iinfo(np.int64).max

# Exporters write "to the end" as a large number, of 32 bits or 10^9.
UNBOUNDED = 10**9

BOUNDS_SINCE = 10


@rule_on("Slice", depth=3)
def fewer_axes(m: Match) -> ir.Value | Rejection | None:
    """Slice(x, computed for all axes) -> Slice(x, computed for those that are cut)."""
    inputs = [*m.root.inputs, None, None][:5]
    x, starts, ends = inputs[:3]
    if m.opset < BOUNDS_SINCE or x is None or starts is None or ends is None:
        return Rejection(CONSTANT)
    if m.tensor(starts) is not None and m.tensor(ends) is not None:
        return Rejection(CONSTANT, ends)
    dims, first, last = m.dims(x), m.facts.elements(starts), m.facts.elements(ends)
    count = len(first or last or ())
    axes = _numbers(m, inputs[3], range(count))
    steps = _numbers(m, inputs[4], [1] * count)
    if dims is None or not count or axes is None or steps is None:
        return Rejection(UNKNOWN, x)
    places = [axis % len(dims) for axis in axes]
    kept = [i for i in range(count) if not _is_whole(dims[places[i]], first, last, steps[i], i)]
    if not kept:
        return x
    bounds = [
        _bound(m, value, elements, kept, [dims[places[i]] for i in kept] if value is ends else None, steps)
        for value, elements in ((starts, first), (ends, last))
    ]
    if bounds[0] is None or bounds[1] is None:
        return Rejection(NEEDS_RUN, ends)
    if len(kept) == count and bounds[0] is starts and bounds[1] is ends:
        return Rejection(NEEDS_RUN, ends)
    # All bounds are of one type, and new constants are int64; a Cast to int32 is looked through.
    if any(m.tensor(bound) is None and m.dtype(bound) is not ir.DataType.INT64 for bound in bounds if bound):
        return Rejection(NEEDS_RUN, ends)
    given = [places[i] for i in kept]
    made = op.Slice(
        x, bounds[0], bounds[1], given, *([[steps[i] for i in kept]] if set(steps) != {1} else [])
    )
    assert isinstance(made, ir.Value)
    return made


def _numbers(m: Match, value: ir.Value | None, default: Sequence[int]) -> list[int] | None:
    if value is None:
        return list(default)
    elements = m.facts.elements(value) or ()
    found = [e for e in elements if isinstance(e, int)]
    return found if elements and len(found) == len(elements) else None


def _is_whole(
    dim: Dim, first: Sequence[Element] | None, last: Sequence[Element] | None, step: int, i: int
) -> bool:
    """Whether a slice takes all of an axis."""
    return step == 1 and first is not None and last is not None and first[i] == 0 and _reaches(last[i], dim)


def _reaches(end: Element, dim: Dim) -> bool:
    """Whether an end is proven to be at least the dim."""
    if isinstance(end, int) and end >= UNBOUNDED:
        return True
    return isinstance(end, int | Expr) and not isinstance(end, bool) and at_most(dim, end)


def _bound(
    m: Match,
    value: ir.Value,
    elements: Sequence[Element] | None,
    kept: list[int],
    dims: list[Dim] | None,
    steps: list[int],
) -> ir.Value | None:
    """The starts, or (with dims) the ends, of the axes that are kept."""
    if elements is not None:
        numbers = [
            END if dims is not None and steps[i] > 0 and _reaches(elements[i], dims[place]) else elements[i]
            for place, i in enumerate(kept)
        ]
        is_same = tuple(numbers) == tuple(elements) and m.dtype(value) is ir.DataType.INT64
        if not is_same and all(isinstance(number, int) for number in numbers):
            return constant(np.array(numbers, np.int64))
    cast = value.producer()
    given = cast.inputs[0] if cast is not None and cast.op_type == "Cast" else None
    if given is not None and m.dtype(given) is ir.DataType.INT64:
        value = given
    if len(kept) == len(elements or ()):
        return value
    concat = value.producer()
    if concat is None or concat.op_type != "Concat" or m.dtype(value) is not ir.DataType.INT64:
        return None
    pieces = [m.dims(piece) if piece is not None else None for piece in concat.inputs]
    if any(piece != (1,) for piece in pieces):
        return None
    found = [piece for i in kept if (piece := concat.inputs[i]) is not None]
    if len(found) == 1:
        return found[0]
    if not m.has_one_consumer(value):
        return None
    made = op.Concat(*found, axis=0)
    assert isinstance(made, ir.Value)
    return made


@dataclass(frozen=True)
class SimplifySliceBounds(Pass):
    """Slice only the axes that are cut, with constant bounds wherever they hold for every size."""

    name = "simplify-slice-bounds"
    family = "shapes"
    rules = (fewer_axes,)

"""Attention masks: what is added to, or chosen over, the scores, as one value to be added.

Exporters stack masks: a causal one by Where, a padding one by Add, a relative bias by Add. Runtimes want
one mask, whose last two dims are the real numbers of queries and keys; the dims before them may broadcast.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from graphopt.ir.dims import Dim, broadcast, if_not_empty
from graphopt.rewriting.lowest_numbers import FRACTION_BITS, next_to_lowest, without_lowest
from graphopt.rewriting.match import Match, Rejection
from graphopt.rewriting.operators import constant, op

__all__ = [
    "FILL_IS_NO_MASK",
    "MASK_DOES_NOT_FIT",
    "Added",
    "Chosen",
    "Term",
    "absorbs",
    "combined",
    "covers_keys",
    "fits",
    "size_of",
    "summed",
]

MASK_DOES_NOT_FIT = "the mask does not provably broadcast to the scores"
FILL_IS_NO_MASK = "scores that are masked would not all become the same number"

# A fill takes the place of scores; added to them it must give itself again, for scores up to this size.
ABSORBED = 16.0


@dataclass(frozen=True, slots=True)
class Added:
    """result = scores + mask * factor."""

    mask: ir.Value
    result: ir.Value
    factor: float = 1.0


@dataclass(frozen=True, slots=True)
class Chosen:
    """result = Where(condition, scores, fill), or Where(condition, fill, scores) if `keeps_true` is false."""

    condition: ir.Value
    result: ir.Value
    fill: float
    keeps_true: bool


Term = Added | Chosen


def fits(dim: Dim, wanted: Dim) -> bool:
    """Whether a legal broadcast of two dims that are not 0 gives the second one."""
    try:
        return if_not_empty(broadcast(dim, wanted)) == if_not_empty(wanted)
    except ValueError:
        return False


def covers_keys(m: Match, terms: Sequence[Term], keys: Dim) -> bool:
    """Whether the scores have as many keys under their masks as without."""
    shapes = [m.dims(_array_of(term)) for term in terms]
    return all(dims is not None and (not dims or fits(dims[-1], keys)) for dims in shapes)


def combined(
    m: Match, terms: Sequence[Term], query: ir.Value, keys: ir.Value, dtype: ir.DataType
) -> ir.Value | Rejection | None:
    """The terms, innermost first, as one mask for the scores of `query` and `keys`; None without terms."""
    mask = summed(m, terms, query, dtype)
    return _with_lengths(m, mask, query, keys) if isinstance(mask, ir.Value) else mask


def summed(
    m: Match, terms: Sequence[Term], query: ir.Value, dtype: ir.DataType
) -> ir.Value | Rejection | None:
    """The terms as one mask that broadcasts to the scores.

    Over keys nothing is asked: the product with the values fails unless a mask has one, or all of them.
    """
    if not terms:
        return None
    outer = (m.dims(query) or ())[:-1]
    for term in terms:
        value = _array_of(term)
        dims, result = m.dims(value), m.dims(term.result)
        if dims is None or result is None or len(result) != len(outer) + 1:
            return Rejection(MASK_DOES_NOT_FIT, value)
        padded = (1,) * (len(result) - len(dims)) + dims
        for dim, wanted, found in zip(padded, outer, result, strict=False):
            if not fits(dim, wanted) and if_not_empty(found) != if_not_empty(wanted):
                return Rejection(MASK_DOES_NOT_FIT, value)
        if isinstance(term, Chosen) and not absorbs(term.fill, dtype):
            return Rejection(FILL_IS_NO_MASK, value)
    return _sum(m, terms, dtype)


def _array_of(term: Term) -> ir.Value:
    return term.mask if isinstance(term, Added) else term.condition


def absorbs(fill: float, dtype: ir.DataType) -> bool:
    """Whether fill + score is fill again: half the distance to the next number is no less than the score."""
    if fill == -math.inf:
        return True
    if not fill < 0:
        return False
    return math.ldexp(1.0, math.frexp(fill)[1] - 2 - FRACTION_BITS[dtype]) >= ABSORBED


def _sum(m: Match, terms: Sequence[Term], dtype: ir.DataType) -> ir.Value:
    """All terms as one; a condition alone stays one if forbidden scores are -inf: that is what it means."""
    if len(terms) == 1:
        condition = _forbidding(m, terms[0])
        if condition is not None:
            return condition
    mask: ir.Value | None = None
    zero = np.zeros((), dtype.numpy())
    for term in terms:
        if isinstance(term, Added):
            whole = without_lowest(m, term.mask, dtype)
            scaled = whole if term.factor == 1.0 else op.Mul(whole, term.factor)
            mask = scaled if mask is None else op.Add(mask, scaled)
        else:
            kept = zero if mask is None else mask
            fill = np.asarray(next_to_lowest(term.fill, dtype)).astype(dtype.numpy())
            mask = op.Where(term.condition, *((kept, fill) if term.keeps_true else (fill, kept)))
    assert mask is not None
    return mask


def _forbidding(m: Match, term: Term) -> ir.Value | None:
    """The condition of a mask that is -inf where it is false, and 0 elsewhere."""
    if isinstance(term, Chosen):
        return term.condition if term.keeps_true and term.fill == -math.inf else None
    where = term.mask.producer()
    if where is None or where.op_type != "Where" or where.domain != "" or term.factor <= 0:
        return None
    condition, kept, fill = where.inputs
    if m.scalar(kept) != 0.0 or m.scalar(fill) != -math.inf or condition is None:
        return None
    return condition if m.rank(condition) == m.rank(term.mask) else None


def _with_lengths(m: Match, mask: ir.Value, query: ir.Value, keys: ir.Value) -> ir.Value:
    """The mask with its last two dims written out, the others as they are."""
    rank = m.rank(query)
    dims = m.dims(mask) or ()
    lengths: tuple[Dim, Dim] = ((m.dims(query) or ())[-2], (m.dims(keys) or ())[-2])
    if rank == 3 and len(dims) == 3:
        # One head a batch item: the mask has a batch where Attention looks for heads.
        mask = op.Squeeze(mask, [0]) if dims[0] == 1 else op.Unsqueeze(mask, [1])
        dims = dims[1:] if dims[0] == 1 else (dims[0], 1, *dims[1:])
    padded = (1,) * max(2 - len(dims), 0) + dims
    last = padded[-2:]
    is_long = [if_not_empty(d) == if_not_empty(n) for d, n in zip(last, lengths, strict=True)]
    if padded == dims and all(is_long):
        return mask
    target: list[ir.Value | list[int]] = [[1] * (len(padded) - 2)] if len(padded) > 2 else []
    for known, wanted, source in zip(is_long, lengths, (query, keys), strict=True):
        if known or isinstance(wanted, int):
            target.append([wanted if isinstance(wanted, int) else 1])
        else:
            target.append(size_of(m, wanted, source, -2))
    if all(isinstance(part, list) for part in target):
        return op.Expand(mask, [d for part in target if isinstance(part, list) for d in part])
    parts = [part if isinstance(part, ir.Value) else constant(np.asarray(part, np.int64)) for part in target]
    return op.Expand(mask, op.Concat(*parts, axis=0) if len(parts) > 1 else parts[0])


def size_of(m: Match, wanted: Dim, source: ir.Value, axis: int) -> ir.Value:
    """An axis's size as a vector of one; of a graph input where one has it: all layers share the node."""
    graph = m.root.graph
    region = m.editor.regions.get(graph) if graph is not None else None
    if region is not None and region.function is None:
        for value in m.editor.model.graph.inputs:
            dims = m.dims(value) or ()
            if wanted in dims:
                found = dims.index(wanted)
                return op.Shape(value, start=found, end=found + 1)
    return op.Shape(source, start=axis, end=axis + 1)

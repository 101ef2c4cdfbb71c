"""Attention masks: what is added to, or chosen over, the scores, as one value to be added.

Exporters stack masks: a causal one by Where, a padding one by Add, a relative bias by Add. Runtimes want
one mask, whose last two dims are the real numbers of queries and keys; the dims before them may broadcast.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from graphopt.ir.dims import Dim
from graphopt.rewriting.match import Match, Rejection
from graphopt.rewriting.operators import constant, op

MASK_DOES_NOT_FIT = "the mask does not provably broadcast to the scores"

# fill + score is fill again in float32 for any score up to 1e1: half the spacing of numbers of this size.
LEAST_FILL = -1e9


@dataclass(frozen=True, slots=True)
class Added:
    """scores + mask."""

    mask: ir.Value


@dataclass(frozen=True, slots=True)
class Chosen:
    """Where(condition, scores, fill), or Where(condition, fill, scores) if `keeps_true` is false."""

    condition: ir.Value
    fill: float
    keeps_true: bool


Term = Added | Chosen


def combined(
    m: Match, terms: Sequence[Term], query: ir.Value, keys: ir.Value, dtype: ir.DataType
) -> ir.Value | Rejection | None:
    """The terms, innermost first, as one mask to add to scores of `query` and `keys`; None without terms."""
    if not terms:
        return None
    outer = (m.dims(query) or ())[:-1]
    for term in terms:
        value = term.mask if isinstance(term, Added) else term.condition
        dims = m.dims(value)
        if dims is None or len(dims) > len(outer) + 1:
            return Rejection(MASK_DOES_NOT_FIT, value)
        # Over keys nothing is asked: the product with the values fails unless the mask has one, or all.
        padded = ((1,) * (len(outer) + 1 - len(dims)) + dims)[:-1]
        if any(d not in (1, o) for d, o in zip(padded, outer, strict=True)):
            return Rejection(MASK_DOES_NOT_FIT, value)
        if isinstance(term, Chosen) and not term.fill <= LEAST_FILL:
            return Rejection(MASK_DOES_NOT_FIT, value)
    mask = _sum(terms, dtype)
    return _with_lengths(m, mask, query, keys)


def _sum(terms: Sequence[Term], dtype: ir.DataType) -> ir.Value:
    zero = np.zeros((), dtype.numpy())
    mask: ir.Value | np.ndarray = zero
    for term in terms:
        if isinstance(term, Added):
            mask = op.Add(mask, term.mask) if isinstance(mask, ir.Value) else term.mask
        else:
            fill = np.asarray(term.fill).astype(dtype.numpy())
            first, second = (mask, fill) if term.keeps_true else (fill, mask)
            mask = op.Where(term.condition, first, second)
    assert isinstance(mask, ir.Value)
    return mask


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
    if padded == dims and dims[-2:] == lengths:
        return mask
    target: list[ir.Value | list[int]] = [[1] * (len(padded) - 2)] if len(padded) > 2 else []
    for found, wanted, source in zip(padded[-2:], lengths, (query, keys), strict=True):
        if found == wanted or isinstance(wanted, int):
            target.append([wanted if isinstance(wanted, int) else 1])
        else:
            target.append(length_of(m, wanted, source))
    if all(isinstance(part, list) for part in target):
        return op.Expand(mask, [d for part in target if isinstance(part, list) for d in part])
    parts = [part if isinstance(part, ir.Value) else constant(np.asarray(part, np.int64)) for part in target]
    return op.Expand(mask, op.Concat(*parts, axis=0) if len(parts) > 1 else parts[0])


def length_of(m: Match, wanted: Dim, source: ir.Value) -> ir.Value:
    """A length as a vector of one; from a graph input where one has it, so that all layers share the node."""
    graph = m.root.graph
    region = m.editor.regions.get(graph) if graph is not None else None
    if region is not None and region.function is None:
        for value in m.editor.model.graph.inputs:
            dims = m.dims(value) or ()
            if wanted in dims:
                axis = dims.index(wanted)
                return op.Shape(value, start=axis, end=axis + 1)
    return op.Shape(source, start=-2, end=-1)

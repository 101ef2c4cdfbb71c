"""Pad where constant rows are put beside a tensor and a constant is added to all.

    before   Add(Concat(Expand(token, [batch,1,D]), x[batch,n,D]), position[1,1+n,D])
    after    Add(Pad(x, one row before), position')         position'[0] = token + position[0]

The class token of vision transformers: expanding it is all that the batch size is computed for. A row of
zeros takes the sum of both constants, which is rounded as before; a negative zero among the sums would become
a positive one, so there may be none.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from graphopt.ir import constants
from graphopt.ir.operands import producer_of
from graphopt.rewriting import HAS_OTHER_CONSUMERS, Match, Pass, Rejection, constant, op, rule_on

NOT_ROWS = "the parts are not one tensor and constants expanded along other axes"
OTHER_SIZES = "the constant that is added does not have a row for each row"
NEGATIVE_ZERO = "a sum of constants is a negative zero"

# Before it Pad takes no input for the amounts, and float only.
PAD_INPUTS_SINCE = 11


@rule_on("Add", depth=3)
def rows_of_zeros(m: Match) -> ir.Value | Rejection | None:
    """Add(Concat(Expand(token), x), position) -> Add(Pad(x), position')."""
    for value, other in ((m.root.inputs[0], m.root.inputs[1]), (m.root.inputs[1], m.root.inputs[0])):
        node = value.producer() if value is not None else None
        if (
            node is not None
            and node.op_type == "Concat"
            and node.domain == ""
            and m.tensor(other) is not None
        ):
            return _padded(m, node, other)
    return None


def _padded(m: Match, concat: ir.Node, other: ir.Value | None) -> ir.Value | Rejection | None:
    whole = concat.outputs[0]
    dims, axis, added = m.dims(whole), m.attribute(concat, "axis"), m.tensor(other)
    if m.opset < PAD_INPUTS_SINCE or dims is None or not isinstance(axis, int) or added is None:
        return None
    parts = [_token(m, value, axis % len(dims)) for value in concat.inputs]
    kept = [i for i, part in enumerate(parts) if part is None]
    if len(kept) != 1 or len(parts) < 2:
        return Rejection(NOT_ROWS, whole)
    expanded = [value for i, value in enumerate(concat.inputs) if i not in kept]
    shared = next((v for v in (whole, *expanded) if v is not None and not m.has_one_consumer(v)), None)
    if shared is not None:
        return Rejection(HAS_OTHER_CONSUMERS, shared)
    x = concat.inputs[kept[0]]
    size = m.dims(x)[axis % len(dims)] if x is not None else None  # type: ignore[index]
    tensor = m.array(other)
    if x is None or tensor is None or not isinstance(size, int) or tensor.dtype.kind != "f":
        return Rejection(NOT_ROWS, whole)
    rows = _rows(tensor, [_aligned(p, len(dims)) for p in parts], axis % len(dims), kept[0], size)
    if isinstance(rows, Rejection):
        return rows
    before = sum(p.shape[axis % len(dims) - len(dims)] for p in parts[: kept[0]] if p is not None)
    after = rows.shape[axis % len(dims)] - before - size
    pads = [0] * (2 * len(dims))
    pads[axis % len(dims)], pads[len(dims) + axis % len(dims)] = before, after
    made = op.Add(op.Pad(x, pads), constant(rows))
    assert isinstance(made, ir.Value)
    return made


def _token(m: Match, value: ir.Value | None, axis: int) -> np.ndarray | None:
    """The constant that is expanded, with its rows along the axis; None: it is something else."""
    node = producer_of(value, "Expand")
    if node is None or value is None:
        return None
    tensor, dims = constants.array(node.inputs[0]), m.dims(value)
    if tensor is None or dims is None or not isinstance(dims[axis], int):
        return None
    count = dims[axis]
    aligned = _aligned(tensor, len(dims))
    assert aligned is not None
    sizes = list(aligned.shape)
    sizes[axis] = count
    fits = all(have in (1, dim) for have, dim in zip(aligned.shape, dims, strict=True))
    # Along the other axes the sum must not need more than the constant has: those are broadcast.
    return np.broadcast_to(aligned, sizes) if fits else None


def _aligned(tensor: np.ndarray | None, rank: int) -> np.ndarray | None:
    return None if tensor is None else tensor.reshape((1,) * (rank - tensor.ndim) + tensor.shape)


def _rows(
    added: np.ndarray, parts: list[np.ndarray | None], axis: int, kept: int, size: int
) -> np.ndarray | Rejection:
    """What is added to each row of the padded tensor."""
    rank = next(part.ndim for part in parts if part is not None)
    if added.ndim > rank:
        return Rejection(OTHER_SIZES)
    added = added.reshape((1,) * (rank - added.ndim) + added.shape)
    lengths = [size if part is None else part.shape[axis] for part in parts]
    total = sum(lengths)
    if added.shape[axis] not in (1, total):
        return Rejection(OTHER_SIZES)
    shapes = [part.shape for part in parts if part is not None]
    shape = [max(added.shape[i], *(s[i] for s in shapes)) for i in range(rank)]
    shape[axis] = total
    rows = np.broadcast_to(added, shape).copy()
    start = 0
    for part, length in zip(parts, lengths, strict=True):
        place = [slice(None)] * rank
        place[axis] = slice(start, start + length)
        start += length
        if part is not None:
            if part.dtype != rows.dtype:
                return Rejection(NOT_ROWS)
            rows[tuple(place)] += part
            if np.any((rows[tuple(place)] == 0) & np.signbit(rows[tuple(place)])):
                return Rejection(NEGATIVE_ZERO)
    assert parts[kept] is None, "the tensor's own rows get what they got"
    return rows


@dataclass(frozen=True)
class ConvertTokensToPad(Pass):
    """Pad where constant rows are put beside a tensor and a constant is added to all."""

    name = "convert-tokens-to-pad"
    family = "shapes"
    stage = "fuse"
    rules = (rows_of_zeros,)

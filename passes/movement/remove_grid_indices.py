"""Read and write whole blocks instead of a grid of single positions.

    before   GatherND(mask: [B, T], grid of the rows r: [b] and the columns c: [t]: [b, 1, 1, t, 2])
    after    Unsqueeze(Gather(Gather(mask, r, axis=0), c, axis=1), [1, 2])

    before   ScatterND(data: [B, T], grid of all rows and columns, updates)
    after    updates

torch writes `mask[:, None, None, :]` and `data[:, :] = updates` like this when it traces indices. An axis
that is read from its first to its last element needs no Gather. One of which the first ones are read keeps
it: its result has as many elements as there are indices, which of a Slice would have to be proven again.
"""

from __future__ import annotations

from dataclasses import dataclass

import onnx_ir as ir

from graphopt.ir.attributes import attribute
from graphopt.ir.dims import Dim
from graphopt.ir.grids import Line, counts_from_zero, grid_of
from graphopt.rewriting import Match, Pass, Rejection, op, rule_on

NOT_A_BLOCK = "the positions are not a block in the order of the axes"
IS_SHARED = "the grid, or a part of it, is needed elsewhere"


def _is_whole(m: Match, line: Line, size: Dim) -> bool:
    """Whether a component takes every position of an axis in order."""
    return line.axis is not None and m.dims(line.values) == (size,) and counts_from_zero(line.values, m.facts)


@rule_on("ScatterND", depth=6)
def all_positions(m: Match) -> ir.Value | Rejection | None:
    """ScatterND(data, every position, updates) -> updates."""
    data, indices, updates = m.root.inputs
    assert data is not None and indices is not None and updates is not None
    if attribute(m.root, "reduction", "none") != "none":
        return None
    grid = grid_of(indices, m.facts)
    dims, places = m.dims(data), m.dims(indices)
    if grid is None or dims is None or places is None:
        return None
    # Along an axis of size 1 the only legal position is the first, however it is counted.
    whole = len(places) - 1 == len(grid) and all(
        dims[axis] == places[axis]
        and (dims[axis] == 1 or (line.axis == axis and _is_whole(m, line, dims[axis])))
        for axis, line in enumerate(grid)
    )
    return updates if whole and m.facts.same_shape(updates, m.output) else Rejection(NOT_A_BLOCK, indices)


@rule_on("GatherND", depth=6)
def block(m: Match) -> ir.Value | Rejection | None:
    """GatherND(data, a grid) -> Unsqueeze(Gather(Gather(data)))."""
    data, indices = m.root.inputs
    assert data is not None and indices is not None
    if attribute(m.root, "batch_dims", 0) != 0:
        return None
    grid = grid_of(indices, m.facts)
    dims, places = m.dims(data), m.dims(indices)
    if grid is None or dims is None or places is None:
        return None
    axes = [line.axis for line in grid if line.axis is not None]
    new = [a for a in range(len(places) - 1) if a not in axes]
    if len(axes) < len(grid) or axes != sorted(set(axes)) or any(places[a] != 1 for a in new):
        return Rejection(NOT_A_BLOCK, indices)
    # The GatherND, the Concat and its parts go; what may come is a Gather for each axis and an Unsqueeze.
    concat = indices.producer()
    assert concat is not None
    if not all(m.has_one_consumer(v) for v in (indices, *concat.inputs) if v is not None):
        return Rejection(IS_SHARED, indices)
    value = data
    for axis, line in enumerate(grid):
        if not _is_whole(m, line, dims[axis]):
            value = op.Gather(value, line.values, axis=axis)
    if new:
        value = op.Unsqueeze(value, new)
    return value


@dataclass(frozen=True)
class RemoveGridIndices(Pass):
    """Turn gathers and scatters of whole blocks into what they are."""

    name = "remove-grid-indices"
    family = "movement"
    rules = (all_positions, block)

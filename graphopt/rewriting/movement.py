"""The cheapest chain of operators that moves elements as a map says.

A chain costs its number of nodes first, then the number of nodes that have to move elements: a Reshape
moves none.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

import onnx_ir as ir

from graphopt.ir.attributes import attribute
from graphopt.ir.dims import Dim, exact_quotient
from graphopt.ir.regions import Movement, cut_at, depth_to_space, space_to_depth
from graphopt.ir.relabelling import RELABELLINGS, Relabelling, positive_atoms, relabelling
from graphopt.rewriting.operators import op

__all__ = ["Chain", "Cost", "cost_of", "spelled", "written"]

# Number of nodes, and how many of them move elements.
Cost = tuple[int, int]
Dims = tuple[Dim, ...]

# DepthToSpace has had a mode since then.
MODE_SINCE = 11


@dataclass(frozen=True, slots=True)
class Step:
    """One node that moves elements: Transpose with its permutation, or a DepthToSpace or SpaceToDepth."""

    op_type: str
    numbers: tuple[int, ...]
    mode: str | None = None


@dataclass(frozen=True, slots=True)
class OwnTarget:
    """A Reshape to the target, perhaps computed, that the last node of the old chain has."""


Chain = tuple[Step | Relabelling | OwnTarget, ...]


def cost_of(chain: Chain) -> Cost:
    """What a chain costs."""
    return len(chain), sum(isinstance(step, Step) for step in chain)


def spelled(
    movement: Movement, opset: int, *, blocks: bool, inferred: int | None = None, own_target: bool = False
) -> Chain | None:
    """The cheapest chain for a map.

    Args:
        movement: The map.
        opset: Version of the default domain.
        blocks: Whether DepthToSpace and SpaceToDepth may be used.
        inferred: A dim of the result that the old chain leaves to be inferred (`relabelling`).
        own_target: Whether the last node may be a Reshape to the old chain's own target.

    Returns:
        None where every chain would need a shape computed when the model runs.
    """
    result = movement.result
    positive = positive_atoms([-1 if axis == inferred else 1 for axis in range(len(result))], result)

    def last(dims: Dims) -> Chain | None:
        found = relabelling(dims, result, opset, positive)
        if found is not None:
            return (found,) if found.op_type else ()
        return (OwnTarget(),) if own_target else None

    def first(dims: Dims) -> Chain | None:
        found = relabelling(movement.source, dims, opset)
        return None if found is None else (found,) if found.op_type else ()

    if movement.keeps_order and (relabelled := last(movement.source)) is not None:
        return relabelled
    found: list[Chain] = []
    for dims, perm in _transpositions(movement):
        before, after = first(dims), last(tuple(dims[axis] for axis in perm))
        if before is not None and after is not None:
            found.append((*before, Step("Transpose", perm), *after))
    if blocks:
        found += [(step,) for step in _blocks(movement, opset)]
    return min(found, key=cost_of, default=None)


def _transpositions(movement: Movement) -> Iterator[tuple[Dims, tuple[int, ...]]]:
    """Ways to do the map's move by one Transpose: dims of a relabelled source, and the permutation."""
    direct = _of_source(movement)
    if direct is not None:
        yield movement.source, direct
    parts = _of_result(movement)
    if parts is not None:
        yield parts
    sizes, order = movement.blocks()
    yield sizes, order
    finest = _at_source_dims(movement)
    if finest is not None:
        yield finest


def _of_source(movement: Movement) -> tuple[int, ...] | None:
    """The permutation of the source's own dims; None where a dim would have to be cut."""
    sizes, order = movement.blocks()
    members = _joined(movement.source, sizes)
    if members is None:
        return None
    ones = [axis for axis, dim in enumerate(movement.source) if dim == 1]
    moved = [axis for block in order for axis in members[block]]
    if len(moved) + len(ones) < len(movement.source):
        return None  # Beside a dim of 0 others may belong to no block.
    # Dims of 1 go wherever the result has its own; where it has not as many, they go first.
    wanted = movement.result
    if len(wanted) == len(movement.source) and sum(dim == 1 for dim in wanted) == len(ones):
        queue = [iter(moved), iter(ones)]
        return tuple(next(queue[dim == 1]) for dim in wanted)
    return _beside(ones, moved, len(movement.source))


def _beside(ones: list[int], moved: list[int], rank: int) -> tuple[int, ...]:
    """A permutation in which each dim of 1 stays before the dim that it is before now."""
    found: list[int] = []
    for axis in moved:
        run = axis
        while run - 1 in ones:
            run -= 1
        found += range(run, axis + 1)
    return (*found, *(axis for axis in range(rank) if axis not in found))


def _joined(dims: Dims, sizes: Dims) -> list[list[int]] | None:
    """For each size the consecutive dims, without those of 1, that make it; None where one is cut."""
    found: list[list[int]] = []
    axes = iter(axis for axis, dim in enumerate(dims) if dim != 1)
    for size in sizes:
        need, members = size, list[int]()
        while need != 1:
            axis = next(axes, None)
            rest = None if axis is None else exact_quotient(need, dims[axis])
            if axis is None or rest is None:
                return None
            members.append(axis)
            need = rest
        found.append(members)
    return found


def _of_result(movement: Movement) -> tuple[Dims, tuple[int, ...]] | None:
    """The result's dims in the source's order, and the permutation that makes the result of them."""
    for group in movement.groups:
        if any(b != a + 1 for a, b in pairwise(group)):
            return None
    rank = len(movement.groups)
    # A dim of 1 stays beside its neighbour in the result.
    keys: list[tuple[int, int]] = []
    following = len(movement.factors)
    for axis in reversed(range(rank)):
        group = movement.groups[axis]
        following = group[0] if group else following
        keys.append((following, axis))
    axes = [axis for _, axis in sorted(keys)]
    result = movement.result
    return tuple(result[axis] for axis in axes), tuple(axes.index(axis) for axis in range(rank))


def _at_source_dims(movement: Movement) -> tuple[Dims, tuple[int, ...]] | None:
    """The source's dims, cut where the map cuts them: more of them are copied than of the coarsest cut."""
    sizes, order = movement.blocks()
    cut = cut_at(movement.source, list(enumerate(sizes))[::-1])
    if cut is None:
        return None
    pieces = [part for parts in cut for part in parts]
    perm = tuple(i for block in order for i, (b, _) in enumerate(pieces) if b == block)
    return tuple(size for _, size in pieces), perm


def _blocks(movement: Movement, opset: int) -> Iterator[Step]:
    """A DepthToSpace or SpaceToDepth that is the whole map."""
    source, result = movement.source, movement.result
    if len(source) != 4 or len(result) != 4:
        return
    start = Movement.of(source)
    wider = exact_quotient(result[2], source[2])
    if type(wider) is int and wider > 1:
        for mode in ("DCR", "CRD") if opset >= MODE_SINCE else ("DCR",):
            made = depth_to_space(start, wider, mode)
            if made is not None and made.same_as(movement):
                yield Step("DepthToSpace", (wider,), mode if mode != "DCR" else None)
                return
    narrower = exact_quotient(source[2], result[2])
    if type(narrower) is int and narrower > 1:
        made = space_to_depth(start, narrower)
        if made is not None and made.same_as(movement):
            yield Step("SpaceToDepth", (narrower,))


def written(value: ir.Value, chain: Chain, last: ir.Node | None = None) -> ir.Value:
    """Build a chain.

    Args:
        value: The source.
        chain: What `spelled` gave.
        last: The last node of the old chain, where its own target may be taken.
    """
    for step in chain:
        if isinstance(step, OwnTarget):
            assert last is not None, "there is a target to be taken"
            value = op.Reshape(value, last.inputs[1], allowzero=attribute(last, "allowzero"))
        elif step.op_type == "Transpose":
            value = op.Transpose(value, perm=list(step.numbers))
        elif isinstance(step, Step):
            value = getattr(op, step.op_type)(value, blocksize=step.numbers[0], mode=step.mode)
        else:
            value = _relabelled(value, step)
    return value


def _relabelled(value: ir.Value, found: Relabelling) -> ir.Value:
    assert found.op_type in RELABELLINGS, "an empty relabelling is no step"
    if found.op_type == "Reshape":
        made: ir.Value = op.Reshape(value, list(found.numbers), allowzero=1 if found.allowzero else None)
    elif found.op_type == "Flatten":
        made = op.Flatten(value, axis=found.numbers[0])
    else:
        made = getattr(op, found.op_type)(value, list(found.numbers))
    return made

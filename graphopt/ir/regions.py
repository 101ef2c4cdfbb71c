"""Data movement as a map of coordinates.

Reshape, Transpose, Squeeze, Unsqueeze, Flatten, DepthToSpace and SpaceToDepth put the elements of a tensor in
another order without changing them. Any chain of them is one map: the source, flat, is cut into factors, and
the result has the same factors in another order, joined to other dims. Maps compose, two chains that do the
same have the same map, and from a map the cheapest chain is written again.

    [b,h,t,d] -> Reshape(b*h,t,d) -> Transpose(0,2,1) -> Reshape(b,h,d,t)
    factors b*h, t, d in the order 0 2 1; so Transpose(0,1,3,2)

Where a dim is 0 there are no elements to be mapped, so factors may be cut as if none were.
"""

from __future__ import annotations

from dataclasses import dataclass

import onnx_ir as ir

from graphopt.ir.attributes import attribute
from graphopt.ir.dims import Dim, exact_quotient, product
from graphopt.ir.inference import Facts
from graphopt.ir.relabelling import RELABELLINGS

__all__ = ["MOVEMENTS", "Movement", "cut_at", "depth_to_space", "is_movement_node", "space_to_depth", "then"]

# The operators that a map can stand for.
MOVEMENTS = (*RELABELLINGS, "Transpose", "DepthToSpace", "SpaceToDepth")

Dims = tuple[Dim, ...]


@dataclass(frozen=True, slots=True)
class Movement:
    """Where each element of the result comes from.

    Attributes:
        source: Dims of the source.
        factors: Sizes of the cuts of the flat source, in its order; no 1 among them.
        groups: For each dim of the result the places in `factors` that it joins, outermost first.
    """

    source: Dims
    factors: Dims
    groups: tuple[tuple[int, ...], ...]

    @staticmethod
    def of(source: Dims) -> Movement:
        """The map that moves nothing."""
        factors = tuple(dim for dim in source if dim != 1)
        places = iter(range(len(factors)))
        return Movement(source, factors, tuple(() if dim == 1 else (next(places),) for dim in source))

    @property
    def result(self) -> Dims:
        """Dims of the result."""
        return tuple(product(tuple(self.factors[p] for p in group)) for group in self.groups)

    @property
    def order(self) -> tuple[int, ...]:
        """The factors' places in the order of the result."""
        return tuple(place for group in self.groups for place in group)

    @property
    def keeps_order(self) -> bool:
        """Whether the elements stay where they are and only the dims change."""
        order = self.order
        return order == tuple(range(len(order)))

    def transposed(self, perm: tuple[int, ...]) -> Movement | None:
        """The map followed by a Transpose; None where the permutation does not fit."""
        if sorted(perm) != list(range(len(self.groups))):
            return None
        return Movement(self.source, self.factors, tuple(self.groups[axis] for axis in perm))

    def relabelled(self, dims: Dims) -> Movement | None:
        """The map followed by a Reshape to `dims`; None where they can't be cut at the same places."""
        sizes, order = self.blocks()
        # Blocks are cut further: a piece is (block, number within the block).
        left = [(block, sizes[block]) for block in reversed(order)]
        cut = cut_at(dims, left)
        if cut is None or left:
            return None
        pieces: dict[int, list[Dim]] = {block: [] for block in order}
        taken: list[list[tuple[int, int]]] = []
        for parts in cut:
            taken.append([])
            for block, size in parts:
                taken[-1].append((block, len(pieces[block])))
                pieces[block].append(size)
        first = [0]
        for block in range(len(sizes)):
            first.append(first[-1] + len(pieces[block]))
        factors = tuple(size for block in range(len(sizes)) for size in pieces[block])
        groups = tuple(tuple(first[block] + number for block, number in group) for group in taken)
        return Movement(self.source, factors, groups)

    def blocks(self) -> tuple[Dims, tuple[int, ...]]:
        """The coarsest cut of the source, and its blocks' order in the result: the map's normal form."""
        order = self.order
        runs: list[list[int]] = []
        for place in order:
            if runs and place == runs[-1][-1] + 1:
                runs[-1].append(place)
            else:
                runs.append([place])
        ranks = {run[0]: rank for rank, run in enumerate(sorted(runs))}
        sizes = tuple(product(tuple(self.factors[p] for p in run)) for run in sorted(runs))
        return sizes, tuple(ranks[run[0]] for run in runs)

    def same_as(self, other: Movement) -> bool:
        """Whether both maps give equal results for every source."""
        return self.result == other.result and self.blocks() == other.blocks()


def is_movement_node(node: ir.Node | None) -> bool:
    """Whether a map can stand for the node."""
    return node is not None and node.op_type in MOVEMENTS and node.domain == ""


def then(before: Movement, node: ir.Node, facts: Facts) -> Movement | None:
    """The map followed by a node; None where the node's part in it is not known."""
    if node.op_type == "Transpose":
        perm = attribute(node, "perm")
        axes = tuple(range(len(before.groups)))[::-1] if perm is None else perm
        return before.transposed(axes) if isinstance(axes, tuple) else None  # type: ignore[arg-type]
    if node.op_type in RELABELLINGS:
        dims = facts.dims(node.outputs[0])
        return None if dims is None else before.relabelled(dims)
    size = attribute(node, "blocksize")
    if not isinstance(size, int) or len(before.groups) != 4:
        return None
    if node.op_type == "DepthToSpace":
        return depth_to_space(before, size, str(attribute(node, "mode", "DCR")))
    return space_to_depth(before, size)


def depth_to_space(before: Movement, size: int, mode: str) -> Movement | None:
    """The map followed by a DepthToSpace; None where the channels can't be cut."""
    batch, channels, height, width = before.result
    depth = exact_quotient(channels, size * size)
    if depth is None:
        return None
    inner = (depth, size, size) if mode == "CRD" else (size, size, depth)
    perm = (0, 1, 4, 2, 5, 3) if mode == "CRD" else (0, 3, 4, 1, 5, 2)
    return _moved(before, (batch, *inner, height, width), perm, (batch, depth, height * size, width * size))


def space_to_depth(before: Movement, size: int) -> Movement | None:
    """The map followed by a SpaceToDepth; None where height and width can't be cut."""
    batch, channels, height, width = before.result
    rows, columns = exact_quotient(height, size), exact_quotient(width, size)
    if rows is None or columns is None:
        return None
    cut = (batch, channels, rows, size, columns, size)
    return _moved(before, cut, (0, 3, 5, 1, 2, 4), (batch, channels * (size * size), rows, columns))


def _moved(before: Movement, cut: Dims, perm: tuple[int, ...], result: Dims) -> Movement | None:
    parts = before.relabelled(cut)
    moved = None if parts is None else parts.transposed(perm)
    return None if moved is None else moved.relabelled(result)


def cut_at(dims: Dims, left: list[tuple[int, Dim]]) -> list[list[tuple[int, Dim]]] | None:
    """Blocks cut where the dims are: (block, size) of the parts of each dim; None where they can't be.

    Args:
        dims: Where to cut.
        left: Number and size of each block, the first one last. What no dim takes stays in it.
    """
    found: list[list[tuple[int, Dim]]] = []
    for dim in dims:
        need, parts = dim, list[tuple[int, Dim]]()
        while need != 1:
            if not left:
                return None
            block, size = left.pop()
            rest = exact_quotient(need, size)
            if rest is None:
                behind = exact_quotient(size, need)
                if behind is None:
                    return None
                left.append((block, behind))
                size, rest = need, 1
            parts.append((block, size))
            need = rest
        found.append(parts)
    return found

"""Remove data movement that moves nothing.

    before   Reshape(x, shape of x)   Transpose(x, 0 1 2)   Slice(x, all)   Pad(x, 0)   Gather(x, 0 .. n-1)
    after    x

A reshape, an expansion or a tiling whose result provably has the input's shape has its elements too, in
their order. A Slice backwards and a Pad that takes away on one side what it adds on the other have the same
shape and are no such thing, so their amounts are looked at.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from graphopt.ir.attributes import attribute
from graphopt.ir.operands import input_of
from graphopt.rewriting import Match, Pass, op, rule_on

# Gather by an index table longer than this is not compared with 0, 1, 2, ...
LONGEST_TABLE = 1 << 16

# Coordinates for which scale 1 maps each position to itself.
KEEPING_COORDINATES = frozenset(
    {"half_pixel", "pytorch_half_pixel", "asymmetric", "align_corners", "half_pixel_symmetric"}
)


@rule_on("Reshape", "Flatten", "Squeeze", "Unsqueeze", "Expand", "Tile", depth=1)
def same_shape(m: Match) -> ir.Value | None:
    """Reshape(x), and the like, to the shape that x has -> x."""
    x = m.root.inputs[0]
    return x if x is not None and m.facts.same_shape(x, m.output) else None


@rule_on("Transpose", depth=1)
def same_order(m: Match) -> ir.Value | None:
    """Transpose(x) that moves no axis, or only axes of size 1 among themselves -> x."""
    x = m.root.inputs[0]
    rank = m.rank(x) if x is not None else None
    perm = _integers(attribute(m.root, "perm"))
    if not perm and rank is not None:
        perm = tuple(reversed(range(rank)))
    if perm is None or x is None:
        return None
    if perm == tuple(range(len(perm))) and (perm or rank == 0):
        return x
    dims = m.dims(x)
    if dims is None or not m.facts.same_shape(x, m.output):
        return None
    moved = [a for a in perm if dims[a] != 1]
    return x if moved == sorted(moved) else None


@rule_on("Pad", depth=1)
def no_padding(m: Match) -> ir.Value | None:
    """Pad(x, 0) -> x."""
    if len(m.root.inputs) > 1:
        amounts = _known(m, m.root.inputs[1])
    else:
        amounts = _integers(attribute(m.root, "pads") or attribute(m.root, "paddings"))
    return m.root.inputs[0] if amounts and not any(amounts) else None


@rule_on("Slice", depth=1)
def whole_slice(m: Match) -> ir.Value | None:
    """Slice(x) of everything, forwards -> x."""
    x = m.root.inputs[0]
    if x is None or not m.facts.same_shape(x, m.output):
        return None
    steps = input_of(m.root, 4)
    # One step at a time and as many elements as there are: it began at the first.
    return x if steps is None or set(_known(m, steps) or (0,)) == {1} else None


@rule_on("Split", depth=1)
def split_into_one(m: Match) -> ir.Value | None:
    """Split(x) into one part -> x."""
    return m.root.inputs[0] if len(m.root.outputs) == 1 else None


@rule_on("DepthToSpace", "SpaceToDepth", depth=1)
def blocks_of_one(m: Match) -> ir.Value | None:
    """DepthToSpace(x, blocksize=1) -> x."""
    return m.root.inputs[0] if attribute(m.root, "blocksize") == 1 else None


@rule_on("Gather", depth=1)
def gather_all(m: Match) -> ir.Value | None:
    """Gather(x, 0 .. n-1) along an axis of size n -> x."""
    x, indices = m.root.inputs
    axis = attribute(m.root, "axis", 0)
    dims, table = (m.dims(x), m.tensor(indices)) if x is not None else (None, None)
    if table is None or table.shape.rank() != 1 or dims is None or not isinstance(axis, int):
        return None
    if not -len(dims) <= axis < len(dims) or dims[axis] != table.size or table.size > LONGEST_TABLE:
        return None
    return x if np.array_equal(table.numpy(), np.arange(table.size)) else None


@rule_on("Resize", "Upsample", depth=1)
def scale_one(m: Match) -> ir.Value | None:
    """Resize(x) by 1, or to the size that x has -> x."""
    node, x = m.root, m.root.inputs[0]
    mode = attribute(node, "coordinate_transformation_mode", "half_pixel")
    if x is None or (node.op_type == "Resize" and m.opset >= 11 and mode not in KEEPING_COORDINATES):
        return None
    scales = input_of(node, 1 if node.op_type == "Upsample" or m.opset < 11 else 2)
    if scales is None or m.dims(scales) == (0,):
        given = attribute(node, "scales")
        if node.op_type == "Upsample":
            return x if isinstance(given, tuple) and all(s == 1 for s in given) else None
        return x if len(node.inputs) > 3 and m.facts.same_shape(x, m.output) else None
    elements = m.facts.elements(scales)
    return x if elements and all(e == 1 for e in elements) else None


@rule_on("Concat", depth=1)
def concat_of_nothing(m: Match) -> ir.Value | None:
    """Concat(x, empty along the axis, y) -> Concat(x, y)."""
    node = m.root
    axis = attribute(node, "axis", 1)
    if len(node.inputs) < 2 or not isinstance(axis, int):
        return None
    kept = [v for v in node.inputs if v is not None and not _is_empty(m, v, axis)]
    if len(kept) == len(node.inputs):
        return None
    if len(kept) < 2:
        return kept[0] if kept else node.inputs[0]
    value: ir.Value = op.Concat(*kept, axis=axis)
    return value


def _is_empty(m: Match, value: ir.Value, axis: int) -> bool:
    dims = m.dims(value)
    return dims is not None and -len(dims) <= axis < len(dims) and dims[axis] == 0


def _known(m: Match, value: ir.Value | None) -> tuple[int, ...] | None:
    """A small integer tensor's elements, if all are known."""
    elements = m.facts.elements(value) if value is not None else None
    if elements is None:
        return None
    known = tuple(e for e in elements if isinstance(e, int))
    return known if len(known) == len(elements) else None


def _integers(value: object) -> tuple[int, ...]:
    return tuple(v for v in value if isinstance(v, int)) if isinstance(value, Sequence) else ()


@dataclass(frozen=True)
class RemoveNoOpMovement(Pass):
    """Remove reshapes, transposes, slices, pads and the like that move nothing."""

    name = "remove-no-op-movement"
    family = "cleanup"
    rules = (
        same_shape,
        same_order,
        no_padding,
        whole_slice,
        split_into_one,
        blocks_of_one,
        gather_all,
        scale_one,
        concat_of_nothing,
    )

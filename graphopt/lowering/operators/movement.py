"""Operators that only move elements: looks at memory where their sizes allow it, else one copy or a kernel.

The kernels of the same names read sizes from the inputs while they run; they also check what is not proven
before (that a Reshape keeps the number of elements, that an index is in range).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx_ir as ir

from graphopt.ir.attributes import attribute, attribute_float, attribute_int
from graphopt.ir.dims import Dim, exact_quotient, is_nonnegative
from graphopt.ir.fact import TensorFact
from graphopt.ir.facts.slicing import cut_bounds, slice_length
from graphopt.ir.operands import input_of
from graphopt.lowering.builder import Builder
from graphopt.lowering.elementwise_writer import memory_order
from graphopt.lowering.kernels import Layout, declare
from graphopt.lowering.program import ABSENT
from graphopt.lowering.regions import Region, bind, place, region_of
from graphopt.lowering.registry import NotLowered, lowers

__all__: list[str] = []

for _kernel in ("copy", "concat", "identity", "transpose", "expand", "tile", "pad", "fill", "values"):
    declare(_kernel, inputs=Layout.ANY, outputs=Layout.ANY)
for _kernel in ("slice", "split", "depth_to_space", "space_to_depth"):
    declare(_kernel, inputs=Layout.ANY, outputs=Layout.ANY)

for _kernel in ("reshape", "squeeze", "unsqueeze", "flatten"):
    declare(_kernel, inputs={0: Layout.ANY, 1: Layout.ANY})

PAD_MODES = ("constant", "reflect", "edge", "wrap")


@lowers("Identity")
def identity(build: Builder, node: ir.Node) -> NotLowered | None:
    """Another name for the same register; sequences and unknown ranks are handed on while it runs."""
    value = node.inputs[0]
    assert value is not None, "Identity has an input"
    if build.dims(value) is not None:
        build.bind(node.outputs[0], build.register(value))
        return None
    fact = build.facts.of(value)
    is_tensor = isinstance(fact, TensorFact) and fact.dtype is not None
    kernel = "identity" if is_tensor else "optional.make"
    build.emit(kernel, [build.register(value)], [build.output(node)])
    return None


@lowers("Reshape", "Squeeze", "Unsqueeze", "Flatten")
def relabel(build: Builder, node: ir.Node) -> NotLowered | None:
    """Other dims for the same elements."""
    source = build.register(node.inputs[0])
    region = region_of(build, source)
    if region is not None and place(build, node, region):
        return None
    operands, ints = [source], list[int]()
    if node.op_type == "Flatten":
        ints = [attribute_int(node, "axis", 1)]
    else:
        numbers = _operand(build, node, 1, "shape" if node.op_type == "Reshape" else "axes")
        operands += [] if numbers == ABSENT else [numbers]
        ints = [int(bool(attribute(node, "allowzero", 0)))] if node.op_type == "Reshape" else []
    build.emit(node.op_type.lower(), operands, [build.output(node)], ints=ints)
    return None


def _operand(build: Builder, node: ir.Node, index: int, name: str) -> int:
    """The register of an input that older versions have as an attribute; ABSENT where there is neither."""
    given = attribute(node, name)
    if given is not None:
        return build.constant_register(np.array(given, np.int64))
    return build.register(input_of(node, index))


@lowers("Transpose")
def transpose(build: Builder, node: ir.Node) -> NotLowered | None:
    """Strides in another order."""
    source = build.register(node.inputs[0])
    perm = _integers(attribute(node, "perm"))
    region = region_of(build, source)
    if region is not None:
        order = tuple(reversed(range(len(region.dims)))) if perm is None else perm
        if sorted(order) == list(range(len(region.dims))) and bind(
            build, node.outputs[0], region.transposed(order)
        ):
            return None
    build.emit("transpose", [source], [build.output(node)], ints=perm or ())
    return None


def _integers(value: object) -> tuple[int, ...] | None:
    return tuple([int(n) for n in value]) if isinstance(value, tuple) else None


@lowers("Slice")
def slice_(build: Builder, node: ir.Node) -> NotLowered | None:
    """An offset and longer strides; the kernel where bounds are data."""
    source = build.register(node.inputs[0])
    region = region_of(build, source)
    bounds = None if region is None else _slice_bounds(build, node, len(region.dims))
    if region is not None and bounds is not None:
        cut = _sliced(region, *bounds)
        if cut is not None and cut.dims == build.dims(node.outputs[0]) and bind(build, node.outputs[0], cut):
            return None
    names = ("starts", "ends", "axes", "steps")
    operands = [source, *[_operand(build, node, i + 1, name) for i, name in enumerate(names)]]
    build.emit("slice", operands, [build.output(node)])
    return None


def _slice_bounds(
    build: Builder, node: ir.Node, rank: int
) -> tuple[Sequence[int], Sequence[Dim], Sequence[Dim], Sequence[int]] | None:
    """Axes, starts, ends and steps, where all of them can be computed; None else."""
    found: list[Sequence[Dim] | None] = []
    for index, name in enumerate(("starts", "ends", "axes", "steps"), 1):
        value = input_of(node, index)
        given = _integers(attribute(node, name))
        numbers = given if value is None else build.sizes(value)
        if value is not None and numbers is None:
            return None
        found.append(numbers)
    starts, ends, axes, steps = found
    if starts is None or ends is None or len(starts) != len(ends):
        return None
    count = len(starts)
    whole = [n for n in (axes or range(count)) if type(n) is int]
    paces = [n for n in (steps or (1,) * count) if type(n) is int]
    places = [axis + rank if axis < 0 else axis for axis in whole]
    fits = len(places) == len(paces) == count == len(set(places)) and all(0 <= a < rank for a in places)
    return (places, starts, ends, paces) if fits else None


def _sliced(
    region: Region, axes: Sequence[int], starts: Sequence[Dim], ends: Sequence[Dim], steps: Sequence[int]
) -> Region | None:
    for axis, start, end, step in zip(axes, starts, ends, steps, strict=True):
        dim = region.dims[axis]
        length = slice_length(dim, start, end, step, is_nonnegative)
        cut = None if length is None else cut_bounds(dim, start, end, step, is_nonnegative)
        if length is None or cut is None:
            return None
        region = region.sliced(axis, cut[0], length, step)
    return region


@lowers("Split")
def split(build: Builder, node: ir.Node) -> NotLowered | None:
    """Looks at the parts; the kernel where the sizes are data, or not proven to sum up."""
    source = build.register(node.inputs[0])
    axis = attribute_int(node, "axis")
    region = region_of(build, source)
    if region is not None and _looks_at_parts(
        build, node, region, axis + len(region.dims) if axis < 0 else axis
    ):
        return None
    sizes = _operand(build, node, 1, "split")
    parts = [build.output(node, i) for i in range(len(node.outputs))]
    for i, value in enumerate(node.outputs):
        if parts[i] == ABSENT:
            dims = build.dims(value)
            if dims is None:
                return NotLowered("a part without a name, of unknown rank")
            parts[i] = build.temporary(build.dtype(node.inputs[0]) or 0, dims)
    build.emit("split", [source] if sizes == ABSENT else [source, sizes], parts, ints=[axis])
    return None


def _looks_at_parts(build: Builder, node: ir.Node, region: Region, axis: int) -> bool:
    first: Dim = 0
    parts: list[Region] = []
    for value in node.outputs:
        dims = build.dims(value)
        if dims is None or len(dims) != len(region.dims):
            return False
        parts.append(region.sliced(axis, first, dims[axis]))
        first = first + dims[axis]
    if first != region.dims[axis] or not all(is_nonnegative(part.dims[axis]) for part in parts):
        return False
    return all(bind(build, value, part) for value, part in zip(node.outputs, parts, strict=True))


@lowers("Expand")
def expand(build: Builder, node: ir.Node) -> NotLowered | None:
    """Strides of 0."""
    source = build.register(node.inputs[0])
    region, dims = region_of(build, source), build.dims(node.outputs[0])
    wide = None if region is None or dims is None else region.expanded(dims)
    if wide is not None and bind(build, node.outputs[0], wide):
        return None
    _emit_sized(build, node, source, region)
    return None


@lowers("Tile")
def tile(build: Builder, node: ir.Node) -> NotLowered | None:
    """Strides of 0 where only dims of 1 are repeated."""
    if build.opset(node) < 6:
        return NotLowered("repeats of one axis")
    source = build.register(node.inputs[0])
    region, dims = region_of(build, source), build.dims(node.outputs[0])
    if region is not None and dims is not None and len(dims) == len(region.dims):
        wide = region.expanded(dims)
        if wide is not None and bind(build, node.outputs[0], wide):
            return None
    _emit_sized(build, node, source, region)
    return None


def _emit_sized(build: Builder, node: ir.Node, source: int, region: Region | None) -> None:
    """The kernel; it reads sizes from the second input where a run can't tell them before."""
    dims = build.dims(node.outputs[0])
    is_told = region is not None and dims is not None and all(map(build.is_defined, dims))
    operands = [source] if is_told else [source, build.register(node.inputs[1])]
    build.emit(node.op_type.lower(), operands, [build.output(node)])


@lowers("Concat")
def concat(build: Builder, node: ir.Node) -> NotLowered | None:
    """One part: no more than a name."""
    if len(node.inputs) == 1:
        return identity(build, node)
    ints = [attribute_int(node, "axis", 1)]
    parts = [build.register(v) for v in node.inputs]
    # The result lies in memory as all of its parts do.
    orders = {memory_order(build.module.registers[part]) for part in parts}
    order = orders.pop() if len(orders) == 1 else None
    build.emit("concat", parts, [build.output(node, order=order)], ints=ints)
    return None


@lowers("DepthToSpace", "SpaceToDepth")
def blocks(build: Builder, node: ir.Node) -> NotLowered | None:
    """A look of six dims; the kernel where the dims are not proven to be whole blocks."""
    source = build.register(node.inputs[0])
    size = attribute_int(node, "blocksize")
    depth_first = attribute(node, "mode", "DCR") == "CRD"
    region = region_of(build, source)
    if region is not None and len(region.dims) == 4:
        batch, channels, rows, columns = region.dims
        if node.op_type == "DepthToSpace":
            depth = exact_quotient(channels, size * size)
            inner = None if depth is None else (depth, size, size) if depth_first else (size, size, depth)
            cut = None if inner is None else region.reshaped((batch, *inner, rows, columns))
            perm = (0, 1, 4, 2, 5, 3) if depth_first else (0, 3, 4, 1, 5, 2)
        else:
            high, wide = exact_quotient(rows, size), exact_quotient(columns, size)
            cut = (
                None
                if high is None or wide is None
                else region.reshaped((batch, channels, high, size, wide, size))
            )
            perm = (0, 1, 3, 5, 2, 4) if depth_first else (0, 3, 5, 1, 2, 4)
        if cut is not None and place(build, node, cut.transposed(perm)):
            return None
    build.emit(
        "depth_to_space" if node.op_type == "DepthToSpace" else "space_to_depth",
        [source],
        [build.output(node)],
        ints=[size, int(depth_first)],
    )
    return None


@lowers("Pad")
def pad(build: Builder, node: ir.Node) -> NotLowered | None:
    """Pads that only crop are a look."""
    mode = str(attribute(node, "mode", "constant"))
    if mode not in PAD_MODES:
        return NotLowered(f"mode {mode}")
    source = build.register(node.inputs[0])
    number = PAD_MODES.index(mode)
    value = _pad_value(build, node)
    region = region_of(build, source)
    pads = None if region is None else _pads(build, node, len(region.dims))
    if region is None or pads is None:
        amounts = _operand(build, node, 1, "pads" if build.opset(node) > 1 else "paddings")
        axes = build.register(input_of(node, 3))
        build.emit("pad", [source, amounts, value, axes], [build.output(node)], ints=[number])
        return None
    begins, ends = pads[: len(pads) // 2], pads[len(pads) // 2 :]
    if all(type(n) is int and n <= 0 for n in pads):
        for axis, (begin, end) in enumerate(zip(begins, ends, strict=True)):
            region = region.sliced(axis, -begin, region.dims[axis] + begin + end)
        if all(map(is_nonnegative, region.dims)) and bind(build, node.outputs[0], region):
            return None
    build.emit("pad", [source, ABSENT, value], [build.output(node)], ints=[number, *pads])
    return None


def _pad_value(build: Builder, node: ir.Node) -> int:
    """A register with what a constant pad writes; ABSENT: zero."""
    if build.opset(node) >= 11:
        return build.register(input_of(node, 2))
    value, dtype = attribute_float(node, "value", 0.0), build.dtype(node.inputs[0])
    if not value or dtype is None:
        return ABSENT
    return build.constant_register(np.array(value, dtype.numpy()), dtype)


def _pads(build: Builder, node: ir.Node, rank: int) -> tuple[Dim, ...] | None:
    """Begins and ends for every axis; None where they are data."""
    given = _integers(attribute(node, "pads", attribute(node, "paddings")))
    if given is not None:
        return given if len(given) == 2 * rank else None
    amounts = None if node.inputs[1] is None else build.sizes(node.inputs[1])
    axes: Sequence[Dim] | None = range(rank)
    given_axes = input_of(node, 3)
    if given_axes is not None:
        axes = build.sizes(given_axes)
    if amounts is None or axes is None or len(amounts) != 2 * len(axes):
        return None
    pads: list[Dim] = [0] * (2 * rank)
    for i, axis in enumerate(axes):
        if type(axis) is not int or not -rank <= axis < rank:
            return None
        pads[axis % rank], pads[axis % rank + rank] = amounts[i], amounts[len(axes) + i]
    return tuple(pads)

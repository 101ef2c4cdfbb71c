"""Operators that take indices: gathering, scattering, one-hot, choosing."""

from __future__ import annotations

from itertools import pairwise

import onnx_ir as ir

from graphopt.ir.attributes import attribute, attribute_int
from graphopt.ir.dims import Dim, low
from graphopt.lowering.builder import Builder
from graphopt.lowering.kernels import Layout, declare
from graphopt.lowering.program import ABSENT
from graphopt.lowering.regions import Region, bind, region_of
from graphopt.lowering.registry import NotLowered, lowers

__all__: list[str] = []

_TAKING = ("gather", "gather_nd", "gather_elements", "onehot", "nonzero", "compress", "unique")
for _kernel in (*_TAKING, "reverse_sequence", "trilu"):
    declare(_kernel, inputs=Layout.ANY, outputs=Layout.ANY)
# The output may be the data's memory, so both lie in the same way.
for _kernel in ("scatter_elements", "scatter_nd", "tensor_scatter"):
    declare(_kernel, inputs={1: Layout.ANY, 2: Layout.ANY}, in_place=(0,))

REDUCTIONS = ("none", "add", "mul", "max", "min")


def _is_number(dtype: ir.DataType | None) -> bool:
    """Whether kernels compute with the type."""
    return dtype is not None and not dtype.name.startswith(
        ("COMPLEX", "FLOAT8", "FLOAT4", "STRING", "UNDEFINED")
    )


@lowers("Gather")
def gather(build: Builder, node: ir.Node) -> NotLowered | None:
    """A look where the index is a number, or the indices are evenly spaced, and in range for sure."""
    data, indices = node.inputs[0], node.inputs[1]
    assert data is not None and indices is not None
    axis = attribute_int(node, "axis", 0)
    source = build.register(data)
    region = region_of(build, source)
    picked = None if region is None else _picked(build, indices, region, axis)
    if picked is not None and bind(build, node.outputs[0], picked):
        return None
    build.emit("gather", [source, build.register(indices)], [build.output(node)], ints=[axis])
    return None


def _picked(build: Builder, indices: ir.Value, region: Region, axis: int) -> Region | None:
    """The part of a region that constant indices choose; None where steps are uneven, or out of range."""
    numbers, dims = build.sizes(indices), build.dims(indices)
    if not numbers or dims is None or len(dims) > 1 or not -len(region.dims) <= axis < len(region.dims):
        return None
    axis %= len(region.dims)
    places = [_counted(number, region.dims[axis]) for number in numbers]
    first = places[0]
    if first is None:
        return None
    step: Dim | None = 1
    if len(places) > 1:
        whole = [place for place in places if type(place) is int]
        step = whole[1] - whole[0] if len(whole) == len(places) else None
        if step is None or any(b - a != step for a, b in pairwise(whole)):
            return None
    assert type(step) is int
    part = region.sliced(axis, first, len(places), step)
    return part if dims else part.without(axis)


def _counted(index: Dim, dim: Dim) -> Dim | None:
    """An index counted from the front; None where it is not sure to be in range."""
    if type(index) is not int:
        return None
    least = dim if type(dim) is int else low(dim) or 0
    return None if not -least <= index < least else index if index >= 0 else dim + index


@lowers("GatherND")
def gather_nd(build: Builder, node: ir.Node) -> NotLowered | None:
    """Indices are tuples."""
    operands = [build.register(value) for value in node.inputs]
    build.emit("gather_nd", operands, [build.output(node)], ints=[attribute_int(node, "batch_dims", 0)])
    return None


@lowers("GatherElements")
def gather_elements(build: Builder, node: ir.Node) -> NotLowered | None:
    """Each index moves within one axis."""
    operands = [build.register(value) for value in node.inputs]
    build.emit("gather_elements", operands, [build.output(node)], ints=[attribute_int(node, "axis", 0)])
    return None


@lowers("Scatter", "ScatterElements", "ScatterND")
def scatter(build: Builder, node: ir.Node) -> NotLowered | None:
    """The data with updates in it."""
    reduction = str(attribute(node, "reduction", "none"))
    if reduction not in REDUCTIONS:
        return NotLowered(f"reduction {reduction}")
    dtype = build.dtype(node.inputs[0])
    if reduction != "none" and (
        dtype is None or dtype.is_string() or dtype.name.startswith(("COMPLEX", "FLOAT8"))
    ):
        return NotLowered("reduction of this element type")
    operands = [build.register(value) for value in node.inputs]
    ints = [REDUCTIONS.index(reduction)]
    if node.op_type == "ScatterND":
        build.emit("scatter_nd", operands, [build.output(node)], ints=ints)
    else:
        build.emit(
            "scatter_elements", operands, [build.output(node)], ints=[attribute_int(node, "axis", 0), *ints]
        )
    return None


@lowers("TensorScatter")
def tensor_scatter(build: Builder, node: ir.Node) -> NotLowered | None:
    """A cache with new steps in it."""
    operands = [build.register(value) for value in node.inputs]
    operands += [ABSENT] * (3 - len(operands))
    is_circular = attribute(node, "mode", "linear") == "circular"
    ints = [attribute_int(node, "axis", -2), int(is_circular)]
    build.emit("tensor_scatter", operands, [build.output(node)], ints=ints)
    return None


@lowers("OneHot")
def onehot(build: Builder, node: ir.Node) -> NotLowered | None:
    """Off everywhere, on at each index."""
    operands = [build.register(value) for value in node.inputs]
    build.emit("onehot", operands, [build.output(node)], ints=[attribute_int(node, "axis", -1)])
    return None


@lowers("ReverseSequence")
def reverse_sequence(build: Builder, node: ir.Node) -> NotLowered | None:
    """The first steps of each sequence backwards."""
    operands = [build.register(value) for value in node.inputs]
    axes = [attribute_int(node, "batch_axis", 1), attribute_int(node, "time_axis", 0)]
    build.emit("reverse_sequence", operands, [build.output(node)], ints=axes)
    return None


@lowers("Trilu")
def trilu(build: Builder, node: ir.Node) -> NotLowered | None:
    """One triangle; zeros elsewhere."""
    if (dtype := build.dtype(node.inputs[0])) is None:
        return NotLowered("unknown element type")
    if dtype.is_string():
        return NotLowered("strings")
    operands = [build.register(value) for value in node.inputs]
    build.emit("trilu", operands, [build.output(node)], ints=[attribute_int(node, "upper", 1)])
    return None


@lowers("NonZero")
def nonzero(build: Builder, node: ir.Node) -> NotLowered | None:
    """Places, a column each."""
    dtype = build.dtype(node.inputs[0])
    if not _is_number(dtype) and dtype is not ir.DataType.STRING:
        return NotLowered("element type")
    build.emit("nonzero", [build.register(node.inputs[0])], [build.output(node)])
    return None


@lowers("Compress")
def compress(build: Builder, node: ir.Node) -> NotLowered | None:
    """What the condition chooses."""
    axis = attribute(node, "axis")
    operands = [build.register(value) for value in node.inputs]
    build.emit("compress", operands, [build.output(node)], ints=[axis] if isinstance(axis, int) else [])
    return None


@lowers("Unique")
def unique(build: Builder, node: ir.Node) -> NotLowered | None:
    """One of each."""
    dtype, axis = build.dtype(node.inputs[0]), attribute(node, "axis")
    if not _is_number(dtype) and dtype is not ir.DataType.STRING:
        return NotLowered("element type")
    outputs = [build.output(node, i) for i in range(4)]
    if outputs[0] == ABSENT:
        return NotLowered("values that nobody wants")
    ints = [attribute_int(node, "sorted", 1), *([axis] if isinstance(axis, int) else [])]
    build.emit("unique", [build.register(node.inputs[0])], outputs, ints=ints)
    return None

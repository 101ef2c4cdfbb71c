"""Slices with steps into the strides of the window beside them.

    before   Conv(x, stride 1) -> Slice(step 2)        Slice(x, step 2) -> Conv(1x1)
    after    Conv(x, stride 2)                         Conv(x, 1x1, stride 2)

A convolution over all phases of an image, put side by side as channels, is one with larger strides:

    before   Concat(x[::2, ::2], x[::2, 1::2], x[1::2, ::2], x[1::2, 1::2]) -> Conv(3x3)
    after    Conv(x, 6x6, stride 2)
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from graphopt.ir import constants, lazy
from graphopt.ir.attributes import attribute_ints
from graphopt.ir.convolutions import geometry_of
from graphopt.ir.element_types import FLOATS
from graphopt.ir.slices import AxisSlice, slices_of
from graphopt.rewriting import Match, Pass, Rejection, constant, op, rule_on
from graphopt.rewriting.weights import LAZY_BYTES, copy_of

NOT_EVERY_NTH = "the Slice does more than take every n-th element of spatial axes"
HAS_OTHER_CONSUMERS = "the value between has another consumer"
OTHER_WINDOW = "the window is larger than one element, or padded"
NOT_ALL_PHASES = "the parts are not each phase of one value once"

_WINDOWS = ("Conv", "MaxPool", "AveragePool")


def _steps(m: Match, node: ir.Node, rank: int) -> list[int] | None:
    """The step along each spatial axis of a Slice that starts at 0 and goes to the end; else None."""
    slices = slices_of(node)
    if slices is None:
        return None
    dims = m.dims(node.inputs[0]) if node.inputs[0] is not None else None
    steps = [1] * rank
    for part in slices:
        axis = part.axis % rank
        if axis < 2 or part.start != 0 or part.step < 1 or not _to_end(part, dims[axis] if dims else None):
            return None
        steps[axis] = part.step
    return steps[2:]


def _to_end(part: AxisSlice, dim: object) -> bool:
    return part.end is None or (isinstance(dim, int) and part.end >= dim)


def _strided(node: ir.Node, source: ir.Value | None, steps: list[int]) -> ir.Value:
    given = attribute_ints(node, "strides") or (1,) * len(steps)
    strides = [a * b for a, b in zip(given, steps, strict=True)]
    return copy_of(node, [source, *node.inputs[1:]], strides=strides)


@rule_on("Slice", depth=2)
def slice_after_window(m: Match) -> ir.Value | Rejection | None:
    """Slice(Conv(x), step=2) -> Conv(x, strides=2)."""
    value = m.root.inputs[0]
    window = None if value is None else value.producer()
    if value is None or window is None or window.op_type not in _WINDOWS or window.domain != "":
        return None
    rank = m.rank(value)
    steps = None if rank is None else _steps(m, m.root, rank)
    if steps is None or max(steps) == 1:
        return Rejection(NOT_EVERY_NTH, m.output)
    if not m.has_one_consumer(value) or any(v.uses() for v in window.outputs[1:]):
        return Rejection(HAS_OTHER_CONSUMERS, value)
    # SAME padding depends on the stride, and so does what ceil_mode adds.
    if m.attribute(window, "auto_pad") not in (None, "NOTSET", "VALID") or m.attribute(window, "ceil_mode"):
        return Rejection(OTHER_WINDOW, value)
    return _strided(window, window.inputs[0], steps)


@rule_on("Conv", depth=2)
def slice_before_window(m: Match) -> ir.Value | Rejection | None:
    """Conv(Slice(x, step=2), 1x1) -> Conv(x, 1x1, strides=2)."""
    value = m.root.inputs[0]
    node = None if value is None else value.producer()
    if value is None or node is None or node.op_type != "Slice" or node.domain != "":
        return None
    rank = m.rank(value)
    steps = None if rank is None else _steps(m, node, rank)
    if steps is None or max(steps) == 1:
        return Rejection(NOT_EVERY_NTH, value)
    geometry = geometry_of(m.root)
    if geometry is None or set(geometry.taps) != {1} or any(geometry.pads):
        return Rejection(OTHER_WINDOW, m.output)
    if not m.has_one_consumer(value):
        return Rejection(HAS_OTHER_CONSUMERS, value)
    return _strided(m.root, node.inputs[0], steps)


def _phase(m: Match, value: ir.Value | None) -> tuple[ir.Value, int, tuple[int, int]] | None:
    """x[:, :, i::n, j::n] as x, n and (i, j); else None."""
    node = None if value is None else value.producer()
    if value is None or node is None or node.op_type != "Slice" or not m.has_one_consumer(value):
        return None
    source, slices = node.inputs[0], slices_of(node)
    dims = None if source is None else m.dims(source)
    if source is None or dims is None or len(dims) != 4 or slices is None:
        return None
    by_axis = {part.axis % 4: part for part in slices}
    if set(by_axis) != {2, 3} or not all(_to_end(part, dims[axis]) for axis, part in by_axis.items()):
        return None
    rows, columns = by_axis[2], by_axis[3]
    if rows.step != columns.step or min(rows.start, columns.start) < 0:
        return None
    return source, rows.step, (rows.start, columns.start)


@rule_on("Conv", depth=3)
def convolution_of_phases(m: Match) -> ir.Value | Rejection | None:
    """Conv(Concat(x[::2, ::2], x[::2, 1::2], ...)) -> Conv(x, strides=2)."""
    value = m.root.inputs[0]
    concat = None if value is None else value.producer()
    if value is None or concat is None or concat.op_type != "Concat" or len(concat.inputs) < 4:
        return None
    phases = [_phase(m, part) for part in concat.inputs]
    if phases[0] is None:
        return None
    source, step, _ = phases[0]
    order = [p[2] for p in phases if p is not None and p[:2] == (source, step)]
    dims, geometry, weight = m.dims(source), geometry_of(m.root), m.tensor(m.root.inputs[1])
    wanted = [(i, j) for i in range(step) for j in range(step)]
    if len(order) != len(phases) or sorted(order) != wanted or m.attribute(concat, "axis") not in (1, -3):
        return Rejection(NOT_ALL_PHASES, value)
    if not m.has_one_consumer(value):
        return Rejection(HAS_OTHER_CONSUMERS, value)
    if geometry is None or weight is None or weight.dtype not in FLOATS or dims is None:
        return Rejection(OTHER_WINDOW, m.output)
    channels = dims[1]
    if geometry.groups != 1 or set(geometry.step) != {1} or not isinstance(channels, int):
        return Rejection(OTHER_WINDOW, m.output)
    result: ir.Value = op.Conv(
        source,
        _interleaved(weight, order, step, channels),
        *m.root.inputs[2:],
        kernel_shape=[step * taps for taps in geometry.taps],
        pads=[step * pad for pad in geometry.pads],
        strides=[step * stride for stride in geometry.stride],
    )
    return result


def _interleaved(
    tensor: ir.TensorProtocol, order: list[tuple[int, int]], step: int, channels: int
) -> ir.Value:
    """Weights over phases [M, n * n * C, h, w] as weights over the whole [M, C, n * h, n * w]."""
    out, _, height, width = constants.shape_of(tensor)
    dims = (out, channels, step * height, step * width)

    def spread(array: np.ndarray) -> np.ndarray:
        whole = np.empty(dims, array.dtype)
        for k, (i, j) in enumerate(order):
            whole[:, :, i::step, j::step] = array[:, k * channels : (k + 1) * channels]
        return whole

    found = lazy.mapped((tensor,), spread, tensor.dtype, dims)
    return constant(found if tensor.nbytes > LAZY_BYTES else found.numpy())


@dataclass(frozen=True)
class FoldSlicesIntoStrides(Pass):
    """Fold Slices with steps into the strides of convolutions and poolings."""

    name = "fold-slices-into-strides"
    family = "algebra"
    stage = "fuse"
    level = 2
    bound = "float32 within a few units in the last place of the products: they are summed in another order"
    rules = (slice_after_window, slice_before_window, convolution_of_phases)

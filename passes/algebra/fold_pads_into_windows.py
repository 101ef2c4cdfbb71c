"""Pad into the convolution or pooling that reads it.

    before   Pad(x, 1 on each side, 0) -> Conv(w, pads = 0)
    after    Conv(x, w, pads = 1)

A convolution's own padding is zeros. That of AveragePool is zeros too where it is counted. That of MaxPool
is minus infinity: zeros do as well where no element of x is negative.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from graphopt.ir import dims as dim_arithmetic
from graphopt.ir.attributes import attribute_ints, axes_of
from graphopt.ir.dims import Dim
from graphopt.ir.operands import input_of
from graphopt.ir.ranges import is_never_negative
from graphopt.rewriting import Match, Pass, Rejection, op, rule_on
from graphopt.rewriting.weights import copy_of

NOT_PLAIN = "the Pad crops, pads other than spatial axes, or not with a constant"
OTHER_VALUE = "the operator's own padding is of another value"
OWN_PADDING = "the operator pads by itself in a way that can't be added to"
TOO_WIDE = "the padding is wider than the window, or the padded axis may be empty"
HAS_OTHER_CONSUMERS = "the padded value has another consumer"


@dataclass(frozen=True)
class _Padding:
    """Amounts before and after each spatial axis, the value, and what is padded.

    Attributes:
        source: What is padded.
        axes: Axes that an Unsqueeze between the Pad and the window puts in.
    """

    source: ir.Value
    axes: tuple[int, ...]
    dims: tuple[Dim, ...]
    before: tuple[int, ...]
    after: tuple[int, ...]
    value: float


def _amounts(m: Match, node: ir.Node, rank: int) -> np.ndarray | None:
    """What a Pad adds before and after each axis, as two rows; None where that is no constant."""
    if m.opset < 11:
        given = m.attribute(node, "pads")
        flat = np.array(given) if isinstance(given, tuple) else None
    else:
        flat = m.array(node.inputs[1])
    if flat is None:
        return None
    if m.opset < 18 or len(node.inputs) < 4 or node.inputs[3] is None:
        return flat.reshape(2, -1)
    axes = axes_of(node, m.opset)
    if axes is None:
        return None
    full = np.zeros((2, rank), np.int64)
    full[:, [a % rank for a in axes]] = flat.reshape(2, -1)
    return full


def _padding(m: Match, value: ir.Value) -> _Padding | Rejection | None:
    """The padding of a value's spatial axes; a Rejection where a Pad does more than that."""
    node, inserted = value.producer(), None
    if node is not None and node.op_type == "Unsqueeze" and node.domain == "":
        inserted, inner = axes_of(node, m.opset), node.inputs[0]
        node = (
            None if inner is None or inserted is None or not m.has_one_consumer(inner) else inner.producer()
        )
    if node is None or node.op_type != "Pad" or node.domain != "":
        return None
    source = node.inputs[0]
    dims = None if source is None else m.dims(source)
    if source is None or dims is None or m.attribute(node, "mode") not in (None, "constant"):
        return Rejection(NOT_PLAIN, value)
    number = m.attribute(node, "value") if m.opset < 11 else 0.0
    given = input_of(node, 2)
    if given is not None:
        number = m.scalar(given)
    amounts = _amounts(m, node, len(dims))
    if amounts is None or not isinstance(number, int | float):
        return Rejection(NOT_PLAIN, value)
    axes = tuple(sorted(a % (len(dims) + len(inserted)) for a in inserted)) if inserted else ()
    for axis in axes:
        amounts = np.insert(amounts, axis, 0, axis=1)
        dims = (*dims[:axis], 1, *dims[axis:])
    if amounts.min() < 0 or amounts[:, :2].any() or len(dims) < 3:
        return Rejection(NOT_PLAIN, value)
    before, after = (tuple(int(n) for n in row[2:]) for row in amounts)
    return _Padding(source, axes, dims, before, after, float(number))


@rule_on("Conv", "AveragePool", "MaxPool", depth=3)
def pad_into_window(m: Match) -> ir.Value | Rejection | None:
    """Conv(Pad(x)) -> Conv(x), and the same for AveragePool and MaxPool."""
    value = m.root.inputs[0]
    padding = None if value is None else _padding(m, value)
    if value is None or padding is None:
        return None
    if isinstance(padding, Rejection):
        return padding
    if not m.has_one_consumer(value):
        return Rejection(HAS_OTHER_CONSUMERS, value)
    spatial = len(padding.before)
    own = m.attribute(m.root, "pads") or (0,) * (2 * spatial)
    kernel = _kernel(m, spatial)
    if m.attribute(m.root, "auto_pad") not in (None, "NOTSET", "VALID") or not isinstance(own, tuple):
        return Rejection(OWN_PADDING, m.output)
    if kernel is None or not _is_wide_enough(m, padding, own, kernel):
        return Rejection(TOO_WIDE, value)
    rejection = _values_agree(m, padding, own)
    if rejection is not None:
        return rejection
    total = [a + b for a, b in zip((*padding.before, *padding.after), own, strict=True)]
    source = op.Unsqueeze(padding.source, list(padding.axes)) if padding.axes else padding.source
    counted = {"count_include_pad": 1} if m.root.op_type == "AveragePool" else {}
    inputs = [source, *m.root.inputs[1:]]
    return copy_of(m.root, inputs, without=("auto_pad",), pads=total, **counted)


def _kernel(m: Match, spatial: int) -> tuple[int, ...] | None:
    """The extent of the window along each spatial axis, dilation included."""
    sizes = m.attribute(m.root, "kernel_shape")
    if not isinstance(sizes, tuple) and m.root.op_type == "Conv" and m.root.inputs[1] is not None:
        dims = m.dims(m.root.inputs[1])
        sizes = None if dims is None else tuple(dims[2:])
    if not isinstance(sizes, tuple) or not all(isinstance(n, int) for n in sizes):
        return None
    steps = attribute_ints(m.root, "dilations") or (1,) * spatial
    return tuple((int(n) - 1) * step + 1 for n, step in zip(sizes, steps, strict=True))


def _is_wide_enough(m: Match, padding: _Padding, own: tuple[int, ...], kernel: tuple[int, ...]) -> bool:
    """No window lies in the padding alone (runtimes refuse that of pools), nor may the axis be empty."""
    for i, extent in enumerate(kernel):
        spatial = len(kernel)
        before, after = padding.before[i] + own[i], padding.after[i] + own[spatial + i]
        if m.root.op_type != "Conv" and max(before, after) >= extent:
            return False
        # An empty axis is legal before, when the padding alone holds a window; runtimes refuse it after.
        if before + after >= extent and (dim_arithmetic.low(padding.dims[i + 2]) or 0) < 1:
            return False
    return True


def _values_agree(m: Match, padding: _Padding, own: tuple[int, ...]) -> Rejection | None:
    if m.root.op_type == "Conv":
        return None if padding.value == 0 else Rejection(OTHER_VALUE, padding.source)
    if m.attribute(m.root, "ceil_mode") not in (None, 0):
        return Rejection(OWN_PADDING, m.output)
    if m.root.op_type == "AveragePool":
        if m.opset < 7 or (any(own) and m.attribute(m.root, "count_include_pad") != 1):
            return Rejection(OWN_PADDING, m.output)
        return None if padding.value == 0 else Rejection(OTHER_VALUE, padding.source)
    dilations = m.attribute(m.root, "dilations") or (1,)
    if not isinstance(dilations, tuple) or set(dilations) != {1}:
        return Rejection(OWN_PADDING, m.output)
    if any(v.uses() or v.is_graph_output() for v in m.root.outputs[1:]):
        return Rejection(OWN_PADDING, m.output)
    if padding.value == -np.inf or (padding.value == 0 and is_never_negative(padding.source)):
        return None
    return Rejection(OTHER_VALUE, padding.source)


@dataclass(frozen=True)
class FoldPadsIntoWindows(Pass):
    """Fold constant padding into the convolution or pooling that reads it."""

    name = "fold-pads-into-windows"
    family = "algebra"
    stage = "simplify"
    level = 2
    bound = "float32 within a few units in the last place: a runtime may take another path for padded windows"
    rules = (pad_into_window,)

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
from graphopt.ir.attributes import axes_of
from graphopt.ir.ranges import is_never_negative
from graphopt.rewriting import Match, Pass, Rejection, rule_on
from graphopt.rewriting.weights import copy_of

NOT_PLAIN = "the Pad crops, pads other than spatial axes, or not with a constant"
OTHER_VALUE = "the operator's own padding is of another value"
OWN_PADDING = "the operator pads by itself in a way that can't be added to"
TOO_WIDE = "the padding is wider than the window, or the padded axis may be empty"
HAS_OTHER_CONSUMERS = "the padded value has another consumer"


@dataclass(frozen=True)
class _Padding:
    """Amounts before and after each spatial axis, and the value."""

    source: ir.Value
    before: tuple[int, ...]
    after: tuple[int, ...]
    value: float


def _padding(m: Match, node: ir.Node) -> _Padding | None:
    """What a Pad does to spatial axes; None unless that is all it does."""
    source = node.inputs[0]
    rank = None if source is None else m.rank(source)
    if source is None or rank is None or rank < 3 or m.attribute(node, "mode") not in (None, "constant"):
        return None
    if m.opset < 11:
        amounts, value = m.attribute(node, "pads"), m.attribute(node, "value")
    else:
        array = m.array(node.inputs[1])
        amounts = None if array is None else tuple(int(n) for n in array.reshape(-1))
        given = node.inputs[2] if len(node.inputs) > 2 else None
        value = 0.0 if given is None else m.scalar(given)
    if not isinstance(amounts, tuple) or not isinstance(value, int | float):
        return None
    if m.opset >= 18 and len(node.inputs) > 3 and node.inputs[3] is not None:
        axes = axes_of(node, m.opset)
        if axes is None:
            return None
        full = np.zeros((2, rank), int)
        full[:, [a % rank for a in axes]] = np.array(amounts).reshape(2, -1)
        amounts = tuple(int(n) for n in full.reshape(-1))
    if min(amounts) < 0 or amounts[:2] != (0, 0) or amounts[rank : rank + 2] != (0, 0):
        return None
    return _Padding(source, amounts[2:rank], amounts[rank + 2 :], float(value))


@rule_on("Conv", "AveragePool", "MaxPool", depth=3)
def pad_into_window(m: Match) -> ir.Value | Rejection | None:
    """Conv(Pad(x)) -> Conv(x), and the same for AveragePool and MaxPool."""
    value = m.root.inputs[0]
    pad = None if value is None else value.producer()
    if value is None or pad is None or pad.op_type != "Pad" or pad.domain != "":
        return None
    padding = _padding(m, pad)
    if padding is None:
        return Rejection(NOT_PLAIN, value)
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
    inputs = [padding.source, *m.root.inputs[1:]]
    counted = {"count_include_pad": 1} if m.root.op_type == "AveragePool" else {}
    return copy_of(m.root, inputs, without=("auto_pad",), pads=total, **counted)


def _kernel(m: Match, spatial: int) -> tuple[int, ...] | None:
    """The extent of the window along each spatial axis, dilation included."""
    sizes = m.attribute(m.root, "kernel_shape")
    if not isinstance(sizes, tuple) and m.root.op_type == "Conv" and m.root.inputs[1] is not None:
        dims = m.dims(m.root.inputs[1])
        sizes = None if dims is None else tuple(dims[2:])
    if not isinstance(sizes, tuple) or not all(isinstance(n, int) for n in sizes):
        return None
    steps = m.attribute(m.root, "dilations") or (1,) * spatial
    assert isinstance(steps, tuple)
    return tuple((int(n) - 1) * int(step) + 1 for n, step in zip(sizes, steps, strict=True))


def _is_wide_enough(m: Match, padding: _Padding, own: tuple[int, ...], kernel: tuple[int, ...]) -> bool:
    """No window lies in the padding alone (runtimes refuse that of pools), nor may the axis be empty."""
    dims = m.dims(padding.source)
    assert dims is not None
    for i, extent in enumerate(kernel):
        spatial = len(kernel)
        before, after = padding.before[i] + own[i], padding.after[i] + own[spatial + i]
        if m.root.op_type != "Conv" and max(before, after) >= extent:
            return False
        # An empty axis is legal before, when the padding alone holds a window; runtimes refuse it after.
        if before + after >= extent and (dim_arithmetic.low(dims[i + 2]) or 0) < 1:
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
    if set(m.attribute(m.root, "dilations") or (1,)) != {1}:  # type: ignore[arg-type]
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

"""Sliding windows: the arithmetic that convolutions and poolings share.

Formulas are those of Conv-11, AveragePool-19 and ConvTranspose-11 in the ONNX specification, for windows that
fit at least once into the padded input; where none fits, runtimes refuse the input or round differently.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from graphopt.ir.dims import Dim, floordiv
from graphopt.ir.facts.registry import InferenceContext

SAME = ("SAME_UPPER", "SAME_LOWER")


@dataclass(frozen=True)
class Window:
    """One spatial axis of a sliding window."""

    kernel: Dim
    stride: int
    dilation: int
    begin: int
    end: int
    auto_pad: str

    @property
    def extent(self) -> Dim:
        """How many elements lie between the window's first and last one, both counted."""
        return (self.kernel - 1) * self.dilation + 1


def read_windows(ctx: InferenceContext, kernel: Sequence[Dim]) -> tuple[Window, ...] | None:
    """The windows that a node's attributes describe, one an axis of `kernel`; None: they make no sense."""
    count = len(kernel)
    strides = ctx.ints_attr("strides") or (1,) * count
    dilations = ctx.ints_attr("dilations") or (1,) * count
    pads = ctx.ints_attr("pads") or (0,) * (2 * count)
    if (
        len(strides) != count
        or len(dilations) != count
        or len(pads) != 2 * count
        or min(strides, default=1) < 1
    ):
        return None
    auto_pad = ctx.attr("auto_pad", "NOTSET") or "NOTSET"
    if auto_pad != "NOTSET":
        pads = (0,) * (2 * count)
    return tuple(
        Window(kernel[i], strides[i], dilations[i], pads[i], pads[i + count], str(auto_pad))
        for i in range(count)
    )


def positions(size: Dim, window: Window, *, ceil_mode: bool = False) -> Dim | None:
    """How many windows fit into an axis of `size`; None where runtimes disagree (SAME with dilations)."""
    stride = window.stride
    if window.auto_pad in SAME:
        # onnxruntime pads for the kernel without its dilation, the specification says ceil(size / stride).
        return ceildiv(size, stride) if window.dilation == 1 else None
    padded = size + window.begin
    if not ceil_mode:
        return floordiv(padded + window.end - window.extent, stride) + 1
    # ceil((padded + end - extent) / stride) + 1, but no window may start in the padding at the end: at most
    # ceil(padded / stride). Both are ceil((padded + c) / stride): the smaller one has the smaller c.
    slack = window.end - window.extent + stride
    if not isinstance(slack, int):
        return None
    return ceildiv(padded + min(0, slack), stride)


def transposed_size(size: Dim, window: Window, output_padding: int) -> Dim | None:
    """The size of an axis that windows were spread from (ConvTranspose); None where runtimes disagree."""
    spread = (size - 1) * window.stride + output_padding + window.extent
    if window.auto_pad not in SAME:
        return spread - window.begin - window.end
    surplus = window.extent + output_padding - window.stride
    # SAME gives size * stride, except that onnxruntime has no negative padding.
    return size * window.stride if isinstance(surplus, int) and surplus >= 0 else None


def ceildiv(size: Dim, divisor: int) -> Dim:
    """The quotient rounded up, for divisor >= 1."""
    return floordiv(size + (divisor - 1), divisor)

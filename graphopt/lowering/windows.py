"""Sliding windows as kernels take them: integers in the order of kernels/ops/window.h."""

from __future__ import annotations

from collections.abc import Sequence

import onnx_ir as ir

from graphopt.ir.attributes import attribute, attribute_ints

__all__ = ["CHANNELS_LAST", "auto_pad_of", "channels_last", "window_ints"]

_AUTO_PADS = ("NOTSET", "SAME_UPPER", "SAME_LOWER", "VALID")
# Axes of (N, C, spatial...) from outermost to innermost in memory, by rank.
CHANNELS_LAST = {3: (0, 2, 1), 4: (0, 2, 3, 1), 5: (0, 2, 3, 4, 1)}


def channels_last(rank: int | None) -> tuple[int, ...] | None:
    """The order of axes in memory for an output; None where the rank is not known."""
    return None if rank is None else CHANNELS_LAST.get(rank)


def auto_pad_of(node: ir.Node) -> int:
    """The number of the node's way to pad."""
    return _AUTO_PADS.index(str(attribute(node, "auto_pad", "NOTSET")) or "NOTSET")


def window_ints(node: ir.Node, kernel: Sequence[int]) -> tuple[int, ...]:
    """Kernel, strides, dilations, pads before, pads after."""
    axes = len(kernel)
    return (
        *kernel,
        *attribute_ints(node, "strides", (1,) * axes),
        *attribute_ints(node, "dilations", (1,) * axes),
        *attribute_ints(node, "pads", (0,) * (2 * axes)),
    )

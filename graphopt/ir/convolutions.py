"""Convolutions over one input as sums of taps: which offsets of the input each output reads."""

from __future__ import annotations

from dataclasses import dataclass

import onnx_ir as ir

from graphopt.ir import constants
from graphopt.ir.attributes import attribute, attribute_int, attribute_ints

__all__ = ["Geometry", "geometry_of", "identity_like", "joined"]


@dataclass(frozen=True)
class Geometry:
    """Where a convolution reads: output o, tap i is input o * stride + first + i * step, a value each axis.

    Attributes:
        taps: Number of taps.
        first: Offset of the first tap: minus the padding before.
        step: Dilation.
        stride: Stride.
        reach: Padding on both sides less the extent of the window: outputs are (size + reach) // stride + 1.
        groups: Number of groups.
    """

    taps: tuple[int, ...]
    first: tuple[int, ...]
    step: tuple[int, ...]
    stride: tuple[int, ...]
    reach: tuple[int, ...]
    groups: int

    @property
    def pads(self) -> list[int]:
        """Padding before each axis, then after each."""
        after = [
            reach + (taps - 1) * step + 1 + first
            for reach, taps, step, first in zip(self.reach, self.taps, self.step, self.first, strict=True)
        ]
        return [*(-f for f in self.first), *after]


def geometry_of(node: ir.Node) -> Geometry | None:
    """The geometry of a Conv with constant weights; None where padding is not written out."""
    tensor = constants.constant(node.inputs[1])
    if tensor is None or attribute(node, "auto_pad", "NOTSET") not in ("NOTSET", "VALID"):
        return None
    taps = constants.shape_of(tensor)[2:]
    spatial = len(taps)
    pads = attribute_ints(node, "pads", (0,) * (2 * spatial))
    step = attribute_ints(node, "dilations", (1,) * spatial)
    stride = attribute_ints(node, "strides", (1,) * spatial)
    if attribute(node, "auto_pad", "NOTSET") == "VALID":
        pads = (0,) * (2 * spatial)
    if spatial == 0 or len(pads) != 2 * spatial:
        return None
    reach = tuple(pads[i] + pads[spatial + i] - (taps[i] - 1) * step[i] - 1 for i in range(spatial))
    first = tuple(-p for p in pads[:spatial])
    return Geometry(taps, first, step, stride, reach, attribute_int(node, "group", 1))


def identity_like(other: Geometry) -> Geometry:
    """What copies its input, in as many groups as another convolution."""
    ones = (1,) * len(other.taps)
    return Geometry(ones, (0,) * len(ones), other.step, ones, tuple(-1 for _ in ones), other.groups)


def joined(one: Geometry, other: Geometry) -> Geometry | None:
    """The least geometry that holds the taps of both; None where outputs or groups differ."""
    if (one.stride, one.reach, one.groups) != (other.stride, other.reach, other.groups):
        return None
    firsts, counts, steps = [], [], []
    for i, (a, b) in enumerate(zip(one.taps, other.taps, strict=True)):
        step = one.step[i] if a > 1 else other.step[i]
        if b > 1 and other.step[i] != step:
            return None
        first = min(one.first[i], other.first[i])
        if (one.first[i] - first) % step or (other.first[i] - first) % step:
            return None
        last = max(one.first[i] + (a - 1) * step, other.first[i] + (b - 1) * step)
        firsts.append(first)
        counts.append((last - first) // step + 1)
        steps.append(step)
    found = Geometry(tuple(counts), tuple(firsts), tuple(steps), one.stride, one.reach, one.groups)
    return found if min(found.pads) >= 0 else None

"""Resizing of images and volumes."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from graphopt.ir.attributes import attribute, attribute_int, attribute_ints
from graphopt.ir.element_types import FLOATS
from graphopt.lowering.builder import Builder
from graphopt.lowering.elementwise_writer import common_order
from graphopt.lowering.kernels import Layout, declare
from graphopt.lowering.program import ABSENT
from graphopt.lowering.registry import NotLowered, lowers

__all__: list[str] = []

# Numbers of kernels/ops/resize.h.
_MODES = {"nearest": 0, "linear": 1, "bilinear": 1, "cubic": 2}
_COORDINATES = (
    "half_pixel",
    "half_pixel_symmetric",
    "pytorch_half_pixel",
    "align_corners",
    "asymmetric",
    "tf_half_pixel_for_nn",
    "tf_crop_and_resize",
)
_ROUNDINGS = ("round_prefer_floor", "round_prefer_ceil", "floor", "ceil", "simple")
_POLICIES = ("stretch", "not_larger", "not_smaller")
_COPIED = frozenset(
    dtype for dtype in ir.DataType if dtype not in (ir.DataType.STRING, ir.DataType.UNDEFINED)
)
_COMPUTED = FLOATS | {ir.DataType.UINT8, ir.DataType.INT8, ir.DataType.INT32}

declare("resize", inputs=Layout.ANY, outputs=Layout.ANY)


@dataclass(frozen=True, slots=True)
class Resizing:
    """What a node asks for; values that are not given are None."""

    coordinates: str
    rounding: str
    scales: ir.Value | tuple[float, ...] | None = None
    sizes: ir.Value | None = None
    roi: ir.Value | None = None


@lowers("Resize")
def resize(build: Builder, node: ir.Node) -> NotLowered | None:
    """By scales or to sizes."""
    given = [*node.inputs, None, None, None]
    if build.opset(node) < 11:
        return _emit(build, node, Resizing("asymmetric", "simple", scales=given[1]))
    roi, scales, sizes = given[1:4]
    if scales is not None and build.dims(scales) == (0,):
        scales = None
    coordinates = str(attribute(node, "coordinate_transformation_mode", "half_pixel"))
    rounding = str(attribute(node, "nearest_mode", "round_prefer_floor"))
    return _emit(build, node, Resizing(coordinates, rounding, scales, sizes if scales is None else None, roi))


@lowers("Upsample")
def upsample(build: Builder, node: ir.Node) -> NotLowered | None:
    """By scales that are an input, or attributes before opset 9."""
    if build.opset(node) >= 9:
        return _emit(build, node, Resizing("asymmetric", "simple", scales=node.inputs[1]))
    if "height_scale" in node.attributes:
        height, width = attribute(node, "height_scale", 1.0), attribute(node, "width_scale", 1.0)
        scales: tuple[object, ...] = (1.0, 1.0, height, width)
    else:
        found = attribute(node, "scales")
        assert isinstance(found, tuple), "scales are a list"
        scales = found
    return _emit(build, node, Resizing("asymmetric", "simple", scales=tuple(float(s) for s in scales)))  # type: ignore[arg-type]


def _emit(build: Builder, node: ir.Node, asked: Resizing) -> NotLowered | None:
    x = node.inputs[0]
    assert x is not None, "there is a tensor"
    mode = str(attribute(node, "mode", "nearest"))
    crops = asked.coordinates == "tf_crop_and_resize"
    dtype = build.dtype(x)
    if dtype not in (_COPIED if mode == "nearest" and not crops else _COMPUTED):
        return NotLowered(f"{mode} resize of element type {dtype}")
    count = _count(build, node, asked, x)
    if count is None:
        return NotLowered("the number of axes is not known")
    axes = attribute_ints(node, "axes", range(count))
    scales, inputs = _scales(build, node, asked, count)
    roi = _roi(build, asked, count) if crops else (0.0,) * count + (1.0,) * count
    if scales is None or roi is None:
        return NotLowered("a region that is not constant")
    ints = (
        _MODES[mode],
        _COORDINATES.index(asked.coordinates),
        _ROUNDINGS.index(asked.rounding),
        attribute_int(node, "exclude_outside"),
        attribute_int(node, "antialias"),
        _POLICIES.index(str(attribute(node, "keep_aspect_ratio_policy", "stretch"))),
        len(axes),
        *axes,
    )
    parameters = [attribute(node, "cubic_coeff_a", -0.75), attribute(node, "extrapolation_value", 0.0)]
    for k in range(count):
        parameters += [scales[k], roi[k], roi[count + k]]
    register = build.register(x)
    dims, out = build.dims(x), build.dims(node.outputs[0])
    order = common_order(build, [register], dims) if dims is not None and out is not None else None
    floats = [float(p) for p in parameters if isinstance(p, int | float)]
    build.emit("resize", [register, *inputs], [build.output(node, order=order)], ints, floats)
    return None


def _count(build: Builder, node: ir.Node, asked: Resizing, x: ir.Value) -> int | None:
    """How many axes scales or sizes are given for."""
    axes = attribute_ints(node, "axes", ())
    if axes:
        return len(axes)
    if isinstance(asked.scales, tuple):
        return len(asked.scales)
    by = asked.scales if asked.scales is not None else asked.sizes
    dims = None if by is None else build.dims(by)
    if dims is not None and len(dims) == 1 and type(dims[0]) is int:
        return dims[0]
    return build.rank(x)


def _scales(
    build: Builder, node: ir.Node, asked: Resizing, count: int
) -> tuple[tuple[float, ...] | None, list[int]]:
    """Scales (0: they follow from the sizes), and the registers of scales and sizes that only a run knows."""
    if isinstance(asked.scales, tuple):
        return asked.scales, [ABSENT, ABSENT]
    if asked.scales is None:
        assert asked.sizes is not None, "scales or sizes are given"
        dims = build.dims(node.outputs[0])
        settled = dims is not None and all(map(build.is_defined, dims))
        return (0.0,) * count, [ABSENT, ABSENT if settled else build.register(asked.sizes)]
    elements = build.elements(asked.scales)
    if elements is not None and all(isinstance(e, int | float) for e in elements):
        return tuple(float(e) for e in elements if isinstance(e, int | float)), [ABSENT, ABSENT]
    array = build.constant(asked.scales)
    if array is not None:
        return tuple(array.astype(np.float64).tolist()), [ABSENT, ABSENT]
    return (0.0,) * count, [build.register(asked.scales), ABSENT]


def _roi(build: Builder, asked: Resizing, count: int) -> tuple[float, ...] | None:
    array = build.constant(asked.roi)
    return None if array is None or array.size != 2 * count else tuple(array.astype(np.float64).tolist())

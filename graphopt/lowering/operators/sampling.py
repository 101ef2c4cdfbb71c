"""Elements between elements: images at the places of a grid, regions of images as bins."""

from __future__ import annotations

import onnx_ir as ir

from graphopt.ir.attributes import attribute, attribute_float, attribute_int
from graphopt.ir.element_types import FLOATS
from graphopt.lowering.builder import Builder
from graphopt.lowering.kernels import Layout, declare
from graphopt.lowering.registry import NotLowered, lowers

__all__: list[str] = []

# Numbers of kernels/ops/grid_sample.cpp; opset 20 renamed two.
_MODES = {"nearest": 0, "linear": 1, "bilinear": 1, "cubic": 2, "bicubic": 2}
_PADDINGS = {"zeros": 0, "border": 1, "reflection": 2}
_MOST_CUBIC_AXES = 3

declare("grid_sample", inputs={0: Layout.ANY, 1: Layout.DENSE})
declare("roi_align", inputs={0: Layout.ANY, 1: Layout.DENSE, 2: Layout.DENSE})


def _grid_sample(build: Builder, node: ir.Node) -> NotLowered | None:
    """x at the places that the grid names."""
    x, grid = node.inputs
    assert x is not None and grid is not None, "x and the grid are required"
    if build.dtype(x) not in FLOATS or build.dtype(grid) != build.dtype(x):
        return NotLowered("element type")
    mode = _MODES.get(str(attribute(node, "mode", "linear")))
    padding = _PADDINGS.get(str(attribute(node, "padding_mode", "zeros")))
    rank = build.rank(x)
    if mode is None or padding is None or rank is None or rank - 2 > _MOST_CUBIC_AXES:
        return NotLowered("mode, padding or rank")
    ints = (mode, padding, attribute_int(node, "align_corners"))
    build.emit("grid_sample", [build.register(x), build.register(grid)], [build.output(node)], ints)
    return None


for _domain in ("", "com.microsoft"):
    lowers("GridSample", domain=_domain)(_grid_sample)


@lowers("RoiAlign")
def roi_align(build: Builder, node: ir.Node) -> NotLowered | None:
    """Regions as bins of one height and width."""
    x, regions, images = node.inputs
    assert x is not None and regions is not None and images is not None, "all inputs are required"
    mode = str(attribute(node, "mode", "avg"))
    if build.dtype(x) not in FLOATS or build.dtype(regions) != build.dtype(x) or mode not in ("avg", "max"):
        return NotLowered("element type or mode")
    default = "half_pixel" if build.opset(node) >= 16 else "output_half_pixel"
    halves = str(attribute(node, "coordinate_transformation_mode", default)) == "half_pixel"
    sizes = [attribute_int(node, f"output_{name}", 1) for name in ("height", "width")]
    ints = (int(mode == "avg"), *sizes, attribute_int(node, "sampling_ratio"), int(halves))
    operands = [build.register(value) for value in (x, regions, images)]
    build.emit(
        "roi_align", operands, [build.output(node)], ints, [attribute_float(node, "spatial_scale", 1.0)]
    )
    return None

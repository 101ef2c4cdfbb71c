"""Poolings: over windows, over whole images, and the inverse of max pooling."""

from __future__ import annotations

import onnx_ir as ir

from graphopt.ir.attributes import attribute_float, attribute_int, attribute_ints
from graphopt.ir.element_types import FLOATS
from graphopt.lowering.builder import Builder
from graphopt.lowering.elementwise_writer import common_order
from graphopt.lowering.kernels import Layout, declare
from graphopt.lowering.program import ABSENT
from graphopt.lowering.registry import NotLowered, lowers
from graphopt.lowering.windows import auto_pad_of, window_ints

__all__: list[str] = []

# Pooling of kernels/ops/pool.h.
_KINDS = {"Max": 0, "Average": 1, "Lp": 2}

declare("pool", inputs=Layout.ANY, outputs=Layout.ANY)


@lowers("MaxPool", "AveragePool", "LpPool")
def pool(build: Builder, node: ir.Node) -> NotLowered | None:
    """Over windows; MaxPool may also say where each maximum was."""
    kind = node.op_type.removesuffix("Pool")
    kernel = attribute_ints(node, "kernel_shape", ())
    if not 1 <= len(kernel) <= 3:
        return NotLowered(f"windows of {len(kernel)} axes")
    return _pool(build, node, kind, window_ints(node, kernel))


@lowers("GlobalMaxPool", "GlobalAveragePool", "GlobalLpPool")
def global_pool(build: Builder, node: ir.Node) -> NotLowered | None:
    """Over all of an image."""
    x = node.inputs[0]
    assert x is not None, "there is an image"
    rank = build.rank(x)
    if rank is None or not 3 <= rank <= 5:
        return NotLowered("the number of axes is not known, or not 1 to 3")
    whole = window_ints(node, (0,) * (rank - 2))
    return _pool(build, node, node.op_type.removeprefix("Global").removesuffix("Pool"), whole)


def _pool(build: Builder, node: ir.Node, kind: str, window: tuple[int, ...]) -> NotLowered | None:
    x = node.inputs[0]
    assert x is not None, "there is an image"
    dtype = build.dtype(x)
    if dtype not in FLOATS and not (kind == "Max" and dtype in (ir.DataType.INT8, ir.DataType.UINT8)):
        return NotLowered(f"pooling of element type {dtype}")
    p = attribute_float(node, "p", 2)
    if p != int(p):
        return NotLowered("a fractional p")
    flags = [attribute_int(node, name) for name in ("ceil_mode", "count_include_pad", "storage_order")]
    ints = [_KINDS[kind], auto_pad_of(node), *flags, int(p), *window]
    register = build.register(x)
    dims = build.dims(x)
    # The result lies in memory as the image does.
    order = None if dims is None else common_order(build, [register], dims)
    outputs = [build.output(node, 0, order), ABSENT if kind != "Max" else build.output(node, 1)]
    build.emit("pool", [register], outputs, ints)
    return None


@lowers("MaxUnpool")
def max_unpool(build: Builder, node: ir.Node) -> NotLowered | None:
    """Values where MaxPool found them."""
    kernel = attribute_ints(node, "kernel_shape", ())
    if not 1 <= len(kernel) <= 3:
        return NotLowered(f"windows of {len(kernel)} axes")
    inputs = [build.register(v) for v in node.inputs]
    build.emit("max.unpool", [*inputs, ABSENT][:3], [build.output(node)], window_ints(node, kernel))
    return None

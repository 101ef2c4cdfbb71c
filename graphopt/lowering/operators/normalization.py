"""Normalizations and softmax: one instruction each, on views of any strides."""

from __future__ import annotations

import onnx_ir as ir

from graphopt.ir.attributes import attribute_float, attribute_int
from graphopt.ir.element_types import FLOATS
from graphopt.ir.operands import input_of
from graphopt.lowering.builder import Builder
from graphopt.lowering.kernels import Layout, declare
from graphopt.lowering.program import ABSENT
from graphopt.lowering.registry import NotLowered, lowers

__all__: list[str] = []

for _kernel in ("layer_norm", "rms_norm"):
    declare(
        _kernel,
        inputs={0: Layout.ANY, 1: Layout.ANY, 2: Layout.ANY},
        outputs={0: Layout.ANY},
        in_place=(0,),
    )
for _kernel in ("layer_norm.bytes", "rms_norm.bytes", "layer_norm.rows", "rms_norm.rows"):
    declare(_kernel, inputs={0: Layout.ROWS}, outputs={0: Layout.ROWS})
for _kernel in ("softmax", "log_softmax", "hardmax", "lp_normalize"):
    declare(_kernel, inputs=Layout.ANY, outputs=Layout.ANY, in_place=(0,))
declare("batch_norm", inputs=Layout.ANY, outputs=Layout.ANY, in_place=(0,))
declare("group_norm", in_place=(0,))


@lowers("Softmax", "LogSoftmax", "Hardmax")
def softmax(build: Builder, node: ir.Node) -> NotLowered | None:
    """Along an axis; before opset 13 along all axes from one on, together."""
    if build.dtype(node.inputs[0]) not in FLOATS:
        return NotLowered("element type")
    joined = build.opset(node) < 13
    axis = attribute_int(node, "axis", 1 if joined else -1)
    kernel = {"Softmax": "softmax", "LogSoftmax": "log_softmax", "Hardmax": "hardmax"}[node.op_type]
    build.emit(kernel, [build.register(node.inputs[0])], [build.output(node)], ints=[axis, int(joined)])
    return None


@lowers("LpNormalization")
def lp_normalization(build: Builder, node: ir.Node) -> NotLowered | None:
    """Divided by the norm along an axis."""
    p = attribute_int(node, "p", 2)
    if build.dtype(node.inputs[0]) not in FLOATS or p not in (1, 2):
        return NotLowered("element type or norm")
    ints = [attribute_int(node, "axis", -1), 0, p]
    build.emit("lp_normalize", [build.register(node.inputs[0])], [build.output(node)], ints=ints)
    return None


def _fits_rows(build: Builder, x: ir.Value, axis: int, factor: ir.Value | None) -> bool:
    """Whether a factor has no dim of its own before the axis, as far as dims tell."""
    rank, dims = build.rank(x), None if factor is None else build.dims(factor)
    if factor is None or rank is None or dims is None:
        return True
    outer = len(dims) - (rank - (axis if axis >= 0 else axis + rank))
    return len(dims) <= rank and all(dim == 1 for dim in dims[: max(outer, 0)])


@lowers("LayerNormalization", "RMSNormalization", "SimplifiedLayerNormalization")
def layer_normalization(build: Builder, node: ir.Node) -> NotLowered | None:
    """The trailing dims from an axis on."""
    x, scale, bias = node.inputs[0], input_of(node, 1), input_of(node, 2)
    assert x is not None, "a normalization has an input"
    dtype, axis = build.dtype(x), attribute_int(node, "axis", -1)
    centred = node.op_type == "LayerNormalization"
    if dtype not in FLOATS or any(v is not None and build.dtype(v) not in FLOATS for v in (scale, bias)):
        return NotLowered("element type")
    if build.dtype(node.outputs[0]) != dtype:
        return NotLowered("an element type of the result that is the scale's")
    statistic = ir.DataType.DOUBLE if dtype == ir.DataType.DOUBLE else ir.DataType.FLOAT
    made = [build.output(node, i) for i in range(len(node.outputs))]
    if any(r != ABSENT and build.module.registers[r].dtype != int(statistic) for r in made[1:]):
        return NotLowered("element type of a statistic")
    if not _fits_rows(build, x, axis, scale) or not _fits_rows(build, x, axis, bias):
        return NotLowered("a scale of more than the rows' dims")
    inputs = [build.register(x), build.register(scale)]
    build.emit(
        "layer_norm" if centred else "rms_norm",
        [*inputs, build.register(bias)] if centred else inputs,
        made,
        ints=[axis],
        floats=[attribute_float(node, "epsilon", 1e-5)],
    )
    return None


@lowers("InstanceNormalization", "GroupNormalization")
def group_normalization(build: Builder, node: ir.Node) -> NotLowered | None:
    """Groups of channels; instances are groups of one channel."""
    x, scale, bias = node.inputs
    if any(build.dtype(v) not in FLOATS for v in (x, scale, bias)):
        return NotLowered("element type")
    assert x is not None, "a normalization has an input"
    dims = build.dims(x)
    if dims is None or len(dims) < 2:
        return NotLowered("number of channels")
    groups = dims[1] if node.op_type == "InstanceNormalization" else attribute_int(node, "num_groups", 1)
    build.emit(
        "group_norm",
        [build.register(v) for v in (x, scale, bias)],
        [build.output(node)],
        ints=[groups],
        floats=[attribute_float(node, "epsilon", 1e-5)],
    )
    return None


@lowers("BatchNormalization")
def batch_normalization(build: Builder, node: ir.Node) -> NotLowered | None:
    """With given statistics."""
    if any(build.dtype(v) not in FLOATS for v in node.inputs) or build.rank(node.outputs[0]) == 0:
        return NotLowered("element type")
    trains = attribute_int(node, "training_mode", 0) == 1 or (
        build.opset(node) < 7 and not attribute_int(node, "is_test", 0)
    )
    if (
        trains
        or attribute_int(node, "spatial", 1) != 1
        or any(build.output(node, i) != ABSENT for i in range(1, len(node.outputs)))
    ):
        return NotLowered("training, or statistics of single elements")
    build.emit(
        "batch_norm",
        [build.register(v) for v in node.inputs],
        [build.output(node)],
        floats=[attribute_float(node, "epsilon", 1e-5)],
    )
    return None


@lowers("LRN")
def local_response_normalization(build: Builder, node: ir.Node) -> NotLowered | None:
    """Over neighbouring channels."""
    if build.dtype(node.inputs[0]) not in FLOATS:
        return NotLowered("element type")
    build.emit(
        "lrn",
        [build.register(node.inputs[0])],
        [build.output(node)],
        ints=[attribute_int(node, "size", 1)],
        floats=[
            attribute_float(node, "alpha", 1e-4),
            attribute_float(node, "beta", 0.75),
            attribute_float(node, "bias", 1.0),
        ],
    )
    return None

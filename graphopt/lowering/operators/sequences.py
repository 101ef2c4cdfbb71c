"""Sequences and optionals: the engine itself runs them, one instruction at a time."""

from __future__ import annotations

import onnx_ir as ir

from graphopt.ir.attributes import attribute_int
from graphopt.lowering.builder import Builder
from graphopt.lowering.registry import NotLowered, lowers

__all__: list[str] = []

_KERNELS = {
    "SequenceConstruct": "sequence.construct",
    "SequenceEmpty": "sequence.empty",
    "SequenceInsert": "sequence.insert",
    "SequenceErase": "sequence.erase",
    "SequenceAt": "sequence.at",
    "SequenceLength": "sequence.length",
    "Optional": "optional.make",
    "OptionalHasElement": "optional.has",
    "OptionalGetElement": "optional.get",
}


@lowers(*_KERNELS)
def handed_on(build: Builder, node: ir.Node) -> NotLowered | None:
    """Values go in and out as they are."""
    build.emit(_KERNELS[node.op_type], [build.register(v) for v in node.inputs], [build.output(node)])
    return None


@lowers("SplitToSequence")
def split_to_sequence(build: Builder, node: ir.Node) -> NotLowered | None:
    """`sequence.split`: the tensor, sizes or one size; ints: axis, whether single slices keep their axis."""
    ints = [attribute_int(node, "axis", 0), attribute_int(node, "keepdims", 1)]
    inputs = [build.register(v) for v in node.inputs]
    build.emit("sequence.split", inputs, [build.output(node)], ints=ints)
    return None


@lowers("ConcatFromSequence")
def concat_from_sequence(build: Builder, node: ir.Node) -> NotLowered | None:
    """`sequence.concat`; ints: axis, whether it is a new one."""
    ints = [attribute_int(node, "axis", 0), attribute_int(node, "new_axis", 0)]
    build.emit("sequence.concat", [build.register(node.inputs[0])], [build.output(node)], ints=ints)
    return None
